"""Where ranks run: how many processes, on which devices, with how many threads each. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from plt_tui.config.schema import ParallelSection
from plt_tui.errors import UsageError
from plt_tui.protocol.rank import RankSpec

MAX_AUTO_CPU_RANKS = 4
"""More CPU ranks than this are used only when asked for: each holds a copy of the model and of torch (about 300 MB)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One device per rank, in rank order, and the CPU threads of each."""

    devices: tuple[str, ...]
    threads: int


def place(parallel: ParallelSection, cores: int, gpus: Sequence[int]) -> Placement:
    """The placement for a machine with `cores` usable cores and the visible GPU ordinals `gpus`.

    Raises: UsageError when GPUs are asked for that are not there.
    """
    devices = _devices(parallel, cores, gpus)
    threads = max(1, cores // len(devices)) if parallel.threads == "auto" else parallel.threads
    return Placement(devices=devices, threads=threads)


def placed(told: RankSpec, placement: Placement) -> list[RankSpec]:
    """What each rank is told: all the same as `told`, but for its place."""
    world_size, threads = len(placement.devices), placement.threads
    return [
        replace(told, rank=rank, world_size=world_size, device=device, threads=threads)
        for rank, device in enumerate(placement.devices)
    ]


def _devices(parallel: ParallelSection, cores: int, gpus: Sequence[int]) -> tuple[str, ...]:
    device = parallel.device
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if device == "cpu":
        count = min(cores, MAX_AUTO_CPU_RANKS) if parallel.ranks == "auto" else parallel.ranks
        return ("cpu",) * count
    usable = [f"cuda:{gpu}" for gpu in gpus if device in ("cuda", f"cuda:{gpu}")]
    if not usable:
        seen = ", ".join(f"cuda:{gpu}" for gpu in gpus) or "none"
        raise UsageError(
            f"parallel.device: {device} was asked for, but the usable GPUs are: {seen}; use --set parallel.device=cpu"
        )
    count = len(usable) if parallel.ranks == "auto" else parallel.ranks
    if count > len(usable):
        raise UsageError(f"parallel.ranks: {count} ranks need {count} GPUs, but there are {len(usable)}; lower --ranks")
    return tuple(usable[:count])

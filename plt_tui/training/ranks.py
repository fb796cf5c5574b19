"""This rank among the others: the process groups, and the few small things ranks tell each other.

Gradients travel through DDP on the main group (gloo or NCCL). Everything about control travels on a gloo group of its own on
the CPU, so that agreeing never waits for a GPU. No objects are pickled. Only the main thread of a rank may call in here, and
all ranks in the same order.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from plt_tui.config.schema import ParallelSection
from plt_tui.errors import UsageError
from plt_tui.training.board import Board, fresh_file
from plt_tui.training.loans import Loans
from plt_tui.training.pulse import Pulse

BEAT_S = 0.5
"""Where ranks have to wait for one of them, or for a person, they meet this often, far below any time-out."""

LET_GO_S = 1.0
"""Longest wait for torch's threads when a process leaves its groups; they need microseconds of a core that is free."""

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Ranks:
    """Who this process is. With one rank there is no process group at all."""

    rank: int
    world_size: int
    device: torch.device
    side: dist.ProcessGroup | None = None
    """gloo group for agreement, statistics and evaluation sums."""
    board: Board | None = None
    """Where ranks of one machine add up small things; without one they do it on `side`."""
    is_guest: bool = False
    """True when somebody else made the main group, and will leave it."""
    pulse: Pulse = field(default_factory=Pulse)
    """Where this rank's main thread shows that it moves, or waits for the others."""
    loans: Loans = field(default_factory=Loans)
    """What the groups' threads may hold."""

    @property
    def is_first(self) -> bool:
        """True on rank 0, which talks for all."""
        return self.rank == 0

    def post_sum(self, values: Sequence[float]) -> PendingSum:
        """Begin to add `values` (at most MAX_VALUES) over all ranks. Wait for it before the next exchange of any kind."""
        if self.board is not None:
            return PendingSum(self.board.post(values).wait, self.pulse)
        vector = torch.tensor(values, dtype=torch.float64)
        self.loans.add(vector)
        work = dist.all_reduce(vector, group=self.side, async_op=True) if self.side is not None else None

        def settle() -> list[float]:
            if work is not None:
                work.wait()
            sums: list[float] = vector.tolist()
            return sums

        return PendingSum(settle, self.pulse)

    def sum(self, values: Sequence[float]) -> list[float]:
        """`values` added over all ranks."""
        return self.post_sum(values).wait()

    def broadcast(self, content: bytes, size: int) -> bytes:
        """`content` of rank 0 on every rank; all ranks must already know its `size`."""
        if self.side is None or size == 0:
            return content
        buffer = torch.zeros(size, dtype=torch.uint8)
        if self.is_first:
            buffer = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        self.loans.add(buffer)
        with self.pulse.waiting():
            dist.broadcast(buffer, group_src=0, group=self.side)
        return bytes(buffer.numpy())

    def gather(self, rows: Tensor) -> None:
        """Fill `rows` (world_size, N) with each rank's own row; all ranks, over the main group."""
        all_rows, own = list(rows.unbind()), rows[self.rank].clone()
        self.loans.add(*all_rows, own)
        dist.all_gather(all_rows, own)

    def broadcast_int(self, value: int) -> int:
        """`value` of rank 0 on every rank."""
        return int(self.sum([float(value) if self.is_first else 0.0])[0])

    def alone(self, work: Callable[[], ResultT], *, beats: bool = False) -> ResultT | None:
        """Let rank 0 do `work` in a thread while all ranks meet every BEAT_S, so that none waits in a collective for long.

        A rank without others does it so too, to show that it lives. beats: `work` touches the pulse of rank 0 as it goes on and
        counts as hung where it does not; else the meetings do, and `work` may take as long as a disk does.
        Returns the result of `work` on rank 0 and None elsewhere, on all ranks at the same time. Raises: on rank 0, what `work`
        raised.
        """

        def meet(works: float) -> float:
            return self.post_sum([works]).settle()[0] if beats else self.sum([works])[0]

        if not self.is_first:
            with self.pulse.waiting():
                while meet(0.0):
                    pass
            return None
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="alone") as pool:
            result = pool.submit(work)
            while wait([result], timeout=BEAT_S).not_done:
                meet(1.0)
            meet(0.0)
            return result.result()


@dataclass(frozen=True, slots=True)
class PendingSum:
    """A sum under way. settle: waits for it and gives the sums."""

    settle: Callable[[], list[float]]
    pulse: Pulse

    def wait(self) -> list[float]:
        """The sums; every rank gets the same bits. Raises: TimeoutError, or gloo's RuntimeError, when a rank does not come."""
        with self.pulse.waiting():
            return self.settle()


@contextlib.contextmanager
def joined(
    rank: int,
    world_size: int,
    device_name: str,
    meeting_file: Path,
    *,
    timeout_s: float = ParallelSection().timeout_s,
    pulse: Pulse | None = None,
) -> Iterator[Ranks]:
    """Meet the other ranks of this machine at `meeting_file` and leave the groups at the end.

    A file needs no port, so nobody else on the machine or the network can join. timeout_s: how long ranks wait for each other;
    pulse: of this process, if somebody watches it.

    Raises: UsageError when torch cannot use `device_name`, or there is no loopback interface.
    """
    alone = Ranks(rank, world_size, _device(device_name), pulse=pulse or Pulse())
    if world_size == 1:
        yield alone
        return
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    try:
        with alone.pulse.waiting():
            ranks = _meet(alone, timeout_s, init_method=f"file://{meeting_file}")
    except RuntimeError as error:
        if "Unable to find address for: lo" not in str(error):  # gloo has no class of its own for it
            raise
        raise UsageError(
            "the ranks of this machine talk over its loopback interface, which has no address; bring it up "
            "(ip link set lo up), or train with --set parallel.ranks=1"
        ) from None
    try:
        yield ranks
    finally:
        leave(ranks)


def from_environment(parallel: ParallelSection) -> Ranks:
    """This process's place as torchrun's variables tell it (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR), else alone.

    For scripts and notebooks; call `leave` at the end. A process group that is there already, the caller's own or another
    trainer's, is used and left standing; once it was left, the ranks can meet again. All ranks together.
    Raises: UsageError when torch cannot use `parallel.device`.
    """
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    name = parallel.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    device, timeout_s = _device(name), parallel.timeout_s
    if world_size == 1:
        return Ranks(0, 1, device)
    if dist.is_initialized():
        guest = Ranks(dist.get_rank(), dist.get_world_size(), device, _side_group(timeout_s), is_guest=True)
        return _with_board(guest, timeout_s)
    store, rank, world_size = next(rendezvous("env://", rank, world_size, timeout=timedelta(seconds=timeout_s)))
    # torchrun's store outlives a meeting, with the addresses that were left there: the next one must not read them.
    meeting = store.add(f"plt_tui/meetings-of-rank-{rank}", 1)
    return _meet(Ranks(rank, world_size, device), timeout_s, store=PrefixStore(f"plt_tui/meeting-{meeting}", store))


def leave(ranks: Ranks) -> None:
    """Leave the process groups that `ranks` stands for; nothing to do for a process alone. In the thread that joined them."""
    if ranks.side is not None:
        dist.destroy_process_group(ranks.side if ranks.is_guest else None)
        ranks.loans.settle(LET_GO_S)


def _meet(alone: Ranks, timeout_s: float, *, init_method: str | None = None, store: Store | None = None) -> Ranks:
    """`alone`, with the groups of all ranks."""
    on_gpu = alone.device.type == "cuda"
    alone.loans.add_contexts()
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=init_method,
        store=store,
        rank=alone.rank,
        world_size=alone.world_size,
        timeout=timedelta(seconds=timeout_s),
        device_id=alone.device if on_gpu else None,
    )
    return _with_board(replace(alone, side=_side_group(timeout_s)), timeout_s)


def _with_board(ranks: Ranks, timeout_s: float) -> Ranks:
    """`ranks` with a board where all of them can map the same memory, which is on one machine. All ranks together."""
    path = _board_file(ranks.world_size) if ranks.is_first else None
    name = os.fsencode(path) if path is not None else b""
    name = ranks.broadcast(name, ranks.broadcast_int(len(name)))
    board = None
    with contextlib.suppress(OSError, ValueError):
        board = Board(Path(os.fsdecode(name)), ranks.rank, ranks.world_size, patience_s=timeout_s)
    (num_mapped,) = ranks.sum([float(board is not None)])
    if path is not None:
        path.unlink(missing_ok=True)  # mapped by all who could: nothing is left behind, however the ranks end
    return replace(ranks, board=board) if num_mapped == ranks.world_size else ranks


def _board_file(world_size: int) -> Path | None:
    with contextlib.suppress(OSError):
        return fresh_file(world_size)
    return None


def _side_group(timeout_s: float) -> dist.ProcessGroup:
    group: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s))
    return group


def _device(name: str) -> torch.device:
    device = torch.device(name)
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise UsageError(
            f"{name} was asked for, but this torch ({torch.__version__}) sees no GPU; use --set parallel.device=cpu"
        )
    if (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"{name} was asked for, but this process sees {torch.cuda.device_count()} GPUs; start at most one rank per GPU, "
            "or use --set parallel.device=cpu"
        )
    torch.cuda.set_device(device)
    return device

"""The border of a rank's process: what its failures become for the person who reads them."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from plt_tui.config.load import to_toml
from plt_tui.data.tokenizer import ByteTokenizer
from plt_tui.protocol.events import Event, Failed
from plt_tui.protocol.link import RankEnd
from plt_tui.protocol.rank import RankSpec
from plt_tui.training import worker
from plt_tui.training.resume import Resumed
from plt_tui.training.worker import _tell_resumed, is_out_of_memory, run_rank
from tests.training.conftest import tiny


def _python() -> None:
    bytearray(1 << 60)


def _cpu() -> None:
    torch.empty(1 << 60, dtype=torch.uint8)


def _gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def _something_else() -> None:
    raise RuntimeError("a corpus about memory")


@pytest.mark.parametrize(
    ("resumed", "told"),
    [
        (Resumed(folder=None), []),
        (Resumed(folder=Path("a/step-00000002")), []),
        (
            Resumed(folder=Path("a/step-00000002"), inexact_because=("threads 1 -> 2",)),
            ["resumed from step-00000002, not to the same bits: threads 1 -> 2"],
        ),
        (
            Resumed(folder=Path("a/step-00000002"), passed_over=("step-00000004", "step-00000003")),
            [
                "resumed from step-00000002, set aside, as damaged or of steps that the record does not hold: "
                "step-00000004, step-00000003"
            ],
        ),
        (
            Resumed(folder=None, passed_over=("step-00000001",)),
            ["began anew, set aside, as damaged or of steps that the record does not hold: step-00000001"],
        ),
    ],
)
def test_where_a_session_starts_is_told_where_it_is_no_matter_of_course(resumed: Resumed, told: list[str]) -> None:
    """A checkpoint that is passed over, or other bits, are no secret of a rank's log."""
    link = SimpleNamespace(said=[])
    link.send = link.said.append
    _tell_resumed(resumed, cast("RankEnd", link))
    assert [alert.text for alert in link.said] == told


@pytest.mark.parametrize(
    ("act", "is_memory", "name"),
    [
        (_python, True, "MemoryError"),
        (_cpu, True, "DefaultCPUAllocator: can't allocate memory"),
        (_gpu, True, "CUDA out of memory. Tried to allocate 2.00 GiB."),
        (_something_else, False, "RuntimeError: a corpus about memory"),
    ],
)
def test_memory_that_ran_out_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Any, is_memory: bool, name: str
) -> None:
    """Python's, the CPU's and a GPU's: with the batch that was too large, and how to keep the global one."""
    (tmp_path / "config.toml").write_text(to_toml(tiny()))
    said: list[Event] = []

    class Link:
        def send(self, event: Event) -> None:
            said.append(event)

    monkeypatch.setattr(worker, "_build", lambda *_: act())
    spec = RankSpec(
        entry="",
        run_dir=str(tmp_path),
        rank=1,
        world_size=2,
        device="cpu",
        threads=1,
        meeting_file="",
        hub_pid=os.getpid(),
    )
    assert run_rank(spec, cast("RankEnd", Link()), lambda _: pytest.fail("never built")) == 1
    failure = said[-1]
    assert isinstance(failure, Failed)
    assert (failure.rank, failure.exit_code, failure.is_lost_peer) == (1, 4, False)
    assert name in failure.message
    assert failure.message.startswith("out of memory (") == is_memory
    advice = (
        "with train.batch_size = 4, data.context = 16; "
        "halve train.batch_size and double train.accumulate (the same global batch), or shorten data.context"
    )
    assert failure.message.endswith(advice) == is_memory
    assert is_out_of_memory(ValueError("no")) is False


def test_a_tokenizer_that_cannot_be_kept_leaves_nothing(tmp_path: Path) -> None:
    """Neither half of it, nor an error: checkpoints hold it too."""
    taken = tmp_path / "tokenizer.json"
    taken.mkdir()
    worker._keep_tokenizer(ByteTokenizer(), taken)
    assert list(tmp_path.rglob("*")) == [taken]

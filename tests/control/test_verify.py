"""Promises of `control.verify`: a resume is compared with no stop at all, and doubts of the ranks themselves are passed on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from plt_tui.config.schema import RunConfig
from plt_tui.control.folder import RunFolder
from plt_tui.control.placement import Placement
from plt_tui.control.replay import Difference
from plt_tui.control.rerun import Job
from plt_tui.control.verify import Proof, verify_resume

DEADLINE_S = 30.0


def prove(folder: Path, entry: str, start: int = 0, steps: int = 5) -> tuple[Proof, list[tuple[int, int]]]:
    """The proof with ranks that play `entry`, and the progress that was told."""
    told: list[tuple[int, int]] = []
    job = Job(
        config=RunConfig(),
        placement=Placement(devices=("cpu",), threads=1),
        until=0,
        resume=f"/far/step-{start:08d}" if start else "never",
        entry=f"tests.control.fake_reruns:{entry}",
    )
    work = verify_resume(job, start, steps, RunFolder(folder), report=lambda *count: told.append(count))
    return asyncio.run(asyncio.wait_for(work, DEADLINE_S)), told


@pytest.mark.parametrize("start", [0, 100])
def test_equal_bits_are_exact(tmp_path: Path, start: int) -> None:
    """The steps after the stop are compared, from wherever the proof begins."""
    proof, told = prove(tmp_path, "computes", start)
    assert proof == Proof(first=start + 6, last=start + 10, difference=None, because="")
    assert told[-1] == (15, 15)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_step_that_differs_after_the_resume_is_named(tmp_path: Path) -> None:
    """Without a stop it had one value, after the resume another."""
    proof, _ = prove(tmp_path, "errs_after_a_resume")
    assert proof.difference == Difference(step=9, values={"loss": (1 / 9, 1 / 9 + 1.0)})


def test_doubts_of_the_resume_itself_are_passed_on(tmp_path: Path) -> None:
    """Equal bits do not silence them, and what the beginning says of itself is no doubt about the resume."""
    proof, _ = prove(tmp_path / "a", "doubts_after_a_resume")
    assert (proof.difference, proof.because) == (None, "threads 1 -> 2")

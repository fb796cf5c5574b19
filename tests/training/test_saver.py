"""The saver: one save in flight, each step once, names kept, failures said."""

from pathlib import Path

import pytest
import torch

from plt_tui.protocol.events import Checkpoint, CheckpointFailed
from plt_tui.protocol.manifest import verify
from plt_tui.training import checkpoint
from plt_tui.training.checkpoint import Snapshot
from plt_tui.training.saver import Outcome, Saver


def snapshot(step: int, name: str = "") -> Snapshot:
    """Something small to save."""
    return Snapshot(step=step, model={"w": torch.full((2,), float(step))}, optimizer={}, state={}, name=name)


class Desk:
    """A saver under test and everything that it reported."""

    def __init__(self, root: Path, keep: int = 2) -> None:
        self.said: list[Outcome] = []
        self.saver = Saver(root / "checkpoints", root, keep, self.said.append)

    def save(self, step: int, name: str = "") -> Outcome | None:
        """Save and wait; returns what the caller was told."""
        answers: list[Outcome] = []
        self.saver.save(step, lambda: snapshot(step, name), name, answers.append)
        self.saver.wait()
        return answers[0] if answers else None


def test_a_save_is_reported_with_a_path_inside_the_run_folder(tmp_path: Path) -> None:
    """Both the run and the asker hear of it, once it is on disk."""
    desk = Desk(tmp_path)
    answer = desk.save(7)
    assert isinstance(answer, Checkpoint)
    assert desk.said == [answer]
    assert answer.path == "checkpoints/step-00000007"
    assert verify(tmp_path / answer.path).weights_sha256 == answer.weights_sha256
    assert desk.saver.has(7)


def test_a_step_is_written_once_and_keeps_its_name(tmp_path: Path) -> None:
    """Saving a named step again (a stop does) writes nothing and does not take the name away; a new name is added."""
    desk = Desk(tmp_path)
    desk.save(7, "best")
    folder = tmp_path / "checkpoints" / "step-00000007"
    before = (folder / "model.safetensors").stat().st_ino
    again = desk.save(7)
    assert isinstance(again, Checkpoint)
    assert again.name == "best"
    assert len(desk.said) == 1
    renamed = desk.save(7, "final")
    assert isinstance(renamed, Checkpoint)
    assert verify(folder).name == "final"
    assert (folder / "model.safetensors").stat().st_ino == before


def test_only_the_newest_are_kept_and_all_named_ones(tmp_path: Path) -> None:
    """`keep` counts unnamed and named alike, but a named one is never deleted."""
    desk = Desk(tmp_path, keep=2)
    for step, name in [(1, "first"), (2, ""), (3, ""), (4, "")]:
        desk.save(step, name)
    assert [checkpoint.step_of(folder) for folder in checkpoint.find(tmp_path / "checkpoints")] == [4, 3, 1]


def test_a_save_that_fails_is_said_and_remembered(tmp_path: Path) -> None:
    """A file where the folder should be: a failure event, an answer, a reason, and no claim that the step is there."""
    (tmp_path / "checkpoints").write_text("")
    desk = Desk(tmp_path)
    answer = desk.save(7)
    assert isinstance(answer, CheckpointFailed)
    assert desk.said == [answer]
    assert not desk.saver.has(7)
    assert "checkpoints" in desk.saver.failure


def test_no_failure_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even an error that nobody expects, such as no memory left, ends as a failure event."""

    def explode(*_: object) -> None:
        raise MemoryError("no room for a second copy")

    monkeypatch.setattr(checkpoint, "write", explode)
    desk = Desk(tmp_path)
    answer = desk.save(7)
    assert isinstance(answer, CheckpointFailed)
    assert "MemoryError" in answer.reason


def test_the_next_save_after_a_failure_clears_it(tmp_path: Path) -> None:
    """A failure stands until a save succeeds."""
    blocked = tmp_path / "checkpoints"
    blocked.write_text("")
    desk = Desk(tmp_path)
    desk.save(7)
    blocked.unlink()
    assert isinstance(desk.save(8), Checkpoint)
    assert desk.saver.failure == ""

"""The saver: one save in flight, each step once, names kept, failures said."""

import math
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from plt_tui.data.prepare import Dataset
from plt_tui.protocol.events import Checkpoint, CheckpointFailed, Step
from plt_tui.protocol.manifest import MANIFEST, MODEL, step_of, verify
from plt_tui.training import checkpoint
from plt_tui.training.checkpoint import Snapshot
from plt_tui.training.saver import Outcome, Receipt, Saver
from tests.training.plays import Play, ask, steps_of

PATIENCE_S = 30.0


def snapshot(step: int, name: str = "") -> Snapshot:
    """Something small to save."""
    return Snapshot(step=step, model={"w": torch.full((2,), float(step))}, optimizer={}, state={}, name=name)


class Desk:
    """A saver under test and everything that it reported."""

    def __init__(self, root: Path, keep: int = 2) -> None:
        self.said: list[Outcome] = []
        self.num_heard: float = math.inf
        self.root = root / "checkpoints"
        self.saver = Saver(self.root, root, keep, self.said.append, receipt=self._receipt)

    @property
    def steps(self) -> list[int]:
        """Of the checkpoints on disk."""
        return [step_of(folder) for folder in checkpoint.find(self.root)]

    def _receipt(self) -> Receipt:
        num_said = len(self.said)
        return lambda: self.num_heard >= num_said

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
    assert [step_of(folder) for folder in checkpoint.find(tmp_path / "checkpoints")] == [4, 3, 1]


@pytest.mark.parametrize(
    ("keep", "after"), [(1, [[1], [2, 1], [3, 1], [4, 1], [5, 4]]), (2, [[1], [2, 1], [3, 2, 1], [4, 3, 1], [5, 4]])]
)
def test_what_the_hub_knows_of_stays_until_it_knows_of_a_newer_one(tmp_path: Path, keep: int, after: list[list[int]]) -> None:
    """It hangs behind the first save, and hears of the others before the fifth: had it died, a resume would have the first."""
    desk, seen = Desk(tmp_path, keep), []
    desk.num_heard = 1
    for step in range(1, 6):
        if step == 5:
            desk.num_heard = math.inf
        desk.save(step)
        seen.append(desk.steps)
    assert seen == after


def test_a_save_that_fails_is_said_and_remembered(tmp_path: Path) -> None:
    """A file where the folder should be: a failure event, an answer, a reason, and no claim that the step is there."""
    (tmp_path / "checkpoints").write_text("")
    desk = Desk(tmp_path)
    answer = desk.save(7)
    assert isinstance(answer, CheckpointFailed)
    assert desk.said == [answer]
    assert not desk.saver.has(7)
    assert "checkpoints" in desk.saver.failure


def test_a_full_disk_names_what_was_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A good checkpoint gives way before them: a person has to know what else there is to delete."""
    desk = Desk(tmp_path)
    desk.save(1)
    checkpoint.put_aside(desk.saver.folder(1))
    monkeypatch.setattr(checkpoint, "write", _needing(tmp_path / "room", checkpoint.write, {}))
    desk.save(2)
    assert "No space left on device; 1 set-aside checkpoint takes " in desk.saver.failure
    assert f" in {tmp_path / 'checkpoints'} (*.aside-*)" in desk.saver.failure


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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_hide_no_good_checkpoint(tmp_path: Path, value: float) -> None:
    """They are not written, push out nothing, and the failure says what to do."""
    desk = Desk(tmp_path, keep=1)
    desk.save(1)
    bad = Snapshot(step=2, model={"v": torch.ones(3), "w": torch.tensor([1.0, value])}, optimizer={}, state={})
    desk.saver.save(2, lambda: bad)
    desk.saver.wait()
    assert [step_of(folder) for folder in checkpoint.find(tmp_path / "checkpoints")] == [1]
    assert not desk.saver.has(2)
    assert "step 2: weights are NaN or infinite" in desk.saver.failure
    assert "rewind" in desk.saver.failure


def test_a_copy_that_does_not_fit_into_memory_costs_the_save_and_not_the_step(tmp_path: Path) -> None:
    """The step is not told: everybody else is, and the next save is tried."""

    def no_memory() -> Snapshot:
        raise MemoryError("no room for a copy")

    desk = Desk(tmp_path)
    answers: list[Outcome] = []
    desk.saver.save(7, no_memory, then=answers.append)
    assert answers == desk.said
    assert "MemoryError: no room for a copy" in desk.saver.failure
    assert isinstance(desk.save(8), Checkpoint)


def test_no_thread_to_be_had_costs_the_save_and_not_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on processes is one on threads too."""
    desk = Desk(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _no_thread)
        desk.save(7)
    assert "can't start new thread" in desk.saver.failure
    assert isinstance(desk.save(8), Checkpoint)


def _no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("lost", ["manifest", "folder", "manifest is garbage", "all"])
def test_a_step_whose_checkpoint_has_gone_is_written_again(tmp_path: Path, lost: str) -> None:
    """What somebody deleted or damaged under the run is not taken for saved, and what is left of it is kept."""
    desk = Desk(tmp_path)
    desk.save(7)
    folder = desk.saver.folder(7)
    if lost == "manifest":
        (folder / MANIFEST).unlink()
    elif lost == "manifest is garbage":
        (folder / MANIFEST).write_text("{")
    else:
        shutil.rmtree(folder if lost == "folder" else folder.parent)
    assert not desk.saver.has(7)
    assert isinstance(desk.save(7), Checkpoint)
    assert verify(folder).step == 7
    assert len(list(folder.parent.glob("*.aside-*"))) == lost.startswith("manifest")


def test_a_save_that_nobody_was_told_of_gives_its_place_to_the_next(tmp_path: Path) -> None:
    """A kill between its name and its report left it: it is renamed, and written by the session that vouches for it."""
    root = tmp_path / "checkpoints"
    checkpoint.write(root, snapshot(7))
    desk = Desk(tmp_path)
    assert not desk.saver.has(7)
    assert isinstance(desk.save(7), Checkpoint)
    (aside,) = root.glob("step-00000007.aside-*")
    assert verify(aside).step == 7
    assert desk.saver.has(7)


def test_what_a_failed_deletion_left_is_deleted_before_the_next_save(tmp_path: Path) -> None:
    """The disk may need its room: whatever it is that lies there."""
    desk = Desk(tmp_path)
    desk.save(1)
    root = tmp_path / "checkpoints"
    (root / ".tmp-00000002-abcd" / "folder").mkdir(parents=True)
    (root / ".tmp-file").write_text("")
    (root / ".tmp-link").symlink_to(root / "step-00000001", target_is_directory=True)
    (root / "step-00000001" / ".tmp-abcd").write_text("")
    desk.save(2)
    assert not list(root.rglob(".tmp-*"))
    assert len(list((root / "step-00000001").iterdir())) == 4


def test_one_save_is_in_flight_and_a_stop_waits_for_it(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps go on beside a slow save; the next save and the end of the run come after it."""
    write, stepped = checkpoint.write, threading.Event()
    writing: list[int] = []
    most: list[int] = []

    def slow(root: Path, copy: Snapshot) -> object:
        writing.append(copy.step)
        most.append(len(writing))
        if copy.step == 2:
            assert stepped.wait(PATIENCE_S)
        written = write(root, copy)
        writing.remove(copy.step)
        return written

    monkeypatch.setattr(checkpoint, "write", slow)
    play = Play(dataset, tmp_path, {2: [ask("checkpoint")], 6: [ask("stop")]})
    send = play.link.send

    def watch(event: object) -> None:
        send(event)  # type: ignore[arg-type]
        if isinstance(event, Step) and event.step == 4:
            stepped.set()

    play.link.send = watch  # type: ignore[method-assign]
    play.run()
    assert most == [1, 1]
    assert steps_of(play.link.of(Checkpoint)) == [2, 6]
    said = [(type(event).__name__, event.step) for event in play.link.said if isinstance(event, Step | Checkpoint)]
    assert said.index(("Step", 4)) < said.index(("Checkpoint", 2)) < said.index(("Checkpoint", 6))
    verify(play.root / "step-00000006")


def test_training_goes_on_through_saves_that_fail_and_the_next_interval_tries_again(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every interval one failure, no step lost, and a checkpoint as soon as there is room."""
    room, fails_again = tmp_path / "room", threading.Event()
    monkeypatch.setattr(checkpoint, "write", _needing(room, checkpoint.write, {6: fails_again}))
    play = Play(dataset, tmp_path, {}, "checkpoint.every=3")
    send = play.link.send

    def watch(event: object) -> None:
        send(event)  # type: ignore[arg-type]
        if isinstance(event, Step) and event.step == 8:
            assert fails_again.wait(PATIENCE_S)
            room.touch()

    play.link.send = watch  # type: ignore[method-assign]
    assert play.run().finished
    assert steps_of(play.link.of(Step)) == list(range(1, 13))
    assert steps_of(play.link.of(CheckpointFailed)) == [3, 6]
    assert steps_of(play.link.of(Checkpoint)) == [9, 12]


def _needing(room: Path, write: object, refusals: Mapping[int, threading.Event]) -> object:
    """A `write` that fails until there is `room`; `refusals`: set by step, once it is sure to fail there."""

    def refuse(root: Path, copy: Snapshot) -> object:
        if not room.exists():
            if copy.step in refusals:
                refusals[copy.step].set()
            raise checkpoint.NoSpace(f"{root / MODEL}: not saved: No space left on device")
        return write(root, copy)  # type: ignore[operator]

    return refuse

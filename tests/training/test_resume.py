"""Where a session starts: the newest whole checkpoint, a chosen one, or nowhere; and what becomes of the others."""

from pathlib import Path

import pytest

from plt_tui.data.prepare import Dataset
from plt_tui.errors import StorageError, UsageError
from plt_tui.protocol.manifest import step_of
from plt_tui.training import checkpoint
from plt_tui.training.resume import resume
from plt_tui.training.trainer import Trainer
from tests.training.conftest import tiny


@pytest.fixture
def root(dataset: Dataset, tmp_path: Path) -> Path:
    """Checkpoints of steps 1, 2 and 3."""
    trainer = Trainer(tiny(), dataset=dataset)
    for _ in range(3):
        trainer.train_step()
        trainer.save_checkpoint(tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def left(root: Path) -> list[int]:
    """Steps that could still be resumed."""
    return [step_of(folder) for folder in checkpoint.find(root)]


@pytest.mark.parametrize(("wish", "step", "kept"), [("auto", 3, [3, 2, 1]), ("never", 0, [])])
def test_auto_takes_the_newest_and_never_none(dataset: Dataset, root: Path, wish: str, step: int, kept: list[int]) -> None:
    """Whoever starts from scratch cannot be overtaken later by checkpoints of another past."""
    trainer = Trainer(tiny(), dataset=dataset)
    resume(trainer, wish, root)
    assert (trainer.step, left(root)) == (step, kept)


def test_a_damaged_newest_is_set_aside(dataset: Dataset, root: Path) -> None:
    """The one before it is taken, and the damaged one is kept under another name."""
    weights = root / "step-00000003" / checkpoint.MODEL
    weights.write_bytes(weights.read_bytes()[:-1])
    trainer = Trainer(tiny(), dataset=dataset)
    assert resume(trainer, "auto", root).folder == root / "step-00000002"
    assert left(root) == [2, 1]
    assert len(list(root.glob("step-00000003.aside-*"))) == 1


@pytest.mark.parametrize(("known_step", "step", "kept"), [(2, 2, [2, 1]), (3, 3, [3, 2, 1]), (0, 3, [3, 2, 1])])
def test_of_steps_that_the_record_does_not_hold_auto_takes_none(
    dataset: Dataset, root: Path, known_step: int, step: int, kept: list[int]
) -> None:
    """It would have a gap; but where it holds none at all, it was lost, and a gap is better than to begin anew."""
    trainer = Trainer(tiny(), dataset=dataset)
    resumed = resume(trainer, "auto", root, known_step)
    assert (trainer.step, left(root)) == (step, kept)
    assert resumed.passed_over == tuple(f"step-{passed:08d}" for passed in (1, 2, 3) if passed not in kept)
    assert resumed.gap == ((1, 3) if known_step == 0 else None)


def test_where_none_is_left_that_the_record_knows_the_gap_is_named(dataset: Dataset, root: Path) -> None:
    """The steps between will never be in it."""
    checkpoint.prune(root, 1, [root / "step-00000003"])
    assert resume(Trainer(tiny(), dataset=dataset), "auto", root, known_step=1).gap == (2, 3)


def test_a_chosen_older_one_leaves_its_future_behind(dataset: Dataset, root: Path) -> None:
    """Later checkpoints of the run are set aside; the chosen one is its own."""
    trainer = Trainer(tiny(), dataset=dataset)
    resumed = resume(trainer, str(root / "step-00000001"), root)
    assert (trainer.step, left(root), resumed.own_folder(root)) == (1, [1], root / "step-00000001")


def test_a_foreign_checkpoint_is_loaded_and_not_claimed(dataset: Dataset, root: Path, tmp_path: Path) -> None:
    """The weights are another run's; none of its own past can be taken for theirs."""
    trainer = Trainer(tiny(), dataset=dataset)
    own = tmp_path / "mine"
    Trainer(tiny(), dataset=dataset).save_checkpoint(own)
    resumed = resume(trainer, str(root / "step-00000002"), own)
    assert (trainer.step, left(own), resumed.own_folder(own), left(root)) == (2, [], None, [3, 2, 1])


def test_a_chosen_damaged_one_is_an_error_and_not_replaced(dataset: Dataset, root: Path) -> None:
    """Who names a checkpoint does not get another one."""
    (root / "step-00000002" / checkpoint.OPTIMIZER).unlink()
    with pytest.raises(StorageError, match=checkpoint.OPTIMIZER):
        resume(Trainer(tiny(), dataset=dataset), str(root / "step-00000002"), root)
    assert left(root) == [3, 2, 1]


def test_a_chosen_one_that_does_not_fit_leaves_everything_in_its_place(dataset: Dataset, root: Path) -> None:
    """It verifies, and is refused only as it is loaded: the future that it would have left is still there."""
    (root / ".tmp-00000004-abcd").mkdir()
    before = sorted(path.name for path in root.iterdir())
    with pytest.raises(UsageError, match="another shape"):
        resume(Trainer(tiny("model.width=48"), dataset=dataset), str(root / "step-00000001"), root)
    assert sorted(path.name for path in root.iterdir()) == before


def test_a_folder_of_another_step_is_neither_loaded_nor_followed(dataset: Dataset, root: Path) -> None:
    """Its manifest would name a step whose folder is another, or none: it is set aside, and the newest good one is loaded."""
    (root / "step-00000001").rename(root / "step-00000020")
    trainer = Trainer(tiny(), dataset=dataset)
    assert resume(trainer, "auto", root).folder == root / "step-00000003"
    assert (trainer.step, left(root)) == (3, [3, 2])
    assert len(list(root.glob("step-00000020.aside-*"))) == 1


@pytest.mark.parametrize("form", ["relative", "dotted", "through a link"])
def test_an_own_checkpoint_is_its_own_however_it_is_named(
    dataset: Dataset, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """It is not set aside as another's before it is loaded."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    wish = {"relative": "checkpoints", "dotted": str(root / ".." / "checkpoints"), "through a link": str(tmp_path / "link")}[
        form
    ]
    trainer = Trainer(tiny(), dataset=dataset)
    resumed = resume(trainer, f"{wish}/step-00000002", root)
    assert (trainer.step, left(root), resumed.own_folder(root)) == (2, [2, 1], root / "step-00000002")


def test_one_that_was_set_aside_and_is_chosen_counts_as_anothers(dataset: Dataset, root: Path) -> None:
    """No later start would find it by itself: the run has to write a copy of its own first."""
    (aside,) = checkpoint.set_aside(root, 2)
    trainer = Trainer(tiny(), dataset=dataset)
    resumed = resume(trainer, str(aside), root)
    assert (trainer.step, trainer.began_at, resumed.own_folder(root), left(root)) == (3, 3, None, [])


def test_a_chosen_damaged_one_says_what_else_to_choose(dataset: Dataset, root: Path) -> None:
    """The file, what is wrong with it, and the next action."""
    (root / "step-00000002" / checkpoint.MODEL).write_bytes(b"")
    with pytest.raises(StorageError, match=r"step-00000002/model\.safetensors: 0 bytes instead of \d+; .*--resume auto"):
        resume(Trainer(tiny(), dataset=dataset), str(root / "step-00000002"), root)


def test_where_all_are_damaged_the_run_begins_anew_and_keeps_them(dataset: Dataset, root: Path) -> None:
    """A run is a function of its configuration and its edits: the first step is a state that nothing can damage."""
    for folder in checkpoint.find(root):
        (folder / checkpoint.STATE).unlink()
    trainer = Trainer(tiny(), dataset=dataset)
    assert resume(trainer, "auto", root).folder is None
    assert (trainer.step, left(root), len(list(root.glob("*.aside-*")))) == (0, [], 3)


def test_what_a_killed_save_left_is_gone_before_the_first_step(dataset: Dataset, root: Path) -> None:
    """Half a checkpoint, half a deletion, half a name: they cost room, and nobody else will look for them."""
    (root / ".tmp-00000004-abcd").mkdir()
    (root / ".tmp-00000004-abcd" / checkpoint.MODEL).write_bytes(b"half")
    (root / "step-00000003" / ".tmp-abcd").write_bytes(b"")
    resume(Trainer(tiny(), dataset=dataset), "auto", root)
    assert not list(root.rglob(".tmp-*"))
    assert left(root) == [3, 2, 1]

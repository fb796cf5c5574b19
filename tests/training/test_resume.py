"""Where a session starts: the newest whole checkpoint, a chosen one, or nowhere; and what becomes of the others."""

from pathlib import Path

import pytest

from plt_tui.data.prepare import Dataset
from plt_tui.errors import StorageError
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
    return [checkpoint.step_of(folder) for folder in checkpoint.find(root)]


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

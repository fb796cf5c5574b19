"""Promises of `training.rerun`: the bits of a trainer that was steered on the way, and a checkpoint where one is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch

from plt_tui.config.edits import SKIP, SKIP_UPDATE, Edit
from plt_tui.config.schema import CheckpointSection, RunConfig
from plt_tui.data.prepare import Dataset
from plt_tui.errors import NonFiniteLoss
from plt_tui.protocol.events import Checkpoint, Event, Step
from plt_tui.protocol.link import RankEnd
from plt_tui.protocol.rank import RankSpec
from plt_tui.training.ranks import Ranks
from plt_tui.training.rerun import compute
from plt_tui.training.resume import Resumed
from plt_tui.training.status import StatusReporter
from plt_tui.training.trainer import Trainer
from plt_tui.training.worker import Ready
from tests.training.conftest import tiny

EDITS = [
    Edit(id="a", step=3, name="lr", value=0.5, mode="scale"),
    Edit(id="b", step=4, name="batch_size", value=(2, 2), mode="keep"),
    Edit(id="c", step=5, name="undo", value="a"),
    Edit(id="d", step=6, name=SKIP, value=3),
    Edit(id="e", step=7, name=SKIP_UPDATE, value="a spike"),
    Edit(id="f", step=8, name="accumulate", value=3),
]
LAST = 9


class Said(list[Event]):
    """A link to nobody, which keeps what is said."""

    def send(self, event: Event) -> None:
        self.append(event)


CONFIG = tiny("train.steps=0", "train.epochs=1", "checkpoint.every=0")
"""Its end depends on the size of the batches."""


def trainer_of(dataset: Dataset, edits: list[Edit], config: RunConfig = CONFIG) -> Trainer:
    """A trainer at step 0, alone in this process."""
    trainer = Trainer(config, dataset=dataset, ranks=Ranks(0, 1, torch.device("cpu")))
    trainer.edits = list(edits)
    return trainer


def rerun(trainer: Trainer, root: Path, until: int = LAST) -> tuple[list[Event], str]:
    """What a rerun of `trainer` says, and the hash of its weights at the end."""
    said = Said()
    link = cast("RankEnd", said)
    spec = RankSpec(
        entry="", run_dir="", rank=0, world_size=1, device="cpu", threads=1, meeting_file="", hub_pid=0, until=until
    )
    done = compute(
        Ready(
            spec=spec,
            link=link,
            status=StatusReporter(cast("RankEnd", Said()), 0, "cpu"),
            trainer=trainer,
            resumed=Resumed(folder=None),
            root=root,
        )
    )
    assert (done.rank, done.step, done.finished) == (0, until, True)
    return said, done.weights_sha256


def test_edits_known_from_the_start_act_as_those_that_came_on_the_way(dataset: Dataset, tmp_path: Path) -> None:
    """Losses, rates and weights of a trainer that was given each edit just before its step."""
    steered = trainer_of(dataset, [])
    losses, rates = [], []
    for step in range(1, LAST + 1):
        steered.edits = [edit for edit in EDITS if edit.step <= step]
        rates.append(steered.hyper(step).lr)
        losses.append(steered.train_step())
    said, weights = rerun(trainer_of(dataset, EDITS), tmp_path)
    steps = [event for event in said if isinstance(event, Step)]
    assert [step.step for step in steps] == list(range(1, LAST + 1))
    assert [step.loss for step in steps] == losses
    assert [step.lr for step in steps] == rates
    assert len(set(rates)) == LAST
    assert weights == steered.weights_sha256()
    assert steps[-1].tokens == steered.tokens


@pytest.mark.parametrize("missing", range(len(EDITS)))
def test_every_edit_counts(dataset: Dataset, tmp_path: Path, missing: int) -> None:
    """Without one of them the weights are others."""
    _, weights = rerun(trainer_of(dataset, EDITS), tmp_path)
    _, others = rerun(trainer_of(dataset, [edit for number, edit in enumerate(EDITS) if number != missing]), tmp_path)
    assert weights != others


def test_a_rerun_goes_on_from_what_another_one_saved(dataset: Dataset, tmp_path: Path) -> None:
    """To the same bits; a checkpoint is written where `checkpoint.every` ends, before the next step."""
    saving = CONFIG.model_copy(update={"checkpoint": CheckpointSection(every=6)})
    said, weights = rerun(trainer_of(dataset, EDITS, saving), tmp_path)
    assert [event.step for event in said if isinstance(event, Step | Checkpoint)] == [1, 2, 3, 4, 5, 6, 6, 7, 8, 9]
    (saved,) = (event for event in said if isinstance(event, Checkpoint))
    second = trainer_of(dataset, EDITS)
    assert second.load_checkpoint(Path(saved.path)) == []
    resumed, weights_again = rerun(second, tmp_path)
    assert weights_again == weights
    numbers = [(event.loss, event.lr, event.grad_norm) for event in said if isinstance(event, Step)]
    assert [(event.loss, event.lr, event.grad_norm) for event in resumed if isinstance(event, Step)] == numbers[6:]


def test_a_gradient_that_is_no_number_ends_it_unless_the_step_is_left_out(dataset: Dataset, tmp_path: Path) -> None:
    """As in the run: only the guard's word makes it go on."""

    def broken(edits: list[Edit]) -> Trainer:
        trainer = trainer_of(dataset, edits)
        with torch.no_grad():
            next(trainer.model.parameters()).fill_(torch.nan)
        return trainer

    with pytest.raises(NonFiniteLoss):
        rerun(broken([]), tmp_path, until=1)
    said, _ = rerun(broken([Edit(id="x", step=1, name=SKIP_UPDATE, value="nan")]), tmp_path, until=1)
    assert [str(event.loss) for event in said if isinstance(event, Step)] == ["nan"]

"""Going back: all ranks do, or none; and what is on disk afterwards can be saved to, resumed from, and gone back to again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from plt_tui.data.prepare import Dataset, prepare
from plt_tui.errors import StorageError
from plt_tui.protocol.events import Checkpoint, CommandStatus, Recent, Step
from plt_tui.protocol.manifest import step_of, verify
from plt_tui.training import checkpoint
from plt_tui.training.past import Past
from plt_tui.training.ranks import joined
from plt_tui.training.resume import resume
from plt_tui.training.saver import Saver
from plt_tui.training.trainer import Trainer
from tests.training.conftest import tiny
from tests.training.plays import Play, ask, steps_of
from tests.training.processes import run_two


def _cannot(*_: object) -> None:
    raise StorageError("the disk is read-only")


def _goes_back_where_rank_cannot(rank: int, unable: int, what: str, folder: Path) -> None:
    """Body of a rank: `what` fails on the rank `unable`; the next step must be possible on both."""
    torch.set_num_threads(1)
    config = tiny()
    with joined(rank, 2, "cpu", folder / "meeting") as ranks:
        trainer = Trainer(config, dataset=prepare(config.data), ranks=ranks)
        trainer.init_weights()
        saver = Saver(folder / "checkpoints", folder, 3, lambda _: None)
        past = Past(trainer, saver, count=0, budget_bytes=0)
        for _ in range(2):
            trainer.train_step()
        if rank == unable:
            setattr(saver if what == "leave" else trainer, what, _cannot)
        weights = trainer.weights_sha256()
        expected = "read-only" if rank == unable else "another rank cannot"
        with pytest.raises(StorageError, match=expected):
            past.go_back(1, to_start=True)
        assert (trainer.step, trainer.weights_sha256()) == (2, weights)
        trainer.train_step()


@pytest.mark.parametrize(("unable", "what"), [(0, "leave"), (1, "first_snapshot")])
def test_when_one_rank_cannot_go_back_none_does(tmp_path: Path, unable: int, what: str) -> None:
    """Whatever fails on whichever rank, each stays where it was, and they go on together."""
    run_two(_goes_back_where_rank_cannot, unable, what, tmp_path)


def test_a_rewind_that_cannot_be_done_is_refused(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that cannot be renamed costs the rewind and not the run; the answer says what to look at."""
    monkeypatch.setattr(Path, "rename", _no_rename)
    play = Play(dataset, tmp_path, {6: [ask("checkpoint")], 8: [ask("rewind", step=4)]}, "checkpoint.recent_every=2")
    done = play.run()
    assert done.finished
    (refused,) = [status for status in play.link.of(CommandStatus) if status.status == "refused"]
    assert (refused.name, refused.step) == ("rewind", 8)
    assert "step-00000006: cannot be renamed" in refused.reason
    assert steps_of(play.link.of(Step)) == list(range(1, 13))


def _no_rename(path: Path, target: Path) -> Path:
    if ".aside-" in target.name:
        raise PermissionError(1, "Operation not permitted")
    return path.replace(target)


@pytest.mark.parametrize("verb", ["stop", "hibernate", "checkpoint"])
def test_after_a_rewind_to_a_checkpoint_of_an_earlier_session_its_step_counts_as_saved(
    dataset: Dataset, tmp_path: Path, verb: str
) -> None:
    """It is there already: who stops, hibernates or saves right there gets it, and no failure to write it again."""
    Play(dataset, tmp_path, {7: [ask("stop", now=True)]}, "checkpoint.every=3").run()
    play = Play(dataset, tmp_path, {2: [ask("rewind", step=4), ask(verb)]}, "checkpoint.every=3", "checkpoint.keep=9")
    play.trainer.load_checkpoint(play.root / "step-00000006")
    play.run()
    assert play.link.answers() == [("rewind", "applied", 3), (verb, "applied", 3)]
    verify(play.root / "step-00000003")


def test_a_damaged_checkpoint_at_the_step_that_is_gone_back_to_gives_way(dataset: Dataset, tmp_path: Path) -> None:
    """Its place is needed: the run can be saved there again."""
    Play(dataset, tmp_path, {0: [ask("checkpoint")], 3: [ask("stop", now=True)]}).run()
    weights = tmp_path / "checkpoints" / "step-00000000" / checkpoint.MODEL
    weights.write_bytes(weights.read_bytes()[:-1])
    play = Play(dataset, tmp_path, {2: [ask("rewind", step=0), ask("stop")]})
    play.run()
    assert play.link.answers() == [("rewind", "applied", 0), ("stop", "applied", 0)]
    verify(play.root / "step-00000000")


def test_what_is_kept_in_memory_never_exceeds_its_budget(dataset: Dataset, tmp_path: Path) -> None:
    """Also while a state is copied: the oldest one gives way before."""
    play = Play(dataset, tmp_path, {}, "checkpoint.recent_every=2", "checkpoint.recent=2")
    past, moment, held = play.session._past, play.trainer.moment, []

    def counted() -> checkpoint.Snapshot:
        held.append(len(past.steps))
        return moment()

    play.trainer.moment = counted  # type: ignore[method-assign]
    play.run()
    assert held[:5] == [0, 1, 1, 1, 1]  # the sixth is the save at the end
    assert play.link.of(Recent)[-1].steps == [8, 10]


def test_weights_that_are_no_numbers_push_no_good_state_out_of_memory(dataset: Dataset, tmp_path: Path) -> None:
    """What can be gone back to stays while there is nothing good to replace it."""
    play = Play(dataset, tmp_path, {}, "checkpoint.recent_every=1", "checkpoint.recent=2")
    for _ in range(2):
        play.trainer.train_step()
        play.session._past.keep()
    next(iter(play.trainer.model.parameters())).data.fill_(float("nan"))
    play.trainer.step = 3
    assert not play.session._past.keep()
    assert play.session._past.steps == [1, 2]


def test_a_rewind_in_memory_leaves_something_on_disk_to_start_from(dataset: Dataset, tmp_path: Path) -> None:
    """Where all checkpoints were after it, one is written: a crash now must not cost the run from its first step on."""
    script = {6: [ask("checkpoint")], 8: [ask("rewind", step=4), ask("stop", now=True)]}
    play = Play(dataset, tmp_path, script, "checkpoint.recent_every=2")
    play.run()
    assert [step_of(folder) for folder in checkpoint.find(play.root)] == [4]
    assert steps_of(play.link.of(Checkpoint)) == [6, 4]


def test_a_run_that_began_with_anothers_checkpoint_has_no_first_weights_to_go_back_to(dataset: Dataset, tmp_path: Path) -> None:
    """What its seed gives was never its past; so it is in the sessions after the first one."""
    Play(dataset, tmp_path / "other", {4: [ask("stop")]}).run()
    play = Play(dataset, tmp_path / "own", {2: [ask("rewind", step=3), ask("stop")]})
    resume(play.trainer, str(tmp_path / "other" / "checkpoints" / "step-00000004"), play.root)
    play.run()
    assert steps_of(play.link.of(Checkpoint)) == [4, 6]  # what it began with, it has a copy of
    again = Play(dataset, tmp_path / "own", {1: [ask("rewind", step=3)], 2: [ask("rewind", step=6)]})
    resume(again.trainer, "auto", again.root)
    again.run()
    assert [*play.link.answers(), *again.link.answers()] == [
        ("rewind", "refused", 6),
        ("stop", "applied", 6),
        ("rewind", "refused", 7),
        ("rewind", "applied", 6),
    ]
    assert "another's checkpoint of step 4" in next(
        one.reason for one in play.link.of(CommandStatus) if one.status == "refused"
    )

"""The rank loop with one rank and a scripted hub: what commands do, in which order, and what a run's end promises."""

import itertools
from pathlib import Path

import pytest

from plt_tui.data.prepare import Dataset
from plt_tui.errors import NonFiniteLoss, StorageError
from plt_tui.protocol.commands import Command
from plt_tui.protocol.events import Checkpoint, CommandStatus, Eval, Sample, Step
from plt_tui.protocol.manifest import verify
from plt_tui.training import checkpoint, session
from plt_tui.training.optimizer import state_tensors
from tests.training.plays import Play, Script, ask, poison, steps_of


def test_a_run_ends_evaluated_sampled_and_saved(dataset: Dataset, tmp_path: Path) -> None:
    """At the target all three happen once, whatever the intervals, and the hash is that of the checkpoint."""
    play = Play(dataset, tmp_path, {}, "eval.every=6", "sample.every=4", "checkpoint.every=6")
    done = play.run()
    assert (done.finished, done.step) == (True, 12)
    assert steps_of(play.link.of(Step)) == list(range(1, 13))
    assert steps_of(play.link.of(Eval)) == [6, 12]
    assert steps_of(play.link.of(Sample)) == [4, 8, 12]
    assert steps_of(play.link.of(Checkpoint)) == [6, 12]
    assert verify(play.root / "step-00000012").weights_sha256 == done.weights_sha256


def test_a_stop_saves_and_answers_when_it_is_on_disk(dataset: Dataset, tmp_path: Path) -> None:
    """Stop is acknowledged after the checkpoint event, with the step that was saved."""
    play = Play(dataset, tmp_path, {5: [ask("stop")]})
    done = play.run()
    assert (done.finished, done.step) == (False, 5)
    assert play.link.answers() == [("stop", "applied", 5)]
    assert [type(event) for event in play.link.said if isinstance(event, Checkpoint | CommandStatus)] == [
        CommandStatus,
        Checkpoint,
        CommandStatus,
    ]


def test_a_stop_now_saves_nothing(dataset: Dataset, tmp_path: Path) -> None:
    """No checkpoint is written, and the run is not called finished."""
    play = Play(dataset, tmp_path, {5: [ask("stop", now=True)]}, "checkpoint.every=5")
    assert not play.run().finished
    assert checkpoint.find(play.root) == []


def test_what_is_due_at_the_step_of_a_stop_is_done(dataset: Dataset, tmp_path: Path) -> None:
    """A stop does not cost the evaluation and the sample of its step; the checkpoint is written once."""
    play = Play(dataset, tmp_path, {6: [ask("stop")]}, "eval.every=6", "sample.every=6", "checkpoint.every=6")
    play.run()
    assert steps_of(play.link.of(Eval)) == steps_of(play.link.of(Sample)) == steps_of(play.link.of(Checkpoint)) == [6]


def test_a_pause_holds_until_resume_and_commands_work_in_it(dataset: Dataset, tmp_path: Path) -> None:
    """While paused no step is made; evaluation, sample, checkpoint and edits act at once."""
    script = {
        3: [ask("pause")],
        5: [ask("eval"), ask("sample", prompt="A")],
        6: [ask("checkpoint", name="best")],
        7: [ask("set", name="lr", value=1e-3)],
        9: [ask("resume")],
    }
    play = Play(dataset, tmp_path, script)
    play.run()
    assert sorted(play.link.answers()) == [
        ("checkpoint", "applied", 3),
        ("eval", "applied", 3),
        ("pause", "applied", 3),
        ("resume", "applied", 3),
        ("sample", "applied", 3),
        ("set", "applied", 4),
    ]
    rates = [event.lr for event in play.link.of(Step)]  # type: ignore[attr-defined]  # steps have one
    assert rates[3:] == [1e-3] * 9
    assert verify(play.root / "step-00000003").name == "best"


def test_a_stop_while_paused_saves_the_paused_step(dataset: Dataset, tmp_path: Path) -> None:
    """Nothing is trained in between."""
    play = Play(dataset, tmp_path, {0: [ask("pause")], 1: [ask("stop")]})
    assert play.run().step == 0
    assert checkpoint.find(play.root) == [play.root / "step-00000000"]


def test_a_session_can_begin_paused(dataset: Dataset, tmp_path: Path) -> None:
    """A run that was paused when its ranks failed is still paused."""
    play = Play(dataset, tmp_path, {2: [ask("stop")]}, paused=True)
    assert play.run().step == 0


def test_commands_behind_a_stop_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    """They come too late, and are told so."""
    play = Play(dataset, tmp_path, {5: [ask("stop"), ask("eval"), ask("set", name="lr", value=1.0)]})
    play.run()
    assert play.link.answers() == [("eval", "refused", 5), ("set", "refused", 5), ("stop", "applied", 5)]
    assert play.link.of(Eval) == []


def test_an_edit_behind_the_last_step_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    """No step is left that it could govern."""
    play = Play(dataset, tmp_path, {12: [ask("set", name="lr", value=1.0)]})
    play.run()
    assert play.link.answers() == [("set", "refused", 12)]


def test_an_undo_names_the_edit_it_took_back(dataset: Dataset, tmp_path: Path) -> None:
    """The last live edit goes first; with none left undo is refused."""
    script = {2: [ask("set", name="lr", value=1e-4)], 4: [ask("undo")], 6: [Command(id="u2", name="undo", actor="ana")]}
    play = Play(dataset, tmp_path, script, "optim.schedule=constant", "optim.warmup=0")
    play.run()
    rates = [event.lr for event in play.link.of(Step)]  # type: ignore[attr-defined]  # steps have one
    assert rates == [3e-3] * 2 + [1e-4] * 2 + [3e-3] * 8
    assert play.link.answers() == [("set", "applied", 3), ("undo", "applied", 5), ("undo", "refused", 6)]
    undo = next(event for event in play.link.of(CommandStatus) if event.status == "applied" and event.name == "undo")  # type: ignore[attr-defined]
    assert undo.args == {"edit": script[2][0].id}  # type: ignore[attr-defined]  # statuses have args


@pytest.mark.parametrize("script", [{}, {5: [ask("stop")]}])
def test_a_run_whose_last_save_failed_is_no_success(dataset: Dataset, tmp_path: Path, script: Script) -> None:
    """Neither the target nor a stop counts when its checkpoint is not on disk."""
    play = Play(dataset, tmp_path, script)
    play.root.write_text("a file where the checkpoints should be")
    with pytest.raises(StorageError, match="could not be saved"):
        play.run()


def test_what_a_rewind_saves_is_compared_too(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rank goes back to its own copy in memory: a bit may have flipped in one of them."""
    compared = []
    monkeypatch.setattr(session, "require_alike", lambda ranks, weights, step: compared.append(step))
    play = Play(dataset, tmp_path, {6: [ask("rewind", step=4)]}, "checkpoint.recent_every=2")
    play.run()
    assert [saved.step for saved in play.link.of(Checkpoint)] == [4, 12]
    assert compared == [4, 12]


@pytest.mark.parametrize("name", ["adamw", "muon", "lion", "sgd"])
def test_all_tensors_that_are_saved_are_compared_first(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The optimizer's too: a restart would give what rank 0 has saved to all of them."""
    compared: list[set[int]] = []
    monkeypatch.setattr(
        session, "require_alike", lambda ranks, tensors, step: compared.append({tensor.data_ptr() for tensor in tensors})
    )
    play = Play(dataset, tmp_path, {}, f"optim.name={name}", "checkpoint.every=6")
    play.run()
    trainer = play.trainer
    saved = itertools.chain(trainer.model.named_parameters(), state_tensors(trainer.optimizer, trainer.model))
    assert compared == [{tensor.data_ptr() for _, tensor in saved}] * 2


def test_a_failed_step_does_not_take_along_the_save_of_a_good_one(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint in flight is finished before a non-finite gradient ends the session."""
    play = Play(dataset, tmp_path, {}, "checkpoint.every=3")
    poison(play.trainer, 4, monkeypatch)
    with pytest.raises(NonFiniteLoss):
        play.run()
    assert verify(play.root / "step-00000003").step == 3


def test_a_hibernation_leaves_the_resume_behind_it_to_the_hub(dataset: Dataset, tmp_path: Path) -> None:
    """Who wakes the run is not told that it is asleep; all else that came with it is refused with the way back."""
    play = Play(dataset, tmp_path, {5: [ask("hibernate"), ask("eval"), ask("resume")]})
    play.run()
    assert sorted(play.link.answers()) == [("eval", "refused", 5), ("hibernate", "applied", 5)]
    assert "resume it first" in next(one.reason for one in play.link.of(CommandStatus) if one.status == "refused")

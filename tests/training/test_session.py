"""The rank loop with one rank and a scripted hub: what commands do, in which order, and what a run's end promises."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from plt_tui.data.prepare import Dataset
from plt_tui.errors import NonFiniteLoss, StorageError
from plt_tui.protocol.commands import Command
from plt_tui.protocol.events import Checkpoint, CommandStatus, Done, Eval, Event, Sample, Step
from plt_tui.training import checkpoint
from plt_tui.training.saver import Saver
from plt_tui.training.session import Session
from plt_tui.training.status import StatusReporter
from plt_tui.training.trainer import Trainer
from tests.training.conftest import tiny

Script = dict[int, list[Command]]
"""Commands by the boundary (0: before the first step) at which they arrive."""


class ScriptedLink:
    """Hands out the script's commands, one boundary after the other, and keeps what is said."""

    def __init__(self, script: Script) -> None:
        self.said: list[Event] = []
        self._script = script
        self._boundary = -1

    def take(self, wait_s: float = 0.0) -> list[Command]:
        """The commands of the next boundary."""
        self._boundary += 1
        return self._script.get(self._boundary, [])

    def send(self, event: Event) -> None:
        """Keep it."""
        self.said.append(event)

    def of(self, kind: type[Event]) -> list[Event]:
        """What was said of one kind."""
        return [event for event in self.said if isinstance(event, kind)]

    def answers(self) -> list[tuple[str, str, int]]:
        """Name, status and step of every answer but "agreed"."""
        statuses = [event for event in self.said if isinstance(event, CommandStatus)]
        return [(status.name, status.status, status.step) for status in statuses if status.status != "agreed"]


class Play:
    """One session of a tiny run of 12 steps under `root`."""

    def __init__(self, dataset: Dataset, root: Path, script: Script, *sets: str, paused: bool = False) -> None:
        self.trainer = Trainer(tiny("eval.every=0", "sample.every=0", "checkpoint.every=0", *sets), dataset=dataset)
        self.link = ScriptedLink(script)
        self.root = root / "checkpoints"
        saver = Saver(self.root, root, self.trainer.config.checkpoint.keep, self.link.send)
        status = StatusReporter(self.link, 0, "cpu")  # type: ignore[arg-type]  # it only sends
        self.session = Session(self.trainer, self.link, status, saver, paused=paused)  # type: ignore[arg-type]  # take and send

    def run(self) -> Done:
        """To the end."""
        return self.session.run()


def ask(verb: str, /, **args: object) -> Command:
    """A command of somebody."""
    return Command(id=f"{verb} {sorted(args)}", name=verb, args=args, actor="ana")


def steps_of(events: Sequence[Event]) -> list[int]:
    """The steps of some events."""
    return [event.step for event in events]  # type: ignore[attr-defined]  # only asked of events that have one


def test_a_run_ends_evaluated_sampled_and_saved(dataset: Dataset, tmp_path: Path) -> None:
    """At the target all three happen once, whatever the intervals, and the hash is that of the checkpoint."""
    play = Play(dataset, tmp_path, {}, "eval.every=6", "sample.every=4", "checkpoint.every=6")
    done = play.run()
    assert (done.finished, done.step) == (True, 12)
    assert steps_of(play.link.of(Step)) == list(range(1, 13))
    assert steps_of(play.link.of(Eval)) == [6, 12]
    assert steps_of(play.link.of(Sample)) == [4, 8, 12]
    assert steps_of(play.link.of(Checkpoint)) == [6, 12]
    assert checkpoint.verify(play.root / "step-00000012").weights_sha256 == done.weights_sha256


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
    assert checkpoint.verify(play.root / "step-00000003").name == "best"


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


def test_a_failed_step_does_not_take_along_the_save_of_a_good_one(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint in flight is finished before a non-finite gradient ends the session."""
    play = Play(dataset, tmp_path, {}, "checkpoint.every=3")
    update: Callable[..., float] = play.trainer.update

    def poisoned(hyper: object) -> float:
        if play.trainer.step == 3:
            next(iter(play.trainer.model.parameters())).grad.fill_(math.nan)  # type: ignore[union-attr]  # after a backward pass
        return update(hyper)

    monkeypatch.setattr(play.trainer, "update", poisoned)
    with pytest.raises(NonFiniteLoss):
        play.run()
    assert checkpoint.verify(play.root / "step-00000003").step == 3

"""How a run ended, or how far it is: what failed first, what became of each rank, what was reached, what to do next.

Pure: a model in, words out. Invariant: a run that nobody holds is never said to go on, and what is not known is left out.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from plt_tui.control.state import RunState
from plt_tui.protocol.events import FINAL_PHASES, Checkpoint, Eval, Failed, Phase, Run
from plt_tui.views.formats import format_bytes, format_count, format_duration, format_value
from plt_tui.views.model import Happening, RunModel
from plt_tui.views.rewind import counted
from plt_tui.views.tui.words import Tone, Word, asked, clock_words, one_line, ranks_words, story_words

MAX_RANKS = 16
"""Ranks told of one by one: those that ended by themselves first."""
MAX_FAILURES = 5
"""Earlier failures that are told of, the newest."""
TRACEBACK_LINES = 12
LOG_LINES = 12

EXIT_WORDS = {
    0: "target reached",
    2: "bad configuration or usage",
    3: "the loss became NaN or infinite, or the guard stopped the run",
    4: "a rank failed and could not be started again",
    5: "storage failed",
    6: "the run folder was in use",
    7: "data missing, unusable or changed",
    130: "stopped by SIGINT",
    143: "stopped on request",
}
"""What an exit code of a run means; README has the list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line: a label and what is told under it."""

    label: str = ""
    text: str
    tone: Tone = "normal"
    is_command: bool = False
    """A command line to type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some rows under a heading."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All of it."""

    word: Word
    """The state, and at which step."""
    why: str
    """In a sentence; empty where there is nothing to say."""
    parts: tuple[Part, ...]
    """None of them empty."""


def outcome(model: RunModel, name: str, state: Word) -> Outcome:
    """What is to be said of the run `name`; `state`: its state as the header tells it, which knows of lost connections."""
    now = model.state
    facts = Part(title="how far it came" if now.is_over else "how far it is", rows=tuple(_facts(model)))
    following = Part(title="what to do next", rows=tuple(next_steps(model, name)))
    is_well = now.phase == "finished" or not now.is_over
    parts = (
        Part(title="what failed first", rows=tuple(_failure_rows(model))),
        *((facts, following) if is_well else (following, facts)),
        Part(title="still standing", rows=tuple(_alerts(now))),
        Part(title="never confirmed", rows=tuple(_unconfirmed(now))),
        Part(title="ranks", rows=tuple(_rank_rows(model))),
        Part(title="logged last", rows=tuple(_log_rows(model))),
        Part(title="traceback", rows=tuple(_traceback_rows(model))),
        Part(title="earlier failures", rows=tuple(_earlier(model))),
    )
    target = f" of {now.run.target_step:,}" if now.run is not None else ""
    word = Word(state.glyph, f"{state.text} at step {now.step:,}{target}", state.tone)
    return Outcome(word=word, why=_why(now), parts=tuple(part for part in parts if part.rows))


def cause_of(model: RunModel) -> Failed | None:
    """The failure that the run ended by; None while it lives, and when it had none or went on after its last one."""
    return _last_failure(model.happenings.values()) if model.state.is_over else None


def _last_failure(happenings: Iterable[Happening]) -> Failed | None:
    for happening in reversed(list(happenings)):
        match happening.event:
            case Failed() as failure:
                return failure
            case Run():
                return None
            case Phase(phase=phase) if phase not in FINAL_PHASES:
                return None
    return None


def _why(state: RunState) -> str:
    if state.end is None:
        return one_line(state.reason)
    code = state.end.exit_code
    words = EXIT_WORDS.get(code, "")
    meaning = f"exit code {code}: {words}" if words else f"exit code {code}"
    reason = one_line(state.end.reason)
    return f"{meaning}; {reason}" if reason and reason != words else meaning


def _failure_rows(model: RunModel) -> Iterator[Row]:
    cause = cause_of(model)
    if cause is None:
        return
    yield Row(label=f"rank {cause.rank}", text=f"failed at step {cause.step:,}: {one_line(cause.message)}", tone="bad")
    if cause.time:
        yield Row(label="when", text=f"{clock_words(cause.time)}{', before the ranks trained' if cause.while_starting else ''}")
    if cause.left_alive:
        yield Row(label="still there", text=f"processes {', '.join(map(str, cause.left_alive))}", tone="bad")


def _log_rows(model: RunModel) -> Iterator[Row]:
    """The last lines of the rank that failed first; of all where the hub died without a word."""
    cause = cause_of(model)
    if cause is not None:
        lines = cause.log_tail[-LOG_LINES:]
        yield from (Row(label="" if place else f"rank {cause.rank}", text=_log_text(line)) for place, line in enumerate(lines))
    elif model.state.phase == "failed":
        for _, source, level, text in model.logs.lines[-LOG_LINES:]:
            tone: Tone = "bad" if level in ("ERROR", "CRITICAL") else "normal"
            yield Row(label=str(source), text=_log_text(text), tone=tone)


def _traceback_rows(model: RunModel) -> Iterator[Row]:
    cause = cause_of(model)
    lines = cause.traceback.rstrip("\n").split("\n") if cause is not None and cause.traceback else []
    if cause is not None and lines and lines[-1] not in cause.log_tail:  # what failed has mostly logged it too
        yield from (Row(text=_log_text(line)) for line in lines[-TRACEBACK_LINES:])


def _log_text(line: str) -> str:
    return line.expandtabs(4)


def _rank_rows(model: RunModel) -> Iterator[Row]:
    """What became of the process of each rank: how it ended by itself, or that it was ended."""
    state, cause = model.state, cause_of(model)
    if not state.is_over or state.run is None:
        return
    ranks = range(state.run.world_size)
    if cause is None:
        if state.end is None:
            yield Row(label=ranks_words(len(ranks)), text="ended with their hub: none is left")
        return
    first = [rank for rank in ranks if rank == cause.rank or str(rank) in cause.exits]
    others = [rank for rank in ranks if rank not in first]
    for rank in first[:MAX_RANKS]:
        yield Row(label=f"rank {rank}", text=_end_of_rank(cause, rank), tone="bad" if rank == cause.rank else "normal")
    if len(first) > MAX_RANKS:
        yield Row(text=f"and {len(first) - MAX_RANKS} more that ended by themselves", tone="muted")
    if others:
        label = f"rank {others[0]}" if len(others) == 1 else f"{len(others)} others"
        yield Row(label=label, text=f"ended by the hub, because rank {cause.rank} had failed", tone="muted")


def _end_of_rank(cause: Failed, rank: int) -> str:
    """How the process of the first rank to fail, or of one whose exit code is known, has ended."""
    code = cause.exits.get(str(rank))
    how = "" if code is None else f"killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
    return ", ".join(["failed first", *([how] if how else [])]) if rank == cause.rank else f"{how}, after rank {cause.rank}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _facts(model: RunModel) -> Iterator[Row]:
    state = model.state
    run, step = state.run, state.last_step
    until = state.end.time if state.end is not None and state.end.time else model.last_time
    if state.started_at and until:
        yield Row(label="duration", text=_duration(model, until - state.started_at))
    if run is not None:
        share = f", {state.step / run.target_step:.1%}" if run.target_step else ""
        tokens = f", {format_count(step.tokens)} tokens" if step is not None else ""
        yield Row(label="steps", text=f"{state.step:,} of {run.target_step:,}{share}{tokens}")
    if step is not None:
        yield Row(label="training loss", text=f"{format_value(step.loss)} at step {step.step:,}")
    if state.best_eval is not None:
        yield Row(label="best evaluation", text=_scores(state.best_eval))
    if state.last_eval is not None and state.last_eval != state.best_eval:
        yield Row(label="last evaluation", text=_scores(state.last_eval))
    yield Row(label="last checkpoint", text=_checkpoint(newest_checkpoint(state), state))
    if state.restarts:
        yield Row(label="restarts", text=f"{state.restarts} by the hub, after a rank had failed")
    if state.num_spikes:
        yield Row(label="guard", text=f"{counted(state.num_spikes, 'spike', 'spikes')}, acted {state.guard_acts} ×")
    if state.branches:
        yield Row(label="branches", text=f"{len(state.branches)} left by rewinds")
    if state.end is not None and state.end.weights_sha256:
        yield Row(label="weights", text=f"sha256 {state.end.weights_sha256[:16]}…")


def _duration(model: RunModel, whole_s: float) -> str:
    """The time from the first word to the last, and how much of it went into steps, those on branches included."""
    tables = [model.steps, *model.branches.values()]
    computing_s = sum(sum(table.columns["step_ms"]) for table in tables) / 1e3
    return f"{format_duration(max(0.0, whole_s))}, {format_duration(computing_s)} of it in steps"


def _scores(scores: Eval) -> str:
    return (
        f"loss {scores.loss:.4f}, perplexity {scores.perplexity:.2f}, accuracy {scores.accuracy:.1%}, at step {scores.step:,}"
    )


def newest_checkpoint(state: RunState) -> Checkpoint | None:
    """The checkpoint that the run goes on from when it is resumed."""
    return max(state.checkpoints, key=lambda saved: saved.step, default=None)


def _checkpoint(saved: Checkpoint | None, state: RunState) -> str:
    if saved is None:
        return "none was saved"
    name = f" “{one_line(saved.name)}”" if saved.name else ""
    size = f", {format_bytes(saved.bytes)}" if saved.bytes else ""
    behind = state.step - saved.step
    before = (
        f", {counted(behind, 'step', 'steps')} before the {'end' if state.is_over else 'present one'}" if behind > 0 else ""
    )
    return f"{one_line(saved.path)}{name}{size}{before}"


def _earlier(model: RunModel) -> Iterator[Row]:
    failures, cause = list(model.state.failures), cause_of(model)
    if cause is not None and failures and failures[-1] == cause:
        failures.pop()
    if len(failures) > MAX_FAILURES:
        yield Row(text=f"{len(failures) - MAX_FAILURES} more before", tone="muted")
    for failure in failures[-MAX_FAILURES:]:
        yield Row(label=clock_words(failure.time), text=story_words(failure).text)


def _alerts(state: RunState) -> Iterator[Row]:
    for alert in state.alerts.values():
        word = story_words(alert)
        yield Row(label=one_line(alert.topic), text=f"{word.glyph} {word.text}", tone=word.tone)


def _unconfirmed(state: RunState) -> Iterator[Row]:
    """Commands that the ranks of a run that is over did not answer to any more."""
    for status in state.commands if state.is_over else ():
        if status.status in ("requested", "agreed"):
            yield Row(label=one_line(status.actor), text=asked(status.name, status.args), tone="warning")


def next_steps(model: RunModel, name: str) -> Iterator[Row]:
    """What one can do now, the likeliest first; command lines as one types them."""
    state = model.state
    if not state.is_over:
        yield from _while_live(state, name)
    elif state.phase == "finished":
        yield from _once_finished(state, name)
    else:
        yield from _once_ended(model, name)


def _command(label: str, text: str) -> Row:
    return Row(label=label, text=text, is_command=True)


def _while_live(state: RunState, name: str) -> Iterator[Row]:
    if state.phase == "hibernated":
        yield _command("bring it back", f"plt-tui ctl {name} resume")
    yield _command("see it again", f"plt-tui attach {name}")
    yield _command("save and stop", f"plt-tui ctl {name} stop")


def _once_finished(state: RunState, name: str) -> Iterator[Row]:
    yield _command("the whole story", f"plt-tui show {name}")
    yield _command("lab log, curves", f"plt-tui report {name}")
    yield _command("let it write", f'plt-tui generate {name} --prompt "..."')
    yield _command("score it", f"plt-tui eval {name}")
    yield _command("train on", f"{resume_command(name)} --set train.steps={2 * max(1, state.step)}")


def _once_ended(model: RunModel, name: str) -> Iterator[Row]:
    state, cause = model.state, cause_of(model)
    code = state.end.exit_code if state.end is not None else None
    saved = newest_checkpoint(state)
    if code == 3:
        spiked = max([state.step, *(spike.step for spike in state.spikes[-1:])])
        yield _command("texts of that step", f"plt-tui show {name} --batch {max(1, spiked)}")
        yield _command("go on more gently", f"{resume_command(name)} --set optim.lr={_half_the_rate(state)}")
    if code == 7:
        yield _command("look at the corpus", f"plt-tui show {name} --config")
    if cause is not None:
        yield _command("its whole log", f"plt-tui logs {name} --rank {cause.rank}")
    elif state.phase == "failed":
        yield _command("the whole log", f"plt-tui logs {name}")
    label = f"go on at step {saved.step:,}" if saved is not None else "begin again"
    yield _command(label, resume_command(name))


def resume_command(name: str) -> str:
    """The command line that goes on with a run that has ended."""
    return f"plt-tui run --resume auto --name {name}"


def _half_the_rate(state: RunState) -> str:
    optim = state.run.config.get("optim") if state.run is not None else None
    rate = optim.get("lr") if isinstance(optim, dict) else None
    return f"{rate / 2:g}" if isinstance(rate, int | float) else "..."

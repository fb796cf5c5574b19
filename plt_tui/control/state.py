"""What a run is at one moment, folded from its events: the live screen, a finished run, a bug report and a test use this fold.

Pure: `apply` does no I/O and reads no clock. Histories of steps and log lines are not in here (they can be long); their readers
keep them beside this state. Invariant: folding the journal and the metrics of a run in order gives the state its hub had.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from plt_tui.config.edits import SKIP_UPDATE, UNDO, Edit, edits_from, left_out, rewound
from plt_tui.config.knobs import check_edit
from plt_tui.protocol.commands import rewind_of
from plt_tui.protocol.events import (
    FINAL_PHASES,
    Alert,
    Checkpoint,
    CheckpointFailed,
    CommandStatus,
    End,
    Eval,
    Event,
    Failed,
    Gauges,
    Phase,
    Plan,
    Progress,
    RankStatus,
    Recent,
    Run,
    RunPhase,
    Sample,
    Spike,
    Step,
    Steps,
    Viewers,
)

PACE_SMOOTHING = 0.9
"""Weight of the past in the running mean of seconds per step."""
MAX_COMMANDS = 500
"""Commands kept in the state; the journal keeps all."""
MAX_SPIKES = 100
MAX_EVALS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """Steps that a rewind left behind."""

    number: int
    """1, 2, ... in the order in which they were left."""
    id: str
    """Of the rewind that left it."""
    first: int
    """Its first step that the run has computed again, or will."""
    last: int
    time: float
    actor: str
    """Who left it."""
    skip: int
    """Global batches that the run left out instead."""
    edits: tuple[Edit, ...]
    """As they were on the branch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Running mean of seconds per step in this session, as its ranks measured them: a clock that is set changes nothing."""

    has_begun: bool = False
    """The first step was made; it took as long as it took to warm up."""
    mean_s: float = 0.0
    weight: float = 0.0
    """Sum of the weights in `mean_s`: dividing by it removes the start's bias (Kingma and Ba 2014, section 3)."""

    def after(self, step_ms: float) -> Pace:
        """The pace once a step has taken so long."""
        return self.after_all((step_ms,))

    def after_all(self, steps_ms: Sequence[float]) -> Pace:
        """The same as `after` for each step in turn, to the bit, without a value for each of them."""
        mean_s, weight = self.mean_s, self.weight
        for step_ms in steps_ms if self.has_begun else steps_ms[1:]:
            mean_s = PACE_SMOOTHING * mean_s + (1 - PACE_SMOOTHING) * step_ms / 1e3
            weight = PACE_SMOOTHING * weight + (1 - PACE_SMOOTHING)
        return Pace(has_begun=self.has_begun or len(steps_ms) > 0, mean_s=mean_s, weight=weight)

    @property
    def seconds_per_step(self) -> float | None:
        """None before the second step of a session."""
        return self.mean_s / self.weight if self.weight > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """One run. `phase` is what it does in one word, `reason` why."""

    run: Run | None = None
    phase: RunPhase = "starting"
    reason: str = ""
    step: int = 0
    """Completed steps."""
    known_step: int = 0
    """Steps that were completed on this line, also by ranks that had to be restarted since."""
    last_step: Step | None = None
    evals: tuple[Eval, ...] = ()
    """Those of the line that the run is on, oldest first: the newest MAX_EVALS, of the older ones only the best."""
    last_sample: Sample | None = None
    progress: Progress | None = None
    ranks: dict[int, RankStatus] = field(default_factory=dict)
    commands: tuple[CommandStatus, ...] = ()
    """Newest status of each command, oldest command first."""
    edits: tuple[Edit, ...] = ()
    """Applied edits, also undone ones and those ahead of `step` after a restart; none that a rewind has left behind."""
    branches: tuple[Branch, ...] = ()
    """What rewinds have left behind, oldest first."""
    spikes: tuple[Spike, ...] = ()
    """What the guard found, on all branches: the newest MAX_SPIKES."""
    num_spikes: int = 0
    """How many it has found, on all branches."""
    guard_acts: int = 0
    """How often the guard did more than warn, on all branches."""
    recent: Recent | None = None
    """States in memory that a rewind can go back to at once."""
    checkpoints: tuple[Checkpoint, ...] = ()
    """Those of the line that the run is on, oldest first."""
    failures: tuple[Failed, ...] = ()
    restarts: int = 0
    alerts: dict[str, Alert] = field(default_factory=dict)
    gauges: Gauges | None = None
    viewers: tuple[dict[str, Any], ...] = ()
    """Who is connected, the one who came first first; entries as in `Viewers`. Empty in a record."""
    pace: Pace = Pace()
    started_at: float = 0.0
    """Unix seconds of the first event."""
    session_at: float = 0.0
    """Unix seconds at which this session's ranks were first ready: a restart after a failure begins no other one."""
    end: End | None = None
    """The last session's end; None while a session is live."""

    @property
    def last_eval(self) -> Eval | None:
        """The newest evaluation of the line that the run is on."""
        return self.evals[-1] if self.evals else None

    @property
    def best_eval(self) -> Eval | None:
        """Its evaluation of the lowest loss; one that is NaN only where no other is a number."""
        return functools.reduce(_better, self.evals) if self.evals else None

    @property
    def is_over(self) -> bool:
        """True when no session is live."""
        return self.phase in FINAL_PHASES

    @property
    def utilisation(self) -> float | None:
        """Model FLOPs utilisation of the last step, 0 to 1: its arithmetic over what the devices could do in that time.

        Chowdhery et al. 2022 (PaLM, arXiv 2204.02311), appendix B. None while unknown.
        """
        if self.run is None or self.last_step is None or not self.run.peak_flops or not self.run.flops_per_token:
            return None
        return self.last_step.tokens_per_s * self.run.flops_per_token / self.run.peak_flops

    @property
    def eta_s(self) -> float | None:
        """Seconds to the last step at this session's pace; None while unknown, 0 when finished."""
        pace = self.pace.seconds_per_step
        if self.run is None or pace is None:
            return None
        return max(0, self.run.target_step - self.step) * pace


def apply(state: RunState, event: Event) -> RunState:
    """The state after `event`."""
    if state.started_at == 0.0 and event.time:
        state = replace(state, started_at=event.time)
    match event:
        case Step():
            return _after_step(state, event, state.pace.after(event.step_ms))
        case Steps(count=count, branch=0) if count > 0:
            return _after_block(state, event)
        case RankStatus():
            return replace(state, ranks={**state.ranks, event.rank: event})
        case Gauges():
            return replace(state, gauges=event)
        case Viewers():
            return replace(state, viewers=tuple(event.viewers))
        case CommandStatus():
            return _after_command(state, event)
        case Phase():
            return _after_phase(state, event)
        case Run():
            return _after_start(state, event)
        case Plan():
            return _after_plan(state, event)
        case Spike():
            acts = state.guard_acts + (event.act != "warn")
            spikes = (*state.spikes, event)[-MAX_SPIKES:]
            return replace(state, spikes=spikes, num_spikes=state.num_spikes + 1, guard_acts=acts)
        case Recent():
            return replace(state, recent=event)
        case Eval():
            return replace(state, evals=_with_eval(state.evals, event))
        case Sample():
            return replace(state, last_sample=event)
        case Checkpoint():
            others = tuple(saved for saved in state.checkpoints if saved.step != event.step)
            return replace(state, checkpoints=(*others, event), known_step=max(state.known_step, event.step))
        case CheckpointFailed():
            text = f"step {event.step} not saved: {event.reason}"
            alert = Alert(time=event.time, topic="checkpoint", text=text, level="error")
            return replace(state, alerts={**state.alerts, alert.topic: alert})
        case Progress():
            return replace(state, progress=event)
        case Failed():
            return replace(state, failures=(*state.failures, event))
        case Alert():
            others_ = {topic: alert for topic, alert in state.alerts.items() if topic != event.topic}
            return replace(state, alerts={**others_, event.topic: event} if event.text else others_)
        case End():
            reason = event.reason or state.reason
            return replace(state, ranks=_ended(state.ranks), end=event, phase=event.phase, reason=reason, step=event.step)
        case _:
            return state


def apply_rows(state: RunState, times: Sequence[float], steps_ms: Sequence[float], last: Step) -> RunState:
    """Like applying many steps one by one; `times` and `steps_ms`: of all of them, `last`: the last one."""
    if state.started_at == 0.0:
        state = replace(state, started_at=next(filter(None, times), 0.0))
    return _after_step(state, last, state.pace.after_all(steps_ms))


def _after_step(state: RunState, step: Step, pace: Pace) -> RunState:
    return replace(state, step=step.step, known_step=max(state.known_step, step.step), last_step=step, pace=pace)


def _with_eval(evals: tuple[Eval, ...], event: Eval) -> tuple[Eval, ...]:
    if len(evals) <= MAX_EVALS:
        return (*evals, event)
    older, oldest, *newer = evals
    return (_better(older, oldest), *newer, event)


def _better(best: Eval, event: Eval) -> Eval:
    """The one of lower loss; a loss that is NaN is never better than one that is a number."""
    return event if math.isnan(best.loss) or event.loss < best.loss else best


def _after_block(state: RunState, block: Steps) -> RunState:
    """Like applying every step of the block, but only its last two rows are looked at."""
    last = {name: block.column(name, last=1)[0] for name in block.columns}
    whole = ("step", "tokens")
    step = Step(**{name: int(value) if name in whole else value for name, value in last.items()})  # type: ignore[arg-type]
    began_at = state.run.start_step if state.run is not None else 0
    rows = zip(block.column("step", last=2), block.column("step_ms", last=2), strict=True)
    return _after_step(state, step, state.pace.after_all([step_ms for number, step_ms in rows if number > began_at]))


def _after_phase(state: RunState, event: Phase) -> RunState:
    restarts = state.restarts + (event.phase == "restarting")
    has_no_ranks = event.phase in ("starting", "restarting", "hibernated")
    is_final = event.phase in FINAL_PHASES  # of a hub that died without a word: its ranks died with it
    end = state.end if is_final else None
    ranks = _ended(state.ranks) if is_final else state.ranks
    return replace(
        state,
        phase=event.phase,
        reason=event.reason,
        restarts=restarts,
        ranks={} if has_no_ranks else ranks,
        recent=None if has_no_ranks else state.recent,
        end=end,
        session_at=0.0 if event.phase == "starting" else state.session_at,
    )


def _ended(ranks: Mapping[int, RankStatus]) -> dict[int, RankStatus]:
    return {number: replace(rank, doing="ended") for number, rank in ranks.items()}


def _after_start(state: RunState, event: Run) -> RunState:
    """A session goes on from its first step, with the edits that it says it has."""
    step = event.start_step
    edits = state.edits if event.edits is None else tuple(edits_from(event.edits))
    kept = _kept_until(state, step)
    known_step = max(state.known_step, step)  # a checkpoint that is chosen may be ahead of what is recorded
    return replace(
        state,
        run=event,
        step=step,
        known_step=known_step,
        edits=edits,
        progress=None,
        end=None,
        recent=None,
        pace=Pace(),
        session_at=state.session_at or event.time,
        **kept,
    )


def _after_plan(state: RunState, plan: Plan) -> RunState:
    if state.run is None:
        return state
    run = replace(
        state.run,
        target_step=plan.target_step,
        tokens_per_step=plan.tokens_per_step,
        steps_per_epoch=plan.steps_per_epoch,
    )
    larger = plan.tokens_per_step / state.run.tokens_per_step if state.run.tokens_per_step else 1.0
    return replace(state, run=run, pace=replace(state.pace, mean_s=state.pace.mean_s * larger))  # at the same tokens per second


def _after_command(state: RunState, event: CommandStatus) -> RunState:
    known = [command for command in state.commands if command.id != event.id]
    place = next((i for i, command in enumerate(state.commands) if command.id == event.id), len(known))
    known.insert(place, event)
    state = replace(state, commands=tuple(known[-MAX_COMMANDS:]))
    if event.status != "applied":
        return state
    if event.name == "rewind":
        return _after_rewind(state, event)
    edit = edit_of(event)
    if edit is None or any(old.id == edit.id for old in state.edits):
        return state
    return replace(state, edits=(*state.edits, edit))


def _after_rewind(state: RunState, event: CommandStatus) -> RunState:
    """The run is at `event.step` again; what came after is a branch, whose edits and checkpoints no longer count."""
    _, skip = rewind_of(event.args)
    skips = left_out(skip, event.step, id=event.id, actor=event.actor)
    if event.before == event.step:  # nothing is gone back to
        return replace(state, edits=(*state.edits, *skips))
    branches = state.branches
    at = event.before if isinstance(event.before, int) else state.step  # who reads no metrics does not know the step
    if at > event.step:
        left = Branch(
            number=len(branches) + 1,
            id=event.id,
            first=event.step + 1,
            last=at,
            time=event.time,
            actor=event.actor,
            skip=skip,
            edits=state.edits,
        )
        branches = (*branches, left)
    return replace(
        state,
        step=event.step,
        known_step=event.step,
        branches=branches,
        edits=(*rewound(state.edits, event.step), *skips),
        checkpoints=tuple(saved for saved in state.checkpoints if saved.step <= event.step),
        **_kept_until(state, event.step),
    )


def edit_of(status: CommandStatus) -> Edit | None:
    """The edit that an applied `set`, `undo` or `skip_update` made; None for every other status."""
    if status.status != "applied" or status.name not in ("set", UNDO, SKIP_UPDATE):
        return None
    args = status.args
    if status.name == "set":
        name, value, mode = check_edit(args["name"], args["value"], args.get("mode", "set"))
        return Edit(id=status.id, step=status.step, name=name, value=value, mode=mode, actor=status.actor)
    value = args["edit"] if status.name == UNDO else status.reason
    return Edit(id=status.id, step=status.step, name=status.name, value=value, actor=status.actor)


def _kept_until(state: RunState, step: int) -> dict[str, Any]:
    """What a line that goes on from `step` completed steps keeps of the measurements before it."""
    last_step = state.last_step if state.last_step is not None and state.last_step.step <= step else None
    return {"last_step": last_step, "evals": tuple(known for known in state.evals if known.step <= step)}

"""Everything that can be said about a run, as small frozen values, and their JSON form.

One event is one JSON object with its `kind`; the same objects travel from rank to hub, lie in `journal.jsonl` and
`metrics.jsonl`, and are streamed to views (`framing`). Invariant: whoever folds them with `control.state.apply` sees
the same run.
"""

from __future__ import annotations

import base64
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

RunPhase = Literal[
    "starting", "preparing", "running", "paused", "hibernated", "stopping", "restarting", "finished", "stopped", "failed"
]
"""What a run is doing, in one word. The last three are final."""

FINAL_PHASES: frozenset[str] = frozenset({"finished", "stopped", "failed"})

CommandState = Literal["requested", "agreed", "applied", "refused"]
"""Life of a command; the last two are final. `agreed`: every rank has it at the same step boundary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events."""

    kind: ClassVar[str] = ""
    time: float = 0.0
    """Unix seconds: a label for people, no decision is taken on it."""
    seq: int = 0
    """Place in the run's record, given by the hub, growing over all sessions; 0: not recorded. A stream goes on behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Event):
    """A session of a run begins to train: sent by rank 0 once model and data are built, after each (re)start."""

    kind: ClassVar[str] = "run"
    name: str
    dir: str
    world_size: int
    params: int
    """Trainable parameters of the model."""
    target_step: int
    start_step: int = 0
    """Completed steps that the session starts from: 0, or those of the checkpoint it resumed."""
    tokens_per_step: int = 0
    """Tokens of one global batch, all ranks and micro-steps together."""
    steps_per_epoch: float = 0.0
    train_tokens: int = 0
    eval_tokens: int = 0
    vocab_size: int = 0
    flops_per_token: float = 0.0
    """Arithmetic of forward and backward for one token; 0: unknown."""
    peak_flops: float = 0.0
    """What the devices of all ranks together can do per second in this precision; 0: unknown."""
    peak_source: str = ""
    """Where `peak_flops` is from: a data sheet, or a measurement at start."""
    device: str = "cpu"
    resumed_from: str = ""
    """Folder name of the checkpoint that the session resumed, or empty."""
    environment: dict[str, Any] = field(default_factory=dict)
    """Versions, device, threads and commit: what a replay must match to give the same bits."""
    config: dict[str, Any] = field(default_factory=dict)
    """The session's resolved configuration, by section: a later session may have another one."""
    edits: list[dict[str, Any]] | None = None
    """All edits that the session goes on with, as fields of `config.edits.Edit`; None in records that do not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Event):
    """What follows from the edits in force: sent by rank 0 when a new batch size changed it."""

    kind: ClassVar[str] = "plan"
    step: int
    """The first step that it holds for."""
    target_step: int
    tokens_per_step: int
    steps_per_epoch: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase(Event):
    """The run as a whole enters `phase`; `reason` says why, in words for people."""

    kind: ClassVar[str] = "phase"
    phase: RunPhase
    reason: str = ""
    step: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Event):
    """Work before the first step, such as tokenising: `done` of `total` in `unit`."""

    kind: ClassVar[str] = "progress"
    task: str
    done: float
    total: float
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Event):
    """One optimizer step. `step` counts completed steps from 1; `loss` was computed before this step's update."""

    kind: ClassVar[str] = "step"
    step: int
    loss: float
    """Mean next-token cross-entropy over the global batch, nats per token."""
    lr: float
    grad_norm: float
    """Global L2 norm of the averaged gradient before clipping."""
    tokens: int
    """Tokens trained on since step 0, this step included."""
    tokens_per_s: float
    step_ms: float
    data_ms: float = 0.0


STEP_COLUMNS = ("time", "step", "loss", "lr", "grad_norm", "tokens", "tokens_per_s", "step_ms", "data_ms")
"""Columns of a `Steps` block and of the metric history, all float64 (exact for integers below 2**53)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps(Event):
    """Many steps at once, from hub to view; `columns[name]`: base64 of little-endian float64, `seq`: that of the last one."""

    kind: ClassVar[str] = "steps"
    count: int
    columns: dict[str, str]
    branch: int = 0
    """0: the line that the run is on; n: the n-th branch that a rewind left: whole, maybe in several events, without `seq`."""

    def column(self, name: str, last: int = 0) -> array[float]:
        """Values of one of STEP_COLUMNS, length `count`; or the `last` ones of them, the others not unpacked."""
        packed = self.columns[name][-4 * ((8 * last + 4) // 3) if last else 0 :]  # whole groups; the last is padded by 0 to 2
        return array("d", base64.b64decode(packed)[-8 * last :])

    @staticmethod
    def from_columns(columns: Mapping[str, array[float]], start: int, stop: int) -> Steps:
        """Rows `start` to `stop` (exclusive) of `columns`."""
        packed = {name: base64.b64encode(values[start:stop].tobytes()).decode() for name, values in columns.items()}
        return Steps(count=stop - start, columns=packed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Eval(Event):
    """Evaluation on held-out text with the weights after `step` steps."""

    kind: ClassVar[str] = "eval"
    step: int
    loss: float
    perplexity: float
    bits_per_byte: float
    """loss / ln 2 x tokens per byte of text: comparable across tokenizers."""
    accuracy: float
    """Share of next tokens whose most probable guess was right, 0 to 1."""
    tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample(Event):
    """Text written by the model after `step` steps; `text` does not repeat `prompt`."""

    kind: ClassVar[str] = "sample"
    step: int
    prompt: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint(Event):
    """A checkpoint whose manifest is on disk."""

    kind: ClassVar[str] = "checkpoint"
    step: int
    path: str
    """Relative to the run folder where it lies inside it, else absolute."""
    name: str = ""
    """Given by a person; a named checkpoint is never pruned."""
    bytes: int = 0
    seconds: float = 0.0
    """From the copy at the step boundary to the manifest on disk."""
    weights_sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFailed(Event):
    """A save that did not reach the disk; the run goes on with the checkpoint before it."""

    kind: ClassVar[str] = "checkpoint_failed"
    step: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandStatus(Event):
    """Where a command is in its life.

    `step`: for `set` and `undo` the first step computed with the new value; for `skip_update` the step itself; for
    `rewind` the completed steps that are left; for the others those at which it acted; -1 while unknown.
    """

    kind: ClassVar[str] = "command"
    id: str
    name: str
    args: dict[str, Any]
    actor: str
    status: CommandState
    step: int = -1
    reason: str = ""
    """Why it was refused, or what it did ("0.001 -> 0.0005")."""
    before: Any = None
    """`set` and `undo`: the knob's value before, exactly; `rewind`: the step that the run was at."""
    after: Any = None
    """`set` and `undo`: the knob's value at `step`; `rewind`: the step that it is at now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spike(Event):
    """The guard found a step that is out of line."""

    kind: ClassVar[str] = "spike"
    step: int
    what: Literal["loss", "grad_norm"]
    value: float
    z: float
    """Standard deviations above the mean of the steps before; NaN when `value` is no finite number."""
    act: Literal["warn", "skip", "lower", "rewind", "stop"]
    """What the guard did about it; all but "warn" are commands of actor "guard" in the record too."""
    reason: str = ""
    """In words for people, with the limit or cool-down that decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent(Event):
    """The states that the ranks keep in memory for a rewind."""

    kind: ClassVar[str] = "recent"
    steps: list[int]
    bytes: int
    """Memory of all of them on one rank."""
    seconds: float
    """That the newest copy took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankStatus(Event):
    """A rank's word about itself: at every change of `doing`, and at most twice a second while it steps."""

    kind: ClassVar[str] = "rank"
    rank: int
    pid: int
    doing: str
    """One word or two: "importing torch", "preparing data", "training", "paused", "evaluating", "ended"."""
    step: int = 0
    step_ms: float = 0.0
    data_ms: float = 0.0
    """The last step's parts: this and the four below; they leave out what is too short to be one of them."""
    forward_ms: float = 0.0
    backward_ms: float = 0.0
    comm_ms: float = 0.0
    """Gradients on their way, and waiting for slower ranks; on a GPU only what the backward pass does not hide."""
    optim_ms: float = 0.0
    waiting: bool = False
    """It waits for other ranks: in a sum, or for gradients on their way."""
    idle_s: float = 0.0
    """Seconds since it last did anything, when this was sent: a thread reports what the rank's main thread cannot."""
    memory_bytes: int = 0
    """Resident memory on a CPU rank, memory allocated by torch on a GPU rank."""
    device: str = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Event):
    """The first failure of a rank: what it raised, or the signal that ended it."""

    kind: ClassVar[str] = "failed"
    rank: int
    message: str
    exit_code: int
    """Exit code of the run if nothing can be retried."""
    step: int = 0
    traceback: str = ""
    log_tail: list[str] = field(default_factory=list)
    while_starting: bool = False
    """It happened before the ranks of this attempt began to train; `step` is then that of the attempt before."""
    is_signal: bool = False
    """The process was ended from outside, or by a crash, and could not speak for itself."""
    is_lost_peer: bool = False
    """A collective failed: most likely because another rank failed first."""
    left_alive: list[int] = field(default_factory=list)
    """Process ids of ranks that could not be ended after it: nothing may be started in their place."""
    exits: dict[str, int] = field(default_factory=dict)
    """Exit codes of the ranks whose processes had ended by themselves when the cause was named, by rank as JSON's keys are;
    negative: by that signal. The other ranks were ended by the hub."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(Event):
    """A rank left its loop in good order; rank 0's carries the hash of the final weights."""

    kind: ClassVar[str] = "done"
    rank: int
    step: int
    finished: bool
    """True: the target was reached. False: stopped by a command."""
    weights_sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs(Event):
    """Log lines, oldest first, already through the escape filter. `dropped`: lines before these that are not told."""

    kind: ClassVar[str] = "logs"
    lines: list[LogLine]
    dropped: int = 0


LogLine = list[Any]
"""[Unix time, source ("hub", "rank 0", ...), level ("DEBUG" ... "ERROR"), text]: a list so that JSON gives it back as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLine(Event):
    """How far a log line is that is redrawn with carriage returns and has no end yet: a progress bar that moves."""

    kind: ClassVar[str] = "open_line"
    source: str
    text: str
    """Already through the escape filter. Empty: the line has ended, and comes whole among the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges(Event):
    """The machine at one moment. A value that cannot be read is None and `reason` says why."""

    kind: ClassVar[str] = "gauges"
    cores: list[float]
    """Use of each CPU core that the run may use, 0 to 100."""
    memory_used_bytes: int
    memory_total_bytes: int
    gpus: list[dict[str, Any]]
    """Per GPU: index, name, utilisation (0-100), memory_used_bytes, memory_total_bytes, temperature_c, power_w, throttled (why
    it is slower than it could be; empty: it is not), reason."""
    gpu_reason: str = ""
    """Why `gpus` is empty."""
    disk_free_bytes: int | None = None
    """What this user may still write to the file system of the checkpoints."""
    cpu_quota: float | None = None
    """Cores' worth of time that the control group may use; None: all of `cores`, whose use is then ours and that of others."""
    cpu_used: float | None = None
    """Cores' worth of time that the control group has used since the last reading; None while unknown."""
    cpu_throttled: float | None = None
    """Share of that time, 0 to 1, in which the kernel held the group back because it had used its quota."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewers(Event):
    """Who follows the run; not recorded."""

    kind: ClassVar[str] = "viewers"
    viewers: list[dict[str, Any]]
    """Of each, in the order in which they came: actor, door ("socket" or "http"), readonly, since (Unix seconds)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert(Event):
    """Something a person should see; it stands until one with the same `topic` and an empty `text` clears it."""

    kind: ClassVar[str] = "alert"
    topic: str
    text: str
    level: Literal["info", "warning", "error"] = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaughtUp(Event):
    """From hub to a view that has just attached: what came before is history, what follows is live."""

    kind: ClassVar[str] = "caught_up"


@dataclass(frozen=True, slots=True, kw_only=True)
class End(Event):
    """The last event of a session of the run."""

    kind: ClassVar[str] = "end"
    phase: RunPhase
    step: int
    exit_code: int
    weights_sha256: str = ""
    reason: str = ""

"""What may be asked of a run as it is now, in which words it is passed on, and what a new hub makes of what it finds asked.

Pure, but for the id of a new command: answers do not depend on who asks.

Invariant: a command that is admitted can be applied, unless the ranks find a reason that only they can know.
"""

from __future__ import annotations

from dataclasses import replace

from plt_tui.config.hyper import fitted
from plt_tui.config.knobs import check_edit
from plt_tui.config.schema import RunConfig
from plt_tui.control.state import RunState
from plt_tui.errors import UsageError
from plt_tui.protocol.commands import Command, new_command, rewind_of, status_of
from plt_tui.protocol.events import CommandStatus
from plt_tui.protocol.text import safe_line, safe_text

FINAL_STATES = ("applied", "refused")
"""After these nothing more is said of a command."""
_WHILE_HIBERNATED = ("resume", "note", "stop")


def admitted(
    command: Command, config: RunConfig, state: RunState, *, name: str, is_training: bool, is_stopping: bool
) -> Command:
    """`command` with its texts made safe and its arguments as they will be applied to the run called `name`.

    Raises: UsageError when the run cannot apply it. While the run is stopping only a stop at once can be.
    """
    if state.is_over or (is_stopping and not ends_at_once(command)):
        raise UsageError(f"{command.name}: the run is ending or has ended; see plt-tui show {name}")
    if state.phase == "hibernated" and command.name not in _WHILE_HIBERNATED:
        raise UsageError(f"{command.name}: the run is hibernated; {way_back(name)}")
    if command.name == "hibernate" and not is_training:
        raise UsageError("hibernate: no rank is training yet; wait for the first step, or stop the run")
    passed_on = worded(command)
    if command.name == "set":
        args = passed_on.args
        fitted(config, state.edits, state.step + 1, args["name"], args["value"], args["mode"])
    return passed_on


def worded(command: Command) -> Command:
    """`command` in the words in which any run passes it on and writes it down. Raises: UsageError when none can apply it."""
    args = command.args
    match command.name:
        case "note":
            args = {"text": safe_text(str(args["text"]))}
        case "set":
            knob, value, mode = check_edit(args["name"], args["value"], args.get("mode", "set"))
            args = {"name": knob, "value": value, "mode": mode}
        case "rewind":
            step, skip = rewind_of(args)
            args = {"step": step, "skip": skip}
    return replace(command, args=args, actor=safe_line(command.actor))


def ends_at_once(command: Command) -> bool:
    """True for a stop that does not wait for a save."""
    return command.name == "stop" and bool(command.args.get("now", False))


def way_back(name: str) -> str:
    """What to do about a hibernated run."""
    return f"resume it first: plt-tui ctl {name} resume"


def unanswered(state: RunState) -> list[CommandStatus]:
    """The refusals of the commands that a killed hub has left without an answer."""
    reason = "its hub died before it was confirmed"
    open_ = [command for command in state.commands if command.status not in FINAL_STATES]
    return [replace(command, status="refused", reason=reason, time=0.0) for command in open_]


def chosen_rewind(state: RunState, step: int | None, checkpoint: str) -> CommandStatus | None:
    """The rewind that a start from the `checkpoint` of `step`, which a person chose, is; None when it leaves nothing behind."""
    if step is None or step >= state.step:
        return None
    rewind = new_command("rewind", {"step": step}, actor="run --resume")
    return replace(status_of(rewind, "applied", step, safe_line(checkpoint)), before=state.step, after=step)

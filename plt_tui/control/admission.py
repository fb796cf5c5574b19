"""What may be asked of a run as it is now, and in which words it is passed on. Pure: answers do not depend on who asks.

Invariant: a command that is admitted can be applied, unless the ranks find a reason that only they can know.
"""

from __future__ import annotations

from dataclasses import replace

from plt_tui.config.hyper import fitted
from plt_tui.config.knobs import check_edit
from plt_tui.config.schema import RunConfig
from plt_tui.control.state import RunState
from plt_tui.errors import UsageError
from plt_tui.protocol.commands import Command, rewind_of
from plt_tui.protocol.text import safe_line, safe_text

_WHILE_HIBERNATED = ("resume", "note", "stop")


def admitted(
    command: Command, config: RunConfig, state: RunState, *, name: str, is_training: bool, is_stopping: bool
) -> Command:
    """`command` with its texts made safe and its arguments as they will be applied to the run called `name`.

    Raises: UsageError when the run cannot apply it. While the run is stopping only a stop at once can be.
    """
    if state.is_over or (is_stopping and not ends_at_once(command)):
        raise UsageError(f"{command.name}: the run is ending or has ended; see plt-tui show {name}")
    command = replace(command, actor=safe_line(command.actor))
    if state.phase == "hibernated" and command.name not in _WHILE_HIBERNATED:
        raise UsageError(f"{command.name}: the run is hibernated; {way_back(name)}")
    args = command.args
    match command.name:
        case "note":
            return replace(command, args={"text": safe_text(str(args["text"]))})
        case "hibernate" if not is_training:
            raise UsageError("hibernate: no rank is training yet; wait for the first step, or stop the run")
        case "set":
            knob, value, mode = check_edit(args["name"], args["value"], args.get("mode", "set"))
            fitted(config, state.edits, state.step + 1, knob, value, mode)
            return replace(command, args={"name": knob, "value": value, "mode": mode})
        case "rewind":
            step, skip = rewind_of(args)
            return replace(command, args={"step": step, "skip": skip})
    return command


def ends_at_once(command: Command) -> bool:
    """True for a stop that does not wait for a save."""
    return command.name == "stop" and bool(command.args.get("now", False))


def way_back(name: str) -> str:
    """What to do about a hibernated run."""
    return f"resume it first: plt-tui ctl {name} resume"

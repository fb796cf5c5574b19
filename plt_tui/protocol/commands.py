"""What people can ask of a live run: the verbs, and one request as a value.

The same verbs serve keys, palette, `plt-tui ctl`, the socket and HTTP. This module knows a verb's arguments, not what it does:
ranges of `set` are in `config.hyper`, effects in `training.worker`. A command's id makes a repeat harmless.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from plt_tui.errors import UsageError
from plt_tui.protocol.events import CommandState, CommandStatus

NAME_PATTERN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
"""Names of runs and checkpoints: one path component, no leading dot (a path can never leave its folder)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One verb: `args` maps each argument's name to its help, required ones in `required`."""

    help: str
    args: Mapping[str, str] = field(default_factory=dict)
    required: tuple[str, ...] = ()


VERBS: Mapping[str, Verb] = {
    "pause": Verb(help="hold all ranks at the next step boundary"),
    "resume": Verb(help="go on after a pause"),
    "set": Verb(
        help="change a knob from the next step on",
        args={
            "name": "knob, such as lr",
            "value": "new value",
            "mode": "lr: set, scale or replan; batch_size, accumulate: set or keep (the global batch)",
        },
        required=("name", "value"),
    ),
    "undo": Verb(help="take the last edit back", args={"edit": "id of the edit; the last one if left out"}),
    "checkpoint": Verb(help="save now", args={"name": "keeps it for good under this name"}),
    "eval": Verb(help="evaluate on held-out text now"),
    "sample": Verb(help="write a sample now", args={"prompt": "text to continue"}),
    "rewind": Verb(
        help="go back to the state after STEP steps, or the newest kept one before it; what came after becomes a branch",
        args={"step": "completed steps to go back to", "skip": "global batches to leave out from there"},
        required=("step",),
    ),
    "hibernate": Verb(help="save, end the ranks and free their devices; resume brings the run back"),
    "stop": Verb(help="save, then end the run", args={"now": "true: end without saving"}),
    "note": Verb(help="write a remark into the journal", args={"text": "the remark"}, required=("text",)),
}


PROSE = ("note", "sample")
"""Verbs whose words need no quotes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A request. `actor` says who asked: "tui ana@box", "ctl ana@box", "signal", "guard"."""

    id: str
    name: str
    args: dict[str, Any] = field(default_factory=dict)
    actor: str = ""


def new_command(name: str, args: Mapping[str, Any] | None = None, actor: str = "") -> Command:
    """A checked command with a fresh id. Raises: UsageError."""
    return check(Command(id=secrets.token_hex(6), name=name, args=dict(args or {}), actor=actor))


def check(command: Command) -> Command:
    """`command` itself when its verb and arguments are known.

    Raises: UsageError naming the verb or argument and what is allowed.
    """
    verb = VERBS.get(command.name)
    if verb is None:
        raise UsageError(f"unknown command {command.name!r}; known: {', '.join(VERBS)}")
    unknown = [name for name in command.args if name not in verb.args]
    if unknown:
        allowed = ", ".join(verb.args) or "none"
        raise UsageError(f"{command.name}: unknown argument {unknown[0]!r}; allowed: {allowed}")
    missing = [name for name in verb.required if command.args.get(name) is None]
    if missing:
        raise UsageError(f"{command.name}: {missing[0]} is missing ({verb.args[missing[0]]})")
    try:
        json.dumps(command.args, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:  # NaN, or half a surrogate pair
        raise UsageError(f"{command.name}: an argument cannot be written down as JSON ({error})") from None
    name = command.args.get("name")
    if command.name == "checkpoint" and name is not None and not NAME_PATTERN.fullmatch(str(name)):
        raise UsageError(f"checkpoint name {str(name)!r}: use 1 to 64 of A-Z a-z 0-9 . _ - and no leading dot")
    if command.name == "note" and not str(command.args["text"]).strip():
        raise UsageError("note: text is missing (the remark)")
    if command.name == "rewind":
        rewind_of(command.args)
    nested = next((name for name, value in command.args.items() if not _is_flat(value)), None)
    if nested is not None:
        raise UsageError(f"{command.name}: {nested} must be text, a number, true or false, or a list of these")
    now = command.args.get("now", False)
    if not isinstance(now, bool):  # "false" is true in Python, and would end the run without saving
        raise UsageError(f"{command.name}: now is true or false, not {now!r}")
    return command


def named_args(verb: str, values: Sequence[str], *, now: bool = False) -> dict[str, Any]:
    """The words after a verb by the names of its arguments, in the order of its table; `now`: `--now` was given.

    Raises: UsageError for an unknown verb, and for more words than it takes.
    """
    if verb not in VERBS:
        raise UsageError(f"unknown command {verb!r}; known: {', '.join(VERBS)}")
    names = [name for name in VERBS[verb].args if name != "now"]
    if verb in PROSE and values:
        values = [" ".join(values)]
    if verb == "rewind" and list(values[1:2]) == ["skip"]:  # as people say it: rewind 400 skip 30
        if len(values) == 2:
            raise UsageError("rewind: how many batches to skip? such as: rewind 400 skip 30")
        values = [values[0], *values[2:]]
    if len(values) > len(names):
        most = f"at most {len(names)} argument{'s' if len(names) > 1 else ''} ({', '.join(names)})" if names else "no arguments"
        raise UsageError(f"{verb} takes {most}, not {len(values)}")
    named: dict[str, Any] = dict(zip(names, values, strict=False))
    if now:
        named["now"] = True
    return named


def rewind_of(args: Mapping[str, Any]) -> tuple[int, int]:
    """Completed steps that a rewind with these arguments goes back to, and batches it leaves out. Raises: UsageError."""
    return _count(args, "step"), _count(args, "skip")


def check_way_back(step: int, skip: int, at: int) -> None:
    """Return when a rewind to `step` with `skip` batches left out changes a run of `at` steps. Raises: UsageError."""
    if step > at or (step == at and not skip):
        where = "is there already" if step == at else f"is at step {at}"
        raise UsageError(f"step {step}: the run {where}; give an earlier step, or a number of batches to leave out")


def only_the_start(step: int) -> str:
    """Why a rewind to `step` is refused where nothing was kept on the way: nobody begins anew without having asked for it."""
    return f"no state at or before step {step} is kept but the start; rewind 0 begins anew"


def _count(args: Mapping[str, Any], name: str) -> int:
    value = args.get(name) or 0
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = -1
    if not 0 <= number <= 10**12 or isinstance(value, bool) or (isinstance(value, float) and number != value):
        raise UsageError(f"rewind: {name} is a whole number from 0 on, not {value!r}")
    return number


def _is_flat(value: object) -> bool:
    """True for what a verb can use: one value, or a list of them."""
    parts = value if isinstance(value, list | tuple) else [value]
    return not any(isinstance(part, list | tuple | dict) for part in parts)


def status_of(command: Command, status: CommandState, step: int = -1, reason: str = "") -> CommandStatus:
    """The event that says where `command` is in its life."""
    return CommandStatus(
        id=command.id, name=command.name, args=command.args, actor=command.actor, status=status, step=step, reason=reason
    )


def to_json(command: Command) -> dict[str, Any]:
    """The command as built-in values."""
    return asdict(command)


def from_json(value: object, actor: str | None = None) -> Command:
    """The command in `value`; `actor` replaces the one it claims.

    Raises: UsageError when it is not an object of the right shape, or `check` refuses it.
    """
    if not isinstance(value, dict):
        raise UsageError("a command is a JSON object with id, name and args")
    identity, name, args = value.get("id"), value.get("name"), value.get("args", {})
    if not (isinstance(identity, str) and 1 <= len(identity) <= 64 and isinstance(name, str) and isinstance(args, dict)):
        raise UsageError("a command needs id (text of 1 to 64 characters), name (text) and args (object)")
    if not identity.isprintable():
        raise UsageError(f"command id {identity!r}: use printable characters")
    claimed = str(value.get("actor", ""))[:128]
    return check(Command(id=identity, name=name, args=args, actor=claimed if actor is None else actor))


def encode(command: Command) -> bytes:
    """The command as one line of JSON without the newline."""
    return json.dumps(to_json(command), ensure_ascii=False, separators=(",", ":")).encode()


def decode(line: bytes | str) -> Command:
    """The command in one line of JSON. Raises: UsageError."""
    try:
        return from_json(json.loads(line))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not a command: {error}") from None

"""JSON Schemas (2020-12) of what the HTTP server answers and takes, for its OpenAPI document.

Those of events are made from their classes, so a new field needs no line here. Validates nothing. Invariant: every answer of a
run that speaks this version's protocol fits its schema; objects may gain fields, but none of those named here goes.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from plt_tui.protocol.commands import NAME_PATTERN, VERBS
from plt_tui.protocol.events import STEP_COLUMNS, CommandStatus, Event

Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
FLOAT: Schema = {"anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}]}
"""A float64; JSON has no word for what is not finite."""
LOG_LEVEL: Schema = {"type": "string", "description": "DEBUG, INFO, WARNING or ERROR"}
ID_PATTERN = re.compile(r"[A-Za-z0-9._:-]{1,64}")

ERROR: Schema = {"type": "object", "properties": {"error": TEXT}, "required": ["error"]}
_VALUE: Schema = {"anyOf": [TEXT, {"type": "number"}, FLAG]}
_STEP: Schema = {"type": "integer", "minimum": 0, "maximum": 10**12}
ARGUMENTS: Mapping[str, Schema] = {
    "value": {"anyOf": [*_VALUE["anyOf"], {"type": "array", "items": _VALUE}]},
    "mode": TEXT,
    "edit": TEXT,
    "prompt": TEXT,
    "text": {"type": "string", "pattern": r"\S"},
    "step": _STEP,
    "skip": _STEP,
    "now": FLAG,
}
"""Types of the arguments of commands by name; `name` is a knob in one and a file's name in another."""
_NAMES: Mapping[str, Schema] = {"set": TEXT, "checkpoint": {"type": "string", "pattern": f"^{NAME_PATTERN.pattern}$"}}
STATUS_FIELDS = ("id", "name", "args", "actor", "status", "step", "reason", "before", "after")


def record(**fields: Schema) -> Schema:
    """An object that has all of `fields`, and perhaps others."""
    return {"type": "object", "properties": dict(fields), "required": list(fields)}


def listed(items: Schema) -> Schema:
    """A list of `items`."""
    return {"type": "array", "items": items}


def maybe(schema: Schema) -> Schema:
    """`schema`, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def event(cls: type[Event]) -> Schema:
    """A reference to the schema of one event."""
    return {"$ref": f"#/components/schemas/{cls.__name__}"}


def events() -> dict[str, Schema]:
    """The schemas of all events by the names of their classes, and `Event`: any of them."""
    classes = Event.__subclasses__()
    return {**{cls.__name__: _fields_of(cls) for cls in classes}, "Event": {"anyOf": [event(cls) for cls in classes]}}


def argument(verb: str, name: str) -> Schema:
    """What the argument `name` of `verb` may be."""
    return {**(_NAMES[verb] if name == "name" else ARGUMENTS[name]), "description": VERBS[verb].args[name]}


def command() -> Schema:
    """The body of a command: one form for each verb."""
    forms = []
    for name, verb in VERBS.items():
        args = {
            "type": "object",
            "properties": {given: argument(name, given) for given in verb.args},
            "required": list(verb.required),
            "additionalProperties": False,
        }
        identity = {
            "type": "string",
            "pattern": f"^{ID_PATTERN.pattern}$",
            "description": "a repeat of it does nothing; left out: a new one",
        }
        form = {
            "title": name,
            "description": verb.help,
            "type": "object",
            "properties": {"name": {"const": name}, "args": args, "id": identity},
            "required": ["name", "args"] if verb.required else ["name"],
            "additionalProperties": False,
        }
        forms.append(form)
    return {"oneOf": forms}


def status() -> Schema:
    """Where a command is in its life."""
    known = _fields_of(CommandStatus)["properties"]
    return record(**{name: known[name] for name in STATUS_FIELDS})


def columns() -> Schema:
    """A list of numbers for each column of the history."""
    return record(**{name: listed(FLOAT) for name in STEP_COLUMNS})


def run() -> Schema:
    """What `/api/v1/run` says: what `show --json` does, and up to which number of the record (`seq`)."""
    rank = record(rank=COUNT, pid=COUNT, step=COUNT)
    branch = record(number=COUNT, first=COUNT, last=COUNT, skip=COUNT, actor=TEXT)
    whole: Schema = {"type": "integer"}
    return record(
        name=TEXT,
        state=TEXT,
        reason=TEXT,
        step=COUNT,
        target_step=COUNT,
        tokens=COUNT,
        epoch=maybe(FLOAT),
        world_size=COUNT,
        device=TEXT,
        params=COUNT,
        ranks=listed(rank),
        last=maybe(record(loss=FLOAT, lr=FLOAT, tokens_per_s=FLOAT)),
        eval=maybe({"$ref": "#/components/schemas/Eval"}),
        best_eval=maybe({"$ref": "#/components/schemas/Eval"}),
        mfu=maybe(FLOAT),
        accuracy=maybe(FLOAT),
        eta_s=maybe(FLOAT),
        started_at=FLOAT,
        restarts=COUNT,
        branches=listed(branch),
        spikes=COUNT,
        guard_acts=COUNT,
        checkpoints=COUNT,
        last_checkpoint=TEXT,
        alerts=listed(record(topic=TEXT, level=TEXT, text=TEXT)),
        viewers=listed(record(actor=TEXT, door=TEXT, readonly=FLAG, since=FLOAT)),
        weights_sha256=TEXT,
        exit_code=maybe(whole),
        seq=COUNT,
    )


def _fields_of(cls: type[Event]) -> dict[str, Any]:
    """The schema of an event as `framing` writes it."""
    hints = get_type_hints(cls)
    fields = {field.name: _schema_of(hints[field.name]) for field in dataclasses.fields(cls)}
    return {**record(kind={"const": cls.kind}, **fields), "description": str(cls.__doc__).partition("\n")[0]}


def _schema_of(hint: Any) -> Schema:
    """The schema of a value with this type; of what may be anything, none."""
    simple: Mapping[Any, Schema] = {int: {"type": "integer"}, float: FLOAT, bool: FLAG, str: TEXT, NoneType: {"type": "null"}}
    if hint in simple:
        return simple[hint]
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"enum": list(parts)}
    if origin in (Union, UnionType):
        return {"anyOf": [_schema_of(part) for part in parts]}
    if origin is list:
        return listed(_schema_of(parts[0]))
    return {"type": "object"} if origin is dict else {}

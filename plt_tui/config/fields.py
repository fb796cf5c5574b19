"""What the schema says about each field, in words for people: type, range, default and meaning.

Everything is derived from `schema`, so a new field needs no line here (a new text pattern needs one). Does not read files and
does not validate. Invariant: `describe()` has exactly the fields of RunConfig, in their order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from plt_tui.config.schema import LARGEST, RunConfig
from plt_tui.config.section import Section, field_docs

_NOUNS: Mapping[str, str] = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text"}
_BOUNDS: Mapping[str, str] = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_PATTERNS: Mapping[str, str] = {
    "run.name": 'up to 64 letters, digits, ".", "_" or "-", the first no dot',
    "parallel.device": '"auto", "cpu", "cuda" or "cuda:N"',
    "model.window_pattern": 'letters S and L such as "SSSL"',
    "metrics.address": 'host:port such as "127.0.0.1:8081"',
    "export.to": 'a list of names such as "tensorboard", of letters, digits, "_" and "-"',
}
"""What a regular expression of the schema asks for."""
_MAX_SHOWN_CHARS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDoc:
    """One field of the configuration, described."""

    section: str
    key: str
    type: str
    """What it accepts, such as "a number > 0 and <= 10"."""
    default: Any
    choices: tuple[str, ...] = ()
    """The texts that it accepts when these are a closed set."""
    kinds: frozenset[str] = frozenset()
    """JSON-schema types that it accepts: "integer", "number", "boolean", "string", "array"."""

    @property
    def name(self) -> str:
        """Section and key, such as "optim.lr"."""
        return f"{self.section}.{self.key}"

    @property
    def doc(self) -> str:
        """What it means, on one line."""
        return field_docs(section_class(self.section))[self.key]


def section_class(name: str) -> type[Section]:
    """The class of the section called `name`."""
    kind = RunConfig.model_fields[name].annotation
    assert isinstance(kind, type)
    assert issubclass(kind, Section)
    return kind


@cache
def describe() -> Mapping[str, FieldDoc]:
    """Every field by its "section.key", in the schema's order."""
    root = RunConfig.model_json_schema()
    docs: dict[str, FieldDoc] = {}
    for section, defaults in RunConfig().model_dump().items():
        definition = root["properties"][section]["$ref"].removeprefix("#/$defs/")
        properties = root["$defs"][definition]["properties"]
        for key, default in defaults.items():
            name, schema = f"{section}.{key}", properties[key]
            docs[name] = FieldDoc(
                section=section,
                key=key,
                type=_PATTERNS[name] if name in _PATTERNS or "pattern" in schema else type_text(schema),
                default=default,
                choices=_choices(schema),
                kinds=frozenset(part["type"] for part in schema.get("anyOf", [schema])),
            )
    return docs


def template() -> str:
    """A TOML file that sets every key to its default, each below a comment with its meaning and type."""
    lines: list[str] = []
    for field in describe().values():
        if f"[{field.section}]" not in lines:
            lines += ["", f"[{field.section}]"]
        lines += [f"# {field.doc} ({field.type})", f"{field.key} = {json.dumps(field.default)}"]
    return "\n".join(lines[1:]) + "\n"


def shown(value: object) -> str:
    """A TOML value as a message shows it: one printable line of bounded length."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() if value.bit_length() > 1024:  # Python refuses to print integers of thousands of digits
            return f"a number of {value.bit_length()} bits"
        case int() | float():
            return _cut(repr(value))
        case str():
            return f'text "{_cut(printable(value))}"'
        case list() | tuple():
            return _cut(f"[{', '.join(shown(item) for item in value)}]")
        case dict():
            return "a table"
        case _:
            return f"the date or time {value}"


def printable(text: str) -> str:
    """`text` on one line, control characters spelled out: a config file may come from anybody, a message goes to a terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def listed(words: Sequence[str], last: str = "or") -> str:
    """The words as a sentence lists them: "a, b or c"."""
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def type_text(schema: Mapping[str, Any]) -> str:
    """What a field with this JSON schema accepts, such as "a number > 0 and <= 10"; that it may be left out is not said."""
    if "anyOf" in schema:
        return " or ".join(type_text(part) for part in schema["anyOf"] if part.get("type") != "null")
    choices = _choices(schema)
    if choices:
        return listed([f'"{choice}"' for choice in choices])
    if "items" in schema:
        return f"a list, each {type_text(schema['items'])}"
    if "prefixItems" in schema:
        return f"[{', '.join(type_text(item) for item in schema['prefixItems'])}]"
    limits = {bound: schema[bound] for bound in _BOUNDS if schema.get(bound, LARGEST) != LARGEST}
    bounds = [f"{_BOUNDS[bound]} {_plain(limit)}" for bound, limit in limits.items()]
    noun = "text that is not empty" if schema.get("minLength") else _NOUNS[schema["type"]]
    return " ".join([noun, " and ".join(bounds)]).strip()


def _choices(schema: Mapping[str, Any]) -> tuple[str, ...]:
    return (schema["const"],) if "const" in schema else tuple(schema.get("enum", ()))


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(number)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}..."

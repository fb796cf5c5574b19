"""A new run while it is put together: what was typed, where each field is found, and the command that would do the same.

Pure; what needs files or the machine is behind NewRunPort, which `cli` makes. Invariant: a draft holds only what a person
changed; everything else is what a plain `plt-tui run` would use.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from plt_tui.config.fields import FieldDoc, describe, section_class
from plt_tui.config.partial import Texts, set_texts
from plt_tui.config.presets import PRESETS

FIRST_PAGE = "first page"
_FIRST_FIELDS = (
    "run.name",
    "data.train",
    "model.preset",
    "model.layers",
    "model.width",
    "train.steps",
    "train.batch_size",
    "optim.lr",
    "parallel.ranks",
    "parallel.device",
)
SUGGESTIONS: Mapping[str, Sequence[str]] = {
    "data.train": ("builtin:python-docs", "builtin:python-source"),
    "data.tokenizer": ("byte", "char", "bpe"),
    "model.preset": (*(name for name in PRESETS if name != "depth:N"), "depth:4"),
    "model.arch": ("transformer",),
    "parallel.ranks": ("auto",),
    "parallel.device": ("auto", "cpu", "cuda", "cuda:0"),
    "parallel.threads": ("auto",),
}
"""What is offered to complete a text with; any other text can be typed as well."""
SECRETS: Mapping[str, str] = {"alerts.webhook": "PLT_WEBHOOK"}
"""Fields whose value is neither shown nor written, and the variables of the environment that set them."""
_TOGGLE = ("true", "false")
_MOST_TELLING = ("model", "size", "step", "target", "data", "ranks", "held out")
"""Topics of a summary, those first that stay where there is little room."""


class Mistake(NamedTuple):
    """One thing that is wrong. `key`: the field that it is told beside; empty when it belongs to no single one."""

    key: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What is known of a draft."""

    values: Mapping[str, str] = field(default_factory=dict)
    """The value that each field would have, set here or not, but for SECRETS; empty when nobody can tell for the mistakes."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """Where each of them comes from: "default", "preset gpt2", "environment EPOCHS", ..."""
    mistakes: tuple[Mistake, ...] = ()
    summary: Mapping[str, str] = field(default_factory=dict)
    """What would be trained, by topic, as `plt-tui check` tells it; empty when there are mistakes."""

    def mistakes_of(self, key: str) -> list[str]:
        """What is wrong with one field."""
        return [mistake.text for mistake in self.mistakes if mistake.key == key]


class NewRunPort(Protocol):
    """What the form needs of the world. Its functions block: they are called in threads, `check` never twice at once."""

    def check(self, values: Texts) -> Checked:
        """What `plt-tui check` would say of these values; raises nothing."""

    def launch(self, values: Texts) -> str:
        """Start a new run in the background, and return how it is called. Raises: PltTuiError."""

    def save(self, values: Texts, path: str, *, replace: bool) -> str:
        """Write a TOML file, and return what is to be said of it.

        Raises: FileExistsError when there is a file and not `replace`; PltTuiError.
        """


def pages() -> dict[str, tuple[str, ...]]:
    """The fields of every page by its title: the first page, then one for each section."""
    found: dict[str, tuple[str, ...]] = {FIRST_PAGE: _FIRST_FIELDS}
    for name, doc in describe().items():
        found[doc.section] = (*found.get(doc.section, ()), name)
    return found


def section_doc(section: str) -> str:
    """What a section is about."""
    return section_class(section).__doc__ or ""


def choices_of(doc: FieldDoc) -> tuple[str, ...]:
    """The texts that a field accepts where these are few; empty where a text is typed."""
    return doc.choices or (_TOGGLE if doc.kinds == {"boolean"} else ())


def matching(query: str) -> list[str]:
    """The fields whose name, meaning or choices hold every word of `query`; those whose name does come first."""
    words = query.casefold().split()
    texts = {name: f"{name} {doc.doc} {' '.join(doc.choices)}".casefold() for name, doc in describe().items()}
    found = [name for name, text in texts.items() if all(word in text for word in words)]
    return sorted(found, key=lambda name: not all(word in name for word in words))


def value_text(value: object) -> str:
    """A value of the schema as one would type it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def without_secrets(values: Texts) -> dict[str, str]:
    """A draft as it may be shown and written."""
    return {key: text for key, text in values.items() if key not in SECRETS}


def command(values: Texts) -> list[str]:
    """The words of the command that trains the draft, but for its secrets."""
    return ["plt-tui", "run", *(word for text in set_texts(without_secrets(values)) for word in ("--set", text))]


def command_line(values: Texts) -> str:
    """The same as one types it in a shell; before it the variables that secrets are given in, without their values."""
    variables = [f"{variable}=… " for key, variable in SECRETS.items() if key in values]
    return "".join(variables) + shlex.join(command(values))


def summary_lines(summary: Mapping[str, str], room: int) -> list[tuple[str, str]]:
    """At most `room` topics of a summary with what is said of each, the most telling ones, in their order."""
    ranked = sorted(summary, key=lambda topic: _MOST_TELLING.index(topic) if topic in _MOST_TELLING else len(summary))
    kept = set(ranked[: max(0, room)])
    return [(topic, text) for topic, text in summary.items() if topic in kept]

"""What the person at the terminal has chosen, for all runs: the settings file, and where it and what is remembered lie.

Knows the form of the file, not which keys and themes there are: that is the UI's. Invariant: no file, whatever is in it, stops
anything; what cannot be used is left out and told in `problems`, each with the file and, where there is one, the line.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import tomli
from pydantic import ValidationError

from plt_tui.config.alerts import Bell
from plt_tui.config.fields import listed, printable, shown, type_text
from plt_tui.config.schema import Section, UiSection
from plt_tui.config.sources import read_text
from plt_tui.config.toml_lines import KeyPath, key_lines
from plt_tui.errors import UsageError

_APP = "plt-tui"
_MAX_BYTES = 1 << 20
"""A settings file is written by hand; a larger one is something else."""


class UiChoices(Section):
    """`[ui]` of the settings file: how the UI looks and sounds at this terminal. None: as the run's configuration has it."""

    theme: str | None = None
    """Name of a Textual theme, such as "nord" or "textual-light"."""
    chart: Literal["braille", "block", "ascii"] | None = None
    """Glyphs of the charts."""
    palette: Literal["default", "okabe-ito", "mono"] | None = None
    """Colours of the curves; okabe-ito can be told apart by the colour-blind, mono needs no colour."""
    bell: Bell | None = None
    """When alerts ring the bell and send a desktop notification: never, while nobody is there, or always (`alerts.bell`)."""
    low_bandwidth: bool | None = None
    """Send little to the terminal, for slow connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySetting:
    """One line of `[keys]`: the keys, separated by commas, of the action called `id`; empty: none."""

    id: str
    keys: str
    place: str
    """File and line, for messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one person."""

    ui: UiChoices = field(default_factory=UiChoices)
    keys: tuple[KeySetting, ...] = ()
    """In the order of the file. Whether there is such an action, and such a key, is not known here."""
    remote: Mapping[str, str] = field(default_factory=dict)
    """What a shell takes for `plt-tui`, by the name of the machine as it stands in the address of a run; "*": on any other."""
    problems: tuple[str, ...] = ()
    """What is wrong with the file, one sentence each."""

    def remote_command(self, host: str) -> str:
        """What a shell on `host` takes for `plt-tui`; empty: the file does not say."""
        return self.remote.get(host) or self.remote.get("*", "")

    def over(self, ui: UiSection) -> UiSection:
        """The `[ui]` of a run with what this person has chosen in its place."""
        chosen = self.ui.model_dump(exclude_none=True)
        return ui.model_copy(update={key: value for key, value in chosen.items() if key in UiSection.model_fields})


def settings_file(environ: Mapping[str, str]) -> Path | None:
    """Where the settings are, whether or not the file is there; None when nobody's home is known."""
    return _place(environ, "XDG_CONFIG_HOME", ".config", "settings.toml")


def state_folder(environ: Mapping[str, str]) -> Path | None:
    """Where the UI keeps what it remembers from one session to the next; None when nobody's home is known."""
    return _place(environ, "XDG_STATE_HOME", ".local/state", "")


def _place(environ: Mapping[str, str], variable: str, default: str, name: str) -> Path | None:
    """XDG base directory specification: a path that is not absolute counts as not given."""
    given = environ.get(variable, "")
    base = Path(given) if os.path.isabs(given) else Path(environ.get("HOME") or os.path.expanduser("~"), default)  # noqa: PTH111,PTH117
    return base / _APP / name if base.is_absolute() else None


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings of the person whose environment `environ` is; the defaults when there is no file."""
    path = settings_file(environ)
    if path is None:
        return Settings()
    name = _for_people(path, environ)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
            return Settings(problems=(f"{name}: is no settings file; write TOML into it, or remove it",))
        return parse_settings(read_text(path), name)
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        return Settings(problems=(f"{name}: cannot be read ({error.strerror})",))
    except UsageError as error:
        return Settings(problems=(str(error),))


def parse_settings(text: str, name: str) -> Settings:
    """The settings in a TOML text. `name` stands before the line numbers in messages."""
    try:
        tree, lines = tomli.loads(text), key_lines(text)
    except tomli.TOMLDecodeError as error:
        return Settings(problems=(f"{name}:{error.lineno}:{error.colno}: not valid TOML: {error.msg}",))
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets nested hundreds deep
        return Settings(problems=(f"{name}: not valid TOML: {error}",))
    reader = _Reader(name, lines)
    for section, table in tree.items():
        reader.take(section, table)
    return Settings(
        ui=UiChoices.model_validate(reader.ui),
        keys=tuple(reader.keys),
        remote=reader.remote,
        problems=tuple(reader.problems),
    )


class _Reader:
    """Sorts what is in the file into what can be used and what is wrong."""

    def __init__(self, name: str, lines: Mapping[KeyPath, int]) -> None:
        self.ui: dict[str, Any] = {}
        self.keys: list[KeySetting] = []
        self.remote: dict[str, str] = {}
        self.problems: list[str] = []
        self._name = name
        self._lines = lines

    def take(self, section: str, table: object) -> None:
        """Read one table of the file."""
        takers = {"ui": self._take_ui, "keys": self._take_key, "remote": self._take_remote}
        if section not in takers:
            self._complain((section,), f"unknown section; there are {listed([f'[{known}]' for known in takers], 'and')}")
        elif not isinstance(table, dict):
            self._complain((section,), f"expected the section [{section}], found {shown(table)}")
        else:
            for key, value in table.items():
                takers[section](key, value)

    def _take_ui(self, key: str, value: object) -> None:
        known = UiChoices.model_json_schema()["properties"]
        if key not in known:
            close = get_close_matches(key.lower(), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {listed(list(known), 'and')}"
            self._complain(("ui", key), f"unknown key; {hint}")
            return
        try:
            UiChoices.model_validate({key: value})
        except ValidationError:
            self._complain(("ui", key), f"expected {type_text(known[key])}, found {shown(value)}")
        else:
            self.ui[key] = value

    def _take_key(self, key: str, value: object) -> None:
        if isinstance(value, str):
            self.keys.append(KeySetting(id=key, keys=value, place=self._at(("keys", key))))
        else:
            self._complain(("keys", key), f'expected text such as "x" or "x,ctrl+x", found {shown(value)}')

    def _take_remote(self, key: str, value: object) -> None:
        if isinstance(value, str) and value.strip() and not value.strip().startswith("-"):
            self.remote[key] = value
        else:
            self._complain(("remote", key), f'expected a command such as "~/venv/bin/plt-tui", found {shown(value)}')

    def _complain(self, path: KeyPath, what: str) -> None:
        self.problems.append(f"{self._at(path)}: {'.'.join(printable(part) for part in path)}: {what}")

    def _at(self, path: KeyPath) -> str:
        return f"{self._name}:{self._lines[path]}"


def _for_people(path: Path, environ: Mapping[str, str]) -> str:
    """A path as one writes it: "~/.config/plt-tui/settings.toml"."""
    text, home = str(path), environ.get("HOME", "")
    return printable(f"~{text[len(home) :]}" if home not in ("", "/") and text.startswith(f"{home}/") else text)

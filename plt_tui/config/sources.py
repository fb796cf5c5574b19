"""From one source of settings (TOML text, environment, `.env`, options) to assignments of "section.key".

Names are checked here, values are not: `load` decides which source wins and validates the outcome. Only `read_text` touches the
disk. Invariant: every Assignment names an existing field; what does not is a Problem.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tomli

from plt_tui.config.fields import describe, printable, shown
from plt_tui.config.suggest import SECTIONS, unknown_key, unknown_section
from plt_tui.config.toml_lines import KeyPath, key_lines
from plt_tui.errors import UsageError

Origin = str
"""Where a value came from, for people: "default", "config.toml:12", "--learning-rate", "environment LEARNING_RATE"."""

ENVIRONMENT: Mapping[str, str] = {
    "TRAIN_DATA_PATH": "data.train",
    "EVAL_DATA_PATH": "data.eval",
    "EPOCHS": "train.epochs",
    "BATCH_SIZE": "train.batch_size",
    "LEARNING_RATE": "optim.lr",
    "METRICS_SERVER_ADDR": "metrics.address",
    "CHECKPOINT_DIR": "checkpoint.dir",
    "PLT_WEBHOOK": "alerts.webhook",
}
"""Environment variables (and lines of `.env`), and the fields that they set."""

OPTIONS: Mapping[str, str] = {
    "--train-path": "data.train",
    "--eval-path": "data.eval",
    "--epochs": "train.epochs",
    "--batch-size": "train.batch_size",
    "--learning-rate": "optim.lr",
    "--checkpoint-dir": "checkpoint.dir",
    "--ranks": "parallel.ranks",
    "--name": "run.name",
}
"""Options of `run` that set one field each."""

_DOTENV_LINE = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_]\w*)[ \t]*=[ \t]*
    (?:"(?P<double>(?:\\.|[^"\\])*)"|'(?P<single>[^']*)'|(?P<plain>.*?))[ \t]*(?:(?<![^\s"'=])\#.*)?$""",
    re.VERBOSE | re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One "section.key" and the value that one source gives it. `line`: in the config file, 0 elsewhere."""

    key: str
    value: object
    origin: Origin
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, at the place that gave it. `line`: in the config file, 0 elsewhere."""

    origin: Origin
    key: str
    text: str
    line: int = 0

    def __str__(self) -> str:
        between = " " if self.origin == "--set" else ": "
        return f"{self.origin}{between}{self.key}: {self.text}"


class InvalidConfig(UsageError):
    """A request whose values are wrong; the message has one line for each of `problems`, those of the file first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line == 0, problem.line)))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """All that one source says, by "section.key", and what is wrong with it."""

    values: Mapping[str, Assignment]
    problems: Sequence[Problem] = ()


def read_text(path: Path) -> str:
    """The text of a config file, without a byte-order mark.

    Raises: UsageError naming the path when it is missing, a folder, unreadable or not UTF-8.
    """
    name = printable(str(path))
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"{name}: no such file; give the path of a TOML file, or none for the quick start") from None
    except IsADirectoryError:
        raise UsageError(f"{name}: is a folder; give the path of a TOML file") from None
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise UsageError(f"{name}: not UTF-8 text (byte 0x{byte:02x} at offset {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise UsageError(f"{name}: cannot be read ({error.strerror}); check its permissions") from None


def toml_layer(text: str, name: str) -> Layer:
    """The assignments of a TOML text; `name` stands before the line number in origins and problems.

    Raises: UsageError when `text` is not valid TOML, as nothing can be said about its keys then.
    """
    try:
        tree, lines = tomli.loads(text), key_lines(text)
    except tomli.TOMLDecodeError as error:
        raise UsageError(f"{name}:{error.lineno}:{error.colno}: not valid TOML: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets nested hundreds deep
        raise UsageError(f"{name}: not valid TOML: {error}") from None
    values: dict[str, Assignment] = {}
    problems: list[Problem] = []
    for path, value in _settings(tree):
        line = lines[path]
        wrong = _name_problem(path, value)
        if wrong:
            problems.append(Problem(origin=f"{name}:{line}", key=_shown_key(path), text=wrong, line=line))
        elif len(path) == 2:
            key = ".".join(path)
            values[key] = Assignment(key=key, value=value, origin=f"{name}:{line}", line=line)
    return Layer(values=values, problems=problems)


def environment_layer(variables: Mapping[str, str], kind: str) -> Layer:
    """The assignments of the variables of ENVIRONMENT; `kind` is "environment" or ".env". An empty one counts as not set."""
    return options_layer(
        Assignment(key=key, value=variables[variable], origin=f"{kind} {variable}")
        for variable, key in ENVIRONMENT.items()
        if variables.get(variable)
    )


def options_layer(options: Iterable[Assignment], sets: Sequence[str] = ()) -> Layer:
    """The assignments of named options, then those of `--set section.key=value` texts; a later one wins over an earlier one.

    Values that are texts are converted as the field needs them.
    """
    values: dict[str, Assignment] = {}
    problems: list[Problem] = []
    for given in [*options, *map(_assignment_of_set, sets)]:
        if isinstance(given, Problem):
            problems.append(given)
        else:
            value = converted(given.key, given.value) if isinstance(given.value, str) else given.value
            values[given.key] = replace(given, value=value)
    return Layer(values=values, problems=problems)


def converted(key: str, text: str) -> object:
    """`text` as the field's type, or `text` itself where it cannot be read so (validation then names the type it should be).

    It is read as a TOML value; a field of text takes anything else literally, a number field also `.5` and, for a whole number,
    `1e3`.
    """
    kinds = describe()[key].kinds
    value = toml_value(text)
    if kinds <= {"string", "array"} and "string" in kinds:
        return value if isinstance(value, str) or (isinstance(value, list) and "array" in kinds) else text
    if isinstance(value, str) and kinds & {"integer", "number"}:
        try:
            value = float(value)
        except ValueError:
            return value
    if "integer" in kinds and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def toml_value(text: str) -> object:
    """`text` read as one TOML value, or `text` itself."""
    try:
        document = tomli.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return document["value"] if len(document) == 1 else text


def parse_dotenv(text: str) -> dict[str, str]:
    """The variables of a `.env` text: KEY=VALUE lines, `export ` and quotes allowed, `#` comments; other lines are ignored.

    In double quotes a backslash can precede a quote or a backslash. Lines that are not assignments belong to other programs.
    """
    variables: dict[str, str] = {}
    for match in _DOTENV_LINE.finditer(text.replace("\r\n", "\n")):
        value = match["plain"] if match["plain"] is not None else match["single"]
        if match["double"] is not None:
            value = re.sub(r'\\(["\\])', r"\1", match["double"])
        variables[match["name"]] = value
    return variables


def _settings(tree: Mapping[str, object]) -> Iterable[tuple[KeyPath, object]]:
    """Every top-level name, and every key of the sections that exist."""
    for section, table in tree.items():
        yield (section,), table
        if section in SECTIONS and isinstance(table, dict):
            yield from (((section, key), value) for key, value in table.items())


def _name_problem(path: KeyPath, value: object) -> str:
    """What is wrong with the name of a setting, or empty."""
    if len(path) == 2:
        return "" if ".".join(path) in describe() else unknown_key(*path)
    if path[0] in SECTIONS:
        return "" if isinstance(value, dict) else f"expected the section [{path[0]}], found {shown(value)}"
    return unknown_section(path[0]) if isinstance(value, dict) else unknown_key("", path[0])


def _shown_key(path: KeyPath) -> str:
    return ".".join(printable(part) or '""' for part in path)


def _assignment_of_set(text: str) -> Assignment | Problem:
    left, equals, value = text.partition("=")
    name = left.strip()
    section, dot, key = name.partition(".")
    if not equals or not name:
        wrong = "expected section.key=value, such as optim.lr=0.001"
    elif name in describe():
        return Assignment(key=name, value=value, origin="--set")
    elif dot and section not in SECTIONS:
        wrong = unknown_section(section)
    else:
        wrong = unknown_key(section if dot else "", key if dot else name, dotted=True)
    return Problem(origin="--set", key=printable(name), text=wrong)

"""From a config file, the environment and options to one RunConfig, with the origin of every value.

Precedence: option (named, then `--set`) > environment > `.env` > TOML file > shape of the weights at `train.init_from` > preset
> default. Only values that win are validated. Reads the config file, `.env` and the header of those weights, nothing else.
Invariant: all problems of a request are reported together, none one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from plt_tui.config.fields import FieldDoc, describe, listed, printable, shown, template
from plt_tui.config.presets import preset
from plt_tui.config.pretrained import PRETRAINED_KEYS, pretrained_values
from plt_tui.config.schema import OptimSection, RunConfig
from plt_tui.config.sources import (
    ENVIRONMENT,
    OPTIONS,
    Assignment,
    InvalidConfig,
    Layer,
    Origin,
    Problem,
    environment_layer,
    options_layer,
    parse_dotenv,
    read_text,
    toml_layer,
)
from plt_tui.errors import UsageError

__all__ = [
    "ENVIRONMENT",
    "OPTIONS",
    "Assignment",
    "LoadedConfig",
    "Origin",
    "describe",
    "from_toml",
    "keepable",
    "load",
    "load_config",
    "resolve",
    "template",
    "to_toml",
]

_TARGETS = ("train.steps", "train.epochs", "train.tokens")
"""Three ways to say how long to train, of which one counts."""


Weights = Callable[[str], Mapping[str, object]]
"""The "section.key" values that the weights at a path fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConfig:
    """A valid configuration; `origins` has every "section.key"."""

    config: RunConfig
    origins: Mapping[str, Origin]


def load(
    path: Path | None,
    *,
    options: Sequence[Assignment] = (),
    sets: Sequence[str] = (),
    environ: Mapping[str, str] = {},
    dotenv: Path | None = None,
    weights: Weights = pretrained_values,
) -> LoadedConfig:
    """The configuration that a user asked for.

    `path`: TOML file, None for the defaults. `options`: the named options given, their flag as origin. `sets`: the texts of
    `--set`. `environ`: os.environ. `dotenv`: a `.env` file, which need not exist. `weights`: what the weights at a path fix.

    Raises: UsageError with one line per problem, those of the file first, in its order.
    """
    file = toml_layer(read_text(path), printable(str(path))) if path else Layer(values={})
    variables = parse_dotenv(read_text(dotenv)) if dotenv and dotenv.is_file() else {}
    return resolve(
        [
            file,
            environment_layer(variables, ".env"),
            environment_layer(environ, "environment"),
            options_layer(options, sets),
        ],
        weights,
    )


def load_config(path: Path | str | None = None, *sets: str) -> RunConfig:
    """The configuration of a TOML file, or the defaults, with changes such as "optim.lr=1e-3": for scripts and notebooks.

    Neither the environment nor `.env` has a say. Raises: UsageError with one line per problem.
    """
    return load(Path(path) if path is not None else None, sets=sets).config


def resolve(layers: Sequence[Layer], weights: Weights = pretrained_values) -> LoadedConfig:
    """The configuration of `layers`, weakest first, above the values that `weights` give, presets and defaults.

    Raises: InvalidConfig with all problems; StorageError when the weights are a damaged checkpoint.
    """
    problems = [problem for layer in layers for problem in [*layer.problems, *_target_problems(layer)]]
    given = _merged(layers)
    pretrained: dict[str, Assignment] = {}
    try:
        pretrained = _pretrained(given, weights)
    except UsageError as error:
        place = given["train.init_from"]
        problems.append(Problem(origin=place.origin, key=place.key, text=printable(str(error)), line=place.line))
    chosen = {**_preset(given), **pretrained, **given}
    values = {**_defaults(), **_min_lr(chosen), **chosen}
    config = _validated(values, given, problems)
    return LoadedConfig(config=config, origins={key: value.origin for key, value in values.items()})


def keepable(loaded: LoadedConfig) -> LoadedConfig:
    """`loaded`, whose text a file can keep. Raises: InvalidConfig for bytes of paths and variables that are no UTF-8."""
    dumped = loaded.config.model_dump()
    values = {f"{section}.{key}": value for section, fields in dumped.items() for key, value in fields.items()}
    text = "not UTF-8, so no configuration can keep it; rename the file or folder"
    wrong = [key for key, value in values.items() if not all(map(is_utf8, value if isinstance(value, tuple) else [value]))]
    if wrong:
        raise InvalidConfig(Problem(origin=loaded.origins[key], key=key, text=f"{shown(values[key])}: {text}") for key in wrong)
    return loaded


def to_toml(config: RunConfig) -> str:
    """Every value of `config` as TOML; `from_toml` gives the same config back, bit for bit."""
    return tomli_w.dumps(config.model_dump())


def from_toml(text: str) -> RunConfig:
    """The configuration that `to_toml` wrote; neither presets nor the environment have a say. Raises: UsageError."""
    layer = toml_layer(text, "config.toml")
    return _validated({**_defaults(), **layer.values}, layer.values, layer.problems)


def is_utf8(value: object) -> bool:
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return False
    return True


def _defaults() -> dict[str, Assignment]:
    return {name: Assignment(key=name, value=field.default, origin="default") for name, field in describe().items()}


def _merged(layers: Iterable[Layer]) -> dict[str, Assignment]:
    """The strongest assignment of every key given. A target sets the other targets of weaker layers aside."""
    given: dict[str, Assignment] = {}
    for layer in layers:
        for target in _targets(layer):
            for key in given.keys() & set(_TARGETS) - {target.key}:
                given[key] = replace(target, key=key, value=0, origin=f"set aside by {target.origin}")
        given.update(layer.values)
    return given


def _targets(layer: Layer) -> list[Assignment]:
    found = [layer.values[key] for key in _TARGETS if key in layer.values]
    return [target for target in found if isinstance(target.value, int | float) and target.value > 0]


def _target_problems(layer: Layer) -> list[Problem]:
    """One problem when a layer says in two ways how long to train."""
    targets = _targets(layer)
    if len(targets) < 2:
        return []
    names = [target.key.removeprefix("train.") for target in targets]
    last, how_many = targets[-1], "both" if len(targets) == 2 else "all"
    text = f"{listed(names, 'and')} are {how_many} given; keep one"
    return [Problem(origin=last.origin, key=last.key, text=text, line=last.line)]


def _preset(given: Mapping[str, Assignment]) -> dict[str, Assignment]:
    """The values of the preset that `model.preset` names; none when there is no such preset, which the schema reports."""
    name = given["model.preset"].value if "model.preset" in given else ""
    try:
        values = preset(name) if isinstance(name, str) else {}
    except ValueError:
        return {}
    return {key: Assignment(key=key, value=value, origin=f"preset {name}") for key, value in values.items()}


def _pretrained(given: Mapping[str, Assignment], weights: Weights) -> dict[str, Assignment]:
    """What the weights that `train.init_from` names fix. Raises: UsageError when they cannot be read.

    Nothing where everything that they could fix is given, as in the configuration that a run has kept: then they are not
    looked at, so that a run goes on from its own checkpoint after the weights that it began with have gone.
    """
    path = given["train.init_from"].value if "train.init_from" in given else ""
    if not isinstance(path, str) or not path or given.keys() >= PRETRAINED_KEYS:
        return {}
    values = weights(path)
    return {key: Assignment(key=key, value=value, origin=f"weights {path}") for key, value in values.items()}


def _min_lr(given: Mapping[str, Assignment]) -> dict[str, Assignment]:
    """A tenth of the learning rate, when that is given: the fixed default could lie above it."""
    if "optim.lr" not in given:
        return {}
    try:
        lr = OptimSection.model_validate({"lr": given["optim.lr"].value, "min_lr": 0.0}).lr
    except ValidationError:  # reported by the validation of the whole
        return {}
    return {"optim.min_lr": Assignment(key="optim.min_lr", value=lr / 10, origin="default (lr / 10)")}


def _validated(values: Mapping[str, Assignment], given: Mapping[str, Assignment], problems: Sequence[Problem]) -> RunConfig:
    """The RunConfig of `values`, which has every key. Raises: InvalidConfig with `problems` and those of the values."""
    tree: dict[str, dict[str, object]] = {}
    for name, assignment in values.items():
        section, _, key = name.partition(".")
        tree.setdefault(section, {})[key] = assignment.value
    try:
        config = RunConfig.model_validate(tree)
    except ValidationError as error:
        details = {_field_name(detail): detail for detail in error.errors(include_url=False)}
        invalid = [_value_problem(values[name], detail, given) for name, detail in details.items()]
        raise InvalidConfig([*problems, *invalid]) from None
    if problems:
        raise InvalidConfig(problems)
    return config


def _field_name(detail: Mapping[str, Any]) -> str:
    """The "section.key" of one of pydantic's errors, whose location can go on into the value."""
    section, key = detail["loc"][:2]
    return f"{section}.{key}"


def _value_problem(assignment: Assignment, detail: Mapping[str, Any], given: Mapping[str, Assignment]) -> Problem:
    """The problem with a value, placed where the user can change it."""
    field = describe()[assignment.key]
    if detail["type"] == "value_error":
        text = str(detail["ctx"]["error"])
    else:
        text = f"expected {field.type}, found {shown(assignment.value)}{_likely_choice(field, assignment.value)}"
    place = assignment if assignment.key in given else _cause(field, text, given)
    return Problem(origin=place.origin, key=assignment.key, text=text, line=place.line)


def _cause(field: FieldDoc, text: str, given: Mapping[str, Assignment]) -> Assignment:
    """The given key that clashes with the default or preset value of `field`; `text`, the schema's message, mentions it."""
    same_section = [value for name, value in given.items() if name.startswith(f"{field.section}.")]
    mentioned = [value for value in same_section if re.search(rf"\b{value.key.partition('.')[2]}\b", text)]
    return [*mentioned, *same_section][0]


def _likely_choice(field: FieldDoc, value: object) -> str:
    if len(field.choices) < 3 or not isinstance(value, str):
        return ""
    close = get_close_matches(value.lower(), field.choices, n=1)
    return f'; did you mean "{close[0]}"?' if close else ""

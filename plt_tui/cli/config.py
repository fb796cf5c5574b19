"""`plt-tui check` and `plt-tui init`: is this configuration all right, and where does a first one come from.

Starts nothing and imports no torch. Invariant: what `check` calls good, `run` accepts on this machine as it is now.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plt_tui.cli.echo import echo
from plt_tui.cli.run import PluginsOption, SetsOption, plugin_files
from plt_tui.errors import StorageError, UsageError

if TYPE_CHECKING:
    from plt_tui.config.schema import DataSection, ModelSection, RunConfig, TrainSection
    from plt_tui.control.placement import Placement
    from plt_tui.data.sources import Corpora, Source
    from plt_tui.plugins import Plugins

_HEAD = """\
# A configuration of plt-tui: every key, its meaning, what it accepts, and its default behind it. To change one, remove the "#"
# before it; a key that stays a comment keeps its default, or what `model.preset` says.
#
#   look for mistakes:  plt-tui check {name}
#   train:              plt-tui run {name}
"""


def check(
    config: Annotated[Path, typer.Argument(help="TOML file.")],
    sets: SetsOption = None,
    plugins: PluginsOption = None,
) -> None:
    """Look for mistakes in a config.

    In keys, values, corpora, devices, plug-ins and folders, all at once; nothing is started.
    """
    from plt_tui.config.load import keepable, load
    from plt_tui.config.pretrained import refuse_unfit
    from plt_tui.data.check import check_corpus
    from plt_tui.data.sources import resolve
    from plt_tui.data.vocabulary import vocab_size_ahead

    available = named_plugins(plugins)
    found = keepable(load(config, sets=sets or (), environ=os.environ, dotenv=Path(".env"))).config
    refuse_unfit(found)
    check_corpus(found.data)
    find_plugins(found, available)
    refuse_unusable_run_dir(found)
    refuse_unusable_checkpoint_dir(found)
    corpora = resolve(found.data)
    lines = summary(found, placement_here(found), corpora, vocab_size_ahead(found.data, corpora))
    echo("\n".join([f"{config}: no mistakes found", *(f"{key:<9} {value}" for key, value in lines.items())]))


def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="File to write; it must not exist.")] = Path("config.toml"),
) -> None:
    """Write a first config.

    Every key stands in it as a comment, with its meaning and default.
    """
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(first_config(str(file)))
    except FileExistsError:
        raise UsageError(f"{file} exists already and stays as it is; give another name: plt-tui init FILE") from None
    except OSError as error:
        raise StorageError(f"{file}: cannot be written: {error.strerror}; give another place: plt-tui init FILE") from None
    echo(f"wrote {file}\nlook for mistakes: plt-tui check {file}\ntrain: plt-tui run {file}")


def first_config(name: str) -> str:
    """The text of a config file called `name` that changes nothing until somebody removes a "#"."""
    from plt_tui.config.load import template

    # A key that is set, even to its default, would win over a preset. Lines of the template are keys, comments or sections.
    lines = [line if line[:1] in ("", "#", "[") else f"#{line}" for line in template().split("\n")]
    return "\n".join([_HEAD.format(name=name), *lines])


def named_plugins(paths: list[Path] | None) -> Plugins:
    """The plug-ins in the files given as `--plugin`, and those that are installed. Raises: UsageError for a missing file."""
    from plt_tui.plugins import Plugins

    return Plugins(plugin_files(paths))


def summary(config: RunConfig, placement: Placement, corpora: Corpora, vocab_size: int | None) -> Mapping[str, str]:
    """What a run of `config` would be, by topic. `vocab_size`: as `vocab_size_ahead` tells it."""
    train, context = config.train, config.data.context
    ranks = len(placement.devices)
    who = "1 rank" if ranks == 1 else f"{ranks} ranks"
    micro_steps = f" x {train.accumulate} micro-steps" if train.accumulate > 1 else ""
    tokens_per_step = ranks * train.batch_size * train.accumulate * context
    return {
        "model": _model(config.model, context, train.init_from),
        **_size(config, vocab_size),
        "data": ", ".join(map(_corpus, config.data.corpora, corpora.train)),
        "held out": _corpus(config.data.eval, corpora.eval) if corpora.eval else tail_text(config.data),
        "ranks": f"{ranks} on {_devices(placement)}",
        "step": f"{who} x {train.batch_size} sequences{micro_steps} x {context} tokens = {tokens_per_step:,} tokens",
        "target": _target(train, tokens_per_step),
    }


def _model(model: ModelSection, context: int, init_from: str) -> str:
    kind = model.arch if model.arch != "transformer" else f"{model.layers} layers, width {model.width}, {model.heads} heads"
    named = f"preset {model.preset}" if model.preset else ""
    origin = f"begins with {init_from}" if init_from else named  # weights have a shape of their own
    return f"{kind}, context {context}{f' ({origin})' if origin else ''}"


def _size(config: RunConfig, vocab_size: int | None) -> dict[str, str]:
    """The number of parameters; nothing for a plug-in's model, which only the plug-in knows."""
    from plt_tui.config.size import num_params

    if config.model.arch != "transformer":
        return {}
    count = num_params(config.model, vocab_size=vocab_size or 0, context=config.data.context)
    if vocab_size is None:
        per_token = num_params(config.model, vocab_size=1, context=config.data.context) - count
        return {"size": f"{count:,} parameters, and {per_token:,} for each character of the corpus"}
    return {"size": f"{'at most ' if config.data.tokenizer == 'bpe' else ''}{count:,} parameters"}


def tail_text(data: DataSection) -> str:
    """What is held out without a corpus of its own."""
    return f"the last {data.eval_fraction * 100:g} % of each corpus"


def _corpus(spec: str, source: Source) -> str:
    files = f"{len(source.files)} files, " if len(source.files) > 1 else ""
    return f"{spec} ({files}{source.size / 1e6:,.1f} MB)" if source.size else spec


def _devices(placement: Placement) -> str:
    if placement.devices[0] == "cpu":
        return f"cpu, {placement.threads} {'thread' if placement.threads == 1 else 'threads'} each"
    return ", ".join(placement.devices)


def _target(train: TrainSection, tokens_per_step: int) -> str:
    if train.epochs and not train.steps:
        return f"{train.epochs:g} epochs"
    if train.tokens and not train.steps:
        return f"{train.tokens:,} tokens, {-(-train.tokens // tokens_per_step):,} steps"
    from plt_tui.config.schema import DEFAULT_STEPS

    steps = train.steps or DEFAULT_STEPS
    return f"{steps:,} steps, {steps * tokens_per_step:,} tokens"


def placement_here(config: RunConfig) -> Placement:
    """Where the ranks of `config` would run on this machine. Raises: UsageError when it lacks the devices."""
    from plt_tui.control.gauges import usable_cores, visible_gpus
    from plt_tui.control.placement import place

    gpus = [] if config.parallel.device == "cpu" else visible_gpus()
    return place(config.parallel, usable_cores(), gpus)


def find_plugins(config: RunConfig, plugins: Plugins) -> None:
    """Return when every plug-in that `config` names is there. Raises: UsageError."""
    from plt_tui.plugins import split_name

    if config.model.arch != "transformer":
        plugins.find("models", split_name(config.model.arch)[0])
    for spec in _plugin_corpora(config.data):
        plugins.find("datasets", split_name(spec)[0])
    for exporter in config.export.to:
        plugins.refuse_unknown("exporters", exporter)


def refuse_unusable_run_dir(config: RunConfig) -> None:
    """Return when `run` could make its folder, or has it; makes nothing. Raises: StorageError."""
    _refuse_unusable("run.dir", Path(config.run.dir, config.run.name))


def refuse_unusable_checkpoint_dir(config: RunConfig) -> None:
    """The same for the folder of the checkpoints. Raises: StorageError; UsageError where it belongs to another run."""
    from plt_tui.config.past import checkpoint_root
    from plt_tui.control.folder import OWNER_FILE

    if not config.checkpoint.dir:
        return
    run_dir = Path(config.run.dir, config.run.name)
    root = checkpoint_root(config, run_dir) if config.run.name else Path(config.checkpoint.dir)
    _refuse_unusable("checkpoint.dir", root)
    try:
        owner = os.fsdecode((root / OWNER_FILE).read_bytes()) if config.run.name else ""
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unusable("checkpoint.dir", root, str(error.strerror)) from None
    if owner not in ("", str(run_dir.resolve())):
        raise UsageError(f"checkpoint.dir: {root} holds the checkpoints of the run in {owner}; choose another name or folder")


def _refuse_unusable(key: str, folder: Path) -> None:
    """Raises: StorageError for a folder that is not there and cannot be made, or in which nothing can be written."""
    try:
        place = _nearest(folder.absolute())
        is_folder = place.is_dir()
    except (OSError, ValueError) as error:  # ValueError: a zero byte
        raise _unusable(key, folder, str(getattr(error, "strerror", error))) from None
    if not is_folder:
        raise _unusable(key, folder, f"{place} is no folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise _unusable(key, folder, f"nothing can be written in {place}")


def _unusable(key: str, folder: Path, why: str) -> StorageError:
    return StorageError(f"{key}: {folder} cannot be used: {why}; choose another folder")


def _nearest(path: Path) -> Path:
    """`path`, or the nearest of its parents that is there. Raises: OSError where one may not look; ValueError."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return _nearest(path.parent)
    return path


def _plugin_corpora(data: DataSection) -> list[str]:
    from plt_tui.data.sources import PLUGIN_PREFIX

    return [spec.removeprefix(PLUGIN_PREFIX) for spec in (*data.corpora, data.eval) if spec.startswith(PLUGIN_PREFIX)]

"""`plt-tui run`: from options to a locked run folder; `launch` goes on from there."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plt_tui.cli.attach import LowBandwidthOption
from plt_tui.cli.launch import Prepared, detached, in_foreground, with_ui
from plt_tui.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from plt_tui.config.load import LoadedConfig, Weights
    from plt_tui.config.schema import RunConfig
    from plt_tui.config.sources import Assignment
    from plt_tui.control.folder import RunFolder

_DEFAULT_STEM = "quickstart"
SetsOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Any key of the config; repeatable.")
]
ExportToOption = Annotated[
    list[str] | None,
    typer.Option("--export-to", metavar="NAME", help="Copy the numbers to tensorboard, wandb, ... (export.to); repeatable."),
]
PluginsOption = Annotated[
    list[Path] | None, typer.Option("--plugin", metavar="FILE", help="Python file with models or datasets; repeatable.")
]


def run(
    config: Annotated[Path | None, typer.Argument(help="TOML file; left out: the built-in quick start.")] = None,
    no_ui: Annotated[bool, typer.Option("--no-ui", help="Headless: print instead of opening the UI.")] = False,
    json_lines: Annotated[bool, typer.Option("--json", help="Headless: one JSON object a line on stdout.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Start in the background and return.")] = False,
    resume: Annotated[
        str | None,
        typer.Option(help="auto: go on from the newest good checkpoint; never: refuse an old folder; or a checkpoint."),
    ] = None,
    sets: SetsOption = None,
    train_path: Annotated[str | None, typer.Option(help="Training corpus (data.train).")] = None,
    eval_path: Annotated[str | None, typer.Option(help="Held-out corpus (data.eval).")] = None,
    epochs: Annotated[str | None, typer.Option(help="Passes over the corpus (train.epochs).")] = None,
    batch_size: Annotated[str | None, typer.Option(help="Sequences per rank and micro-step (train.batch_size).")] = None,
    learning_rate: Annotated[str | None, typer.Option(help="Peak learning rate (optim.lr).")] = None,
    gpu: Annotated[int | None, typer.Option(help="Train on this one GPU (parallel.device = cuda:N).")] = None,
    serve_metrics: Annotated[bool, typer.Option("--serve-metrics", help="Serve the run over HTTP (metrics.serve).")] = False,
    http_control: Annotated[
        bool, typer.Option("--http-control", help="The same, and take commands there, with a token (metrics.control).")
    ] = False,
    export_to: ExportToOption = None,
    checkpoint_dir: Annotated[str | None, typer.Option(help="Folder of the checkpoints (checkpoint.dir).")] = None,
    ranks: Annotated[str | None, typer.Option(help="Processes that train together (parallel.ranks).")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run (run.name).")] = None,
    plugins: PluginsOption = None,
    low_bandwidth: LowBandwidthOption = False,
) -> None:
    """Train a model: in the terminal UI, or headless."""
    from plt_tui.cli.hub import end_on_signals

    end_on_signals()
    named = {
        "--train-path": train_path,
        "--eval-path": eval_path,
        "--epochs": epochs,
        "--batch-size": batch_size,
        "--learning-rate": learning_rate,
        "--checkpoint-dir": checkpoint_dir,
        "--ranks": ranks,
        "--name": name,
    }
    request = _Request(
        config=config,
        named=named,
        gpu=gpu,
        serve_metrics=serve_metrics,
        http_control=http_control,
        export_to=tuple(export_to or ()),
        sets=tuple(sets or ()),
        resume=resume,
        plugins=plugin_files(plugins),
    )
    prepared = _prepare(request)
    headless = no_ui or json_lines or not (sys.stdin.isatty() and sys.stdout.isatty())
    if detach:
        raise typer.Exit(detached(prepared))
    if headless:
        raise typer.Exit(in_foreground(prepared, as_json=json_lines))
    raise typer.Exit(with_ui(prepared, low_bandwidth=low_bandwidth))


def plugin_files(paths: list[Path] | None) -> tuple[str, ...]:
    """The files given as `--plugin`, absolute. Raises: UsageError for one that is not there."""
    for path in paths or ():
        if not path.is_file():
            raise UsageError(f"--plugin {path}: no such file: {path.absolute()}")
    return tuple(str(path.absolute()) for path in paths or ())


def prepare_new(sets: Sequence[str]) -> Prepared:
    """Check a new run of `--set` texts alone, and take its folder.

    Raises: PltTuiError, as `run` ends with; UsageError also when there is a run of that name.
    """
    return _prepare(
        _Request(config=None, named={}, gpu=None, serve_metrics=False, sets=tuple(sets), resume="never", plugins=())
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """The options as they were given."""

    config: Path | None
    named: Mapping[str, str | None]
    gpu: int | None
    serve_metrics: bool
    http_control: bool = False
    export_to: tuple[str, ...] = ()
    sets: tuple[str, ...]
    resume: str | None
    plugins: tuple[str, ...]


def _prepare(request: _Request) -> Prepared:
    """Check everything that can be checked without training, then take the run folder."""
    from plt_tui.config.pretrained import refuse_unfit
    from plt_tui.control.folder import RunFolder
    from plt_tui.data.check import check_corpus
    from plt_tui.plugins import Plugins

    runs_dir, name = _known_place(request)
    old = RunFolder(runs_dir / name) if name else None
    if old is not None and old.exists:
        loaded = _load(request, request.config or old.config, weights=lambda _: _kept_values(old))
        loaded = replace(loaded, config=with_kept_tokenizer(loaded.config, old))
    else:
        loaded = _load(request, request.config)
        refuse_unfit(loaded.config)
    if loaded.config.metrics.serve:
        from plt_tui.server.guard import parse_address

        parse_address(loaded.config.metrics.address, has_token=loaded.config.metrics.needs_token)
    for exporter in loaded.config.export.to:
        Plugins(request.plugins).refuse_unknown("exporters", exporter)
    resume = _resume_mode(request.resume, old)
    check_corpus(loaded.config.data)
    _refuse_missing_devices(loaded)
    return _hold(old or _fresh(request, runs_dir), loaded, resume, request.plugins)


def _hold(folder: RunFolder, loaded: LoadedConfig, resume: str, plugins: tuple[str, ...]) -> Prepared:
    """Take the run, refuse what does not go on from its past, and only then write: a refused run stays as it was."""
    from plt_tui.config.load import to_toml
    from plt_tui.config.past import checkpoint_root

    with contextlib.ExitStack() as refused:
        folder, lock = _take(folder)
        locks = [lock]
        refused.callback(os.close, lock)
        _refuse_other_past(folder, loaded.config)
        root = checkpoint_root(loaded.config, folder.path)
        _refuse_other_line(folder, root, resume)
        if root != folder.checkpoints:
            locks.append(folder.claim(root))
            refused.callback(os.close, locks[1])
        loaded = _keep_secret(folder, loaded)
        folder.create(_with_origins(to_toml(loaded.config), loaded.origins))
        refused.pop_all()
    return Prepared(folder=folder, loaded=loaded, resume=resume, plugins=plugins, locks=tuple(locks))


def _keep_secret(folder: RunFolder, loaded: LoadedConfig) -> LoadedConfig:
    """Put the webhook where only the hub reads it; the configuration without it. Raises: StorageError.

    The run's own config.toml, which never holds it, is no reason to forget it; any other source without one is.
    """
    from plt_tui.config.fields import printable
    from plt_tui.config.separate import WEBHOOK, separated
    from plt_tui.control.secrets import keep_webhook

    without, webhook = separated(loaded)
    if webhook or not loaded.origins[WEBHOOK].startswith(f"{printable(str(folder.config))}:"):
        keep_webhook(folder, webhook)
    return without


def _refuse_other_past(folder: RunFolder, config: RunConfig) -> None:
    """A run goes on with the model and the data that it began with. Raises: UsageError or DataError naming what differs."""
    from plt_tui.config.load import load
    from plt_tui.config.past import changed_past, checkpoint_root

    if not folder.exists:
        return
    old = with_kept_tokenizer(load(folder.config, weights=lambda _: {}).config, folder)
    changes = changed_past(old, config)
    if not changes or not folder.has_past(checkpoint_root(old, folder.path)):
        return
    words = ", ".join(f"{key}: {json.dumps(before)} -> {json.dumps(after)}" for key, (before, after) in changes.items())
    kind = UsageError if any(key.startswith("model.") for key in changes) else DataError
    raise kind(f"{folder.path} was trained with other settings ({words}); take them back, or choose another --name")


def _refuse_other_line(folder: RunFolder, root: Path, resume: str) -> None:
    """A run with a past goes on from a state of the line that it is on: its record would tell of another one otherwise.

    Raises: UsageError for a checkpoint of another run or of a branch.
    """
    from plt_tui.control.record import read_journal
    from plt_tui.control.stretches import line_weights
    from plt_tui.protocol.manifest import own_checkpoint, read_manifest

    if resume in ("auto", "never") or not folder.exists or not folder.has_past(root):
        return
    manifest = read_manifest(Path(resume))
    is_own = own_checkpoint(Path(resume), root) is not None
    if not is_own and line_weights(read_journal(folder)).get(manifest.step) != manifest.weights_sha256:
        raise UsageError(
            f"--resume {resume}: not a state of the line that {folder.name} is on (it is of a branch, or of another run); "
            "begin a new run with its weights: --set train.init_from=... --name ..."
        )


def with_kept_tokenizer(config: RunConfig, folder: RunFolder) -> RunConfig:
    """`config` with the run's own copy of its tokenizer, where the file that it names has gone with its first weights."""
    from plt_tui.data.sources import TRAINED_TOKENIZERS

    named, kept = config.data.tokenizer, folder.path / "tokenizer.json"
    if named in TRAINED_TOKENIZERS or Path(named).is_file() or not kept.is_file():
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"tokenizer": str(kept)})})


def _kept_values(folder: RunFolder) -> Mapping[str, object]:
    """What the weights that an old run began with had fixed: they need not be there any more."""
    from plt_tui.config.load import load
    from plt_tui.config.pretrained import PRETRAINED_KEYS

    old = load(folder.config, weights=lambda _: {}).config.model_dump()
    return {key: old[section][field] for key in PRETRAINED_KEYS for section, _, field in [key.partition(".")]}


def _load(request: _Request, path: Path | None, weights: Weights | None = None) -> LoadedConfig:
    from plt_tui.config.load import keepable, load
    from plt_tui.config.pretrained import pretrained_values

    loaded = load(
        path,
        options=_assignments(request),
        sets=request.sets,
        environ=os.environ,
        dotenv=Path(".env"),
        weights=weights or pretrained_values,
    )
    return keepable(loaded)


def _known_place(request: _Request) -> tuple[Path, str]:
    """The folder of the runs, and the name of this one as far as it is known, without a look at any weights."""
    try:
        loaded = _load(request, request.config, weights=lambda _: {})
    except UsageError:  # what weights fix may be what makes the rest valid
        loaded = _load(request, request.config)
    runs_dir = Path(loaded.config.run.dir)
    return runs_dir, _known_name(request, loaded, runs_dir)


def _assignments(request: _Request) -> list[Assignment]:
    from plt_tui.config.sources import OPTIONS, Assignment

    given = [
        Assignment(key=OPTIONS[flag], value=value, origin=flag) for flag, value in request.named.items() if value is not None
    ]
    if request.gpu is not None:
        given.append(Assignment(key="parallel.device", value=f"cuda:{request.gpu}", origin="--gpu"))
    if request.serve_metrics:
        given.append(Assignment(key="metrics.serve", value=True, origin="--serve-metrics"))
    if request.export_to:
        given.append(Assignment(key="export.to", value=list(request.export_to), origin="--export-to"))
    if request.http_control:
        given += [Assignment(key=f"metrics.{key}", value=True, origin="--http-control") for key in ("serve", "control")]
    return given


def _known_name(request: _Request, loaded: LoadedConfig, runs_dir: Path) -> str:
    """The configured name; else, for an explicit `--resume auto`, that of the newest run (made from this file); else empty."""
    from plt_tui.control.folder import list_runs, was_made_for

    if loaded.config.run.name or request.resume != "auto":
        return loaded.config.run.name
    stem = request.config.stem if request.config is not None else None
    names = (folder.name for folder in list_runs(runs_dir))
    return next((name for name in names if stem is None or was_made_for(name, stem)), "")


def _fresh(request: _Request, runs_dir: Path) -> RunFolder:
    from plt_tui.control.folder import fresh_folder

    return fresh_folder(runs_dir, request.config.stem if request.config is not None else _DEFAULT_STEM, time.localtime())


def _resume_mode(resume: str | None, old: RunFolder | None) -> str:
    from plt_tui.protocol.manifest import chosen_step

    if resume in (None, "auto"):
        return "auto"
    if resume == "never":
        if old is not None and old.exists:
            raise UsageError(f"{old.path} already holds a run; resume it with --resume auto, or choose another --name")
        return "never"
    path = str(Path(str(resume)).absolute())
    chosen_step(path)
    return path


def _refuse_missing_devices(loaded: LoadedConfig) -> None:
    from plt_tui.control.gauges import usable_cores, visible_gpus
    from plt_tui.control.placement import place

    parallel = loaded.config.parallel
    place(parallel, usable_cores(), visible_gpus() if parallel.device.startswith("cuda") else [])


def _take(folder: RunFolder) -> tuple[RunFolder, int]:
    """The folder, made if need be, and its lock."""
    from plt_tui.control.folder import not_made
    from plt_tui.protocol.durable import make_folder

    try:
        make_folder(folder.path, 0o700)
    except OSError as error:
        raise not_made(folder.path, error) from None
    return folder, folder.lock()


def _with_origins(toml: str, origins: Mapping[str, str]) -> str:
    """The configuration with a comment behind every value that says where it came from."""
    lines, section = [], ""
    for line in toml.removesuffix("\n").split("\n"):  # `splitlines` would also cut a prompt at U+2028
        if line.startswith("["):
            section = line.strip("[]")
        key = f"{section}.{line.partition(' = ')[0]}"
        lines.append(f"{line}  # {origins[key]}" if key in origins else line)
    return "\n".join(lines) + "\n"


def resolved_here() -> str:
    """The configuration that a plain `plt-tui run` would use in this folder, with origins."""
    from plt_tui.config.load import load, to_toml
    from plt_tui.config.separate import separated

    loaded, _ = separated(load(None, environ=os.environ, dotenv=Path(".env")))
    return _with_origins(to_toml(loaded.config), loaded.origins)

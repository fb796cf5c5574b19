"""A trained model for the commands that use one: found as a run, a checkpoint or an export, and put on a device.

Trains nothing, writes nothing, and touches no run that is still going. Invariant: the weights are those that were saved; a
damaged checkpoint of a run is passed over aloud, never used.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plt_tui.cli.echo import echo
from plt_tui.errors import PltTuiError, StorageError, UsageError

if TYPE_CHECKING:
    from plt_tui.config.schema import RunConfig
    from plt_tui.control.folder import RunFolder
    from plt_tui.plugins import Plugins
    from plt_tui.training.inference import ReadyModel
    from plt_tui.weights.bundle import Weights

TargetArgument = Annotated[
    str, typer.Argument(metavar="TARGET", help="A run, a checkpoint, an export, or a Hugging Face folder.")
]
StepOption = Annotated[
    int | None, typer.Option("--step", help="Of a run, the checkpoint of this step; left out: the newest good one.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N; auto: a GPU if there is one.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model ready to be used, and what is known of it."""

    ready: ReadyModel
    path: Path
    """Where the weights lie: of a run, the checkpoint."""
    run: RunFolder | None
    """The run that the weights belong to."""
    config: RunConfig
    """The run's; for weights without a run, the defaults."""
    checkpoint: Mapping[str, Any]
    """`state.json` of a checkpoint; empty for an export."""

    @property
    def step(self) -> int | None:
        """Of a checkpoint, its step."""
        return self.checkpoint.get("step")

    @property
    def described(self) -> str:
        """The weights and their place in a few words: "step 500 of runs/abc on cpu"."""
        where = self.path if self.run is None else self.run.path
        step = f"step {self.step} of " if self.step is not None else ""
        return f"{step}{_short(where)} on {self.ready.device}"


def open_trained(target: str, directory: Path, *, step: int | None, device: str, plugins: Plugins) -> Trained:
    """What `target` names: a run by its full name, else a path, else a run by the beginning of its name.

    device: as `--device` takes it. Raises: UsageError, StorageError or DataError for what cannot be found, read or built.
    """
    from plt_tui.config.load import from_toml
    from plt_tui.config.schema import RunConfig
    from plt_tui.config.sources import read_text

    path = source_path(target, directory)
    run = _run_of(path)
    if step is not None:
        path = checkpoint_of(path, step)

    from plt_tui.training.inference import device_named, ready_model

    place = device_named(device)
    state, weights = _state_and_weights(path)
    return Trained(
        ready=ready_model(weights, place, plugins),
        path=Path(weights.source),
        run=run,
        config=RunConfig() if run is None else from_toml(read_text(run.config)),
        checkpoint=state,
    )


def readable(path: str | Path) -> Weights:
    """The weights at `path`; of a run, those of its newest checkpoint that can be read. Raises: as `open_trained`."""
    return _state_and_weights(Path(path))[1]


def source_path(target: str, directory: Path) -> Path:
    """Where `target` lies: the folder of a run in `directory`, or any path. Raises: UsageError listing the runs."""
    from plt_tui.control.folder import RunFolder, find_run

    path = Path(target)
    is_path = path.exists() or os.sep in target
    if is_path and not RunFolder(directory / target).exists:
        return path.absolute()
    return find_run(directory, target).path


def with_options(config: RunConfig, wishes: Mapping[str, object]) -> RunConfig:
    """`config` with the values of `wishes`: "section.key" to what its option gave, or None; checked as a config file is.

    Raises: UsageError with one line per problem, which names the option.
    """
    from plt_tui.config.load import resolve
    from plt_tui.config.sources import Assignment, options_layer

    given = {key: value for key, value in wishes.items() if value is not None}
    options = [Assignment(key=key, value=value, origin=_option(key)) for key, value in given.items()]
    valid = resolve([options_layer(options)]).config
    for name in given:
        section, _, key = name.partition(".")
        changed = getattr(config, section).model_copy(update={key: getattr(getattr(valid, section), key)})
        config = config.model_copy(update={section: changed})
    return config


def refuse_wrong(wishes: Mapping[str, object]) -> None:
    """Check options before torch is imported, which takes seconds. Raises: UsageError for what `with_options` refuses."""
    from plt_tui.config.schema import RunConfig

    with_options(RunConfig(), wishes)


def _option(key: str) -> str:
    """The option that sets a key: "--top-k" of "sample.top_k"."""
    return f"--{key.partition('.')[2].replace('_', '-')}"


def _run_of(path: Path) -> RunFolder | None:
    """The run whose folder or checkpoint lies at `path`; None for weights that left their run."""
    from plt_tui.config.pretrained import HEADER, HF_CONFIG, checkpoints
    from plt_tui.control.folder import OWNER_FILE, RunFolder

    if RunFolder(path).exists and not any((path / name).is_file() for name in (HEADER, HF_CONFIG)):
        return RunFolder(path)  # else an export in which somebody keeps a configuration
    owner = path.parent / OWNER_FILE
    run_dir = Path(os.fsdecode(owner.read_bytes())) if owner.is_file() else path.parent.parent
    return RunFolder(run_dir) if path in checkpoints(run_dir).values() else None


def checkpoint_of(path: Path, step: int) -> Path:
    """Of the run at `path`, the checkpoint of `step`. Raises: UsageError listing the steps that there are."""
    from plt_tui.config.pretrained import checkpoints

    found = checkpoints(path)
    if step not in found:
        known = ", ".join(map(str, sorted(found))) or "none"
        raise UsageError(f"--step {step}: no such checkpoint of {_short(path)}; steps there: {known}")
    return found[step]


def _state_and_weights(path: Path) -> tuple[Mapping[str, Any], Weights]:
    run = _run_of(path)
    return _newest(run) if run is not None and path == run.path else _load(path)


def _newest(run: RunFolder) -> tuple[Mapping[str, Any], Weights]:
    """The newest checkpoint that can be read, as `_load` gives it. A run that goes on may save and delete some meanwhile."""
    from plt_tui.config.pretrained import checkpoints

    damage: dict[Path, PltTuiError] = {}
    while left := {step: folder for step, folder in checkpoints(run.path).items() if folder not in damage}:
        folder = left[max(left)]
        try:
            return _load(folder)
        except PltTuiError as error:
            damage[folder] = error
            if folder in checkpoints(run.path).values():  # else it has made room for a newer one
                echo(f"passed over: {error}", err=True)
    if damage:
        raise StorageError(f"{_short(run.path)}: none of its checkpoints can be read; choose another run")
    raise UsageError(f"{run.name} has saved no checkpoint yet; if it is running: plt-tui ctl {run.name} checkpoint")


def _load(path: Path) -> tuple[Mapping[str, Any], Weights]:
    """`state.json` of a checkpoint, empty for anything else, and the weights."""
    from plt_tui.config.pretrained import MANIFEST, STATE, read_json
    from plt_tui.weights.read import load

    is_checkpoint = (path / MANIFEST).is_file()
    state = read_json(path / STATE, StorageError) if is_checkpoint else {}  # first: without its manifest `load` refuses it
    return state, load(path)


def _short(path: Path) -> Path:
    """`path` as seen from here, where it is below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path

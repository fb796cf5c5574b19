"""`plt-tui export` and `plt-tui import`: weights out of runs, and from elsewhere into a folder that a run can start from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plt_tui.cli.attach import DEFAULT_DIR, DirOption
from plt_tui.cli.echo import echo
from plt_tui.errors import UsageError

if TYPE_CHECKING:
    from plt_tui.weights.write import Written

OutputOption = Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to make; it must not exist.")]


def export(
    source: Annotated[str, typer.Argument(metavar="RUN|PATH", help="A run (its newest checkpoint), or where weights lie.")],
    output: OutputOption,
    form: Annotated[str, typer.Option("--format", help="hf, safetensors, torch or json.")] = "safetensors",
    step: Annotated[int | None, typer.Option("--step", help="Of a run, the checkpoint of this step.")] = None,
    directory: DirOption = DEFAULT_DIR,
) -> None:
    """Write the weights of a run or checkpoint for other programs."""
    from plt_tui.weights.write import convert

    path = _source(source, directory)
    written = convert(path if step is None else _checkpoint(path, step), form, output)
    echo(_summary(written, output))


def import_(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A Hugging Face folder, an export, or a weights file.")],
    output: OutputOption,
) -> None:
    """Convert weights from elsewhere into a folder for train.init_from."""
    from plt_tui.weights.write import convert

    written = convert(path, "safetensors", output)
    echo(_summary(written, output))
    echo(f'fine-tune it: plt-tui run --set "train.init_from={output}"')


def _source(source: str, directory: Path) -> Path:
    """A run by its full name, else a path, else a run by the beginning of its name."""
    from plt_tui.control.folder import RunFolder, find_run

    path = Path(source)
    if path.exists() and not RunFolder(directory / source).exists:
        return path
    return find_run(directory, source).path


def _checkpoint(run_dir: Path, step: int) -> Path:
    from plt_tui.config.pretrained import checkpoints

    found = checkpoints(run_dir)
    if step not in found:
        known = ", ".join(map(str, sorted(found))) or "none"
        raise UsageError(f"--step {step}: {run_dir} has no such checkpoint; steps there: {known}")
    return found[step]


def _summary(written: Written, output: Path) -> str:
    lines = [f"wrote {output}: {', '.join(written.files)} ({written.num_parameters:,} parameters of {written.source})"]
    return "\n".join([*lines, *(f"note: {note}" for note in written.notes)])

"""`plt-tui export` and `plt-tui import`: weights out of runs, and from elsewhere into a folder that a run can start from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plt_tui.cli.attach import DEFAULT_DIR, DirOption
from plt_tui.cli.echo import echo
from plt_tui.cli.trained import StepOption, TargetArgument, checkpoint_of, readable, source_path

if TYPE_CHECKING:
    from plt_tui.weights.write import Written

OutputOption = Annotated[
    Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to make; it must not exist, or be empty.")
]


def export(
    target: TargetArgument,
    output: OutputOption,
    form: Annotated[str, typer.Option("--format", help="hf, safetensors, torch or json.")] = "safetensors",
    step: StepOption = None,
    directory: DirOption = DEFAULT_DIR,
) -> None:
    """Write the weights of a run or checkpoint for other programs."""
    from plt_tui.weights.write import convert

    path = source_path(target, directory)
    written = convert(path if step is None else checkpoint_of(path, step), form, output, read=readable)
    echo(_summary(written, output))


def import_(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A Hugging Face folder, an export, or a weights file.")],
    output: OutputOption,
) -> None:
    """Convert weights from elsewhere for train.init_from.

    Into a new folder, which also gives a run its shape and tokenizer.
    """
    from plt_tui.weights.write import convert

    written = convert(path, "safetensors", output, read=readable)
    echo(_summary(written, output))
    echo(f'fine-tune it: plt-tui run --set "train.init_from={output}"')


def _summary(written: Written, output: Path) -> str:
    lines = [f"wrote {output}: {', '.join(written.files)} ({written.num_parameters:,} parameters of {written.source})"]
    return "\n".join([*lines, *(f"note: {note}" for note in written.notes)])

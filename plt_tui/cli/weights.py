"""`plt-tui export` and `plt-tui import`: weights and numbers out of runs, and weights to start a run from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plt_tui.cli.attach import DEFAULT_DIR, DirOption
from plt_tui.cli.echo import echo
from plt_tui.cli.run import PluginsOption, plugin_files
from plt_tui.cli.trained import StepOption, TargetArgument, checkpoint_of, readable, source_path
from plt_tui.errors import UsageError

if TYPE_CHECKING:
    from plt_tui.weights.write import Written

WEIGHT_FORMS = ("hf", "safetensors", "torch", "json")
OutputOption = Annotated[
    Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to make; it must not exist, or be empty.")
]


def export(
    target: TargetArgument,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Folder to make; an exporter needs none, and may go on in one."),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="Weights: hf, safetensors, torch or json. Tables: csv or parquet. An exporter: tensorboard, wandb, ...",
        ),
    ] = "safetensors",
    step: StepOption = None,
    plugins: PluginsOption = None,
    directory: DirOption = DEFAULT_DIR,
) -> None:
    """Write the weights of a run or checkpoint, or all numbers of a run, for other programs."""
    if form not in WEIGHT_FORMS:
        from plt_tui.cli.numbers import export_numbers

        if step is not None:
            raise UsageError(f"--step: --format {form} takes all steps; leave it out, or choose {', '.join(WEIGHT_FORMS)}")
        echo(export_numbers(target, form, output, plugin_files(plugins), directory))
        return
    if output is None:
        raise UsageError(f"--format {form} needs a folder: -o DIR")
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

"""`plt-tui report`: the lab log of a run as a Markdown file, with its curves as a picture beside it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plt_tui.cli.attach import DEFAULT_DIR, DirOption, RunArgument, source_of, told_so_far
from plt_tui.cli.echo import echo
from plt_tui.errors import StorageError, UsageError

if TYPE_CHECKING:
    from plt_tui.control.folder import RunFolder
    from plt_tui.protocol.events import Event
    from plt_tui.views.model import RunModel

STDOUT = Path("-")


def report(
    run: RunArgument,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Markdown file; the curves come beside it as .svg. -: only print.")
    ] = Path("report.md"),
    directory: DirOption = DEFAULT_DIR,
) -> None:
    """Write the lab log of a run, live or not: every event, edit, spike, restart and note, and the curves."""
    from plt_tui.control.folder import find_run
    from plt_tui.views.report import curves, lab_log

    if output.is_dir():
        raise UsageError(f"-o {output}: this is a folder; give the name of a file, such as {output / 'report.md'}")
    picture = output.with_suffix(".svg")
    if picture == output:
        raise UsageError(f"-o {output}: the curves get this name; give the lab log another one, such as {output.stem}.md")
    folder = find_run(directory, run)
    events, model = asyncio.run(_recorded(folder))
    if output == STDOUT:
        echo(lab_log(events, model))
        return
    _write(output, lab_log(events, model, picture.name))
    _write(picture, curves(events, model))
    echo(f"wrote {output} and {picture}")


async def _recorded(folder: RunFolder) -> tuple[list[Event], RunModel]:
    """All that is known of a run: of its hub if it lives, else of its record."""
    from plt_tui.protocol.events import Steps
    from plt_tui.views.model import RunModel

    events, model = [], RunModel()
    async for event in told_so_far(await source_of(folder, "report", readonly=True), folder.name):
        model.fold(event)
        if not isinstance(event, Steps):
            events.append(event)
    return events, model


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}; name another file with -o") from None

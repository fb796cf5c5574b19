"""`plt-tui export RUN --format csv`, or of any exporter: the numbers of a run that lies here, out of its record.

Weights are `weights`'s work. Asks no hub: of a live run what is recorded by now comes out. Invariant: nothing of the run
changes but how far its exports have come.
"""

from __future__ import annotations

import re
from pathlib import Path

from plt_tui.errors import PltTuiError, UsageError


def export_numbers(target: str, form: str, output: Path | None, plugins: tuple[str, ...], directory: Path) -> str:
    """Write tables, or run an exporter; returns what was done, in words.

    Raises: UsageError for an unknown run or format, or a folder that is missing or taken; RunInUse while the run's hub exports
    it there; StorageError; whatever the exporter raises.
    """
    from plt_tui.config.export import EXPORTER_NAME
    from plt_tui.config.fields import shown
    from plt_tui.config.load import from_toml
    from plt_tui.config.sources import read_text
    from plt_tui.control.folder import find_run
    from plt_tui.exporters.process import export_record
    from plt_tui.exporters.tables import FORMS
    from plt_tui.plugins import Plugins
    from plt_tui.protocol.text import safe_line

    if form in FORMS:
        return _tables(target, form, output, directory)
    try:
        Plugins(plugins).refuse_unknown("exporters", form)
    except UsageError as error:
        raise UsageError(f"--format {shown(form)}: no format of weights, no table ({', '.join(FORMS)}), and {error}") from None
    if not re.fullmatch(EXPORTER_NAME, form):
        raise UsageError(f"--format {shown(form)}: give it another name, of letters, digits, _ and -")
    folder = find_run(directory, target)
    project = from_toml(read_text(folder.config)).export.project
    try:
        done = export_record(form, folder, output=output, project=project, plugins=Plugins(plugins))
    except PltTuiError:
        raise
    except Exception as error:
        hint = "what it has taken is kept: give the same command again"
        told = safe_line(str(error)).rstrip(".")
        raise PltTuiError(f"the exporter {form} has failed: {type(error).__name__}: {told}; {hint}") from error
    where = f", files in {output}" if output is not None else ""
    if not done.steps and not done.events:
        return f"nothing of {folder.name} is new to {form}{where}"
    return f"handed {done.steps:,} steps and {done.events:,} other events of {folder.name} to {form}{where}"


def _tables(target: str, form: str, output: Path | None, directory: Path) -> str:
    from plt_tui.control.folder import find_run
    from plt_tui.control.record import read_feed
    from plt_tui.exporters.tables import write_tables

    if output is None:
        raise UsageError(f"--format {form} needs a folder: -o DIR")
    feed = read_feed(find_run(directory, target))
    files = write_tables(feed, form, output)
    return f"wrote {output}: {', '.join(f'{name} ({rows:,} rows)' for name, rows in files.items())}"

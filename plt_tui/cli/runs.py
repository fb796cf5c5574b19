"""`plt-tui ls`, `show` and `logs`: what runs there are and what is known of one, live or not."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plt_tui.cli.attach import DEFAULT_DIR, DirOption, RunArgument, source_of, told_so_far
from plt_tui.cli.batch import show_batch, spike_text, spikes_by_branch
from plt_tui.cli.config import named_plugins
from plt_tui.cli.echo import echo, echo_json
from plt_tui.cli.run import PluginsOption
from plt_tui.errors import UsageError

if TYPE_CHECKING:
    from plt_tui.control.folder import RunFolder
    from plt_tui.control.state import RunState

FOLLOW_S = 0.25
"""Seconds between two looks at growing log files."""
SHOWN_SPIKES = 10
"""Spikes that `show` tells of."""


def ls(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
    directory: DirOption = DEFAULT_DIR,
) -> None:
    """List the runs, the newest first."""
    from plt_tui.control.folder import list_runs
    from plt_tui.control.summary import summary

    rows = [summary(_overview(folder), folder.name) for folder in list_runs(directory)]
    if as_json:
        echo_json(rows)
    elif not rows:
        echo(f"no runs under {directory}; start one: plt-tui run")
    else:
        echo(_table(rows))


def show(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run; may be left out with --config.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object; with --batch one array.")] = False,
    config: Annotated[bool, typer.Option("--config", help="The configuration and where every value came from.")] = False,
    batch: Annotated[
        int | None, typer.Option("--batch", metavar="STEP", min=1, help="The texts that this step trained on.")
    ] = None,
    branch: Annotated[int, typer.Option("--branch", min=0, help="With --batch: on this branch; 0: where the run is.")] = 0,
    plugins: PluginsOption = None,
    directory: DirOption = DEFAULT_DIR,
) -> None:
    """Show one run: state, numbers, ranks, branches, viewers, spikes; or the texts of one step."""
    from plt_tui.control.folder import find_run
    from plt_tui.control.summary import summary

    if config:
        echo(_config_text(run, directory), nl=False)
        return
    if run is None:
        raise UsageError("show: which run? see plt-tui ls; without a run only --config is possible")
    if branch and batch is None:
        raise UsageError(f"--branch {branch}: of which step? give --batch STEP too")
    folder = find_run(directory, run)
    if batch is not None:
        show_batch(folder, batch, branch, named_plugins(plugins), as_json=as_json)
        return
    row = summary(asyncio.run(_state(folder)), folder.name)
    if as_json:
        echo_json(row)
    else:
        echo(_lines(row, _spike_lines(folder)))


def logs(
    run: RunArgument,
    rank: Annotated[int | None, typer.Option(help="Only this rank; left out: all, and the hub.")] = None,
    lines: Annotated[int, typer.Option("-n", "--lines", help="Last lines of each file.")] = 100,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as they grow, until Ctrl-C.")] = False,
    directory: DirOption = DEFAULT_DIR,
) -> None:
    """Print what the ranks of a run have logged."""
    from plt_tui.control.folder import find_run
    from plt_tui.control.logs import LogTail, last_lines

    folder = find_run(directory, run)
    pattern = "*.log" if rank is None else f"rank-{rank}.log"
    files = sorted(folder.logs.glob(pattern))
    if not files:
        raise UsageError(f"{folder.logs} has no {pattern}")
    tails = [LogTail(path, path.stem.replace("-", " "), from_end=True) for path in files]
    for path in files:
        for line in last_lines(path, lines):
            echo(f"{path.stem:<7} {line}")
    try:
        while follow:
            time.sleep(FOLLOW_S)
            for tail in tails:
                for _, source, level, text in tail.read(time.time())[0]:
                    echo(f"{source:<7} {level} {text}")
    except KeyboardInterrupt:
        return


def _overview(folder: RunFolder) -> RunState:
    """State, step and newest numbers; a record that cannot be read does not hide the other runs."""
    from plt_tui.control.record import read_overview
    from plt_tui.control.state import RunState
    from plt_tui.errors import StorageError

    try:
        return read_overview(folder)
    except StorageError as error:
        return RunState(phase="failed", reason=str(error))


async def _state(folder: RunFolder) -> RunState:
    """The state of a run: asked of its hub if it lives, else the whole record folded."""
    from plt_tui.control.state import RunState, apply

    state = RunState()
    async for event in told_so_far(await source_of(folder, "show", readonly=True), folder.name):
        state = apply(state, event)
    return state


def _config_text(run: str | None, directory: Path) -> str:
    from plt_tui.cli.run import resolved_here
    from plt_tui.config.sources import read_text
    from plt_tui.control.folder import find_run

    return read_text(find_run(directory, run).config) if run is not None else resolved_here()


def _table(rows: list[dict[str, Any]]) -> str:
    head = ("NAME", "STATE", "STEP", "LOSS", "TOKENS/S", "STARTED")
    cells = [head, *(_cells(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    from plt_tui.protocol.text import safe_line

    last = row["last"] or {}
    started = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["started_at"])) if row["started_at"] else "-"
    loss, speed = last.get("loss"), last.get("tokens_per_s")
    return (
        row["name"],
        safe_line(row["state"]),
        f"{row['step']}/{row['target_step'] or '?'}",
        f"{loss:.4f}" if isinstance(loss, float) else str(loss if loss is not None else "-"),
        f"{speed:.0f}" if isinstance(speed, float) else "-",
        started,
    )


def _lines(row: dict[str, Any], spikes: list[str]) -> str:
    """Every number of a run in a line of its own, and every branch, viewer and spike too. `spikes`: in words."""
    from plt_tui.protocol.text import safe_line

    own = {
        "branches": [_branch_text(left) for left in row["branches"]],
        "viewers": [_viewer_text(viewer) for viewer in row["viewers"]],
        "spikes": spikes,
    }
    lines: list[str] = []
    for key, value in row.items():
        plain = json.dumps(value) if isinstance(value, dict | list) else safe_line(str(value))
        lines.extend(f"{key:<16} {text}" for text in own.get(key) or [plain])
    return "\n".join(lines)


def _branch_text(left: dict[str, Any]) -> str:
    from plt_tui.protocol.text import safe_line

    skip = left["skip"]
    skipped = f", {skip} {'batch' if skip == 1 else 'batches'} left out instead" if skip else ""
    return f"{left['number']}: steps {left['first']} to {left['last']}, left by {safe_line(left['actor'])}{skipped}"


def _viewer_text(viewer: dict[str, Any]) -> str:
    from plt_tui.protocol.text import safe_line

    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(viewer["since"]))
    looks = ", read-only" if viewer["readonly"] else ""
    return f"{safe_line(viewer['actor'])}, by {safe_line(viewer['door'])}{looks}, since {since}"


def _spike_lines(folder: RunFolder) -> list[str]:
    """The newest spikes, each with the command that shows its batch."""
    from plt_tui.control.record import read_journal

    lines = spikes_by_branch(read_journal(folder))
    # A spike that several lines share is shown on the one that the run is on, else on the first of its branches.
    options = {
        spike: f" --branch {branch}" if branch else "" for branch, spikes in reversed([*enumerate(lines)]) for spike in spikes
    }
    newest = sorted(options, key=lambda spike: spike.seq)[-SHOWN_SPIKES:]
    hidden = len(options) - len(newest)
    earlier = [f"earlier: {hidden}, in {folder.journal.name}"] if hidden else []
    shown = [f"{spike_text(spike)}; plt-tui show {folder.name} --batch {spike.step}{options[spike]}" for spike in newest]
    return [*earlier, *shown]

"""`plt-tui attach`: the UI on a live run, or read-only on a finished one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plt_tui.cli.echo import echo
from plt_tui.cli.hub import START_PATIENCE_S
from plt_tui.errors import EXIT_SIGINT, EXIT_SIGTERM, HubUnreachable

if TYPE_CHECKING:
    from plt_tui.config.schema import RunConfig
    from plt_tui.control.folder import RunFolder
    from plt_tui.protocol.events import Event
    from plt_tui.views.source import Source

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run (its beginning is enough), or its folder.")]
DirOption = Annotated[Path, typer.Option("--dir", help="Folder that holds the runs.")]
DEFAULT_DIR = Path("runs")
LowBandwidthOption = Annotated[
    bool, typer.Option("--low-bandwidth", help="Send at most 5 KB/s to the terminal (ui.low_bandwidth).")
]

ANSWER_S = 10.0
"""A hub that tells of its run and says nothing for this long does not answer."""

Connect = Callable[[str], Awaitable["Source"]]
"""Opens a source for an actor's name."""


def attach(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run; left out: the newest.")] = None,
    readonly: Annotated[bool, typer.Option("--readonly", help="Watch only.")] = False,
    directory: DirOption = DEFAULT_DIR,
    low_bandwidth: LowBandwidthOption = False,
) -> None:
    """Open the UI on a live run, or on a finished one."""
    from plt_tui.config.load import from_toml
    from plt_tui.control.folder import find_run

    folder = find_run(directory, run) if run is not None else newest_run(directory)
    config = from_toml(folder.config.read_text())

    async def connect(actor: str) -> Source:
        return await source_of(folder, actor, readonly=readonly)

    is_readonly = readonly or not folder.is_live()
    raise typer.Exit(open_ui(folder, config, connect, readonly=is_readonly, low_bandwidth=low_bandwidth))


def newest_run(directory: Path) -> RunFolder:
    """The newest live run, else the newest one. Raises: UsageError when there is none."""
    from plt_tui.control.folder import list_runs
    from plt_tui.errors import UsageError

    runs = list_runs(directory)
    if not runs:
        raise UsageError(f"no runs under {directory}; start one: plt-tui run")
    return next((folder for folder in runs if folder.is_live()), runs[0])


async def source_of(folder: RunFolder, actor: str, *, readonly: bool) -> Source:
    """A live run's hub, or the record of a run that has ended, also of one whose hub dies at this moment."""
    from plt_tui.views.client import HubClient
    from plt_tui.views.source import RecordSource

    socket = await live_socket(folder)
    if socket is not None:
        try:
            return await HubClient.connect(socket, actor=actor, readonly=readonly, deadline_s=2.0)
        except HubUnreachable:
            if folder.is_live():
                raise
    return RecordSource(await asyncio.to_thread(_recorded, folder))  # a long record takes seconds, and a view must not wait


def _recorded(folder: RunFolder) -> list[Event]:
    """The whole record of a run that nobody holds, with its crash and its last log lines. Raises: StorageError."""
    from plt_tui.cli.files import recorded_logs
    from plt_tui.control.feed import Cursor
    from plt_tui.control.record import crash_of, read_feed

    feed = read_feed(folder)
    crash = crash_of(folder, feed.state)
    if crash is not None:
        feed.publish(crash)
    events, _ = feed.read(Cursor())
    return [*events, recorded_logs(folder)]


async def told_so_far(source: Source, name: str) -> AsyncIterator[Event]:
    """What `source` knows of the run `name` until now; it is closed then.

    Raises: HubUnreachable for a hub that ends, or says nothing for ANSWER_S, before it has told all of it.
    """
    from plt_tui.protocol.events import CaughtUp

    events = source.events()
    try:
        while not isinstance(event := await asyncio.wait_for(anext(events), ANSWER_S), CaughtUp):
            yield event
    except asyncio.TimeoutError:
        why = "it is stopped, or its machine has no time for it; `plt-tui ls` tells what is on disk"
        raise HubUnreachable(f"the hub of {name} has said nothing for {ANSWER_S:g} s: {why}") from None
    except StopAsyncIteration:
        raise HubUnreachable(f"the hub of {name} ended before it had told where the run is; ask again") from None
    finally:
        await source.close()


async def live_socket(folder: RunFolder) -> Path | None:
    """The socket of the run's hub, waited for while the hub starts; None when nobody holds the run."""
    give_up_at = time.monotonic() + START_PATIENCE_S
    while folder.is_live():
        info = folder.read_info()
        if info is not None and info.socket:
            return Path(info.socket)
        if time.monotonic() > give_up_at:
            raise HubUnreachable(f"the hub of {folder.name} did not open its socket within {START_PATIENCE_S:g} s")
        await asyncio.sleep(0.02)
    return None


def open_ui(
    folder: RunFolder,
    config: RunConfig,
    connect: Connect,
    *,
    readonly: bool = False,
    plugins: Sequence[str] = (),
    low_bandwidth: bool = False,
) -> int:
    """Run the terminal UI until it is left. Returns the exit code of the run if it has ended, 1 if its hub died, else 0.

    plugins: the files given as `--plugin`, for texts that a plug-in's dataset has given.
    """
    from plt_tui.cli.files import run_files
    from plt_tui.cli.person import at_terminal
    from plt_tui.views.tui.app import LeaveChoice, RunApp

    actor = f"tui {user_at_host()}"
    with at_terminal() as person:
        ui = person.settings.over(config.ui)
        app = RunApp(
            lambda: connect(actor),
            name=folder.name,
            ui=ui.model_copy(update={"low_bandwidth": True}) if low_bandwidth else ui,
            config=config,
            readonly=readonly,
            actor=actor,
            files=run_files(folder, plugins),
            person=person,
        )
        choice = app.run()
    if app.return_code:  # a signal, or the loss of the terminal, ended the view, not the run
        if app.return_code in (EXIT_SIGINT, EXIT_SIGTERM) and not app.model.state.is_over:
            echo(f"{folder.name} goes on; see it again: plt-tui attach {folder.name}")
        return app.return_code
    if choice in (LeaveChoice.STOP, LeaveChoice.STOP_NOW):
        return _wait_for_end(folder)
    end = app.model.state.end
    if end is not None:
        echo(f"{folder.name}: {end.phase} at step {end.step} ({end.reason})")
        return exit_code_of(end.exit_code)
    if app.model.state.is_over:
        echo(f"{folder.name}: {app.model.state.phase} at step {app.model.state.step} ({app.model.state.reason})")
        return HubUnreachable.exit_code
    if choice is LeaveChoice.DETACH and not readonly:
        echo(f"{folder.name} goes on; see it again: plt-tui attach {folder.name}")
    return 0


def exit_code_of(run_exit_code: int) -> int:
    """A view's exit code: a stop that somebody asked for is no failure of the view."""
    return 0 if run_exit_code == EXIT_SIGTERM else run_exit_code


def user_at_host() -> str:
    """Who is at this terminal, for the journal."""
    import getpass

    from plt_tui.control.folder import host_name

    return f"{getpass.getuser()}@{host_name()}"


def _wait_for_end(folder: RunFolder) -> int:
    """Follow the last words of a run that was told to stop."""

    async def follow() -> int:
        from plt_tui.protocol.events import Checkpoint, End

        last = "there is no checkpoint"
        source = await source_of(folder, "attach", readonly=True)
        async for event in source.events():
            if isinstance(event, End):
                echo(f"{folder.name}: {event.phase} at step {event.step} ({event.reason})")
                return exit_code_of(event.exit_code)
            if isinstance(event, Checkpoint):
                last = f"last checkpoint: {event.path}"
        echo(f"{folder.name}: the hub went away; {last}")
        return 1

    echo(f"{folder.name}: saving and stopping ...")
    return asyncio.run(follow())

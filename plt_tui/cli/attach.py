"""`plt-tui attach`: the UI on a live run, or read-only on a finished one, here or elsewhere; lines where there is no terminal.

Opens what a view needs and prints what it leaves to say. Invariant: of a run that is elsewhere nothing is said that only its
machine can know.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plt_tui.cli.echo import echo
from plt_tui.errors import EXIT_SIGINT, EXIT_SIGTERM, HubUnreachable, UsageError

if TYPE_CHECKING:
    from types import FrameType

    from plt_tui.config.schema import RunConfig
    from plt_tui.control.folder import RunFolder
    from plt_tui.control.state import RunState
    from plt_tui.protocol.events import Event
    from plt_tui.views.files import RunFiles
    from plt_tui.views.remote import Link
    from plt_tui.views.source import Elsewhere, Source

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A run as the UI needs it, wherever its folder is."""

    name: str
    config: RunConfig
    connect: Connect
    files: RunFiles
    readonly: bool = False
    reopen: Callable[[], Awaitable[Source]] | None = None
    """Opens the run once more for its last words, when it was told to stop; None where they come by `connect` or not at all."""
    elsewhere: Elsewhere | None = None
    """The machine that it is on; None: this one."""

    @property
    def again(self) -> str:
        """What `plt-tui attach` takes to show it once more."""
        return self.elsewhere.again if self.elsewhere is not None else self.name


def attach(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run, also ssh://[user@]host[:port]/RUN; left out: the newest.")
    ] = None,
    readonly: Annotated[bool, typer.Option("--readonly", help="Watch only.")] = False,
    directory: DirOption = DEFAULT_DIR,
    low_bandwidth: LowBandwidthOption = False,
    remote_command: Annotated[
        str | None, typer.Option("--remote-command", help="With ssh://: plt-tui there, such as ~/venv/bin/plt-tui.")
    ] = None,
    stdio: Annotated[
        bool, typer.Option("--stdio", help="Pass the run on over stdin and stdout: what attach ssh:// starts there.")
    ] = False,
) -> None:
    """Open the UI on a live run, or on a finished one.

    Without a terminal: the run in lines until it ends.
    """
    from plt_tui.cli.stdio import serve_stdio
    from plt_tui.control.folder import find_run
    from plt_tui.views.address import is_remote

    is_away = run is not None and is_remote(run)
    if stdio and (is_away or low_bandwidth):
        raise UsageError(f"--stdio goes with a run on this machine, not with {'ssh://' if is_away else '--low-bandwidth'}")
    if remote_command is not None and not is_away:
        raise UsageError("--remote-command goes with a run on another machine: plt-tui attach ssh://HOST/RUN")
    readonly = readonly or not (stdio or can_draw())  # lines steer nothing
    if run is not None and is_away:
        raise typer.Exit(_attach_elsewhere(run, remote_command, directory, readonly=readonly, low_bandwidth=low_bandwidth))
    folder = find_run(directory, run) if run is not None else newest_run(directory)
    if stdio:
        serve_stdio(folder, readonly=readonly)
    else:
        raise typer.Exit(open_view(watched(folder, readonly=readonly), low_bandwidth=low_bandwidth))


def watched(
    folder: RunFolder, *, readonly: bool = False, connect: Connect | None = None, plugins: Sequence[str] = ()
) -> Watched:
    """The run in `folder`. `connect`: where its hub is not found as any other.

    plugins: the files given as `--plugin`, for texts that a plug-in's dataset has given.
    """
    from plt_tui.cli.files import run_files
    from plt_tui.config.load import from_toml
    from plt_tui.config.sources import read_text

    async def connect_as_any(actor: str) -> Source:
        return await source_of(folder, actor, readonly=readonly)

    async def reopen() -> Source:
        return await source_of(folder, "attach", readonly=True)

    return Watched(
        name=folder.name,
        config=from_toml(read_text(folder.config)),
        connect=connect or connect_as_any,
        files=run_files(folder, plugins),
        readonly=connect is None and (readonly or not folder.is_live()),
        reopen=reopen,
    )


def _attach_elsewhere(target: str, remote_command: str | None, directory: Path, *, readonly: bool, low_bandwidth: bool) -> int:
    """The view of a run on another machine; ssh asks for what it needs before that is open. Returns the exit code."""
    from plt_tui.config.settings import read_settings
    from plt_tui.views.address import DEFAULT_COMMAND, elsewhere, parse
    from plt_tui.views.remote import dial

    def tell(line: str) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone; that is found out elsewhere
            echo(line, err=True)

    address = parse(target)
    command = remote_command or read_settings(os.environ).remote_command(address.host) or DEFAULT_COMMAND
    folder = str(directory) if directory != DEFAULT_DIR else ""
    given = (("--dir", folder), ("--remote-command", remote_command or ""))
    options = shlex.join([word for option, value in given if value for word in (option, value)])
    with _ended_by_signals():
        actor = f"tui {user_at_host()}"
        link = dial(address, actor, command=command, readonly=readonly, directory=folder, tell=tell)
        with contextlib.closing(link):
            return open_view(_watched_elsewhere(link, elsewhere(address, command, options)), low_bandwidth=low_bandwidth)


def _watched_elsewhere(link: Link, place: Elsewhere) -> Watched:
    from functools import partial

    from plt_tui.cli.keep import keep, save_as
    from plt_tui.views.files import RunFiles, StepTexts, Tell

    def last_words(_: RunState, __: int, ___: bool) -> None:
        if not link.goes_on:
            raise HubUnreachable(f"whether the run goes on is known there: plt-tui attach {place.again}")

    def texts(step: int, branch: int, _: Tell) -> StepTexts:
        command = f"plt-tui show {link.name} --batch {step}" + (f" --branch {branch}" if branch else "")
        raise UsageError(f"what a step trained on is read from files on {place.host}: {place.typed(command)}")

    async def connect(_: str) -> Source:
        return await link.source()

    files = RunFiles(last_words=last_words, texts=texts, keep=partial(keep, Path()), save_as=save_as)
    return Watched(name=link.name, config=link.config, connect=connect, files=files, readonly=link.readonly, elsewhere=place)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Leave in good order by a signal that no view hears, also one that is not open yet: ssh must not be left behind."""

    def leave(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    numbers = [
        number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def newest_run(directory: Path) -> RunFolder:
    """The newest live run, else the newest one. Raises: UsageError when there is none."""
    from plt_tui.control.folder import list_runs

    runs = list_runs(directory)
    if not runs:
        raise UsageError(f"no runs under {directory}; start one: plt-tui run")
    return next((folder for folder in runs if folder.is_live()), runs[0])


async def source_of(folder: RunFolder, actor: str, *, readonly: bool) -> Source:
    """A live run's hub, or the record of a run that has ended, also of one whose hub dies at this moment."""
    from plt_tui.client.opening import hub_of
    from plt_tui.views.source import RecordSource

    hub = await hub_of(folder, actor, readonly=readonly)
    if hub is not None:
        return hub
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
    from plt_tui.client import opening

    return await opening.live_socket(folder)


def open_view(run: Watched, *, low_bandwidth: bool = False) -> int:
    """The terminal UI, or where there is no terminal the run in lines. Returns the exit code."""
    return open_ui(run, low_bandwidth=low_bandwidth) if can_draw() else follow(run)


def can_draw() -> bool:
    """True where the UI has a terminal, or was given a driver that needs none, as in a tab of `plt-tui web`."""
    return "TEXTUAL_DRIVER" in os.environ or (sys.stdin.isatty() and sys.stdout.isatty())


def follow(run: Watched) -> int:
    """Print what the run does until it ends. Returns its exit code. Raises: HubUnreachable for a hub that is gone."""
    from plt_tui.views.console import follow_plain, follow_progress
    from plt_tui.views.source import RecordSource

    follow_in_lines = follow_progress if sys.stdout.isatty() else follow_plain
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a sample may hold what this terminal cannot show

    async def watch() -> int:
        source = await run.connect(f"console {user_at_host()}")
        try:
            end = await follow_in_lines(source, sys.stdout)
        finally:
            await source.close()
        if end is not None:
            return exit_code_of(end.exit_code)
        if isinstance(source, RecordSource):  # of a run whose hub died, as its last line has said
            return HubUnreachable.exit_code
        raise HubUnreachable(f"the hub of {run.name} is gone without a word; what became of it: plt-tui attach {run.again}")

    try:
        return asyncio.run(watch())
    except KeyboardInterrupt:
        echo(f"{run.name} goes on; see it again: plt-tui attach {run.again}", err=True)
        return EXIT_SIGINT


def open_ui(run: Watched, *, low_bandwidth: bool = False) -> int:
    """Run the terminal UI until it is left. Returns the exit code of the run if it has ended, 1 if its hub died, else 0."""
    from plt_tui.cli.person import at_terminal
    from plt_tui.views.tui.app import LeaveChoice, RunApp

    actor = f"tui {user_at_host()}"
    with at_terminal() as person:
        ui = person.settings.over(run.config.ui)
        app = RunApp(
            lambda: run.connect(actor),
            name=run.name,
            ui=ui.model_copy(update={"low_bandwidth": True}) if low_bandwidth else ui,
            config=run.config,
            readonly=run.readonly,
            actor=actor,
            files=run.files,
            elsewhere=run.elsewhere,
            person=person,
        )
        choice = app.run()
    state, is_lost = app.model.state, run.elsewhere is not None and bool(app.trouble)
    if app.return_code:  # a signal, or the loss of the terminal, ended the view, not the run
        if app.return_code in (EXIT_SIGINT, EXIT_SIGTERM) and not state.is_over and not is_lost:
            echo(f"{run.name} goes on; see it again: plt-tui attach {run.again}")
        return app.return_code
    if choice in (LeaveChoice.STOP, LeaveChoice.STOP_NOW) and run.reopen is not None:
        return _wait_for_end(run.name, run.reopen)
    if state.end is not None:
        echo(f"{run.name}: {state.end.phase} at step {state.end.step} ({state.end.reason})")
        return exit_code_of(state.end.exit_code)
    if state.is_over:
        echo(f"{run.name}: {state.phase} at step {state.step} ({state.reason})")
        return HubUnreachable.exit_code
    if is_lost:
        echo(f"{run.name}: {app.trouble}")
        return HubUnreachable.exit_code
    if choice is LeaveChoice.DETACH and not run.readonly:
        echo(f"{run.name} goes on; see it again: plt-tui attach {run.again}")
    return 0


def exit_code_of(run_exit_code: int) -> int:
    """A view's exit code: a stop that somebody asked for is no failure of the view."""
    return 0 if run_exit_code == EXIT_SIGTERM else run_exit_code


def user_at_host() -> str:
    """Who is at this terminal, for the journal."""
    import getpass

    from plt_tui.control.folder import host_name

    return f"{getpass.getuser()}@{host_name()}"


def _wait_for_end(name: str, reopen: Callable[[], Awaitable[Source]]) -> int:
    """Follow the last words of a run that was told to stop."""

    async def follow() -> int:
        from plt_tui.protocol.events import Checkpoint, End

        last = "there is no checkpoint"
        source = await reopen()
        async for event in source.events():
            if isinstance(event, End):
                echo(f"{name}: {event.phase} at step {event.step} ({event.reason})")
                return exit_code_of(event.exit_code)
            if isinstance(event, Checkpoint):
                last = f"last checkpoint: {event.path}"
        echo(f"{name}: the hub went away; {last}")
        return 1

    echo(f"{name}: saving and stopping ...")
    return asyncio.run(follow())

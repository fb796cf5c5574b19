"""How a prepared run is launched: in the foreground with a console, in the background, or in the background under the UI.

Knows no options. Invariant: whoever launches a run ends with the run's exit code, or says how to get back to it.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plt_tui.cli.echo import drop_stdout, echo
from plt_tui.errors import EXIT_SIGINT, EXIT_SIGTERM, PltTuiError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from plt_tui.config.load import LoadedConfig
    from plt_tui.control.folder import RunFolder
    from plt_tui.protocol.events import End


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A run folder that is ours, with its configuration written."""

    folder: RunFolder
    loaded: LoadedConfig
    resume: str
    plugins: tuple[str, ...]
    locks: tuple[int, ...]
    """Descriptors that hold the run for as long as they are open."""


def in_foreground(prepared: Prepared, *, as_json: bool) -> int:
    """The hub in this process, with a console as its client."""
    import asyncio

    from plt_tui.cli.hub import ignore_stops, serve_run
    from plt_tui.server.door import GOODBYE_S
    from plt_tui.views.client import HubClient
    from plt_tui.views.console import follow_json, follow_plain, follow_progress

    follow = follow_json if as_json else follow_progress if sys.stdout.isatty() else follow_plain
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a sample may hold what this terminal cannot show

    async def watch(socket_path: Path) -> End | None:
        try:
            _tell_where_served(prepared, err=as_json)
            client = await HubClient.connect(socket_path, actor="console", readonly=True)
            try:
                return await follow(client, sys.stdout)
            finally:
                await client.close()
        except PltTuiError:  # the hub has gone before it was heard to the end: who runs it tells why
            return None
        except OSError:  # nobody reads stdout any more, `| head` or a closed terminal: the run has its own exit code
            drop_stdout()
            return None

    async def session(view: ThreadPoolExecutor) -> int:
        """The view has a thread and a loop of its own: a reader that stops reading stdout must not stop the hub."""
        watching: list[Future[End | None]] = []

        async def on_open(socket_path: Path) -> None:
            watching.append(view.submit(lambda: asyncio.run(watch(socket_path))))

        late_stop = asyncio.Event()
        exit_code = await serve_run(
            prepared.folder,
            prepared.loaded.config,
            resume=prepared.resume,
            plugins=prepared.plugins,
            on_open=on_open,
            late_stop=late_stop,
        )
        if exit_code in (EXIT_SIGINT, EXIT_SIGTERM):
            late_stop.set()
        reading = asyncio.wrap_future(watching[0])
        reading.add_done_callback(lambda _: late_stop.set())
        await late_stop.wait()
        try:
            end = await asyncio.wait_for(reading, GOODBYE_S)
        except asyncio.TimeoutError:
            os._exit(exit_code)  # told to end, and nobody reads stdout: the thread that waits for that cannot be ended
        ignore_stops()
        if as_json and end is not None and exit_code != 0:
            with contextlib.suppress(OSError):
                echo(f"plt-tui: {end.reason}", err=True)
        return exit_code

    with ThreadPoolExecutor(max_workers=1) as view:
        return asyncio.run(session(view))


def detached(prepared: Prepared) -> int:
    """`start_detached`, told on stdout."""
    pid, name = start_detached(prepared), prepared.folder.name
    told = [f"{name} trains in the background (pid {pid})", f"watch it: plt-tui attach {name}", served_at(prepared)]
    echo("\n".join(filter(None, told)))
    return 0


def _tell_where_served(prepared: Prepared, *, err: bool) -> None:
    if served := served_at(prepared):
        echo(served, err=err)


def served_at(prepared: Prepared) -> str:
    """Where the live run is served over HTTP, in words; empty: nowhere."""
    from plt_tui.cli.hub import where_served

    info = prepared.folder.read_info()
    url = info.metrics_url if info is not None else ""
    return where_served(prepared.folder, prepared.loaded.config, url) if url else ""


def start_detached(prepared: Prepared) -> int:
    """The hub in a process and a session of its own; returns its pid once it answers.

    Raises: what the hub died of, or HubUnreachable.
    """
    import asyncio

    from plt_tui.cli.hub import start_process, wait_for_socket

    process = start_process(prepared.folder, resume=prepared.resume, locks=prepared.locks, plugins=prepared.plugins)
    with _stops_passed_on(process):
        asyncio.run(wait_for_socket(prepared.folder, process))
    return process.pid


def with_ui(prepared: Prepared, *, low_bandwidth: bool = False) -> int:
    """The same, and the terminal UI as its client; returns when the UI was left."""
    from plt_tui.cli.attach import open_ui, watched
    from plt_tui.cli.hub import start_process, wait_for_socket
    from plt_tui.views.client import HubClient

    process = start_process(prepared.folder, resume=prepared.resume, locks=prepared.locks, plugins=prepared.plugins)

    async def connect(actor: str) -> HubClient:
        return await HubClient.connect(await wait_for_socket(prepared.folder, process), actor=actor)

    with _stops_passed_on(process):
        return open_ui(watched(prepared.folder, connect=connect, plugins=prepared.plugins), low_bandwidth=low_bandwidth)


@contextlib.contextmanager
def _stops_passed_on(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """A stop of who starts a run is one of the run: nothing trains on that nobody was told of.

    Until the UI is open, which hears signals for itself, and while it waits for the end of a run.
    """
    try:
        yield
    except SystemExit as stop:  # of `end_on_signals`
        process.send_signal(signal.SIGINT if stop.code == EXIT_SIGINT else signal.SIGTERM)
        exit_code = process.wait()
        sys.exit(exit_code if exit_code > 0 else stop.code)

"""`plt-tui web`: the UI of a run for browsers on this machine, each tab an `attach` in a process of its own.

Serves nothing itself. Invariant: the token is printed once and stands nowhere else. So a browser that is opened from here is
sent to the page without it, which asks for it: its arguments can be read by all on this machine.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from plt_tui.cli.attach import DEFAULT_DIR, DirOption, newest_run
from plt_tui.cli.echo import echo

if TYPE_CHECKING:
    from pathlib import Path

    from plt_tui.web.server import WebServer

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def web(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run; left out: the newest.")] = None,
    control: Annotated[bool, typer.Option("--control", help="Let the browser steer the run, not only watch it.")] = False,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port on 127.0.0.1; 0: any that is free.")] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Open no browser.")] = False,
    directory: DirOption = DEFAULT_DIR,
) -> None:
    """Serve the UI of a run to browsers on this machine, until Ctrl-C; the run is none the wiser."""
    from plt_tui.control.folder import find_run
    from plt_tui.web.assets import load
    from plt_tui.web.server import Show, WebServer

    assets = load()
    folder = find_run(directory, run) if run is not None else newest_run(directory)
    show = Show(name=folder.name, is_steering=control, command=view_command(folder.path, is_steering=control))

    async def serve() -> int:
        server = WebServer(show, assets)
        await server.listen(port)
        try:
            _tell(server, folder.name, is_steering=control)
            if not no_open and has_screen(os.environ, sys.platform):
                open_browser(server.url)
            return await _first_signal()
        finally:
            await server.close()

    raise typer.Exit(128 + asyncio.run(serve()))


def view_command(folder: Path, *, is_steering: bool) -> Sequence[str]:
    """What opens the view of a tab. The hub refuses whatever a read-only one asks for."""
    from plt_tui.control.interpreter import module_command

    return [*module_command("plt_tui"), "attach", str(folder), *([] if is_steering else ["--readonly"])]


def has_screen(environ: Mapping[str, str], platform: str) -> bool:
    """True when a browser would open before the person, and neither in this terminal nor on another machine's screen."""
    return "SSH_CONNECTION" not in environ and (platform == "darwin" or bool({"DISPLAY", "WAYLAND_DISPLAY"} & environ.keys()))


def open_browser(url: str) -> None:
    """Show `url` to the person. In a thread that is not waited for: some browsers stay until they are closed."""
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(url,), name="browser", daemon=True).start()


def _tell(server: WebServer, name: str, *, is_steering: bool) -> None:
    may = "watching and steering" if is_steering else "watching only; --control lets it steer"
    echo(f"{name} in a browser ({may}):\n{server.url}#token={server.token}")
    echo("Whoever has this address can do so too, from this machine. Ctrl-C ends it; the run goes on.", err=True)


async def _first_signal() -> int:
    """Wait for a signal that ends the server; those that whoever started it has switched off (nohup) do not."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[int] = loop.create_future()

    def tell(number: int) -> None:
        if not told.done():
            told.set_result(number)

    heeded = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    for number in heeded:
        loop.add_signal_handler(number, tell, number)
    try:
        return await told
    finally:
        for number in heeded:
            loop.remove_signal_handler(number)  # the next one ends the process at once

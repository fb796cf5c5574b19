"""The hub's process, which `start_process` starts, and the same hub in the foreground for a headless run.

Puts the parts together: hub, doors, gauges, signals. Imported again by every rank (multiprocessing's spawn), so nothing heavy
at the top. Invariant: the run's locks are held, by inherited descriptors or our own, for as long as this process lives.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plt_tui.errors import STOP_EXIT_CODES, HubUnreachable, PltTuiError, StorageError, by_exit_code

if TYPE_CHECKING:
    import subprocess

    from plt_tui.config.schema import RunConfig
    from plt_tui.control.folder import RunFolder
    from plt_tui.control.gauges import GaugeReader
    from plt_tui.control.hub import Hub
    from plt_tui.protocol.events import Gauges
    from plt_tui.server.audience import Audience

_logger = logging.getLogger(__name__)

OnOpen = Callable[[Path], Awaitable[None]]
"""Called with the socket's path once the doors are open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Where the HTTP server is, empty: nowhere; and what is wrong with that, empty: nothing."""

    url: str = ""
    problem: str = ""


async def serve_run(
    folder: RunFolder,
    config: RunConfig,
    *,
    resume: str,
    plugins: Sequence[str] = (),
    entry: str | None = None,
    on_open: OnOpen | None = None,
    late_stop: asyncio.Event | None = None,
) -> int:
    """Run the hub of `folder` to its end, with its doors open. The caller holds the run's lock. Returns the exit code.

    late_stop: set when whoever waits for something after the run's end must not any more: by a stop that comes then, or when
    the grace time of an earlier one is over.
    """
    from plt_tui.control.gauges import usable_cores, visible_gpus
    from plt_tui.control.hub import Hub
    from plt_tui.control.options import TRAINING_ENTRY, HubOptions
    from plt_tui.control.placement import place
    from plt_tui.protocol.events import Alert
    from plt_tui.protocol.manifest import chosen_step
    from plt_tui.server.audience import Audience
    from plt_tui.server.unix import serve_unix

    placement = place(config.parallel, usable_cores(), visible_gpus())
    options = HubOptions(
        placement=placement,
        resume=resume,
        resume_step=chosen_step(resume),
        plugins=tuple(plugins),
        entry=entry or TRAINING_ENTRY,
    )
    hub = Hub(folder, config, options)
    audience = Audience(hub.feed)
    socket_path = folder.socket_path()
    async with contextlib.AsyncExitStack() as doors:
        doors.push_async_callback((await serve_unix(hub, socket_path, audience=audience)).close)
        served = await _open_http(hub, audience, folder, config, doors)
        late_stop = late_stop or asyncio.Event()
        _open_webhook(hub, folder, config, doors, late_stop)
        session = asyncio.ensure_future(hub.run())
        _install_signals(hub, session, late_stop, config.control.grace_s)
        await asyncio.sleep(0)  # the first lines of `run` are said here, before what comes now is heard
        if served.problem:
            hub.publish(Alert(topic="metrics", text=served.problem))
        _tell_where(hub, folder, config, served)
        _open_exports(hub, folder, config, plugins, doors, late_stop)
        doors.callback(_read_machine(hub, folder, config).stop)
        hub.update_info(socket=str(socket_path), metrics_url=served.url)
        if on_open is not None:
            await on_open(socket_path)
        return await session


async def _open_http(
    hub: Hub, audience: Audience, folder: RunFolder, config: RunConfig, doors: contextlib.AsyncExitStack
) -> Served:
    """Serve over HTTP if the run's owner wants it, with a token of this hub's own where one is needed."""
    from plt_tui.server.token import drop_token, new_token

    metrics = config.metrics
    drop_token(folder)  # of a hub that was killed
    if not metrics.serve:
        return Served()
    from plt_tui.server.http import serve_http  # slow to import, and the ranks would wait for it

    try:
        token = new_token(folder) if metrics.needs_token else ""
    except StorageError as error:
        return Served(problem=f"{error}; metrics are not served")
    doors.callback(drop_token, folder)
    http = await serve_http(hub, metrics.address, name=folder.name, token=token, control=metrics.control, audience=audience)
    doors.push_async_callback(http.close)
    if not http.url:
        drop_token(folder)  # it would open nothing, and must not be sent to whoever listens there instead
    return Served(url=http.url, problem=http.problem)


def _tell_where(hub: Hub, folder: RunFolder, config: RunConfig, served: Served) -> None:
    """A line of the hub's log about the HTTP server, for whoever looks for it."""
    from plt_tui.protocol.events import Logs

    if served.url:
        now = time.time()
        hub.feed.publish(Logs(time=now, lines=[[now, "hub", "INFO", where_served(folder, config, served.url)]]))


def where_served(folder: RunFolder, config: RunConfig, url: str) -> str:
    """Where a browser or a program finds the run, and what it needs for it, in words."""
    from plt_tui.protocol.text import safe_line

    does = "shows this run and takes commands" if config.metrics.control else "shows this run, read-only,"
    who = f"for who has the token in {folder.http_token}" if config.metrics.needs_token else "to everybody on this machine"
    return safe_line(f"{url} {does} {who}")


def _read_machine(hub: Hub, folder: RunFolder, config: RunConfig) -> GaugeReader:
    """Tell the hub of the machine's gauges from now on."""
    from plt_tui.config.past import checkpoint_root
    from plt_tui.control.cgroup import container
    from plt_tui.control.gauges import GaugeReader, Sensors

    loop = asyncio.get_running_loop()

    def show(event: Gauges) -> None:
        loop.call_soon_threadsafe(hub.on_gauges, event)

    disk, kind = checkpoint_root(config, folder.path), container(Path("/"), os.environ)
    gauges = GaugeReader(show, sensors=Sensors(visible=os.environ.get("CUDA_VISIBLE_DEVICES"), disk=disk, container=kind))
    gauges.start()
    return gauges


def _open_webhook(
    hub: Hub, folder: RunFolder, config: RunConfig, doors: contextlib.AsyncExitStack, late_stop: asyncio.Event
) -> None:
    """Post alerts where the run's owner wants them, if anywhere; what cannot be delivered is a line of the hub's log."""
    from plt_tui.control.folder import host_name
    from plt_tui.control.secrets import kept_webhook
    from plt_tui.server.webhook import Webhook

    url = kept_webhook(folder)
    if not url:
        return
    webhook = Webhook(url, config.alerts, name=folder.name, host=host_name(), say=lambda text: _say(hub, text))
    webhook.follow(hub.feed)
    doors.push_async_callback(webhook.close, late_stop)


def _open_exports(
    hub: Hub,
    folder: RunFolder,
    config: RunConfig,
    plugins: Sequence[str],
    doors: contextlib.AsyncExitStack,
    late_stop: asyncio.Event,
) -> None:
    """Copy the run into the tools that its owner wants it in, if any. The doors stay open until they have finished."""
    from plt_tui.control.exports import Exports

    if not config.export.to:
        return
    project = config.export.project
    exports = Exports(hub, folder, config.export.to, say=lambda text: _say(hub, text), project=project, plugins=plugins)
    exports.start()
    doors.push_async_callback(exports.close, late_stop)


def _say(hub: Hub, text: str) -> None:
    """A warning in the hub's log and in every view, where none can be recorded."""
    from plt_tui.protocol.events import Logs

    now = time.time()
    _logger.warning("%s", text)
    hub.feed.publish(Logs(time=now, lines=[[now, "hub", "WARNING", text]]))


def end_on_signals() -> None:
    """Until there is a hub that could save: a stop ends this process at once, with a stop's exit code and no traceback."""

    def end(number: int, _: object) -> None:
        sys.exit(STOP_EXIT_CODES[signal.Signals(number)])

    for number in STOP_EXIT_CODES:
        signal.signal(number, end)


def ignore_stops() -> None:
    """To the end of this process: all is over and said, and the exit code must be the one in the record.

    In the event loop, which would leave the signals to the system when it is closed, and that would kill this process.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_EXIT_CODES)
    for number in STOP_EXIT_CODES:
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_EXIT_CODES)


def _install_signals(hub: Hub, session: asyncio.Future[int], late_stop: asyncio.Event, grace_s: float) -> None:
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        if session.done():
            late_stop.set()
        else:
            loop.call_later(grace_s, late_stop.set)  # saving and what comes after it share one time: then a scheduler kills
            hub.stop_by_signal(number)

    for number in STOP_EXIT_CODES:
        loop.add_signal_handler(number, stop, number)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def start_process(
    folder: RunFolder, *, resume: str, locks: Sequence[int], plugins: Sequence[str] = (), entry: str | None = None
) -> subprocess.Popen[bytes]:
    """Start the hub in a session of its own and hand it the locks: it outlives this process and its terminal."""
    import subprocess

    from plt_tui.control.interpreter import module_command

    command = [*module_command("plt_tui.cli.hub"), str(folder.path), "--resume", resume]
    command += [f"--lock={lock}" for lock in locks]
    command += [f"--plugin={path}" for path in plugins]
    if entry is not None:
        command += ["--entry", entry]
    descriptor = os.open(folder.logs / "hub.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=descriptor, stderr=descriptor, pass_fds=locks, start_new_session=True
        )
    finally:
        os.close(descriptor)
        for lock in locks:
            os.close(lock)


async def wait_for_socket(folder: RunFolder, process: subprocess.Popen[bytes]) -> Path:
    """The socket of the hub that `process` is becoming. Raises: what that process died of, or HubUnreachable."""
    from plt_tui.client.opening import START_PATIENCE_S
    from plt_tui.control.logs import last_lines

    give_up_at = time.monotonic() + START_PATIENCE_S
    while time.monotonic() < give_up_at:
        info = folder.read_info()
        if info is not None and info.pid == process.pid and info.socket:
            return Path(info.socket)
        exit_code = process.poll()
        if exit_code is not None:
            said = " ".join(last_lines(folder.logs / "hub.log", 1)).removeprefix("plt-tui: ")
            raise by_exit_code(exit_code, said or f"the hub ended with exit code {exit_code}; see {folder.logs / 'hub.log'}")
        await asyncio.sleep(0.02)
    raise HubUnreachable(f"the hub did not open its socket within {START_PATIENCE_S:g} s; see {folder.logs / 'hub.log'}")


def main() -> int:
    """Body of the hub's process."""
    end_on_signals()
    parser = argparse.ArgumentParser(prog="plt_tui.cli.hub")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--resume", default="auto")
    parser.add_argument("--lock", type=int, action="append", default=[], help="descriptor of a lock of the run, inherited")
    parser.add_argument("--plugin", action="append", default=[], help="absolute path of a plug-in's file")
    parser.add_argument("--entry", default=None)
    arguments = parser.parse_args()

    from plt_tui.config.load import from_toml
    from plt_tui.control.folder import RunFolder

    for lock in arguments.lock:
        os.set_inheritable(lock, False)
    folder = RunFolder(arguments.run_dir)
    try:
        config = from_toml(folder.config.read_text())
        return asyncio.run(_session(folder, config, arguments))
    except PltTuiError as error:
        print(f"plt-tui: {error}", file=sys.stderr)  # noqa: T201  (goes to logs/hub.log)
        return error.exit_code


async def _session(folder: RunFolder, config: RunConfig, arguments: argparse.Namespace) -> int:
    exit_code = await serve_run(folder, config, resume=arguments.resume, plugins=arguments.plugin, entry=arguments.entry)
    ignore_stops()
    return exit_code


if __name__ == "__main__":
    sys.exit(main())

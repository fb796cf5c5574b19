"""Every test cleans up after itself, and none touches the caches, sockets and settings of the person who runs it.

`make test` runs three processes of pytest-xdist side by side. Most tests that start real ranks or measure time go to one of
them, one after another, so that they have the machine to themselves but for the other processes, which give way.
"""

from __future__ import annotations

import errno
import functools
import gc
import multiprocessing.resource_tracker
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path

import hypothesis
import psutil
import pytest

hypothesis.settings.register_profile("plt-tui", deadline=None)  # machines that run tests are busy
hypothesis.settings.load_profile("plt-tui")

PATIENCE_S = 30.0
"""How long what a test started may take to go away after it."""
POLL_S = 0.01
MARK = "PLT_TUI_CACHE"
"""Set to a folder of this session, and inherited by everything that tests start: so detached processes are found again."""

GROUPS = {
    "end_to_end": "ranks",
    **dict.fromkeys(("exporters", "client", "web"), "doors"),
    **dict.fromkeys(("training", "control", "server", "protocol"), "timed"),
}
"""Folders of tests that start processes, or see how long something takes, and the group that they are in."""
ORDER = ("ranks", "doors", "timed")
"""Groups that are begun first, as they take longest."""
DOORS = ("test_client", "test_exporters", "test_http_control", "test_metrics_server", "test_page", "test_remote", "test_web")
"""Of `end_to_end` what is in the second group instead: it waits for clients more than for ranks."""
PICTURES = ("test_snapshots", "test_snapshots_runs")
"""In the first group too: `Pilot.pause` takes a process that gets no time for one that has nothing to do."""
POLITENESS = 5
"""Nice value of the others: a quarter of a core beside a rank that wants all of it."""

pytest.register_assert_rewrite("tests.end_to_end.invariants", "tests.end_to_end.runs")

_HAS_BEGUN = pytest.StashKey[bool]()

Thing = psutil.Process | Path | None
"""A process, a socket's file, or something with no handle of use here."""


def pytest_configure() -> None:
    """A shell's `&` and `nohup` have their processes ignore signals that tests send; what tests start would inherit that."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """No garbage is looked for among modules and tests: they stay, and looking takes a third of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in this hook too
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The groups of GROUPS stay together and come first; any other file of tests is a group of its own."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item.path)))
    items.sort(key=lambda item: [*ORDER, _group(item.path)].index(_group(item.path)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A process of xdist that does not begin with the ranks gives way to the one that does."""
    if _HAS_BEGUN not in item.session.stash:
        item.session.stash[_HAS_BEGUN] = True
        if "PYTEST_XDIST_WORKER" in os.environ and _group(item.path) != "ranks":
            os.nice(POLITENESS)


@functools.cache
def _group(path: Path) -> str:
    folder = path.relative_to(Path(__file__).parent).parts[0]
    if path.stem in PICTURES:
        return "ranks"
    return "doors" if folder == "end_to_end" and path.stem in DOORS else GROUPS.get(folder, path.stem)


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Caches go to a folder of this session, sockets to another one with a short path (a socket's has 107 bytes at most)."""
    sockets = Path(tempfile.mkdtemp(prefix="plt-tui-test-"))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(MARK, str(tmp_path_factory.mktemp("cache")))
        environment.setenv("XDG_RUNTIME_DIR", str(sockets))
        for size in ("COLUMNS", "LINES"):  # xdist sets them, and they would go before the size of a test's own terminal
            environment.delenv(size, raising=False)
        _live_in(environment, tmp_path_factory.mktemp("home"))  # for what modules and sessions start, before any test
        yield sockets
    shutil.rmtree(sockets)


@pytest.fixture(autouse=True)
def own_home(own_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Settings (`config`) and what is remembered (`state`) are those of a person who is new with each test; both are empty."""
    home = Path(tempfile.mkdtemp(prefix="home-", dir=tmp_path_factory.getbasetemp()))
    with pytest.MonkeyPatch.context() as environment:
        _live_in(environment, home)
        yield home


@pytest.fixture(autouse=True)
def nothing_left_behind(own_folders: Path) -> Iterator[None]:
    """Fails a test that leaves a child process, a non-daemon thread or an open socket behind."""
    before = _things(own_folders).keys()
    yield
    _fail_if_left(
        lambda: {name: thing for name, thing in _things(own_folders).items() if name not in before and _is_live(thing)}
    )


@pytest.fixture(scope="module", autouse=True)
def no_detached_process_left_behind(own_folders: Path) -> Iterator[None]:
    """Fails a module whose tests leave a process behind that is no child any more, such as a detached hub."""
    yield
    _fail_if_left(_marked_processes)


def _live_in(environment: pytest.MonkeyPatch, home: Path) -> None:
    environment.setenv("XDG_CONFIG_HOME", str(home / "config"))
    environment.setenv("XDG_STATE_HOME", str(home / "state"))


def _fail_if_left(left: Callable[[], dict[str, Thing]]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while things := left():
        if time.monotonic() > deadline:
            for thing in things.values():
                if isinstance(thing, psutil.Process):
                    with suppress(psutil.NoSuchProcess):
                        thing.kill()
            pytest.fail(f"left behind: {', '.join(sorted(things))}")
        time.sleep(POLL_S)


def _is_live(thing: Thing) -> bool:
    """False for the socket file of a process that was killed: only the next owner can remove it."""
    if not isinstance(thing, Path):
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        return client.connect_ex(str(thing)) not in (errno.ECONNREFUSED, errno.ENOENT)


def _things(sockets: Path) -> dict[str, Thing]:
    """What this process has going, by a name for people."""
    process = psutil.Process()
    found: dict[str, Thing] = {name: child for child in process.children(recursive=True) if (name := _name(child))}
    threads = [f"thread {thread.name}" for thread in threading.enumerate() if not thread.daemon]
    listening = [
        f"socket {connection.laddr}"
        for connection in process.net_connections("all")
        if connection.laddr and connection.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)
    ]
    files = {f"file {path}": path for path in sockets.rglob("*.sock")}
    return {**found, **files, **dict.fromkeys((*threads, *listening))}


def _marked_processes() -> dict[str, Thing]:
    """Processes of other parents that tests of this session have started."""
    mark = os.environ[MARK]
    found: dict[str, Thing] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark and (name := _name(process)):
                found[name] = process
    return found


def _name(process: psutil.Process) -> str:
    """A process for people; empty for one that has ended, and for the helper that multiprocessing keeps until the end."""
    helper = multiprocessing.resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]
    with suppress(psutil.NoSuchProcess):
        if process.pid != helper and process.status() != psutil.STATUS_ZOMBIE:
            return f"process {process.pid} ({' '.join(process.cmdline())})"
    return ""

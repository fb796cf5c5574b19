"""A second user of the machine, who can walk into the run's folder: no token, no socket."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from plt_tui.control.folder import RunFolder
from plt_tui.server.token import new_token
from plt_tui.server.unix import serve_unix
from tests.server.hub_fakes import DEADLINE_S, FakeHub

NOBODY = 65534
BECOME = f"import os, socket, sys; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
"""Not by `subprocess`: another user may not even read this Python."""
READ = BECOME + "open(sys.argv[1]).read()"
SAY_HELLO = (
    BECOME
    + """
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
try:
    connection.sendall(b'{"op":"hello","actor":"x","readonly":false,"version":1}\\n')
    print(connection.recv(1000))
except ConnectionError:
    print(b"")
"""
)
pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


@pytest.fixture
def run() -> Iterator[RunFolder]:
    """A run whose folder everybody may enter, as where its owner made it so."""
    folder = Path(tempfile.mkdtemp(prefix="plt-tui-open-"))
    folder.chmod(0o755)
    yield RunFolder(folder)
    shutil.rmtree(folder)


async def as_nobody(code: str, path: Path) -> str:
    """What another user's Python says of `path`: what it prints, or the name of the error."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-I", "-c", code, str(path)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        cwd="/",
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


async def test_the_token_is_not_read(run: RunFolder) -> None:
    """By nobody but its owner and root."""
    new_token(run)
    assert f"[Errno {errno.EACCES}]" in await as_nobody(READ, run.http_token)


async def test_the_socket_lets_nobody_in(run: RunFolder, hub: FakeHub) -> None:
    """By its mode; and where that was opened, by who asks: the connection ends without a word."""
    hub.begin()
    door = await serve_unix(hub, run.path / "hub.sock")
    try:
        assert f"[Errno {errno.EACCES}]" in await as_nobody(SAY_HELLO, door.path)
        door.path.chmod(0o666)
        assert await as_nobody(SAY_HELLO, door.path) == "b''"
    finally:
        await door.close()

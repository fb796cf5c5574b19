"""Which process or files a run is to be had from, by its name.

Starts no hub. Invariant: a run that somebody holds is asked, and its files are not; they may end before its newest step.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from plt_tui.config.settings import read_settings
from plt_tui.control.folder import RunFolder, host_name
from plt_tui.errors import HubUnreachable
from plt_tui.views.address import DEFAULT_COMMAND, parse
from plt_tui.views.client import HubClient

if TYPE_CHECKING:
    from plt_tui.views.remote import Remote

START_PATIENCE_S = 30.0
"""How long a starting hub may take to open its socket."""
CONNECT_S = 2.0
"""How long an open socket may refuse: its hub is busy, or ends at this moment."""
POLL_S = 0.02


async def hub_of(folder: RunFolder, actor: str, *, readonly: bool) -> HubClient | None:
    """A connection to the hub of a live run; None for a run that has ended, also for one whose hub dies at this moment.

    Raises: HubUnreachable.
    """
    socket = await live_socket(folder)
    if socket is None:
        return None
    try:
        return await HubClient.connect(socket, actor=actor, readonly=readonly, deadline_s=CONNECT_S)
    except HubUnreachable:
        if folder.is_live():
            raise
        return None


async def remote_of(target: str, actor: str, *, readonly: bool) -> Remote:
    """The run at an address such as "ssh://gpu1/quickstart"; closing it ends ssh. Raises: UsageError, HubUnreachable."""
    from plt_tui.views.remote import open_remote

    command = read_settings(os.environ).remote_command(parse(target).host) or DEFAULT_COMMAND
    return await open_remote(target, actor, readonly, command)


async def live_socket(folder: RunFolder) -> Path | None:
    """The socket of the run's hub, waited for while the hub starts; None when nobody holds the run. Raises: HubUnreachable."""
    give_up_at = time.monotonic() + START_PATIENCE_S
    while folder.is_live():
        info = folder.read_info()
        if info is not None and info.socket:
            return Path(info.socket)
        if time.monotonic() > give_up_at:
            raise HubUnreachable(f"the hub of {folder.name} did not open its socket within {START_PATIENCE_S:g} s")
        await asyncio.sleep(POLL_S)
    return None


def who(program: str) -> str:
    """`program` and the person who runs it, for the journal: "python ana@box"."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{program} {user}@{host_name()}"

"""The address of a run on another machine, `ssh://[user@]host[:port]/RUN`, and the words that bring ssh there.

Starts nothing. Invariant: no part of an address can become an option, of ssh or of plt-tui, or more than one word of a shell,
neither here nor there; what ssh_config makes of the host and the user (`%h`, `%r`) is harmless too.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from urllib.parse import unquote

from plt_tui.errors import UsageError
from plt_tui.protocol.text import safe_line
from plt_tui.views.source import Elsewhere

SCHEME = "ssh://"
DEFAULT_COMMAND = "plt-tui"
OPTIONS = (
    "-T",  # no terminal there: bytes come as they are
    "-a",  # nothing of this machine is lent to that one
    "-x",
    *("-o", "ClearAllForwardings=yes"),
    *("-o", "RemoteCommand=none"),  # of ssh_config: it would stand in the way of ours
    *("-o", "ServerAliveInterval=10"),  # a link that is cut is known to be after half a minute
    *("-o", "ServerAliveCountMax=3"),
)
_PLACE = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9._@+-]*)@)?"
    r"(?:(?P<name>[A-Za-z0-9_][A-Za-z0-9._-]*)|\[(?P<six>[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9._-]+)?)\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a run is."""

    text: str
    """As it was typed."""
    host: str
    """A name, also one of ssh_config, or a number; an IPv6 one without its brackets."""
    user: str = ""
    """Empty: whom ssh takes."""
    port: int | None = None
    run: str = ""
    """Name of the run, or its folder, absolute or seen from the home folder there; empty: the newest."""


def is_remote(text: str) -> bool:
    """True for what `parse` is for, also where it is wrong."""
    return text.startswith(SCHEME)


def parse(text: str) -> Address:
    """The address in `text`. `%20` stands for a blank in the path, as in any URL. Raises: UsageError."""
    place, _, path = text.removeprefix(SCHEME).partition("/")
    found = _PLACE.fullmatch(place)
    if found is None:
        names = "of host and user letters, digits and . _ - are taken; whatever else they need belongs into ~/.ssh/config"
        raise UsageError(f"{safe_line(text)}: no address such as ssh://ana@gpu1:22/quickstart; {names}")
    port = int(found["port"]) if found["port"] else None
    if port is not None and not 0 < port < 65536:
        raise UsageError(f"{safe_line(text)}: port {port}: expected 1 to 65535")
    run = unquote(path).removeprefix("~/").rstrip("/")
    if run.startswith("-") or not run.isprintable():
        raise UsageError(f"{safe_line(text)}: {safe_line(run)!r} is no run; expected its name, or its folder on that machine")
    return Address(text=text, host=found["name"] or found["six"], user=found["user"] or "", port=port, run=run)


def ssh_words(address: Address, command: str, *, readonly: bool = False, directory: str = "") -> list[str]:
    """The command that starts `plt-tui attach --stdio` there.

    `command`: what a shell there takes for `plt-tui`, passed on as it is. `directory`: of its runs, seen from the home folder
    there; empty: `runs`. Raises: UsageError for a command that is none.
    """
    if not command.strip() or command.strip().startswith("-"):
        raise UsageError(f"{safe_line(command)!r} is no command for the other machine; such as ~/venv/bin/plt-tui")
    port = ["-p", str(address.port)] if address.port is not None else []
    user = ["-l", address.user] if address.user else []
    words = ["attach", "--stdio", *(["--readonly"] if readonly else []), *([f"--dir={directory}"] if directory else [])]
    words += ["--", address.run] if address.run else []
    return ["ssh", *OPTIONS, *port, *user, "--", address.host, f"{command.strip()} {shlex.join(words)}"]


def elsewhere(address: Address, command: str = DEFAULT_COMMAND, options: str = "") -> Elsewhere:
    """How to get there from here. `options`: those that `plt-tui attach` was given beside the address, as they are typed."""
    port = f"-p {address.port} " if address.port is not None else ""
    user = f"{address.user}@" if address.user else ""
    return Elsewhere(
        host=address.host,
        login=f"ssh -t {port}{user}{address.host}",
        command=safe_line(command.strip()),
        again=" ".join([shlex.quote(address.text), *([options] if options else [])]),
    )

"""`plt-tui ctl`: the verbs of a live run from a shell or a script."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plt_tui.cli.attach import DEFAULT_DIR, DirOption, RunArgument, live_socket, user_at_host
from plt_tui.cli.echo import echo, echo_json
from plt_tui.errors import HubUnreachable, UsageError

if TYPE_CHECKING:
    from plt_tui.control.folder import RunFolder
    from plt_tui.protocol.commands import Command
    from plt_tui.protocol.events import CommandStatus


_PROSE = ("note", "sample")
"""Verbs whose words need no quotes."""


def ctl(
    run: RunArgument,
    verb: Annotated[
        str, typer.Argument(metavar="COMMAND", help="pause, resume, set, undo, checkpoint, eval, sample, stop, note.")
    ],
    args: Annotated[list[str] | None, typer.Argument(help="Such as: set lr 3e-4, set lr 0.5 scale, checkpoint best.")] = None,
    now: Annotated[bool, typer.Option("--now", help="With stop: end without saving.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the acknowledgement as JSON.")] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait for the acknowledgement.")] = 120.0,
    directory: DirOption = DEFAULT_DIR,
) -> None:
    """Send a command to a live run and wait until it is in force."""
    from plt_tui.control.folder import find_run
    from plt_tui.protocol.commands import new_command
    from plt_tui.protocol.events import to_json

    command = new_command(verb, _named_args(verb, args or [], now=now), actor=f"ctl {user_at_host()}")
    folder = find_run(directory, run)
    status = asyncio.run(_send(folder, command, timeout_s))
    if as_json:
        echo_json(to_json(status))
    elif status.status == "applied":
        echo(describe(status))
    if status.status == "refused":
        raise UsageError(f"{status.name} refused: {status.reason}")


def describe(status: CommandStatus) -> str:
    """An applied command in one line."""
    what = f"set {status.args['name']} {status.reason}" if status.name == "set" else f"{status.name} {status.reason}"
    return f"{what.strip()}: in force at step {status.step}"


def _named_args(verb: str, values: Sequence[str], *, now: bool) -> dict[str, Any]:
    """The positional arguments of a verb by name, in the order of its table."""
    from plt_tui.protocol.commands import VERBS

    if verb not in VERBS:
        raise UsageError(f"unknown command {verb!r}; known: {', '.join(VERBS)}")
    names = [name for name in VERBS[verb].args if name != "now"]
    if verb in _PROSE and values:
        values = [" ".join(values)]
    if len(values) > len(names):
        raise UsageError(f"{verb} takes at most {len(names)} arguments ({', '.join(names) or 'none'}), not {len(values)}")
    named: dict[str, Any] = dict(zip(names, values, strict=False))
    if now:
        named["now"] = True
    return named


async def _send(folder: RunFolder, command: Command, timeout_s: float) -> CommandStatus:
    from plt_tui.views.client import HubClient, run_command

    socket = await live_socket(folder)
    if socket is None:
        raise HubUnreachable(f"{folder.name} is not running; resume it: plt-tui run --resume auto --name {folder.name}")
    client = await HubClient.connect(socket, actor=command.actor, deadline_s=2.0)
    try:
        return await run_command(client, command, timeout_s)
    finally:
        await client.close()

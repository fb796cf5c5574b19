"""`plt-tui ctl`: the verbs of a live run from a shell or a script, and what they would do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plt_tui.cli.attach import DEFAULT_DIR, DirOption, RunArgument, live_socket, told_so_far, user_at_host
from plt_tui.cli.echo import echo, echo_json
from plt_tui.errors import HubUnreachable, UsageError

if TYPE_CHECKING:
    from plt_tui.config.schema import RunConfig
    from plt_tui.control.folder import RunFolder
    from plt_tui.control.state import RunState
    from plt_tui.protocol.commands import Command
    from plt_tui.protocol.events import CommandStatus
    from plt_tui.views.client import HubClient


_EXAMPLES = "Such as: set lr 3e-4, lr 0.5 scale, set batch_size 4 keep, checkpoint best, rewind 400 skip 30."


def ctl(
    run: RunArgument,
    verb: Annotated[
        str,
        typer.Argument(
            metavar="COMMAND",
            help="pause, resume, set (or a knob's name alone), undo, checkpoint, eval, sample, rewind, hibernate, stop, note.",
        ),
    ],
    args: Annotated[list[str] | None, typer.Argument(help=_EXAMPLES)] = None,
    now: Annotated[bool, typer.Option("--now", help="With stop: end without saving.")] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="With set, undo and rewind: tell what it would do, and send nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the acknowledgement, or the preview, as JSON.")] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait for the acknowledgement.")] = 120.0,
    directory: DirOption = DEFAULT_DIR,
) -> None:
    """Send a command to a live run and wait until it is in force."""
    from plt_tui.control.folder import find_run
    from plt_tui.protocol.commands import named_args, new_command
    from plt_tui.protocol.framing import to_json
    from plt_tui.views.commands_text import spelled_out

    verb, values = spelled_out(verb, args or [])
    command = new_command(verb, named_args(verb, values, now=now), actor=f"ctl {user_at_host()}")
    folder = find_run(directory, run)
    if preview:
        _show_preview(folder, command, as_json=as_json)
        return
    status = asyncio.run(_send(folder, command, timeout_s))
    if as_json:
        echo_json(to_json(status))
    elif status.status == "applied":
        echo(describe(status, folder.name))
    if status.status == "refused":
        raise UsageError(f"{status.name} refused: {status.reason}")


def describe(status: CommandStatus, run: str) -> str:
    """An applied command in one line; `run`: the name of the run."""
    match status.name:
        case "rewind":
            return _rewound(status)
        case "hibernate":
            return f"hibernated at step {status.step}; plt-tui ctl {run} resume brings it back"
        case "set":
            what = f"set {_changed(status)}"
        case _:
            what = f"{status.name} {status.reason}"
    return f"{what.strip()}: in force at step {status.step}"


def _changed(status: CommandStatus) -> str:
    """What a `set` changed: all of it, also where more than the knob's own value changed, or will."""
    args = status.args
    change, value = f"{args['name']} {status.reason}", args.get("value")
    match args.get("mode"):
        case "keep" if isinstance(value, list | tuple):  # as it was applied
            return f"{change} (batch_size {value[0]}, accumulate {value[1]}: the same global batch)"
        case "replan":
            return f"{change}, and on to {value} at the last step"
        case _:
            return change


def _rewound(status: CommandStatus) -> str:
    """Where the run is again, what became a branch, and what is left out."""
    from plt_tui.protocol.commands import rewind_of

    _, skip = rewind_of(status.args)
    told = [f"rewind: at step {status.step} again"]
    if isinstance(status.before, int) and status.before > status.step:
        told.append(f"steps {status.step + 1} to {status.before} are a branch")
    if skip:
        told.append(f"{skip} {'batch' if skip == 1 else 'batches'} left out")
    return "; ".join([*told, status.reason] if status.reason else told)


def _show_preview(folder: RunFolder, command: Command, *, as_json: bool) -> None:
    """Print what `command` would do now. Raises: UsageError when the run would refuse it, or there is nothing to preview."""
    from plt_tui.config.load import from_toml
    from plt_tui.config.sources import read_text

    if command.name not in ("set", "undo", "rewind"):
        raise UsageError(f"{command.name}: nothing to preview; --preview goes with set, undo and rewind")
    config = from_toml(read_text(folder.config))
    numbers, lines = foreseen(command.name, command.args, config, asyncio.run(_live_state(folder, command.actor)))
    if as_json:
        echo_json(numbers)
    else:
        echo("\n".join(lines))


def foreseen(verb: str, args: Mapping[str, Any], config: RunConfig, state: RunState) -> tuple[dict[str, Any], list[str]]:
    """What `set`, `undo` or `rewind` would do: as JSON values, and as lines for people.

    Raises: UsageError when the run would refuse it.
    """
    from dataclasses import asdict

    from plt_tui.protocol.commands import rewind_of
    from plt_tui.views.preview import lines, preview, set_edit, to_numbers, undo_edit
    from plt_tui.views.rewind import places, plan_return

    if verb == "rewind":
        planned = plan_return(state, places(state, config.checkpoint.keep), *rewind_of(args))
        return asdict(planned), [planned.words]
    is_undo = verb == "undo"
    edit = undo_edit(state, args.get("edit")) if is_undo else set_edit(config, state, **args)
    seen = preview(config, state, edit)
    return to_numbers(seen), lines(seen)


async def _client(folder: RunFolder, actor: str, *, readonly: bool = False) -> HubClient:
    """A connection to the hub of a live run. Raises: HubUnreachable."""
    from plt_tui.views.client import HubClient

    socket = await live_socket(folder)
    if socket is None:
        raise HubUnreachable(f"{folder.name} is not running; resume it: plt-tui run --resume auto --name {folder.name}")
    return await HubClient.connect(socket, actor=actor, readonly=readonly, deadline_s=2.0)


async def _send(folder: RunFolder, command: Command, timeout_s: float) -> CommandStatus:
    from plt_tui.views.client import run_command

    client = await _client(folder, command.actor)
    try:
        return await run_command(client, command, timeout_s)
    finally:
        await client.close()


async def _live_state(folder: RunFolder, actor: str) -> RunState:
    """What the hub knows of the run now. Raises: HubUnreachable, also for a hub that is stopped and says nothing."""
    from plt_tui.control.state import RunState, apply

    state = RunState()
    async for event in told_so_far(await _client(folder, actor, readonly=True), folder.name):
        state = apply(state, event)
    return state

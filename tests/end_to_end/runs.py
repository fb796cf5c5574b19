"""Real runs for tests: the `plt-tui` command in a process of its own, a tiny model, a small corpus."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from plt_tui import failpoints
from plt_tui.config.sources import ENVIRONMENT
from plt_tui.control.folder import RunFolder
from plt_tui.protocol.commands import Command
from plt_tui.protocol.events import CommandStatus
from plt_tui.views.client import HubClient, run_command

PLT_TUI = (sys.executable, "-m", "plt_tui")
CORPUS = Path(__file__).parents[2] / "data" / "tiny.txt"
TINY = (
    "model.layers=2",
    "model.width=32",
    "model.heads=2",
    "data.context=32",
    "train.batch_size=4",
    "optim.warmup=5",
    "eval.batches=4",
    "sample.tokens=20",
    "parallel.ranks=2",
)
"""A model whose step takes a few milliseconds."""
UNHURRIED = ("--set", "model.arch=unhurried", "--plugin", str(Path(__file__).with_name("unhurried_plugin.py")))
"""Words for a run that is only looked at and steered; see that file."""
DEADLINE_S = 90.0
"""Patience with what is not measured: a command, a start, the next picture of a view, on cores that others use too."""

Line = dict[str, Any]


def options(*sets: str, train: Path = CORPUS) -> list[str]:
    """The options of a tiny run on `train`, later ones winning."""
    return [word for value in (f"data.train={train}", *TINY, *sets) for word in ("--set", value)]


def start(
    folder: Path, name: str, *sets: str, extra: tuple[str, ...] = (), within: tuple[str, ...] = (), own_group: bool = False
) -> "subprocess.Popen[str]":
    """A headless run that writes JSON lines to its stdout, with what `arm` has made its failpoints.

    within: a command that runs it, such as `unshare`; own_group: as from a shell, so that signals can be sent to all of it.
    """
    command = [*within, *PLT_TUI, "run", "--no-ui", "--json", "--name", name, *options(*sets), *extra]
    variables = {**environment(), failpoints.VARIABLE: str(failpoint_folder(folder, name))}
    with (folder / f"{name}.stderr").open("a") as errors:
        return subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True, env=variables, start_new_session=own_group
        )


def environment() -> dict[str, str]:
    """This process's environment without what would change a run's configuration."""
    return {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}


def failpoint_folder(folder: Path, name: str) -> Path:
    """Where the failpoints of the run `name` are armed."""
    return folder / f"{name}.failpoints"


def arm(folder: Path, name: str, actions: Mapping[str, str]) -> None:
    """Arm failpoints of the run `name` with their actions, before it starts or while it runs."""
    place = failpoint_folder(folder, name)
    place.mkdir(exist_ok=True)
    for point, action in actions.items():
        written = place / "being-armed"
        written.write_text(action)
        written.rename(place / point)  # whole at once: the run may look at any moment


def has_fired(folder: Path, name: str, point: str) -> bool:
    """True once the point has acted (again, since it was armed again)."""
    place = failpoint_folder(folder, name)
    return (place / f"{point}.fired").exists() and not (place / point).exists()


def start_to(
    folder: Path, name: str, point: str, action: str, *sets: str, extra: tuple[str, ...] = (), own_group: bool = False
) -> "subprocess.Popen[str]":
    """A run that has come to the failpoint `point` and done there what it was told."""
    arm(folder, name, {point: action})
    process = start(folder, name, *sets, extra=extra, own_group=own_group)
    wait_to(folder, name, point, action, process)
    return process


def wait_to(folder: Path, name: str, point: str, action: str, process: "subprocess.Popen[str] | None" = None) -> None:
    """Return once a process of the run has come to `point` and done there what it was told.

    process: the run's own, which must not end before: `kill` and the like hurt its ranks, and it goes on.
    """

    def is_there() -> bool:
        has_ended = process is not None and process.poll() is not None
        if has_fired(folder, name, point):
            return True
        assert not has_ended, f"ended without coming to {point}: {(folder / f'{name}.stderr').read_text()}"
        return False

    wait_until(is_there)
    if action == "stop":
        wait_until(lambda: any(_is_stopped(process) for process in processes_of(folder)))


def go_on(folder: Path) -> None:
    """Let the processes go on that failpoints have stopped."""
    for process in processes_of(folder):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)


def _is_stopped(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_STOPPED
    return False


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every live process that was started in `folder`, as runs, their hubs and their ranks are."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            is_ours = process.pid != os.getpid() and process.cwd() == str(folder)
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


async def ask(folder: Path, name: str, wanted: Command) -> CommandStatus:
    """The answer to a command that reaches the hub while a rank is stopped, which goes on once the hub has passed it on."""
    info = RunFolder(folder / "runs" / name).read_info()
    assert info is not None
    client = await HubClient.connect(Path(info.socket), actor="test")
    watcher = await HubClient.connect(Path(info.socket), actor="test", readonly=True)
    try:
        answer = asyncio.create_task(run_command(client, wanted, DEADLINE_S))
        told = asyncio.create_task(_told_of(watcher, wanted))
        await asyncio.wait({answer, told}, return_when=asyncio.FIRST_COMPLETED)
        go_on(folder)
        return await answer
    finally:
        await client.close()
        await watcher.close()


async def _told_of(watcher: HubClient, wanted: Command) -> None:
    """Return once a view hears that `wanted` was asked for, or the hub is gone: views are told behind the ranks."""
    async for event in watcher.events():
        if isinstance(event, CommandStatus) and event.id == wanted.id:
            return


@contextmanager
def ended(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    """However the block is left, the run is over: a failed test must not leave one that a failpoint holds for ever."""
    with process:
        try:
            yield process
        finally:
            process.kill()


def finish(process: "subprocess.Popen[str]", exit_code: int = 0) -> list[Line]:
    """The remaining lines of a run that must end with `exit_code`."""
    assert process.stdout is not None
    with process.stdout:
        lines = [json.loads(text) for text in process.stdout]
    assert process.wait(DEADLINE_S) == exit_code, lines[-3:]
    return lines


def train(folder: Path, name: str, *sets: str, exit_code: int = 0, extra: tuple[str, ...] = ()) -> list[Line]:
    """All lines of a run from start to end."""
    return finish(start(folder, name, *sets, extra=extra), exit_code)


def stopped_at(folder: Path, name: str, step: int, *sets: str) -> list[Line]:
    """All lines of a run that is sent SIGINT while it stands before `step`: how fast the machine is does not matter."""
    with ended(start_to(folder, name, f"rank.1.step.{step}", "stop", *sets)) as process:
        wait_until(lambda: phase_of(folder, name) == "running")  # a hub that does not know it yet ends without a save
        stop(process)
        wait_until(lambda: phase_of(folder, name) == "stopping")
        go_on(folder)
        return finish(process, exit_code=130)


def read_until(process: "subprocess.Popen[str]", wanted: Callable[[Line], bool]) -> list[Line]:
    """The lines of a live run up to the first one that is `wanted`."""
    assert process.stdout is not None
    lines: list[Line] = []
    for text in process.stdout:
        lines.append(json.loads(text))
        if wanted(lines[-1]):
            return lines
    raise AssertionError(f"the run ended first: {lines[-3:]}")


def command(folder: Path, *words: str, exit_code: int = 0) -> str:
    """What `plt-tui WORDS` prints; a replay may start several ranks, one after another."""
    done = subprocess.run(
        [*PLT_TUI, *words], cwd=folder, capture_output=True, text=True, timeout=2 * DEADLINE_S, env=environment(), check=False
    )
    assert done.returncode == exit_code, done.stdout + done.stderr
    return done.stdout + done.stderr


def show(folder: Path, name: str) -> Line:
    """`plt-tui show NAME --json`."""
    shown: Line = json.loads(command(folder, "show", name, "--json"))
    return shown


def phase_of(folder: Path, name: str) -> str:
    """What `run.json` says of a live run, without another process; empty when there is none."""
    info = RunFolder(folder / "runs" / name).read_info()
    return info.phase if info is not None else ""


def at_step(step: int) -> Callable[[Line], bool]:
    """Wanted: the line of this step."""
    return lambda line: line["kind"] == "step" and line["step"] >= step


def losses(lines: list[Line]) -> dict[int, float]:
    """Loss by step: exact floats, comparable with ==."""
    return {line["step"]: line["loss"] for line in lines if line["kind"] == "step"}


def end_of(lines: list[Line]) -> Line:
    """The last line, which must be the end."""
    assert lines[-1]["kind"] == "end", lines[-1]
    return lines[-1]


def stop(process: "subprocess.Popen[str]", number: signal.Signals = signal.SIGINT, *, group: bool = False) -> None:
    """Send a signal to the run's foreground process only, or to its whole process group."""
    (os.killpg if group else os.kill)(process.pid, number)


def wait_until(condition: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    """Return as soon as `condition` holds; fail when it does not in time."""
    give_up_at = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < give_up_at, f"not in {deadline_s} s: {condition}"
        time.sleep(0.02)


def applied_step(printed: str) -> int:
    """The step in "...: in force at step 12"."""
    match = re.search(r"in force at step (\d+)", printed)
    assert match is not None, printed
    return int(match[1])

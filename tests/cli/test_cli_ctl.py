"""Promises of `ctl`: words to arguments, acknowledgements to words, and a preview that sends nothing."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from plt_tui.cli.ctl import describe
from plt_tui.config.load import to_toml
from plt_tui.config.schema import RunConfig
from plt_tui.control.feed import Feed
from plt_tui.control.folder import RunFolder, RunInfo
from plt_tui.protocol.commands import VERBS, Command
from plt_tui.protocol.events import Checkpoint, CommandStatus, Phase, Recent, Run, Step, Viewers
from plt_tui.server.unix import serve_unix
from tests.cli.commands import Call

CONFIG = RunConfig()


@dataclass
class DeafHub:
    """A hub with a past that must not be sent anything."""

    feed: Feed = field(default_factory=Feed)
    commands: list[Command] = field(default_factory=list)

    async def submit(self, command: Command) -> None:
        self.commands.append(command)


def past(hub: DeafHub) -> None:
    """A run of 2 ranks at step 523 of 1000, one second a step."""
    hub.feed.publish(Run(name="live", dir="d", world_size=2, params=1, target_step=1000, tokens_per_step=2048, time=1e9))
    hub.feed.publish(Phase(phase="running", time=1e9))
    hub.feed.publish(Checkpoint(step=400, path="checkpoints/step-00000400", name="best", time=1e9 + 400))
    for number in range(500, 524):
        step = {"step": number, "tokens": number * 2048, "time": 1e9 + number}
        hub.feed.publish(Step(loss=2.0, lr=1e-3, grad_norm=1.0, tokens_per_s=2048.0, step_ms=1e3, **step))  # type: ignore[arg-type]
    hub.feed.publish(Recent(steps=[475, 500], bytes=31 << 20, seconds=0.004))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[DeafHub]:
    """A live run called "live" under `tmp_path`, its socket served by a thread."""
    folder, found = RunFolder(tmp_path / "live"), DeafHub()
    past(found)
    folder.create(to_toml(CONFIG))
    descriptor, loop = folder.lock(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    door = asyncio.run_coroutine_threadsafe(serve_unix(found, folder.socket_path()), loop).result(10.0)
    folder.write_info(RunInfo(name="live", host="h", pid=1, boot_id="b", socket=str(door.path), phase="running"))
    yield found
    asyncio.run_coroutine_threadsafe(door.close(), loop).result(10.0)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    os.close(descriptor)


def test_every_verb_is_in_the_help(call: Call) -> None:
    """What can be sent can be found."""
    shown = call("ctl", "--help").out
    assert [verb for verb in VERBS if verb not in shown] == []


def applied(name: str, args: dict[str, Any], step: int, reason: str = "", before: Any = None) -> CommandStatus:
    """A command in force."""
    return CommandStatus(id="1", name=name, args=args, actor="", status="applied", step=step, reason=reason, before=before)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (applied("set", {"name": "lr"}, 8, "1 -> 2"), "set lr 1 -> 2: in force at step 8"),
        (
            applied("set", {"name": "lr", "value": 1e-4, "mode": "replan"}, 8, "0.001 -> 0.001"),
            "set lr 0.001 -> 0.001, and on to 0.0001 at the last step: in force at step 8",
        ),
        (
            applied("set", {"name": "accumulate", "value": [2, 4], "mode": "keep"}, 8, "2 -> 4"),
            "set accumulate 2 -> 4 (batch_size 2, accumulate 4: the same global batch): in force at step 8",
        ),
        (applied("pause", {}, 8), "pause: in force at step 8"),
        (
            applied("rewind", {"step": "400", "skip": "30"}, 400, before=523),
            "rewind: at step 400 again; steps 401 to 523 are a branch; 30 batches left out",
        ),
        (
            applied("rewind", {"step": 400}, 400, "to the state of step 400 (memory)", before=523),
            "rewind: at step 400 again; steps 401 to 523 are a branch; to the state of step 400 (memory)",
        ),
        (applied("rewind", {"step": 523, "skip": 1}, 523, before=523), "rewind: at step 523 again; 1 batch left out"),
        (applied("hibernate", {}, 812), "hibernated at step 812; plt-tui ctl mine resume brings it back"),
    ],
)
def test_an_acknowledgement_in_words(status: CommandStatus, words: str) -> None:
    """What is in force and from which step on; a rewind tells what it left behind, hibernation how it ends."""
    assert describe(status, "mine") == words


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["set", "lr", "1e-4"],
            ["lr 0.001", "-> 0.0001 from step 524 on", "477 steps left", "ETA 7m 57s", "\nnow  ", "\nnew  "],
        ),
        (["set", "lr", "0.5", "scale"], ["from step 524 on"]),
        (["lr", "1e-4"], ["lr 0.001", "-> 0.0001 from step 524 on"]),
        (["set", "batch_size", "4", "keep"], ["batch_size 8 -> 4, accumulate 1 -> 2", "global batch kept: 16 sequences"]),
        (["set", "accumulate", "2"], ["global batch changed: 16 -> 32 sequences, 2,048 -> 4,096 tokens"]),
        (["rewind", "512", "skip", "30"], ["back from step 523 to 500 (in memory)", "23 steps become branch 1", "30 batches"]),
        (["rewind", "450"], ['to 400 (checkpoint "best"), the newest state kept at or before 450']),
    ],
)
def test_a_preview_tells_what_a_command_would_do_and_sends_nothing(
    words: list[str], told: list[str], hub: DeafHub, tmp_path: Path, call: Call
) -> None:
    """On the live run: value, global batch, what is left; or where a rewind would land."""
    outcome = call("ctl", "live", *words, "--preview", "--dir", str(tmp_path))
    assert (outcome.exit_code, outcome.err) == (0, "")
    assert [part for part in told if part not in outcome.out] == []
    assert outcome.out.isascii()
    assert hub.commands == []


def test_a_preview_as_json_has_the_numbers(hub: DeafHub, tmp_path: Path, call: Call) -> None:
    """One object with the run before and after, the curve at the same steps."""
    outcome = call("ctl", "live", "set", "lr", "0.5", "scale", "--preview", "--json", "--dir", str(tmp_path))
    seen = json.loads(outcome.out)
    assert (seen["knob"], seen["step"], seen["steps"][0], seen["steps"][-1]) == ("lr", 524, 524, 1000)
    assert seen["after"]["rates"] == [rate * 0.5 for rate in seen["before"]["rates"]]
    assert (seen["after"]["steps_left"], seen["after"]["tokens_left"]) == (477, 477 * 2048)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pause"], "pause: nothing to preview; --preview goes with set, undo and rewind"),
        (["undo"], "undo: no edit of a knob is in force"),
        (["set", "lr", "11"], "lr: 11 is outside 0 to 10"),
        (["set", "batch_size", "3", "keep"], "allowed: 1, 2, 4, 8"),
        (["rewind", "600"], "step 600: the run is at step 523"),
    ],
)
def test_what_cannot_be_previewed_says_why(words: list[str], said: str, hub: DeafHub, tmp_path: Path, call: Call) -> None:
    """Exit code 2, the sentence that the run itself would give, and nothing sent."""
    outcome = call("ctl", "live", *words, "--preview", "--dir", str(tmp_path))
    assert outcome.exit_code == 2
    assert said in outcome.err
    assert hub.commands == []


def test_a_run_that_is_over_has_no_preview(tmp_path: Path, call: Call) -> None:
    """The message says how to go on with it."""
    RunFolder(tmp_path / "over").create(to_toml(CONFIG))
    outcome = call("ctl", "over", "undo", "--preview", "--dir", str(tmp_path))
    assert outcome.exit_code == 1
    assert "plt-tui run --resume auto --name over" in outcome.err


def test_show_of_a_live_run_lists_who_looks_on(hub: DeafHub, tmp_path: Path, call: Call) -> None:
    """In the order in which they came, with names that a terminal can bear; `show` itself is gone before it is one of them."""
    ana = {"actor": "tui ana@box", "door": "socket", "readonly": False, "since": 1e9}
    eve = {"actor": "http eve\x1b[2J", "door": "http", "readonly": True, "since": 1e9 + 1}
    hub.feed.publish(Viewers(viewers=[ana, eve]))
    assert json.loads(call("show", "live", "--json", "--dir", str(tmp_path)).out)["viewers"] == [ana, eve]
    lines = call("show", "live", "--dir", str(tmp_path)).out.splitlines()
    shown = [line.split(maxsplit=1)[1] for line in lines if line.startswith("viewers ")]
    assert [line.partition(", since ")[0] for line in shown] == [
        "tui ana@box, by socket",
        "http eve\\x1b[2J, by http, read-only",
    ]

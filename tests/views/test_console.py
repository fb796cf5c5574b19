"""The headless views: one reading of the session, and what each writes, word for word."""

from __future__ import annotations

import io
import json
import struct

import pytest
from console_fakes import Script, applied, block, end, evaluation, run, step, told
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.control.state import RunState
from plt_tui.protocol.events import (
    Alert,
    CaughtUp,
    Checkpoint,
    CheckpointFailed,
    CommandStatus,
    End,
    Event,
    Failed,
    Logs,
    Phase,
    Progress,
    Run,
    Sample,
)
from plt_tui.views.console import (
    bar_values,
    clock,
    current_session,
    follow_json,
    follow_plain,
    follow_progress,
    scientific,
    short,
)

STARTING = Phase(phase="starting")


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(
            [CaughtUp(), STARTING, run(), block([step(1), step(2)]), block([step(3)]), end(3), Logs(lines=[])],
            ["caught_up", "phase 0", "run", "step 1", "step 2", "step 3", "end 3"],
            id="from the start: every step in order, nothing after the end",
        ),
        pytest.param(
            [run(), block([step(1), step(2)]), CaughtUp(), block([step(3)])],
            ["run", "step 1", "step 2", "caught_up", "step 3"],
            id="attached late: the steps before too",
        ),
        pytest.param(
            [run(), block([step(1), step(2), step(3)]), CaughtUp(), block([step(1)]), run(1), block([step(2, attempt=1)])],
            ["run", "step 1", "step 2", "step 3", "caught_up", "run", "step 2"],
            id="restarted: history that comes again is not told again, steps computed again are",
        ),
        pytest.param(
            [run(), block([step(1), step(2)]), CaughtUp(), block([step(1), step(2, attempt=1)])],
            ["run", "step 1", "step 2", "caught_up", "step 2"],
            id="rewound without a new beginning",
        ),
        pytest.param(
            [run(), end(3, "stopped"), STARTING, run(2), block([step(1), step(2), step(3)]), end(3), CaughtUp()],
            ["phase 0", "run", "step 3", "caught_up", "end 3"],
            id="resumed run: only the last session, its end behind its steps",
        ),
        pytest.param(
            [
                run(),
                block([step(1), step(2)]),
                end(2, "stopped"),
                CaughtUp(),
                STARTING,
                block([step(1)]),
                run(1),
                block([step(2, attempt=1)]),
            ],
            ["phase 0", "run", "step 2"],
            id="attached between two sessions: the old end is not the end",
        ),
        pytest.param(
            [run(), block([step(1)]), end(1), Phase(phase="finished"), CaughtUp()],
            ["run", "step 1", "phase 0", "caught_up", "end 1"],
            id="attached after the end",
        ),
        pytest.param([run(), block([step(1)])], ["run", "step 1"], id="vanished within the history"),
        pytest.param([], [], id="vanished at once"),
        pytest.param(
            [run(), CaughtUp(), step(1), step(1), step(2)], ["run", "caught_up", "step 1", "step 2"], id="single steps"
        ),
    ],
)
async def test_the_session_is_told_once_and_in_order(events: list[Event], expected: list[str]) -> None:
    """Every step of the last session exactly once, `end` last."""
    assert await told(*events) == expected


def test_a_history_without_an_end_is_one_session() -> None:
    """Restarts after a failed rank belong to the session."""
    history = [run(), Phase(phase="restarting"), run(3)]
    assert current_session(history) == history


async def test_json_lines_word_for_word() -> None:
    """Kinds, keys and their order are the contract; other events are not written; a NaN is text."""
    out = io.StringIO()
    ended = await follow_json(
        Script(
            CaughtUp(),
            STARTING,
            run(),
            block([step(1), step(2, loss=float("nan"))]),
            evaluation(2),
            applied("set", 3, name="lr", value=0.001),
            Checkpoint(step=2, path="checkpoints/step-00000002", bytes=5),
            Sample(step=2, prompt="The ", text="end"),
            Alert(topic="x", text="y"),
            end(2),
        ),
        out,
    )
    assert ended == end(2)
    assert out.getvalue().splitlines() == [
        '{"kind": "run", "name": "demo", "dir": "runs/demo", "world_size": 2, "params": 1234567}',
        '{"kind": "step", "step": 1, "loss": 2.34561, "lr": 0.003, "grad_norm": 0.812, "tokens": 2048, '
        '"tokens_per_s": 41234.0, "step_ms": 250.0}',
        '{"kind": "step", "step": 2, "loss": "nan", "lr": 0.003, "grad_norm": 0.812, "tokens": 4096, '
        '"tokens_per_s": 41234.0, "step_ms": 250.0}',
        '{"kind": "eval", "step": 2, "loss": 2.0, "perplexity": 7.389, "bits_per_byte": 2.885, "accuracy": 0.4123}',
        '{"kind": "command", "id": "c1", "name": "set", "args": {"name": "lr", "value": 0.001}, "actor": "ctl ana@box", '
        '"status": "applied", "step": 3}',
        '{"kind": "checkpoint", "step": 2, "path": "checkpoints/step-00000002"}',
        '{"kind": "end", "state": "finished", "step": 2, "weights_sha256": "ab12", "exit_code": 0}',
    ]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
async def test_json_floats_read_back_to_the_same_bits(losses: list[float]) -> None:
    """From the block through the text to a double again, bit for bit, subnormals and minus zero too."""
    out = io.StringIO()
    steps = [step(number, loss=loss) for number, loss in enumerate(losses, start=1)]
    await follow_json(Script(run(), block(steps)), out)
    read = [json.loads(line)["loss"] for line in out.getvalue().splitlines()[1:]]
    assert [struct.pack("<d", value) for value in read] == [struct.pack("<d", loss) for loss in losses]


async def test_no_control_character_passes_the_json_view() -> None:
    """Every unprintable character of a hostile text is escaped, and the text survives."""
    hostile = "\x1b]2;x\x07\x7f\x9b1m\u202e\n"
    out = io.StringIO()
    await follow_json(Script(run(), CaughtUp(), applied("note", 1, text=hostile)), out)
    assert all(line.isascii() and line.isprintable() for line in out.getvalue().splitlines())
    assert json.loads(out.getvalue().splitlines()[1])["args"]["text"] == hostile


async def test_plain_lines_word_for_word() -> None:
    """Aligned columns, a step a second and the one before each event, and the story of the run."""
    out = io.StringIO()
    ended = await follow_plain(
        Script(
            CaughtUp(),
            STARTING,
            Progress(task="tokenising", done=0, total=10),
            Progress(task="tokenising", done=9, total=10),
            run(),
            block(step(number) for number in range(1, 7)),
            evaluation(6),
            Sample(step=6, prompt="The ", text="first\nsecond"),
            Checkpoint(step=6, path="checkpoints/step-00000006", bytes=12_345_678, seconds=0.41),
            CommandStatus(id="1", name="pause", args={}, actor="ctl ana@box", status="requested"),
            applied("set", 7, name="lr", value=0.001),
            CommandStatus(id="2", name="undo", args={}, actor="tui", status="refused", reason="nothing to undo"),
            Phase(phase="paused", reason="by ctl ana@box", step=6),
            Alert(topic="disk", text="nearly full"),
            Alert(topic="disk", text=""),
            CheckpointFailed(step=6, reason="disk full"),
            Failed(rank=1, message="ValueError: boom", exit_code=4, step=6, log_tail=["first", "last"]),
            block([step(7)]),
            end(7, "failed"),
        ),
        out,
    )
    assert ended is not None
    numbers = "loss 2.3456  lr 3.00e-3  grad 0.81  41.2k tok/s"
    assert out.getvalue().splitlines() == [
        "run    starting",
        "prep   tokenising",
        "run      0/600  demo: 1.2M parameters, 2 x cpu, in runs/demo",
        f"step     1/600  {numbers}",
        f"step     5/600  {numbers}  ETA 2:29",
        f"step     6/600  {numbers}  ETA 2:28",
        "eval     6/600  loss 2.0000  perplexity 7.39  bits/byte 2.885  accuracy 41.2%",
        "sample   6/600",
        "    | The first",
        "    | second",
        "saved    6/600  checkpoints/step-00000006  12.3MB  0.4 s",
        "cmd      7/600  set name=lr value=0.001  applied  (ctl ana@box)",
        "cmd      6/600  undo  refused: nothing to undo  (tui)",
        "run      6/600  paused: by ctl ana@box",
        "warn     6/600  nearly full",
        "error    6/600  checkpoint not saved: disk full",
        "failed   6/600  rank 1: ValueError: boom",
        "    | first",
        "    | last",
        f"step     7/600  {numbers}  ETA 2:28",
        "end      7/600  failed: target reached (exit code 0)  weights ab12",
    ]


async def test_a_clock_set_back_does_not_silence_the_plain_view() -> None:
    """Step lines go on when the wall clock jumps an hour back."""
    out = io.StringIO()
    await follow_plain(Script(run(), block([step(1, attempt=9), step(2), step(9)])), out)
    assert [line.split()[1] for line in out.getvalue().splitlines()] == ["0/600", "1/600", "2/600", "9/600"]


HOSTILE = "a\x1b]2;owned\x07b\x9b31mc\x7f\r\u202e[bold]"


def hostile_script() -> Script:
    """A run in which every text is hostile."""
    return Script(
        CaughtUp(),
        Phase(phase="starting", reason=HOSTILE),
        Progress(task=HOSTILE, done=1, total=2),
        Run(name=HOSTILE, dir=HOSTILE, world_size=1, params=1, target_step=2, device=HOSTILE, resumed_from=HOSTILE),
        Sample(step=0, prompt=HOSTILE, text=HOSTILE),
        Checkpoint(step=0, path=HOSTILE),
        CommandStatus(id="1", name=HOSTILE, args={HOSTILE: HOSTILE}, actor=HOSTILE, status="refused", reason=HOSTILE),
        Alert(topic="x", text=HOSTILE, level="error"),
        Failed(rank=0, message=HOSTILE, exit_code=4, log_tail=[HOSTILE]),
        End(phase="failed", step=0, exit_code=4, reason=HOSTILE, weights_sha256=HOSTILE),
    )


async def test_no_control_character_passes_the_plain_view() -> None:
    """Names, samples, paths, reasons, actors and log lines come out visible and harmless."""
    out = io.StringIO()
    await follow_plain(hostile_script(), out)
    lines = out.getvalue().split("\n")
    assert len(lines) > 10
    assert all(line.isprintable() for line in lines)
    assert "a\\x1b]2;owned\\x07b\\x9b31mc\\x7f\\x0d\\u202e[bold]" in out.getvalue()


class Terminal(io.StringIO):
    """Text that claims to be a terminal, so that rich draws on it."""

    def isatty(self) -> bool:
        return True


async def test_the_progress_view_draws_a_bar_with_events_above(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last picture has the bar full, loss, throughput and ETA; the evaluation stands above; markup is plain text."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    out = Terminal()
    script = Script(CaughtUp(), run(target=8), block(step(number) for number in range(1, 9)), evaluation(8), end(8))
    assert await follow_progress(script, out) == end(8)
    picture = out.getvalue()
    assert "accuracy 41.2%" in picture
    last = picture[picture.rindex("finished") :]
    assert "8/8" in last
    assert "loss 2.3456  lr 3.00e-3  grad 0.81  41.2k tok/s  ETA 0:00" in last


async def test_no_control_character_passes_the_progress_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only rich's own sequences reach the terminal: no title, no raw C1, no bidirectional override, no markup read."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    out = Terminal()
    await follow_progress(hostile_script(), out)
    assert not set(out.getvalue()) & {"\x07", "\x9b", "\x7f", "\u202e"}
    assert "\x1b]" not in out.getvalue()
    assert "\\x1b]2;owned" in out.getvalue()
    assert "[bold]" in out.getvalue()


async def test_every_view_says_when_the_hub_vanished() -> None:
    """Without an end the views return None and leave what they have written."""
    for follow in (follow_json, follow_plain, follow_progress):
        out = io.StringIO()
        assert await follow(Script(run(), CaughtUp()), out) is None
        assert "demo" in out.getvalue()


@pytest.mark.parametrize(
    ("state", "values"),
    [
        (RunState(), (0, None, "starting")),
        (RunState(progress=Progress(task="tokenising", done=3, total=9)), (3, 9, "tokenising")),
        (RunState(progress=Progress(task="counting", done=3, total=0)), (3, None, "counting")),
        (RunState(run=run(), phase="running", step=5), (5, 600, "running")),
    ],
)
def test_the_bar_shows_preparation_then_steps(state: RunState, values: tuple[float, float | None, str]) -> None:
    """Before the first step the bar is that of the task at hand; an unknown total makes it indeterminate."""
    assert bar_values(state) == values


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.003, "3.00e-3"),
        (1.0, "1.00e0"),
        (123.0, "1.23e2"),
        (0.0, "0.00e0"),
        (1e-12, "1.00e-12"),
        (1e10, "1.00e10"),
        (-5e-7, "-5.00e-7"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
    ],
)
def test_scientific(value: float, text: str) -> None:
    """Three digits and the shortest exponent."""
    assert scientific(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (41_234, "41.2k"), (1_234_567, "1.2M"), (7e9, "7.0G"), (2e12, "2.0T"), (float("nan"), "nan")],
)
def test_short(value: float, text: str) -> None:
    """One decimal and a prefix."""
    assert short(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (32.4, "0:32"), (59.6, "1:00"), (3725, "1:02:05"), (360_000, "100:00:00")]
)
def test_clock(seconds: float, text: str) -> None:
    """Minutes and seconds, hours when there are any."""
    assert clock(seconds) == text

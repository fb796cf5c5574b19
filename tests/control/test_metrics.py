"""Promises of `control.metrics`: the fast reading of a long record gives to the bit what reading it line by line gives."""

from __future__ import annotations

import heapq
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plt_tui.control import metrics as metrics_module
from plt_tui.control.feed import Feed
from plt_tui.control.folder import RunFolder
from plt_tui.control.metrics import Rows, read_metrics
from plt_tui.control.record import read_feed
from plt_tui.errors import StorageError
from plt_tui.protocol.events import CommandStatus, Eval, Event, Phase, Run, Sample, Step
from plt_tui.protocol.framing import decode_lines, encode
from tests.control.said import rewind


def step(number: int, time: float = 0.0, loss: float = 1.0) -> Step:
    """A step with a loss and a time of its own."""
    return Step(step=number, time=time, loss=loss, lr=0.1, grad_norm=1.0, tokens=number, tokens_per_s=1.0, step_ms=1.0)


EVAL = Eval(step=1, loss=2.0, perplexity=7.4, bits_per_byte=2.9, accuracy=0.3)
RUN = Run(name="a", dir="/a", world_size=1, params=1, target_step=9, start_step=3, time=1e9)
TIMES = st.sampled_from([0.0, 1e9, 1e9 + 1, 1e9 + 2.5, 2e9])
SAID = st.lists(
    st.one_of(
        st.builds(step, st.integers(1, 12), TIMES, st.floats()),
        st.builds(step, st.integers(1, 12), TIMES, st.floats(0, 9)),
        st.sampled_from([EVAL, RUN, Phase(phase="paused"), Sample(step=1, prompt="a", text="b")]),
        st.builds(rewind, st.integers(0, 6)),
    ),
    max_size=60,
)


def write(folder: RunFolder, said: list[Event]) -> None:
    """The record of `said`, numbered from 1."""
    lines: dict[Path, list[bytes]] = {folder.journal: [], folder.metrics: [], folder.samples: []}
    for seq, event in enumerate(said, start=1):
        path = folder.metrics if isinstance(event, Step | Eval) else folder.samples
        path = folder.journal if isinstance(event, Run | Phase | CommandStatus) else path
        lines[path].append(encode(event).replace(b'"seq":0', b'"seq":%d' % seq))
    for path, written in lines.items():
        path.write_bytes(b"".join(line + b"\n" for line in written))


def read_slowly(folder: RunFolder) -> Feed:
    """Every line an event, every event folded."""
    feed = Feed()
    streams = [decode_lines(io.BytesIO(path.read_bytes())) for path in (folder.journal, folder.metrics, folder.samples)]
    for event in heapq.merge(*streams, key=lambda event: event.seq):
        feed.publish(event)
    return feed


def facts(feed: Feed) -> tuple[object, ...]:
    """What a feed knows, to the bit, NaN included."""
    history = feed.history
    rows = {
        (branch, name): values.tobytes()
        for branch in range(len(history.branches) + 1)
        for name, values in history.line(branch).items()
    }
    numbers = [history.numbers.at(row) for row in range(len(history))]
    return rows, numbers, repr(feed.state), repr(feed.events), feed.last_seq


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(said=SAID, chunk=st.integers(1, 9))
def test_a_fast_read_gives_what_a_slow_one_gives(
    tmp_path_factory: pytest.TempPathFactory, said: list[Event], chunk: int
) -> None:
    """State, pace, history, numbers, branches and events, over repeats, resumes, rewinds, NaN and steps without a time,
    wherever chunks are cut.
    """
    folder = RunFolder(tmp_path_factory.mktemp("run") / "a")
    folder.create("")
    write(folder, said)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics_module, "CHUNK_LINES", chunk)
        assert facts(read_feed(folder)) == facts(read_slowly(folder))


TWICE = [*map(step, range(1, 6)), rewind(2, 5), *map(step, range(3, 8)), rewind(2, 7), *map(step, range(3, 5))]
REWOUND: dict[str, tuple[list[Event], list[list[int]]]] = {
    "once": ([*map(step, range(1, 5)), rewind(2, 4), step(3)], [[1, 2, 3], [3, 4]]),
    "twice to the same step": (TWICE, [[1, 2, 3, 4], [3, 4, 5], [3, 4, 5, 6, 7]]),
    "before an earlier rewind": ([*TWICE, rewind(1, 4), step(2)], [[1, 2], [3, 4, 5], [3, 4, 5, 6, 7], [2, 3, 4]]),
    "with no step between two": ([step(1), step(2), rewind(1, 2), rewind(0, 1), step(1)], [[1], [2], [1]]),
    "to the step that it was at": ([step(1), rewind(1, 1), step(2)], [[1, 2]]),
    "after a fault": ([*map(step, range(1, 6)), replace(RUN, time=0.0), step(4), rewind(2, 4)], [[1, 2], [3, 4]]),
}


@pytest.mark.parametrize(("said", "lines"), REWOUND.values(), ids=REWOUND)
@pytest.mark.parametrize("chunk", [1, 3, 512])
def test_the_steps_of_a_rewound_run_lie_on_their_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[Event], lines: list[list[int]], chunk: int
) -> None:
    """The line that it is on, then each branch, as the live hub had them; the steps stay columns."""
    monkeypatch.setattr(metrics_module, "CHUNK_LINES", chunk)
    folder = RunFolder(tmp_path / "a")
    folder.create("")
    write(folder, said)
    monkeypatch.setattr(metrics_module, "decode", pytest.fail)
    feed = read_feed(folder)
    assert [list(feed.history.line(branch)["step"]) for branch in range(len(feed.history.branches) + 1)] == lines


def test_plain_steps_become_rows_and_no_events() -> None:
    """That is what makes it fast: one item for all steps between two other events."""
    numbers = [*range(2, 27), *range(30, 105)]
    lines = b"".join(encode(replace(step(number), seq=seq)) + b"\n" for number, seq in zip(range(1, 101), numbers, strict=True))
    rows = list(read_metrics(io.BytesIO(lines)))
    assert [(len(part.columns["step"]), part.seq, part.last.step) for part in rows if isinstance(part, Rows)] == [
        (25, 2, 25),
        (75, 30, 100),
    ]


LINE = encode(step(1)).replace(b'"seq":0', b'"seq":1') + b"\n"
BROKEN = {
    "torn": LINE[:40],
    "no object": b"3\n",
    "unknown": b'{"kind":"x","seq":7}\n',
    "no loss": b'{"kind":"step","seq":7,"step":2}\n',
    "two values": LINE[:-1] + b"," + LINE,
    "none": b"\n",
    "bad number": LINE.replace(b'"loss":1.0', b'"loss":"high"'),
    "huge": LINE.replace(b'"loss":1.0', b'"loss":1' + b"0" * 400),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("chunk", [1, 2, 3, 512])
def test_a_broken_line_is_torn_at_the_end_and_an_error_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bytes, chunk: int
) -> None:
    """As everywhere in the record: the last line may be half written, all others must be whole."""
    monkeypatch.setattr(metrics_module, "CHUNK_LINES", chunk)
    folder = RunFolder(tmp_path / "a")
    folder.create("")
    folder.metrics.write_bytes(LINE + broken)
    assert len(read_feed(folder).history) == 1
    folder.metrics.write_bytes(LINE + broken.rstrip(b"\n") + b"\n" + LINE)
    with pytest.raises(StorageError, match=r"metrics\.jsonl cannot be read"):
        read_feed(folder)


def test_a_line_of_another_version_is_read_slowly(tmp_path: Path) -> None:
    """Fields in another order, one more, and one that has a default left out."""
    folder = RunFolder(tmp_path / "a")
    folder.create("")
    value = json.loads(LINE)
    del value["data_ms"]
    folder.metrics.write_text(json.dumps({"new": "x", **dict(reversed(value.items())), "loss": "nan"}) + "\n")
    feed = read_feed(folder)
    assert feed.state.step == 1
    assert math.isnan(feed.history.columns["loss"][0])
    assert feed.history.columns["data_ms"][0] == 0.0

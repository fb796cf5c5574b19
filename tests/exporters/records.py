"""Records of runs that nobody trained, written as a hub writes them, and an exporter that remembers what it was given."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from plt_tui.config.load import to_toml
from plt_tui.config.schema import RunConfig
from plt_tui.control.folder import RunFolder
from plt_tui.control.record import Recorder, read_feed
from plt_tui.exporters.base import ExportTarget, Row, RunFacts
from plt_tui.exporters.copy import Copy
from plt_tui.protocol.events import CommandStatus, End, Eval, Event, Phase, Run, Sample, Step

START_S = 1_700_000_000.0


def new_folder(path: Path) -> RunFolder:
    """A run folder without a record."""
    folder = RunFolder(path)
    folder.create(to_toml(RunConfig()))
    return folder


def record(folder: RunFolder, events: Sequence[Event]) -> list[Event]:
    """Append `events` to the record, and return them with their numbers."""
    recorder = Recorder(folder, read_feed(folder).last_seq, lambda _: None)
    with contextlib.closing(recorder):
        return [recorder.record(event) for event in events]


def session(start_step: int = 0, **config: dict[str, object]) -> Run:
    """A session that begins."""
    return Run(
        time=START_S + start_step,
        name="a",
        dir="runs/a",
        world_size=2,
        params=100,
        target_step=50,
        start_step=start_step,
        config={"optim": {"lr": 0.1, "name": "adamw"}, "train": {"compile": False, "steps": 50}, **config},
    )


def step(number: int, loss: float | None = None) -> Step:
    """A step whose numbers have all their bits in use."""
    return Step(
        time=START_S + number / 3,
        step=number,
        loss=1 / number if loss is None else loss,
        lr=0.1 / 3,
        grad_norm=number / 7,
        tokens=number * 256,
        tokens_per_s=1e6 / 3,
        step_ms=0.1,
        data_ms=1e-9 / 3,
    )


def steps(first: int, last: int, *, loss: float | None = None) -> list[Event]:
    """Steps `first` to `last`."""
    return [step(number, loss) for number in range(first, last + 1)]


def scored(number: int) -> Eval:
    """An evaluation after step `number`."""
    return Eval(time=START_S + number, step=number, loss=2 / number, perplexity=7.5, bits_per_byte=0.7, accuracy=0.5, tokens=9)


def rewound(before: int, after: int) -> CommandStatus:
    """A rewind that was applied."""
    return CommandStatus(
        time=START_S,
        id=f"rewind{before}",
        name="rewind",
        args={"step": after},
        actor="ana",
        status="applied",
        step=after,
        before=before,
        after=after,
    )


def sample(number: int, text: str = "once \x1b[2J upon") -> Sample:
    """A text written after step `number`."""
    return Sample(time=START_S, step=number, prompt="The ", text=text)


def small_run() -> list[Event]:
    """A run of ten steps with everything that exporters show, from its start to its end."""
    return [
        Phase(time=START_S, phase="starting"),
        session(),
        *steps(1, 5),
        scored(5),
        sample(5),
        *steps(6, 10),
        scored(10),
        End(time=START_S + 99, phase="finished", step=10, exit_code=0),
    ]


@dataclass
class Remembered:
    """An exporter that keeps what it is given, as lists of words and numbers."""

    target: ExportTarget
    calls: list[tuple[object, ...]] = field(default_factory=list)

    def open(self, run: RunFacts) -> None:
        """See Exporter."""
        self.calls.append(("open", run.step, run.is_new))

    def metrics(self, rows: Sequence[Row]) -> None:
        """See Exporter."""
        self.calls += [("row", row.step, row.values["train/loss"]) for row in rows]

    def event(self, event: Event) -> None:
        """See Exporter."""
        self.calls.append(("event", event.kind, getattr(event, "step", None)))

    def flush(self) -> None:
        """See Exporter."""
        self.calls.append(("flush",))

    def close(self, end: End | None) -> None:
        """See Exporter."""
        self.calls.append(("close", end.phase if end is not None else None))

    @property
    def steps(self) -> list[object]:
        """The steps that came, in order."""
        return [call[1] for call in self.calls if call[0] == "row"]


class Memory:
    """A factory that remembers the exporters which it has made."""

    def __init__(self) -> None:
        self.made: list[Remembered] = []

    def __call__(self, target: ExportTarget) -> Remembered:
        """A new exporter."""
        self.made.append(Remembered(target))
        return self.made[-1]

    @property
    def steps(self) -> list[object]:
        """The steps that all of them were given."""
        return [number for exporter in self.made for number in exporter.steps]


def run_through(copy: Copy) -> Copy:
    """Copy all that is recorded, with so much time between two looks that each ends with a flush."""
    clock = itertools.count(10, 10)
    while copy.go_on(next(clock), to_the_end=True):
        pass
    return copy


@contextlib.contextmanager
def appended(path: Path, text: bytes) -> Iterator[None]:
    """`text` at the end of a file while the block runs."""
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(text)
    yield
    with path.open("r+b") as file:
        file.truncate(size)

"""Promises of the TensorBoard exporter: its files are read back by TensorBoard itself, each step once, whatever happened."""

from __future__ import annotations

import contextlib
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plt_tui.control.folder import RunFolder
from plt_tui.exporters.copy import Copy
from plt_tui.exporters.tensorboard import TensorBoard, masked_crc32c, next_name
from plt_tui.exporters.tensorboard import record as packed
from plt_tui.protocol.events import Alert
from tests.exporters.export_and_die import EXIT_CODE
from tests.exporters.records import new_folder, record, rewound, run_through, sample, scored, session, small_run, step, steps

ROOT = Path(__file__).parents[2]
READER = Path(__file__).parent / "read_tensorboard.py"


def read(directory: Path) -> dict[str, Any]:
    """What TensorBoard reads: scalars as [step, value, time], texts as [step, text], and hyperparameters."""
    done = subprocess.run([sys.executable, READER, directory], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def float32(value: float) -> float:
    """`value` as event files keep it."""
    kept: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return kept


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run folder without a record."""
    return new_folder(tmp_path / "a")


def export(folder: RunFolder) -> Path:
    """Copy all that is new, as a process of its own would; returns the folder of the event files."""
    exports = folder.path / "exports"
    exports.mkdir(exist_ok=True)
    directory = exports / "tensorboard"
    place = exports / "tensorboard.json"
    with contextlib.closing(Copy(TensorBoard, folder, place, directory=directory, project="p")) as copy:
        run_through(copy).finish()
    return directory


def export_and_die(folder: RunFolder, what: str, number: int, batch: int) -> None:
    """The same, until it is killed."""
    command = [sys.executable, "-m", "tests.exporters.export_and_die", str(folder.path), what, str(number), str(batch)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == EXIT_CODE, done.stderr


def test_a_run_is_read_back_by_tensorboard(folder: RunFolder) -> None:
    """Every number to the last bit of a 32-bit float, with its step and time; texts and configuration too."""
    record(folder, [*small_run()[:-1], Alert(topic="disk", text="nearly full \x1b[2J"), *steps(11, 11)])
    found = read(export(folder))
    made = [step(number) for number in range(1, 12)]
    scalars = found["scalars"]
    assert scalars["train/loss"] == [[one.step, float32(one.loss), one.time] for one in made]
    assert scalars["train/lr"] == [[one.step, float32(one.lr), one.time] for one in made]
    assert scalars["train/grad_norm"] == [[one.step, float32(one.grad_norm), one.time] for one in made]
    assert scalars["train/tokens_per_s"] == [[one.step, float32(one.tokens_per_s), one.time] for one in made]
    assert scalars["train/step_ms"] == [[one.step, float32(one.step_ms), one.time] for one in made]
    assert scalars["tokens"] == [[one.step, float(one.tokens), one.time] for one in made]
    assert scalars["eval/loss"] == [[number, float32(2 / number), scored(number).time] for number in (5, 10)]
    assert set(scalars) == {
        *(f"train/{name}" for name in ("loss", "lr", "grad_norm", "tokens_per_s", "step_ms")),
        *(f"eval/{name}" for name in ("loss", "perplexity", "bits_per_byte", "accuracy")),
        "tokens",
    }
    ((at, text),) = found["texts"]["sample"]
    assert at == 5
    assert "    The once \\x1b[2J upon" in text
    ((at, note),) = found["texts"]["notes"]
    assert (at, note) == (10, "**alert: disk**\n\n    nearly full \\x1b[2J")
    ((_, config),) = found["texts"]["config"]
    assert '    optim.lr = 0.1\n    optim.name = "adamw"' in config
    assert found["hparams"] == {"optim.lr": 0.1, "optim.name": "adamw", "train.compile": False, "train.steps": 50.0}


def test_a_rewind_takes_the_steps_behind_it_out(folder: RunFolder) -> None:
    """Evaluations and texts too; what stands at the step that it goes back to stays."""
    behind = [*steps(5, 8, loss=9.0), scored(6), sample(6)]
    record(folder, [session(), *steps(1, 4), scored(4), sample(4), *behind, rewound(8, 4), *steps(5, 6)])
    found = read(export(folder))
    assert [row[:2] for row in found["scalars"]["train/loss"]] == [[n, float32(1 / n)] for n in range(1, 7)]
    assert [row[0] for row in found["scalars"]["eval/loss"]] == [4]
    assert [row[0] for row in found["texts"]["sample"]] == [4]
    assert found["texts"]["notes"][0][1].startswith("**rewind from step 8 to step 4**")


def test_a_crash_of_the_run_repeats_nothing(folder: RunFolder) -> None:
    """Steps that are computed again take the place of those before."""
    record(folder, [session(), *steps(1, 9, loss=9.0), session(4), *steps(5, 10)])
    losses = read(export(folder))["scalars"]["train/loss"]
    assert [row[0] for row in losses] == list(range(1, 11))
    assert [row[1] for row in losses[:4]] == [9.0] * 4


def test_a_resumed_run_goes_on_in_a_new_file(folder: RunFolder) -> None:
    """Read together they are one run, however fast one start follows the other."""
    record(folder, small_run())
    export(folder)
    record(folder, [session(10), *steps(11, 15)])
    export(folder)
    record(folder, [rewound(15, 12), *steps(13, 14)])
    directory = export(folder)
    assert len(list(directory.iterdir())) == 3
    assert [row[0] for row in read(directory)["scalars"]["train/loss"]] == list(range(1, 15))


@pytest.mark.parametrize("kill_at", [1, 2, 4, 6, 9, 11])
def test_killed_anywhere_it_misses_nothing_and_repeats_nothing(folder: RunFolder, kill_at: int) -> None:
    """With a flush behind every second event."""
    record(folder, [session(), *steps(1, 4), scored(4), *steps(5, 6), scored(6), sample(6), *steps(7, 8), scored(8), sample(8)])
    export_and_die(folder, "beat", kill_at, 2)
    found = read(export(folder))
    assert [row[0] for row in found["scalars"]["train/loss"]] == list(range(1, 9))
    assert [row[0] for row in found["scalars"]["eval/loss"]] == [4, 6, 8]
    assert [row[0] for row in found["texts"]["sample"]] == [6, 8]


@pytest.mark.parametrize("kill_at", [2, 3, 4, 5, 6])
def test_what_was_written_behind_the_last_place_is_cut_off(folder: RunFolder, kill_at: int) -> None:
    """Killed between a flush and the note of the place: even an evaluation at the last step that was safe is there once."""
    record(folder, [session(), *steps(1, 2), scored(2), *steps(3, 3)])
    export_and_die(folder, "place", kill_at, 1)
    found = read(export(folder))
    assert [row[0] for row in found["scalars"]["train/loss"]] == [1, 2, 3]
    assert [row[0] for row in found["scalars"]["eval/loss"]] == [2]


def test_numbers_that_are_none_pass(folder: RunFolder) -> None:
    """NaN and infinity are shown by TensorBoard as such."""
    record(folder, [session(), step(1, float("nan")), step(2, float("inf")), step(3, 1e300)])
    losses = read(export(folder))["scalars"]["train/loss"]
    assert [str(row[1]) for row in losses] == ["nan", "inf", "inf"]


def test_names_sort_in_the_order_in_which_they_were_made() -> None:
    """Also within a second, and where the clock was set back."""
    first = next_name([], 1_700_000_000.9, "box", 7)
    second = next_name([first, "notes.txt"], 1_700_000_000.95, "box", 7)
    third = next_name([first, second], 1_600_000_000.0, "box", 9)
    assert first == "events.out.tfevents.1700000000.box.7"
    assert sorted([third, first, second]) == [first, second, third]


@pytest.mark.parametrize(
    ("data", "crc"),
    [(b"", 0x00000000), (b"\x00" * 32, 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)],
)
def test_checksums_are_those_of_the_standard(data: bytes, crc: int) -> None:
    """RFC 3720, appendix B.4; masked as event files want it."""
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    assert masked_crc32c(data) == masked
    assert packed(data)[-4:] == struct.pack("<I", masked)

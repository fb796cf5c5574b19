"""Promises of `plt-tui export` for numbers: tables and exporters by name, and a sentence for everything that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from plt_tui.cli.weights import export
from plt_tui.errors import PltTuiError, UsageError
from tests.cli.commands import Call
from tests.exporters.records import new_folder, record, session, small_run, steps

LISTING = Path(__file__).parents[1] / "exporters" / "listing_plugin.py"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """One run, "first", of ten steps."""
    record(new_folder(tmp_path / "runs" / "first"), small_run())
    return tmp_path / "runs"


def test_tables_are_written(runs: Path, tmp_path: Path, call: Call) -> None:
    """By the beginning of the run's name; what was written is told."""
    done = call("export", "fir", "--format", "csv", "-o", str(tmp_path / "out"), "--dir", str(runs))
    assert (done.exit_code, done.err) == (0, "")
    assert done.out == f"wrote {tmp_path / 'out'}: metrics.csv (10 rows), evals.csv (2 rows), events.csv (4 rows)\n"
    assert len((tmp_path / "out" / "metrics.csv").read_text().splitlines()) == 11


def test_an_exporter_takes_what_is_new(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of the run, then nothing, then what was added; into a folder all of it once more."""

    def said(output: Path | None = None) -> str:
        export("first", output, form="listing", plugins=[LISTING], directory=runs)
        return capsys.readouterr().out

    assert said() == "handed 10 steps and 5 other events of first to listing\n"
    assert said() == "nothing of first is new to listing\n"
    record(new_folder(runs / "first"), [session(10), *steps(11, 12)])
    assert said() == "handed 2 steps and 1 other events of first to listing\n"
    assert said(tmp_path / "own") == f"handed 12 steps and 7 other events of first to listing, files in {tmp_path / 'own'}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"form": "csv"}, "--format csv needs a folder: -o DIR"),
        ({"form": "hf"}, "--format hf needs a folder: -o DIR"),
        ({"form": "csv", "step": 5}, "--step: --format csv takes all steps"),
        (
            {"form": "xlsx"},
            r'--format text "xlsx": no format of weights, no table \(csv, parquet\), and no plug-in .* tensorboard',
        ),
    ],
)
def test_what_cannot_be_is_told(runs: Path, arguments: dict[str, object], said: str) -> None:
    """What is missing, or what there is instead."""
    with pytest.raises(UsageError, match=said):
        export("first", directory=runs, **arguments)


def test_an_unknown_run_is_named(runs: Path) -> None:
    """With those that there are."""
    with pytest.raises(UsageError, match="no run 'second' under"):
        export("second", form="listing", plugins=[LISTING], directory=runs)


def test_an_exporter_that_fails_is_a_sentence(runs: Path) -> None:
    """Not a traceback; the same command goes on."""
    with pytest.raises(PltTuiError, match="the exporter broken has failed: OSError: no network; what it has taken is kept"):
        export("first", form="broken", plugins=[_broken(runs)], directory=runs)


def _broken(runs: Path) -> Path:
    path = runs / "broken.py"
    path.write_text("def broken(target):\n    raise OSError('no network')\n\nEXPORTERS = {'broken': broken}\n")
    return path

"""trackio: calls go to a module with the signatures of trackio 0.43.0 (`stand_in/trackio`), which writes them down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plt_tui.protocol.events import Alert, CommandStatus, End, Eval, Sample
from tests.exporters.by_hand import DIE, FLUSH, START, WITHOUT, closed, drive, driven, event, opened, rows, step_of, steps

EXPORTER = "plt_tui.exporters.trackio_run:TrackioExporter"
STAND_IN = Path(__file__).parent / "stand_in"
END = End(phase="finished", step=30, exit_code=0, time=START + 60, seq=90)


def _environment(folder: Path, **more: str) -> dict[str, str]:
    return {"PYTHONPATH": str(STAND_IN), "TRACKIO_DIR": str(folder / "store"), **more}


def _export(folder: Path, *calls: list[Any]) -> str:
    return driven(EXPORTER, folder / "own", calls, _environment(folder))


def _stored(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "store" / "plt-tui.jsonl").read_text().splitlines()
    return [value for line in lines if (value := json.loads(line))["kind"] == kind]


def _series(folder: Path, name: str) -> list[tuple[int, float]]:
    return [(entry["step"], entry["metrics"][name]) for entry in _stored(folder, "log") if name in entry["metrics"]]


def test_every_number_is_there_once(tmp_path: Path) -> None:
    """Steps and evaluations are rows of one run, with the same floats."""
    scores = Eval(step=20, loss=1 / 3, perplexity=1.4, bits_per_byte=2 / 7, accuracy=0.1, time=START + 9, seq=21)
    _export(tmp_path, opened(), steps(1, 20), event(scores), FLUSH, steps(21, 30, seq=22), FLUSH, closed(END))
    assert _series(tmp_path, "train/loss") == [(step, 8.0 / (3.0 + step)) for step in range(1, 31)]
    assert _series(tmp_path, "eval/bits_per_byte") == [(20, 2 / 7)]
    assert {entry["run"] for entry in _stored(tmp_path, "log")} == {"little-c0ffee"}


def test_the_configuration_is_flat(tmp_path: Path) -> None:
    """One table of parameters goes to trackio."""
    _export(tmp_path, opened(), steps(1, 1), FLUSH, closed(END))
    (run,) = _stored(tmp_path, "init")
    assert run["config"]["optim.lr"] == 3e-3
    assert run["config"]["facts.params"] == 812_345
    assert (run["auto_log_gpu"], run["auto_log_cpu"], run["embed"]) == (False, False, False)


def test_texts_are_markdown_and_alerts(tmp_path: Path) -> None:
    """A sample cannot leave its block of code; notes are alerts with a level."""
    rewind = CommandStatus(
        id="1", name="rewind", args={"step": 2}, actor="me", status="applied", step=2, before=5, after=2, seq=8
    )
    _export(
        tmp_path,
        opened(),
        steps(1, 5),
        event(Sample(step=5, prompt="The ", text="```\n# end\x1b[2J", seq=6)),
        event(Alert(topic="disk", text="little space", seq=7)),
        event(rewind),
        rows(step_of(3, 9, 0.5)),
        FLUSH,
        closed(END),
    )
    (sample,) = [entry["metrics"]["sample"] for entry in _stored(tmp_path, "log") if "sample" in entry["metrics"]]
    assert sample == {"_type": "trackio.markdown", "_value": "````\nThe ```\n# end\\x1b[2J\n````"}
    alerts = [(entry["level"], entry["title"], entry["text"], entry["step"]) for entry in _stored(tmp_path, "alert")]
    assert alerts == [
        ("warn", "alert: disk", "little space", 5),
        ("info", "rewind from step 5 to step 2", "rewind step = 2, by me", 2),
        ("info", "finished at step 30", None, 30),
    ]
    assert [step for step, _ in _series(tmp_path, "train/loss")] == [1, 2, 3, 4, 5, 3]


@pytest.mark.parametrize("crash", [DIE, closed()], ids=["killed", "closed"])
def test_a_restart_goes_on_in_the_same_run(tmp_path: Path, crash: list[Any]) -> None:
    """What was not flushed before a crash comes once more, and is there once."""
    unflushed = [] if crash[0] == "close" else [steps(11, 15)]
    _export(tmp_path, opened(), steps(1, 10), FLUSH, *unflushed, crash)
    _export(tmp_path, opened(is_new=False, step=10), steps(11, 20), FLUSH, closed(END))
    assert [step for step, _ in _series(tmp_path, "train/loss")] == list(range(1, 21))
    assert len({entry["id"] for entry in _stored(tmp_path, "init")}) == 1


def test_rows_that_trackio_drops_fail_the_exporter(tmp_path: Path) -> None:
    """When its disk is full trackio only warns; the exporter does not call that safe."""
    exit_code, said = drive(
        EXPORTER, tmp_path / "own", [opened(), steps(1, 3), FLUSH], _environment(tmp_path, STAND_IN_DISK="full")
    )
    assert exit_code == 1
    assert "trackio warns" in said.splitlines()[-1]
    assert "this batch could not be persisted" in said.splitlines()[-1]


def test_a_token_in_a_refused_address_is_not_told(tmp_path: Path) -> None:
    """An address that trackio does not take is repeated without its token."""
    address = "localhost:7860/?write_token=hunter2secret"
    exit_code, said = drive(EXPORTER, tmp_path / "own", [opened()], _environment(tmp_path, TRACKIO_SERVER_URL=address))
    assert exit_code == 1
    assert "trackio refuses" in said
    assert "hunter2secret" not in said


def test_without_the_package_it_says_how_to_install_it(tmp_path: Path) -> None:
    """The sentence names the extra."""
    exit_code, said = drive(EXPORTER, tmp_path / "own", [opened()], {WITHOUT: "trackio"})
    assert exit_code == 1
    assert "pip install 'plt-tui[trackio]'" in said

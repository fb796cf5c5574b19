"""Weights & Biases, offline: what was exported is read back with W&B's own reader (`wandb leet inspect`)."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from plt_tui.control.folder import RunFolder
from plt_tui.protocol.events import Alert, CommandStatus, End, Eval, Sample
from tests.exporters.by_hand import (
    DIE,
    FLUSH,
    ROOT,
    RUN_ID,
    SECRET,
    START,
    TOOLS,
    WITHOUT,
    begun,
    closed,
    drive,
    driven,
    event,
    files_with,
    opened,
    rows,
    said_after,
    session,
    step_of,
    steps,
    written,
)
from tests.exporters.records import new_folder, record, small_run
from tests.exporters.records import steps as recorded_steps
from tests.exporters.wandb_server import Server, serving

EXPORTER = "plt_tui.exporters.wandb_run:WandbExporter"
OFFLINE = {"WANDB_MODE": "offline", "WANDB_API_KEY": SECRET}
END = End(phase="finished", step=30, exit_code=0, weights_sha256="ab" * 32, time=START + 60, seq=90)

Record = dict[str, Any]


def _export(folder: Path, *calls: list[Any]) -> str:
    return driven(EXPORTER, folder / "own", calls, OFFLINE)


def _records(folder: Path, kind: str) -> list[Record]:
    """All records of a kind in all transaction logs of starts that were offline, the oldest log first."""
    logs = sorted(folder.glob("own/wandb/offline-run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    return [record for log in logs for record in _read(log, kind)]


def _read(log: Path, kind: str) -> list[Record]:
    """The records of a kind in one transaction log."""
    package = importlib.util.find_spec("wandb")
    assert package is not None
    assert package.origin is not None
    core = Path(package.origin).parent / "bin" / "wandb-core"
    command = [str(core), "leet", "inspect", "--no-observability", "--json", "--run-file", str(log), str(log.parent.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return [record[kind] for line in done.stdout.splitlines() if (record := json.loads(line))["type"] == kind]


def _history(folder: Path, name: str) -> list[tuple[int, Any]]:
    """`step` and value of the rows that have the series `name`."""
    items = [record["item"] for record in _records(folder, "history")]
    return [(item["step"], item[name]) for item in items if name in item]


def _steps(folder: Path) -> list[int]:
    return [step for step, _ in _history(folder, "train/loss")]


def test_every_number_is_there_once_with_all_its_bits(tmp_path: Path) -> None:
    """Steps and evaluations are rows of the history, at the time of the record; W&B gives back the same floats."""
    scores = Eval(step=20, loss=1 / 3, perplexity=math.e, bits_per_byte=2 / 7, accuracy=0.1, time=START + 9.001, seq=21)
    _export(tmp_path, opened(), steps(1, 20), event(scores), FLUSH, steps(21, 30, seq=22), FLUSH, closed(END))
    assert _history(tmp_path, "train/loss") == [(step, 8.0 / (3.0 + step)) for step in range(1, 31)]
    assert _history(tmp_path, "train/lr") == [(step, 3e-3 * (1 - step / 777)) for step in range(1, 31)]
    assert _history(tmp_path, "tokens")[-1] == (30, 61440.0)
    assert _history(tmp_path, "eval/bits_per_byte") == [(20, 2 / 7)]
    assert _history(tmp_path, "_timestamp")[:2] == [(1, START + 1 / 3), (2, START + 2 / 3)]
    assert [record["step"]["num"] for record in _records(tmp_path, "history")] == list(range(1, 32))
    assert [record["exit_code"] for record in _records(tmp_path, "exit")] == [0]


def test_charts_are_drawn_over_our_steps(tmp_path: Path) -> None:
    """All series have `step` as their x axis: W&B's own counter counts lines of the record."""
    _export(tmp_path, opened(), steps(1, 2), closed(END))
    axes = {record.get("name") or record.get("glob_name"): record.get("step_metric") for record in _records(tmp_path, "metric")}
    assert axes["train/*"] == axes["eval/*"] == axes["tokens"] == "step"


def test_a_loss_that_is_no_number_is_exported(tmp_path: Path) -> None:
    """NaN and infinity are rows like any others."""
    _export(tmp_path, opened(), rows(step_of(1, 1, math.nan), step_of(2, 2, math.inf), step_of(3, 3)), FLUSH, closed(END))
    assert _history(tmp_path, "train/loss") == [(1, "NaN"), (2, "Infinity"), (3, 8.0 / 6.0)]


def test_the_configuration_is_the_config(tmp_path: Path) -> None:
    """The sections, what the ranks found out, and the project and name of the run."""
    _export(tmp_path, opened(), closed(END))
    (run,) = _records(tmp_path, "run")
    config = run["config"]["update"]
    assert config["optim"] == {"lr": 3e-3, "betas": [0.9, 0.95]}
    assert config["facts"]["params"] == 812_345
    assert config["environment"]["torch"] == "2.10.0"
    assert (run["run_id"], run["project"], run["display_name"]) == (RUN_ID, "plt-tui", "little")


def test_texts_are_pages_alerts_and_lines(tmp_path: Path) -> None:
    """A sample is a page without markup of its own; an alert is an alert; a rewind is a line of the run's logs."""
    rewind = CommandStatus(
        id="1", name="rewind", args={"step": 2}, actor="me", status="applied", step=2, before=5, after=2, seq=9
    )
    _export(
        tmp_path,
        opened(),
        steps(1, 5),
        event(Sample(step=5, prompt="The ", text="<script>end</script>\x1b[2J", seq=6)),
        event(Alert(topic="disk", text="little space", level="error", seq=7)),
        event(Alert(topic="disk", text="", seq=8)),
        event(rewind),
        FLUSH,
        closed(END),
    )
    (page,) = tmp_path.glob("own/wandb/offline-run-*/files/media/html/*.html")
    assert page.read_text().endswith(">The &lt;script&gt;end&lt;/script&gt;\\x1b[2J</pre>")
    assert [step for step, _ in _history(tmp_path, "sample.path")] == [5]
    alerts = [(alert["title"], alert["text"], alert["level"]) for alert in _records(tmp_path, "alert")]
    assert alerts == [("alert: disk", "little space", "ERROR")]
    said = json.dumps([*_records(tmp_path, "output_raw"), *_records(tmp_path, "output_logger")])
    assert "rewind from step 5 to step 2" in said
    assert "finished at step 30" in said


def test_a_rewind_draws_its_steps_once_more(tmp_path: Path) -> None:
    """W&B's own counter goes on while `step` goes back; nothing is refused for having been there."""
    _export(tmp_path, opened(), steps(1, 10), rows(step_of(7, 12, 0.5), step_of(8, 13, 0.25)), FLUSH, closed(END))
    assert _steps(tmp_path) == [*range(1, 11), 7, 8]
    assert [record["step"]["num"] for record in _records(tmp_path, "history")] == [*range(1, 11), 12, 13]


def test_a_line_that_comes_late_is_not_refused(tmp_path: Path) -> None:
    """A line that waited for a full disk comes with a lower number than those before it."""
    _export(tmp_path, opened(), rows(step_of(1, 1), step_of(3, 3), step_of(2, 2), step_of(4, 4)), FLUSH, closed(END))
    assert _steps(tmp_path) == [1, 3, 2, 4]


def test_a_restart_goes_on_in_the_same_run(tmp_path: Path) -> None:
    """A later session adds to the run of the same id, with its own configuration; the counter goes on."""
    said = _export(tmp_path, opened(), steps(1, 10), FLUSH, closed())
    assert "wandb sync " in said
    later = session({"optim": {"lr": 1e-4}}, start_step=10)
    _export(tmp_path, opened(later, is_new=False, step=10), steps(11, 20), FLUSH, closed(END))
    assert _steps(tmp_path) == list(range(1, 21))
    runs = _records(tmp_path, "run")
    assert [run["run_id"] for run in runs] == [RUN_ID, RUN_ID]
    assert runs[1]["config"]["update"]["optim"]["lr"] == 1e-4
    assert [record["step"]["num"] for record in _records(tmp_path, "history")] == list(range(1, 21))
    assert [record["exit_code"] for record in _records(tmp_path, "exit")] == [1, 0]


def test_what_was_flushed_outlives_a_kill(tmp_path: Path) -> None:
    """An exporter that is killed right behind a flush has lost nothing of what was flushed, and leaves no process behind."""
    _export(tmp_path, opened(), steps(1, 500), FLUSH, DIE)
    _export(tmp_path, opened(is_new=False, step=500), steps(501, 510), FLUSH, closed(END))
    assert _steps(tmp_path) == list(range(1, 511))


def test_what_was_not_flushed_before_a_kill_is_there_once(tmp_path: Path) -> None:
    """Offline nobody can tell that rows come again: none of them has been logged."""
    _export(tmp_path, opened(), steps(1, 10), FLUSH, steps(11, 15), DIE)
    _export(tmp_path, opened(is_new=False, step=10), steps(11, 20), FLUSH, closed(END))
    assert _steps(tmp_path) == list(range(1, 21))


def test_no_key_is_written_down(tmp_path: Path) -> None:
    """The key in the environment is in no file, neither of ours nor of W&B's."""
    _export(tmp_path, opened(), steps(1, 3), FLUSH, closed(END))
    assert files_with(SECRET, tmp_path) == []


def test_a_server_that_is_down_fails_the_exporter_soon(tmp_path: Path) -> None:
    """Online without a server: wandb's error, after the time that WANDB_INIT_TIMEOUT gives it; no key in it."""
    with socket.socket() as closed_port:
        closed_port.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed_port.getsockname()[1]}"
        online = {"WANDB_API_KEY": SECRET, "WANDB_BASE_URL": address, "WANDB_INIT_TIMEOUT": "3"}
        exit_code, said = drive(EXPORTER, tmp_path / "own", [opened(), steps(1, 3), FLUSH], online)
    assert exit_code == 1
    assert "wandb.errors" in said
    assert SECRET not in said
    assert files_with(SECRET, tmp_path) == []


def test_online_a_restart_goes_on_and_repeats_nothing(tmp_path: Path) -> None:
    """The server gets every row once, though the exporter is given some again; none is refused with a warning."""
    with serving() as server:
        online = {"WANDB_API_KEY": SECRET, "WANDB_BASE_URL": server.address}
        driven(EXPORTER, tmp_path / "own", [opened(), steps(1, 20), FLUSH, closed()], online)
        said = driven(EXPORTER, tmp_path / "own", [opened(is_new=False, step=14), steps(15, 30), FLUSH, closed(END)], online)
    assert [row["step"] for row in server.rows()] == list(range(1, 31))
    assert [row["train/loss"] for row in server.rows()] == [8.0 / (3.0 + step) for step in range(1, 31)]
    assert (server.run_names, server.exit_codes) == ({RUN_ID}, [1, 0])
    assert "WARNING" not in said
    assert SECRET not in said
    assert files_with(SECRET, tmp_path) == []


def test_a_server_that_lacks_what_was_flushed_gets_it(tmp_path: Path) -> None:
    """What wandb's own process had not sent when it died with a killed exporter, the next start sends."""
    folder = new_folder(tmp_path / "runs" / "a")
    record(folder, [one for one in small_run() if not isinstance(one, End)])
    with serving() as server:
        assert "WARNING" not in _exported(folder, server)
        assert [row["step"] for row in server.rows()] == [1, 2, 3, 4, 5, 5, 5, 6, 7, 8, 9, 10, 10]
        del server.history[4:]
        record(folder, [*recorded_steps(11, 12), END])
        assert "WARNING W&B has the run up to line 6 of its record, not 15" in _exported(folder, server)
    assert [row["step"] for row in server.rows()] == [1, 2, 3, 4, 5, 5, 5, 6, 7, 8, 9, 10, 10, 11, 12]
    assert [row["train/loss"] for row in server.rows() if "train/loss" in row] == [1 / step for step in range(1, 13)]
    assert server.exit_codes[-1] == 0


def _exported(folder: RunFolder, server: Server) -> str:
    """What an export of all that is recorded prints."""
    code = "from plt_tui.exporters.process import *; export_record('wandb', RunFolder(Path(sys.argv[1])))"
    own = {name: value for name, value in os.environ.items() if not name.startswith(TOOLS)}
    environment = {**own, "HOME": str(folder.path.parent), "WANDB_API_KEY": SECRET, "WANDB_BASE_URL": server.address}
    command = [sys.executable, "-c", code, str(folder.path)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_server_that_goes_away_costs_little_and_loses_nothing(tmp_path: Path) -> None:
    """The end is not waited for; the exporter fails with a sentence, and what was not uploaded lies on disk."""
    with serving() as server:
        online = {"WANDB_API_KEY": SECRET, "WANDB_BASE_URL": server.address, "WANDB_FINISH_TIMEOUT": "2"}
        with begun(EXPORTER, tmp_path / "own", online) as exporter:
            said_after(exporter, [opened(), steps(1, 5), FLUSH])
            server.shutdown()
            server.server_close()
            said, _ = exporter.communicate(written([steps(6, 10), FLUSH, closed(END)]), timeout=60)
    assert exporter.returncode == 1
    assert said.splitlines()[-1].startswith("TimeoutError: W&B's server has not taken everything; export the run once more")
    (log,) = tmp_path.glob("own/wandb/run-*/run-*.wandb")
    assert [record["item"]["step"] for record in _read(log, "history")] == list(range(1, 11))


def test_without_a_key_it_says_what_to_do(tmp_path: Path) -> None:
    """Nobody can be asked for a key: the sentence says where one goes, and how to do without."""
    exit_code, said = drive(EXPORTER, tmp_path / "own", [opened()], {"WANDB_BASE_URL": "http://127.0.0.1:9"})
    assert exit_code == 1
    assert "UsageError: W&B refuses" in said
    assert "WANDB_MODE=offline" in said


def test_without_the_package_it_says_how_to_install_it(tmp_path: Path) -> None:
    """The sentence names the extra."""
    exit_code, said = drive(EXPORTER, tmp_path / "own", [opened()], {WITHOUT: "wandb"})
    assert exit_code == 1
    assert "pip install 'plt-tui[wandb]'" in said

"""MLflow: what was exported is read back with MLflow's own client."""

from __future__ import annotations

import contextlib
import json
import math
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from plt_tui.protocol.events import Alert, CommandStatus, End, Eval, Sample
from tests.exporters.by_hand import (
    DIE,
    FLUSH,
    RUN_ID,
    START,
    WITHOUT,
    closed,
    drive,
    driven,
    event,
    files_with,
    opened,
    rows,
    session,
    step_of,
    steps,
)

EXPORTER = "plt_tui.exporters.mlflow_run:MlflowExporter"
END = End(phase="finished", step=30, exit_code=0, weights_sha256="ab" * 32, time=START + 60, seq=90)
READER = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient(tracking_uri=sys.argv[1])
experiment = client.get_experiment_by_name("plt-tui")
runs = []
for run in client.search_runs([experiment.experiment_id]):
    folders = client.list_artifacts(run.info.run_id)
    files = [file.path for folder in folders for file in client.list_artifacts(run.info.run_id, folder.path)]
    root = run.info.artifact_uri.removeprefix("file://")
    runs.append({
        "name": run.info.run_name, "id": run.info.run_id, "status": run.info.status, "start": run.info.start_time,
        "end": run.info.end_time, "params": run.data.params, "tags": run.data.tags,
        "files": {path: open(f"{root}/{path}").read() for path in sorted(files)},
        "series": {key: [[m.step, repr(m.value), m.timestamp] for m in client.get_metric_history(run.info.run_id, key)]
                   for key in run.data.metrics},
    })
print(json.dumps(runs))
"""


@contextlib.contextmanager
def refusing(status: int) -> Iterator[str]:
    """The address of a server that answers everything with `status`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        def log_message(self, *words: object) -> None:
            """Nothing is printed."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _environment(folder: Path) -> dict[str, str]:
    return {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_TRACKING_URI": (folder / "store").as_uri()}


def _runs(folder: Path) -> list[dict[str, Any]]:
    """All runs in the store, as MLflow's client sees them."""
    environment = {**_environment(folder), "MLFLOW_DISABLE_TELEMETRY": "true", "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    address = environment["MLFLOW_TRACKING_URI"]
    done = subprocess.run(
        [sys.executable, "-c", READER, address], env=environment, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    runs: list[dict[str, Any]] = json.loads(done.stdout)
    return runs


def _export(folder: Path, *calls: list[Any]) -> str:
    return driven(EXPORTER, folder / "own", calls, _environment(folder))


def _steps(run: dict[str, Any], name: str = "train/loss") -> list[int]:
    return [step for step, _, _ in run["series"][name]]


def test_every_number_is_there_once_with_all_its_bits(tmp_path: Path) -> None:
    """Steps and evaluations are series with the time of the record; MLflow gives back the same floats."""
    scores = Eval(step=20, loss=1 / 3, perplexity=math.e, bits_per_byte=2 / 7, accuracy=0.1, time=START + 9.001, seq=21)
    _export(tmp_path, opened(), steps(1, 20), event(scores), FLUSH, steps(21, 30, seq=22), FLUSH, closed(END))
    (run,) = _runs(tmp_path)
    assert run["name"] == "little"
    assert run["status"] == "FINISHED"
    assert run["series"]["train/loss"] == [[n, repr(8.0 / (3.0 + n)), int((START + n / 3) * 1000)] for n in range(1, 31)]
    assert run["series"]["train/lr"] == [[n, repr(3e-3 * (1 - n / 777)), int((START + n / 3) * 1000)] for n in range(1, 31)]
    assert run["series"]["tokens"][-1][:2] == [30, "61440.0"]
    assert run["series"]["eval/bits_per_byte"] == [[20, repr(2 / 7), int((START + 9.001) * 1000)]]
    assert (run["start"], run["end"]) == (int(START * 1000), int((START + 60) * 1000))
    assert run["tags"]["weights_sha256"] == "ab" * 32
    assert run["tags"]["plt_tui.run"] == RUN_ID


def test_a_loss_that_is_no_number_is_exported(tmp_path: Path) -> None:
    """NaN and infinity reach MLflow, and stay what they are in its file store."""
    broken = rows(step_of(1, 1, math.nan), step_of(2, 2, math.inf))
    _export(tmp_path, opened(), broken, FLUSH, closed(END))
    (run,) = _runs(tmp_path)
    assert [value for _, value, _ in run["series"]["train/loss"]] == ["nan", "inf"]


def test_the_configuration_is_the_parameters(tmp_path: Path) -> None:
    """Flat names, JSON for what is no text, cut at what MLflow takes; what the ranks found out stands beside it."""
    _export(tmp_path, opened(), closed(END))
    (run,) = _runs(tmp_path)
    assert run["params"]["optim.lr"] == "0.003"
    assert run["params"]["optim.betas"] == "[0.9, 0.95]"
    assert run["params"]["facts.params"] == "812345"
    assert run["params"]["environment.torch"] == "2.10.0"
    assert len(run["params"]["data.train"]) == 6000


def test_texts_are_files_and_a_standing_alert_is_a_tag(tmp_path: Path) -> None:
    """Samples and notes are files of the run; an alert's tag goes when it is cleared; escapes are made visible."""
    _export(
        tmp_path,
        opened(),
        steps(1, 5),
        event(Sample(step=5, prompt="The ", text="end\x1b[2J", seq=6)),
        event(Sample(step=5, prompt="A ", text="second", seq=7)),
        event(Alert(topic="disk", text="little \x1b[31mspace", seq=8)),
        event(Alert(topic="ranks/1", text="slow", seq=9)),
        event(Alert(topic="ranks/1", text="", seq=10)),
        FLUSH,
        closed(END),
    )
    (run,) = _runs(tmp_path)
    assert [text for path, text in run["files"].items() if path.startswith("samples/")] == [
        "sample after step 5\n\nThe end\\x1b[2J\n",
        "sample after step 5\n\nA second\n",
    ]
    assert {name for name in run["tags"] if name.startswith("alert.")} == {"alert.disk"}
    assert run["tags"]["alert.disk"] == "little \\x1b[31mspace"
    assert sum(path.startswith("notes/") for path in run["files"]) == 3  # two alerts, and the end


def test_a_rewind_keeps_both_values_of_a_step(tmp_path: Path) -> None:
    """What a rewind undid stays in the history; the repeated steps come after it, and a note says why."""
    rewind = CommandStatus(
        id="1", name="rewind", args={"step": 6}, actor="socket me", status="applied", step=6, before=10, after=6, seq=11
    )
    _export(
        tmp_path, opened(), steps(1, 10), event(rewind), rows(step_of(7, 12, 0.5), step_of(8, 13, 0.25)), FLUSH, closed(END)
    )
    (run,) = _runs(tmp_path)
    assert _steps(run) == [*range(1, 11), 7, 8]
    assert [value for step, value, _ in run["series"]["train/loss"] if step == 8] == [repr(8 / 11), "0.25"]
    assert any("rewind from step 10 to step 6" in text for text in run["files"].values())


def test_a_restart_goes_on_in_the_same_run(tmp_path: Path) -> None:
    """A new session of the exporter adds to the run; a parameter that has changed by then stands in a tag."""
    _export(tmp_path, opened(), steps(1, 10), FLUSH, closed())
    (run,) = _runs(tmp_path)
    assert run["status"] == "FAILED"  # nobody has said how it ended
    later = session({"optim": {"lr": 1e-4, "betas": [0.9, 0.95]}}, start_step=10)
    _export(tmp_path, opened(later, is_new=False, step=10), steps(11, 20), FLUSH, closed(END))
    (same,) = _runs(tmp_path)
    assert same["id"] == run["id"]
    assert _steps(same) == list(range(1, 21))
    assert same["params"]["optim.lr"] == "0.003"
    assert same["tags"]["later.optim.lr"] == "0.0001"
    assert same["status"] == "FINISHED"


@pytest.mark.parametrize("is_noted", [True, False], ids=["id noted", "id not noted"])
def test_what_comes_once_more_behind_a_crash_is_there_once(tmp_path: Path, is_noted: bool) -> None:
    """A killed exporter gets its last rows again; the store, which keeps everything twice, does not get them again."""
    scores = Eval(step=10, loss=1.5, perplexity=4.4, bits_per_byte=2.0, accuracy=0.5, time=START + 4, seq=11)
    first = [opened(), steps(1, 10), event(scores), rows(step_of(11, 12, math.nan)), DIE]
    _export(tmp_path, *first)
    if not is_noted:
        (tmp_path / "kept.json").unlink()
    _export(tmp_path, opened(), *first[1:4], steps(12, 20, seq=13), FLUSH, closed(END))
    (run,) = _runs(tmp_path)
    assert _steps(run) == list(range(1, 21))
    assert _steps(run, "eval/loss") == [10]


def test_a_server_that_is_down_is_told_soon_and_without_the_password(tmp_path: Path) -> None:
    """The exporter fails with an error that names the server; a password of its address stands nowhere."""
    with socket.socket() as closed_port:
        closed_port.bind(("127.0.0.1", 0))
        address = f"http://someone:hunter2secret@127.0.0.1:{closed_port.getsockname()[1]}"
        exit_code, said = drive(
            EXPORTER,
            tmp_path / "own",
            [opened(), steps(1, 2), FLUSH],
            {"MLFLOW_TRACKING_URI": address, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"},
        )
    assert exit_code == 1
    assert "127.0.0.1" in said
    assert "hunter2secret" not in said
    assert files_with("hunter2secret", tmp_path) == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_refuses_us_is_for_a_person(tmp_path: Path, status: int) -> None:
    """The sentence says where the name and the password go; it is not tried again."""
    with refusing(status) as address:
        exit_code, said = drive(EXPORTER, tmp_path / "own", [opened()], {"MLFLOW_TRACKING_URI": address})
    assert exit_code == 1
    assert "UsageError: MLflow refuses" in said
    assert "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in said


def test_without_an_address_or_a_store_it_says_what_to_do(tmp_path: Path) -> None:
    """mlflow-skinny has no store of its own: the sentence names the variable that is missing."""
    exit_code, said = drive(EXPORTER, tmp_path / "own", [opened()], {WITHOUT: "sqlalchemy"})
    assert exit_code == 1
    assert "set MLFLOW_TRACKING_URI to a tracking server" in said

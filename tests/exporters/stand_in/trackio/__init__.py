"""A stand-in for trackio: the signatures of 0.43.0 (written down from its wheel), and its habits that an exporter must know.

Like trackio it queues what it is given, stores it from a thread of its own twice a second, warns instead of raising, resumes a
run by its name, repeats an address that it refuses, and prints. What is stored goes to TRACKIO_DIR/PROJECT.jsonl. With
STAND_IN_DISK=full nothing can be stored.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
import warnings
from enum import Enum
from pathlib import Path
from typing import Any

BATCH_SEND_INTERVAL = 0.5


class AlertLevel(str, Enum):
    """trackio.alerts.AlertLevel."""

    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class Markdown:
    """trackio.markdown.Markdown."""

    def __init__(self, text: str = "") -> None:
        self.text = text


class Run:
    """trackio.run.Run, of a run that stays on this machine."""

    def __init__(self, project: str, name: str, run_id: str) -> None:
        self.project, self.name, self.id = project, name, run_id
        self._client: Any = None
        self._queue_lock = threading.Lock()
        self._queued_logs: list[dict[str, Any]] = []
        self._queued_alerts: list[dict[str, Any]] = []
        self._sending_batch: list[dict[str, Any]] | None = None
        self._stop_flag = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def log(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Queue a row; numbers that JSON does not know become words, as there."""
        values = {name: _stored(value) for name, value in metrics.items()}
        with self._queue_lock:
            self._queued_logs.append({"kind": "log", "run": self.name, "step": step, "metrics": values})

    def alert(
        self,
        title: str,
        text: str | None = None,
        level: AlertLevel = AlertLevel.WARN,
        step: int | None = None,
        webhook_url: str | None = None,
    ) -> None:
        """Print and queue an alert."""
        print(f"\033[93m[TRACKIO {level.value.upper()}]\033[0m {title}: {text}")
        with self._queue_lock:
            entry = {"kind": "alert", "title": title, "text": text, "level": level.value, "step": step, "url": webhook_url}
            self._queued_alerts.append(entry)

    def finish(self) -> None:
        """Store what waits and end the thread."""
        self._stop_flag.set()
        print("* Run finished. Uploading logs to Trackio (please wait...)")
        self._thread.join(timeout=30)

    def _send(self) -> None:
        while not self._stop_flag.is_set() or self._queued_logs or self._queued_alerts:
            self._stop_flag.wait(BATCH_SEND_INTERVAL)
            with self._queue_lock:
                self._sending_batch = [*self._queued_logs, *self._queued_alerts]
                self._queued_logs, self._queued_alerts = [], []
            _write(self.project, self._sending_batch)
            self._sending_batch = None


def init(
    project: str,
    name: str | None = None,
    group: str | None = None,
    space_id: str | None = None,
    server_url: str | None = None,
    dataset_id: str | None = None,
    bucket_id: str | None = None,
    config: dict[str, Any] | None = None,
    resume: str = "never",
    settings: Any = None,
    private: bool | None = None,
    embed: bool = True,
    auto_log_gpu: bool | None = None,
    gpu_log_interval: float = 10.0,
    auto_log_cpu: bool | None = None,
    cpu_log_interval: float = 10.0,
    webhook_url: str | None = None,
    webhook_min_level: AlertLevel | str | None = None,
) -> Run:
    """Begin a run, or with resume="allow" go on with the one of this name."""
    del group, space_id, dataset_id, bucket_id, settings, private, gpu_log_interval, cpu_log_interval, webhook_url
    del webhook_min_level
    server_url = server_url or os.environ.get("TRACKIO_SERVER_URL")
    if server_url is not None and not server_url.startswith(("http://", "https://")):
        raise ValueError(f"`server_url` must be a full URL starting with http:// or https://, got: {server_url!r}")
    same = [entry["id"] for entry in _read(project) if entry["kind"] == "init" and entry["name"] == name]
    run_id = same[-1] if same and resume == "allow" else uuid.uuid4().hex
    settings_of_run = {"embed": embed, "auto_log_gpu": auto_log_gpu, "auto_log_cpu": auto_log_cpu}
    entry = {"kind": "init", "name": name, "id": run_id, "config": config, "resume": resume, **settings_of_run}
    if os.environ.get("STAND_IN_DISK") != "full":
        _write(project, [entry])
    print(f"* Trackio project initialized: {project}")
    return Run(project, str(name), run_id)


def _path(project: str) -> Path:
    return Path(os.environ["TRACKIO_DIR"]) / f"{project}.jsonl"


def _read(project: str) -> list[dict[str, Any]]:
    path = _path(project)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _write(project: str, entries: list[dict[str, Any]]) -> None:
    if os.environ.get("STAND_IN_DISK") == "full" and entries:
        warnings.warn(
            "trackio failed to flush metric logs for run 'x': disk full. User code will continue, but this batch could not be "
            "persisted.",
            stacklevel=1,
        )
        return
    _path(project).parent.mkdir(parents=True, exist_ok=True)
    with _path(project).open("a") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in entries)


def _stored(value: Any) -> Any:
    if isinstance(value, Markdown):
        return {"_type": "trackio.markdown", "_value": value.text}
    return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(repr(value), value)


__all__ = ["AlertLevel", "Markdown", "Run", "init"]

"""Exporter for MLflow: one MLflow run for one run here, in the tracking server that MLFLOW_TRACKING_URI names.

Everything is sent before a method returns, so a server that is gone is noticed at once. MLflow keeps every value that it was
given: behind a rewind a step has two, of two times. A parameter cannot change; what a later session set otherwise stands in a
tag "later.NAME". Samples and notes become text files of the run, standing alerts tags.
Invariant: a value has the time of the record, so one that comes once more behind a crash is the same, and is not kept twice.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from plt_tui.errors import UsageError
from plt_tui.exporters.base import ExportTarget, Row, RunFacts, eval_values, flat, needs
from plt_tui.exporters.notes import note_of
from plt_tui.exporters.parameters import described
from plt_tui.protocol.events import Alert, End, Eval, Event, Run
from plt_tui.protocol.text import safe_line

ENVIRONMENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""What the environment says instead is left as it is. MLflow's own seven tries take minutes; whoever started us tries again."""
ADDRESS = "MLFLOW_TRACKING_URI"
RUN_TAG = "plt_tui.run"
"""Tag with the run's id: by it a run is found again whose MLflow id was not noted before a crash."""
MAX_VALUE_CHARS = 6000
"""MLflow refuses longer parameters (`mlflow.utils.validation`, 3.17)."""
MAX_TAG_CHARS = 5000
STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
REFUSED = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"})

Point = tuple[str, float, int, int]
"""A value of a series as MLflow keeps it: name, value, milliseconds, step."""


class MlflowExporter:
    """Logs to MLflow through `MlflowClient`; works with the packages mlflow and mlflow-skinny."""

    def __init__(self, target: ExportTarget) -> None:
        self._target = target
        self._step = 0
        self._mlflow: Any = None
        self._client: Any = None
        self._id = ""
        self._is_unsure = False
        """What comes may have been logged before, by an exporter that was killed."""

    def open(self, run: RunFacts) -> None:
        """Begin or resume the run. Raises: UsageError for what a person must mend; MlflowException when nobody answers."""
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self._step = run.step
        self._mlflow = needs("mlflow", "mlflow", "mlflow")
        address = _address(self._target.directory)
        self._client = self._mlflow.MlflowClient(tracking_uri=address)
        try:
            known = self._resumed(run)
            self._id = known or self._created(run)
        except self._mlflow.exceptions.MlflowException as error:
            if error.error_code not in REFUSED:
                raise
            raise UsageError(
                f"MLflow refuses: {safe_line(str(error), 300)}; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
                "MLFLOW_TRACKING_TOKEN"
            ) from error
        self._is_unsure = bool(known) and urlsplit(address).scheme in ("", "file")  # data bases refuse what they have
        self._describe(run.run)

    def _resumed(self, run: RunFacts) -> str:
        """The id of the MLflow run that an earlier start began; empty: there is none."""
        known = self._target.kept.get("run_id", "") or self._found(run.id)
        if not known:
            return ""
        if self._client.get_run(known).info.lifecycle_stage == "deleted":
            raise UsageError(f"the MLflow run {known} was deleted; restore it with: mlflow runs restore --run-id {known}")
        self._target.keep("run_id", known)
        self._client.update_run(known, status="RUNNING")
        return known

    def _found(self, run_id: str) -> str:
        experiment = self._client.get_experiment_by_name(self._experiment_name())
        if experiment is None:
            return ""
        found = self._client.search_runs([experiment.experiment_id], f"tags.`{RUN_TAG}` = '{run_id}'", max_results=1)
        return found[0].info.run_id if found else ""

    def _created(self, run: RunFacts) -> str:
        tags = {RUN_TAG: run.id, "mlflow.source.name": "plt-tui"}
        started = _milliseconds(run.started_at)
        created = self._client.create_run(self._experiment(), start_time=started, tags=tags, run_name=run.name)
        self._target.keep("run_id", created.info.run_id)
        return str(created.info.run_id)

    def _experiment_name(self) -> str:
        return os.environ.get("MLFLOW_EXPERIMENT_NAME") or self._target.project

    def _experiment(self) -> str:
        """The id of the experiment that the run belongs to, made when there is none."""
        name = self._experiment_name()
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            files = None if os.environ.get(ADDRESS) else (self._target.directory / "artifacts").resolve().as_uri()
            return str(self._client.create_experiment(name, artifact_location=files))
        if experiment.lifecycle_stage == "deleted":
            raise UsageError(f"the MLflow experiment {name!r} was deleted; restore it, or set export.project to another name")
        return str(experiment.experiment_id)

    def _describe(self, run: Run) -> None:
        """Log parameters that are new, and as tags those that a later session has otherwise."""
        entities = self._mlflow.entities
        wanted = {name: _text(value) for name, value in flat(described(run)).items()}
        there = self._client.get_run(self._id).data.params
        new = [entities.Param(name, value) for name, value in wanted.items() if name not in there]
        changed = {name: value for name, value in wanted.items() if there.get(name, value) != value}
        tags = [entities.RunTag(f"later.{name}", value[:MAX_TAG_CHARS]) for name, value in changed.items()]
        self._client.log_batch(self._id, params=new, tags=tags, synchronous=True)

    def metrics(self, rows: Sequence[Row]) -> None:
        """Log all series of all rows."""
        self._log(_point(name, value, row.time, row.step) for row in rows for name, value in row.values.items())
        self._step = rows[-1].step

    def event(self, event: Event) -> None:
        """Evaluations are series; samples and notes are text files; an alert that stands is a tag."""
        if isinstance(event, Eval):
            self._log(_point(name, value, event.time, event.step) for name, value in eval_values(event).items())
        elif isinstance(event, Run):
            self._describe(event)
        elif isinstance(event, Alert):
            self._mark(event)
        if note := note_of(event, self._step):
            folder = "samples" if note.kind == "sample" else "notes"
            self._write(f"{folder}/step-{note.step:08d}-{event.seq}-{note.kind}.txt", f"{note.title}\n\n{note.text}\n")

    def _log(self, points: Iterable[Point]) -> None:
        fresh = list(points)
        if self._is_unsure:
            count, fresh = len(fresh), self._without_those_there(fresh)
            self._is_unsure = len(fresh) < count  # the record is in order: behind values that are new, all are
        values = [self._mlflow.entities.Metric(*point) for point in fresh]
        self._client.log_batch(self._id, metrics=values, synchronous=True)

    def _without_those_there(self, points: Sequence[Point]) -> list[Point]:
        """`points` less those that a file store has already: it would keep both."""
        there = {
            _comparable((name, value.value, value.timestamp, value.step))
            for name in {point[0] for point in points}
            for value in self._client.get_metric_history(self._id, name)
        }
        return [point for point in points if _comparable(point) not in there]

    def _mark(self, alert: Alert) -> None:
        name = "alert." + re.sub(r"[^\w. -]", "_", safe_line(alert.topic))[:200]
        if alert.text:
            self._client.set_tag(self._id, name, safe_line(alert.text)[:MAX_TAG_CHARS])
        elif name in self._client.get_run(self._id).data.tags:
            self._client.delete_tag(self._id, name)

    def _write(self, path: str, text: str) -> None:
        try:
            self._client.log_text(self._id, text, path)
        except ModuleNotFoundError as error:
            raise UsageError(f"MLflow needs the package {error.name} to store files where this server keeps them") from error

    def flush(self) -> None:
        """Nothing waits: every method has sent what it was given."""

    def close(self, end: End | None) -> None:
        """Tell MLflow how the run ended; one that did not say so counts as failed until it goes on."""
        if end is None:
            self._client.set_terminated(self._id, "FAILED")
            return
        self.event(end)
        self._client.set_tag(self._id, "weights_sha256", end.weights_sha256)
        self._client.set_terminated(self._id, STATUS.get(end.phase, "FAILED"), end_time=_milliseconds(end.time))


def _address(directory: Path) -> str:
    """Where MLflow stores runs: MLFLOW_TRACKING_URI, or a data base in `directory`. Raises: UsageError.

    A password in the address is moved to where MLflow does not print it.
    """
    if not (address := os.environ.get(ADDRESS, "")):
        if find_spec("sqlalchemy") is None:
            raise UsageError(
                f"MLflow does not know where to store the run: set {ADDRESS} to a tracking server; or install the package "
                "mlflow in place of mlflow-skinny, which has no store of its own"
            )
        directory.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{directory.resolve() / 'mlflow.db'}"
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or parts.username is None:
        return address
    os.environ.setdefault("MLFLOW_TRACKING_USERNAME", unquote(parts.username))
    os.environ.setdefault("MLFLOW_TRACKING_PASSWORD", unquote(parts.password or ""))
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    os.environ[ADDRESS] = bare
    return bare


def _point(name: str, value: float, time: float, step: int) -> Point:
    return name, value, _milliseconds(time), step


def _comparable(point: Point) -> tuple[Any, ...]:
    """NaN is not equal to itself."""
    name, value, time, step = point
    return name, "nan" if math.isnan(value) else value, time, step


def _milliseconds(time: float) -> int:
    return int(time * 1000)


def _text(value: Any) -> str:
    """A parameter's value as MLflow takes it."""
    text = value if isinstance(value, str) else json.dumps(value)
    return safe_line(text, MAX_VALUE_CHARS)[:MAX_VALUE_CHARS]

"""What docs/EXPORTERS.md says is so: its example runs, and its tables name what there is."""

from __future__ import annotations

import json
import re
from importlib.metadata import entry_points
from pathlib import Path

from plt_tui.control.exports import Patience
from plt_tui.exporters.base import GROUP, eval_values, row_of
from plt_tui.exporters.process import export_record
from plt_tui.exporters.tables import EVAL_COLUMNS, EVENT_COLUMNS, METRIC_COLUMNS
from plt_tui.plugins import Plugins
from tests.exporters.records import new_folder, record, scored, small_run, step

TEXT = (Path(__file__).parents[2] / "docs" / "EXPORTERS.md").read_text()


def test_the_example_is_an_exporter(tmp_path: Path) -> None:
    """A run of ten steps gives ten lines, with all series."""
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "my_exporter.py").write_text(example)
    folder = new_folder(tmp_path / "a")
    record(folder, small_run())
    export_record("lines", folder, plugins=Plugins((str(tmp_path / "my_exporter.py"),)))
    lines = [json.loads(line) for line in (folder.path / "exports" / "lines" / "steps.jsonl").read_text().splitlines()]
    assert lines == [{"step": number, **row_of(step(number)).values} for number in range(1, 11)]


def test_series_and_columns_are_those_that_there_are() -> None:
    """Each by its name."""
    series = {*row_of(step(1)).values, *eval_values(scored(1))}
    assert {name for name in re.findall(r"`((?:train|eval)/\w+|tokens)`", TEXT) if not name.endswith("*")} == series
    for name, columns in (("metrics", METRIC_COLUMNS), ("evals", EVAL_COLUMNS), ("events", EVENT_COLUMNS)):
        (row,) = re.findall(rf"^\| `{name}` \|[^|]*\|([^|]*)\|$", TEXT, re.MULTILINE)
        assert tuple(re.findall(r"`(\w+)`", row)) == columns


def test_every_exporter_is_described() -> None:
    """With its limits in seconds."""
    ours = {entry.name for entry in entry_points(group=GROUP) if entry.value.startswith("plt_tui.")}
    assert ours == {"tensorboard", "wandb", "trackio", "mlflow"}
    assert ours <= set(re.findall(r"^## .*\(`(\w+)`\)$", TEXT, re.MULTILINE))
    assert Patience().backoff_s == (5.0, 20.0, 60.0)
    assert (Patience().stall_s, Patience().steady_s, Patience().finish_s) == (120.0, 300.0, 30.0)

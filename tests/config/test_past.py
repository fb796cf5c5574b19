"""Promises of `config.past`: what ties a run to its checkpoints is found, and what does not is free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plt_tui.config.past import changed_past, checkpoint_root
from plt_tui.config.schema import CheckpointSection, RunConfig


def config(**sections: dict[str, Any]) -> RunConfig:
    """The defaults but for the given keys."""
    return RunConfig.model_validate(sections)


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ({}, {}, {}),
        ({}, {"model": {"heads": 2}}, {"model.heads": (4, 2)}),
        ({"model": {"preset": "gpt2"}}, {"model": {"dropout": 0.1}}, {}),
        ({}, {"data": {"eval": "held.txt"}}, {"data.eval": ("", "held.txt")}),
        ({}, {"data": {"vocab_size": 512}}, {"data.vocab_size": (4096, 512)}),
        ({"data": {"train": "a.txt"}}, {"data": {"train": "./x/../a.txt"}}, {}),
        ({"data": {"train": "a.txt"}}, {"data": {"train": str(Path.cwd() / "a.txt")}}, {}),
        ({"data": {"eval": ""}}, {"data": {"eval": "."}}, {"data.eval": ("", ".")}),
        ({"data": {"text_field": "a"}}, {"data": {"text_field": "./a"}}, {"data.text_field": ("a", "./a")}),
        ({}, {"train": {"steps": 5}, "optim": {"lr": 1.0}, "eval": {"every": 3}, "checkpoint": {"dir": "c"}}, {}),
    ],
)
def test_what_a_resume_may_not_change(old: dict[str, Any], new: dict[str, Any], changes: dict[str, Any]) -> None:
    """Model and data are fixed, but for names and for two ways to write one path; everything else is free."""
    assert changed_past(config(**old), config(**new)) == changes


def test_the_folder_of_the_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the run folder, or under the one asked for in a folder of the run's name; absolute, as ranks may stand elsewhere."""
    monkeypatch.chdir(tmp_path)
    run = Path("/runs/a")
    assert checkpoint_root(RunConfig(), run) == run / "checkpoints"
    assert checkpoint_root(RunConfig(checkpoint=CheckpointSection(dir="saved")), run) == tmp_path / "saved" / "a"

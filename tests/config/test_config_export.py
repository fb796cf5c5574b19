"""Promises of `[export]`: names that can be file names, each once, and nothing that is a secret."""

from __future__ import annotations

import json

import pytest

from plt_tui.config.export import ExportSection
from plt_tui.config.load import from_toml, load, to_toml
from plt_tui.errors import UsageError


def test_nothing_is_exported_unless_somebody_says_so() -> None:
    """No exporter is on by itself."""
    assert load(None).config.export == ExportSection(to=(), project="")


def test_names_come_back_from_the_runs_file() -> None:
    """In their order, plug-ins' names too."""
    config = load(None, sets=["export.to=['wandb','my_tool-2']", "export.project=ours"]).config
    assert config.export == ExportSection(to=("wandb", "my_tool-2"), project="ours")
    assert from_toml(to_toml(config)) == config


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-o", "a b", ".x", "x" * 33, "a\n", "ä"])
def test_what_could_be_no_file_name_is_refused(name: str) -> None:
    """It names a log and a folder of the run."""
    with pytest.raises(UsageError, match=r'export\.to: expected a list of names such as "tensorboard"'):
        from_toml(f"[export]\nto = [{json.dumps(name)}]\n")


def test_a_name_counts_once() -> None:
    """Two processes would write the same files."""
    with pytest.raises(UsageError, match="a list of exporters names each once"):
        load(None, sets=["export.to=['wandb','wandb']"])

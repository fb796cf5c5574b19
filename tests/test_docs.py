"""What the documents tell people to type works as they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from plt_tui import Plugins, Trainer, load_config

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty working folder and one thread."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    return tmp_path


def test_the_python_example_runs(elsewhere, capsys):
    """The script of docs/python-api.md trains, saves and goes on, and learns something."""
    (script,) = re.findall(r"```python\n(.*?)```", (DOCS / "python-api.md").read_text(), re.DOTALL)
    exec(compile(script, "python-api.md", "exec"), {})
    before, after = map(float, re.findall(r"bits per byte: ([\d.]+) -> ([\d.]+)", capsys.readouterr().out)[0])
    assert after < before - 1.0
    assert (elsewhere / "checkpoints" / "step-00000040" / "manifest.json").is_file()


def test_the_plug_in_example_trains_and_resumes(elsewhere):
    """Model and dataset of docs/plugin_example.py: the loss falls, a checkpoint goes on to the same bits, text comes out."""
    plugins = Plugins((str(DOCS / "plugin_example.py"),))
    sets = ("model.arch=averager:0.9", "data.train=plugin:sums:500", "data.context=32", "train.steps=30", "model.width=32")
    with Trainer(load_config(None, *sets, "parallel.device=cpu", "sample.tokens=5"), plugins=plugins) as trainer:
        first = trainer.train_step()
        for _ in range(14):
            trainer.train_step()
        folder = trainer.save_checkpoint(elsewhere / "checkpoints")
        last = trainer.train()
        assert trainer.sample("1 + ")[1]
        assert last < first - 1.0
    with Trainer(trainer.config, plugins=plugins) as again:
        assert again.load_checkpoint(folder) == []
        again.train()
        assert again.weights_sha256() == trainer.weights_sha256()

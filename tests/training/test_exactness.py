"""What makes a resume exact, each part left out in turn: without it the comparison must fail, so with it the comparison means
something.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from plt_tui.config.schema import GuardSection
from plt_tui.data.prepare import Dataset
from plt_tui.protocol.events import Spike
from plt_tui.protocol.manifest import folder_name
from plt_tui.training import checkpoint
from plt_tui.training import trainer as trainer_module
from plt_tui.training.guard import Windows
from plt_tui.training.place import Place
from plt_tui.training.trainer import Trainer
from tests.training.plays import Play, ask, folded_edits

SETTINGS = (
    "model.dropout=0.1",
    "guard.spike=skip",
    "guard.window=8",
    "guard.z=0.7",
    "guard.cooldown=0",
    "guard.limit=100",
    "optim.lr=1e-4",
    "optim.min_lr=0.0",
    "optim.schedule=constant",
    "optim.warmup=0",
    "train.steps=24",
)


def is_exact(dataset: Dataset, root: Path, sabotage: Callable[[], None] = lambda: None) -> bool:
    """True when a run that was stopped and resumed ends with the weights of one that was not; `sabotage` comes in between."""
    whole = Play(dataset, root / "whole", {}, *SETTINGS)
    weights = whole.run().weights_sha256
    at = whole.link.of(Spike)[0].step - 1  # just before the guard acts, so that what it knows matters
    stopped = Play(dataset, root / "stopped", {at: [ask("stop")]}, *SETTINGS)
    stopped.run()
    sabotage()
    resumed = Play(dataset, root / "resumed", {}, *SETTINGS, known_step=at)
    resumed.trainer.edits = folded_edits(stopped.link.said)
    resumed.trainer.load_checkpoint(stopped.root / folder_name(at))
    return resumed.run().weights_sha256 == weights


def test_a_resume_is_exact(dataset: Dataset, tmp_path: Path) -> None:
    """With dropout, and a guard that leaves updates out."""
    assert is_exact(dataset, tmp_path)


def _without_the_dropout_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "manual_seed", lambda seed: None)


def _without_the_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    restore = Place.restore

    def forgetful(self: Place, state: Mapping[str, Any]) -> None:
        restore(self, {**state, "sample_index": 0})

    monkeypatch.setattr(Place, "restore", forgetful)


def _without_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(section: GuardSection, state: Mapping[str, Any]) -> Windows:
        return Windows(section)

    monkeypatch.setattr(Windows, "restored", staticmethod(empty))


def _without_the_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module, "load_state_tensors", lambda optimizer, model, tensors: None)


@pytest.mark.parametrize(
    "leave_out", [_without_the_dropout_stream, _without_the_cursor, _without_the_window, _without_the_optimizer]
)
def test_without_any_one_part_it_is_not(
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    leave_out: Callable[[pytest.MonkeyPatch], None],
) -> None:
    """The dropout stream, the cursor, the guard's window and the optimizer's state are each needed."""
    assert not is_exact(dataset, tmp_path, lambda: leave_out(monkeypatch))


def test_saved_parameter_groups_never_win_over_the_record(dataset: Dataset, tmp_path: Path) -> None:
    """Whatever an optimizer's groups say after a resume, the step is computed with what configuration and edits say."""
    script = {4: [ask("set", name="lr", value=1e-4), ask("set", name="betas", value=[0.5, 0.6])], 6: [ask("stop")]}
    stopped = Play(dataset, tmp_path, script)
    stopped.run()
    resumed = Trainer(stopped.trainer.config, dataset=dataset)
    resumed.edits = folded_edits(stopped.link.said)
    resumed.load_checkpoint(stopped.root / "step-00000006")
    for group in resumed.optimizer.param_groups:
        group.update(lr=1.0, betas=(0.0, 0.0), weight_decay=9.0)
    resumed.train_step()
    assert {(group["lr"], group["betas"]) for group in resumed.optimizer.param_groups} == {(1e-4, (0.5, 0.6))}
    assert not any("lr" in name or "beta" in name for name in checkpoint.read(stopped.root / "step-00000006").optimizer)

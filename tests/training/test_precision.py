"""fp16 and its loss scale: overflow costs a step, never a weight, and the scale is saved."""

import math
import os
from pathlib import Path

import pytest
import torch

from plt_tui.config.schema import TrainSection
from plt_tui.data.prepare import Dataset
from plt_tui.errors import NonFiniteLoss
from plt_tui.training.precision import LossScale, set_math_modes
from plt_tui.training.trainer import Trainer
from tests.training.conftest import tiny


def test_the_scale_halves_on_overflow_and_doubles_after_a_quiet_time() -> None:
    """torch.amp.GradScaler's rule, as a value."""
    scale = LossScale(scale=1024.0, good_steps=5).after(is_finite=False)
    assert (scale.scale, scale.good_steps) == (512.0, 0)
    for _ in range(LossScale.GROWTH_STEPS):
        scale = scale.after(is_finite=True)
    assert (scale.scale, scale.good_steps) == (1024.0, 0)


def test_overflow_without_any_scale_left_stops_the_run() -> None:
    """The sentence says what to change."""
    with pytest.raises(NonFiniteLoss, match="bf16"):
        LossScale(scale=1.0).after(is_finite=False)


def test_fp16_learns_like_fp32(dataset: Dataset) -> None:
    """With a scale that fits, twelve steps give fp32's losses to two digits: scaling leaves no trace in the gradients' size."""
    half, full = Trainer(tiny("train.precision=fp16"), dataset=dataset), Trainer(tiny(), dataset=dataset)
    half.loss_scale = LossScale(scale=2.0**8)
    assert [half.train_step() for _ in range(12)] == pytest.approx([full.train_step() for _ in range(12)], rel=2e-2)


def test_an_overflowing_step_changes_no_weight(dataset: Dataset) -> None:
    """A scale that is far too high overflows: the step is counted, its batch is used up, the weights stay, the scale halves."""
    trainer = Trainer(tiny("train.precision=fp16"), dataset=dataset)
    trainer.loss_scale = LossScale(scale=2.0**100)
    before = trainer.weights_sha256()
    trainer.accumulate()
    assert trainer.update(trainer.hyper(1)) == math.inf
    assert trainer.weights_sha256() == before
    assert (trainer.step, trainer.loss_scale.scale) == (1, 2.0**99)
    assert trainer.place.sample_index == trainer.global_batch


def test_the_scale_survives_a_resume(dataset: Dataset, tmp_path: Path) -> None:
    """Stop and resume with fp16 ends with the same bits; with the scale lost the tests of bits would fail."""
    sets = ("train.precision=fp16",)
    whole = Trainer(tiny(*sets), dataset=dataset)
    whole.loss_scale = LossScale(scale=2.0**10, good_steps=LossScale.GROWTH_STEPS - 3)
    for _ in range(2):
        whole.train_step()
    folder = whole.save_checkpoint(tmp_path)
    resumed = Trainer(tiny(*sets), dataset=dataset)
    assert resumed.load_checkpoint(folder) == []
    assert resumed.loss_scale == whole.loss_scale
    whole.train()
    resumed.train()
    assert resumed.loss_scale == whole.loss_scale == LossScale(scale=2.0**11, good_steps=9)
    assert resumed.weights_sha256() == whole.weights_sha256()


def test_deterministic_mode_is_set_for_the_process(dataset: Dataset) -> None:
    """`train.deterministic` reaches torch, and the next trainer without it takes it back."""
    Trainer(tiny("train.deterministic=true"), dataset=dataset)
    assert torch.are_deterministic_algorithms_enabled()
    Trainer(tiny(), dataset=dataset)
    assert not torch.are_deterministic_algorithms_enabled()


def test_fp16_leaves_no_trace_of_its_scale_in_an_update(dataset: Dataset) -> None:
    """Gradient norms are fp32's, and so is where plain gradient descent goes: Adam would hide a factor."""
    sets = ("optim.name=sgd", "train.grad_clip=0.0", "optim.lr=0.1", "optim.min_lr=0.1")
    half, full = Trainer(tiny("train.precision=fp16", *sets), dataset=dataset), Trainer(tiny(*sets), dataset=dataset)
    half.loss_scale = LossScale(scale=2.0**8)
    for step in range(3):
        for trainer in (half, full):
            trainer.accumulate()
        assert half.update(half.hyper(step + 1)) == pytest.approx(full.update(full.hyper(step + 1)), rel=1e-2)
    for mine, theirs in zip(half.model.parameters(), full.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-2, atol=2e-3)


def test_deterministic_gpus_are_given_what_torch_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts and `plt-tui eval` start no rank process that would set it; a value of the user's stays."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = torch.get_float32_matmul_precision()
    try:
        set_math_modes(TrainSection(deterministic=False), torch.device("cuda"))
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
        set_math_modes(TrainSection(deterministic=True), torch.device("cuda"))
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
        set_math_modes(TrainSection(deterministic=True), torch.device("cuda"))
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
    finally:
        set_math_modes(TrainSection(), torch.device("cpu"))
        torch.set_float32_matmul_precision(before)

"""Number formats: autocast, TF32, and the scale that keeps fp16 gradients from vanishing.

Weights, gradients and optimizer state are float32 whatever `train.precision` says. Invariant: the loss scale is a power of two,
so scaling and unscaling change no bit of a gradient that fits.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Any

import torch

from plt_tui.config.schema import TrainSection
from plt_tui.errors import NonFiniteLoss, UsageError

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The context in which the forward pass runs. Backward passes and evaluations of float32 runs need none."""
    if precision not in _AUTOCAST:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=_AUTOCAST[precision])


def set_math_modes(train: TrainSection, device: torch.device) -> None:
    """Choose kernels for the whole process: TF32 matrix products on a GPU, and deterministic ones where asked for.

    Raises: UsageError when a GPU cannot compute in `train.precision`.
    """
    if train.precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise UsageError(f"train.precision: {torch.cuda.get_device_name(device)} has no bf16; use fp16 or fp32")
    torch.use_deterministic_algorithms(train.deterministic)
    if train.deterministic and device.type == "cuda":
        # Without it torch refuses every matrix product (docs of use_deterministic_algorithms); read at the first one.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if train.tf32 else "highest")


@dataclass(frozen=True, slots=True, kw_only=True)
class LossScale:
    """Dynamic loss scaling (Micikevicius et al. 2017, arXiv 1710.03740, section 3.2) as a value: `after` gives the next one.

    It is the same on every rank, because it follows from the gradients that all ranks share.
    """

    scale: float = 2.0**16
    good_steps: int = 0
    """Steps since the scale last changed."""

    GROWTH_STEPS = 2000
    """As torch.amp.GradScaler's default."""

    def after(self, *, is_finite: bool) -> LossScale:
        """The scale for the step after one whose gradients were finite or not.

        Raises: NonFiniteLoss when even unscaled gradients overflow.
        """
        if is_finite:
            grows = self.good_steps + 1 >= self.GROWTH_STEPS
            return LossScale(scale=self.scale * 2 if grows else self.scale, good_steps=0 if grows else self.good_steps + 1)
        if self.scale <= 1.0:
            raise NonFiniteLoss(
                "gradients overflow fp16 even without loss scaling; the weights were not changed. "
                "Lower optim.lr or use train.precision = bf16 or fp32"
            )
        return LossScale(scale=self.scale / 2)


UNSCALED = LossScale(scale=1.0)
"""For every precision but fp16."""

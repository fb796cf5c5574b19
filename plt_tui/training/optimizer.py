"""The optimizer, told every step what to use: nothing is read back from its parameter groups.

A learning rate or beta that was saved with the optimizer can therefore never win over the configuration and the journal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from plt_tui.config.schema import OptimSection
from plt_tui.errors import StorageError
from plt_tui.model.groups import decay_groups
from plt_tui.model.transformer import TransformerLM

STATE_NAMES = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps per parameter (torch.optim.AdamW)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepHyper:
    """Everything the optimizer is told for one step."""

    lr: float
    betas: tuple[float, float]
    weight_decay: float
    grad_clip: float


def build_optimizer(model: TransformerLM, optim: OptimSection) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2017, arXiv 1711.05101), matrices with weight decay and vectors without, in that order."""
    decayed, plain = decay_groups(model)
    groups = [{"params": decayed, "is_decayed": True}, {"params": plain, "is_decayed": False}]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps, fused=True)


def tell(optimizer: torch.optim.Optimizer, hyper: StepHyper) -> None:
    """Set every hyperparameter for the coming step."""
    for group in optimizer.param_groups:
        group["lr"] = hyper.lr
        group["betas"] = hyper.betas
        group["weight_decay"] = hyper.weight_decay if group["is_decayed"] else 0.0


def state_tensors(optimizer: torch.optim.Optimizer, model: TransformerLM) -> Iterator[tuple[str, Tensor]]:
    """The optimizer's state as (name, tensor), such as ("exp_avg/blocks.0.attention.qkv.weight", ...)."""
    for name, parameter in model.named_parameters():
        for key, tensor in optimizer.state[parameter].items():
            yield f"{key}/{name}", tensor


def load_state_tensors(optimizer: torch.optim.Optimizer, model: TransformerLM, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `state_tensors` gave; none at all means an optimizer that has not stepped yet.

    Raises: StorageError when a tensor is missing or has another shape.
    """
    if not tensors:
        return
    for name, parameter in model.named_parameters():
        for key in STATE_NAMES:
            tensor = tensors.get(f"{key}/{name}")
            if tensor is None or (key != "step" and tensor.shape != parameter.shape):
                raise StorageError(f"the checkpoint's optimizer state does not fit: {key} of {name}")
            device = tensor.device if key == "step" and parameter.device.type == "cpu" else parameter.device
            optimizer.state[parameter][key] = tensor.to(device).clone()

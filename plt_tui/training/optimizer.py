"""The optimizers, told every step what to use: nothing is read back from their parameter groups.

A learning rate or beta that was saved with an optimizer can therefore never win over the configuration and the journal.
Invariant: the state is the same bits on every rank, so what one rank saves is all there is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from plt_tui.config.schema import OptimSection
from plt_tui.errors import StorageError
from plt_tui.model.base import LanguageModel
from plt_tui.model.groups import decay_groups, hidden_matrices
from plt_tui.training import lion, muon, sgd
from plt_tui.training.ranks import Ranks

_ADAMW_STATE = ("step", "exp_avg", "exp_avg_sq")
_STATE: Mapping[type, tuple[str, ...]] = {
    torch.optim.AdamW: _ADAMW_STATE,
    muon.Muon: muon.STATE_NAMES,
    lion.Lion: lion.STATE_NAMES,
    sgd.SGD: sgd.STATE_NAMES,
}
"""What each keeps per parameter."""
_KEPT_BY: Mapping[frozenset[str], str] = {
    frozenset(_ADAMW_STATE): "adamw",
    frozenset((*_ADAMW_STATE, *muon.STATE_NAMES)): "muon",
    frozenset(lion.STATE_NAMES): "lion",
    frozenset(sgd.STATE_NAMES): "sgd",
}
"""The optim.name that a state tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepHyper:
    """Everything the optimizer is told for one step."""

    lr: float
    betas: tuple[float, float]
    weight_decay: float
    grad_clip: float


class Rule(Protocol):
    """One way to update parameters: AdamW of torch, or one of ours."""

    param_groups: list[dict[str, Any]]

    @property
    def state(self) -> MutableMapping[Tensor, dict[str, Any]]:
        """Tensors by name for each parameter."""

    def step(self) -> Any:
        """Update every parameter from its gradient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """One or two rules that step together; between them they hold every trainable parameter once."""

    rules: tuple[Rule, ...]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all rules; what is written into one is in force at the next step."""
        return [group for rule in self.rules for group in rule.param_groups]

    def step(self) -> None:
        """Update every parameter from its gradient; one that took no part in the loss has gradient 0. All ranks."""
        for parameter in self._parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for rule in self.rules:
            rule.step()

    def zero_grad(self, *, set_to_none: bool = True) -> None:
        """Forget the gradients; `set_to_none=False` keeps their memory, which may be a view of DDP's buckets."""
        if set_to_none:
            for parameter in self._parameters():
                parameter.grad = None
        else:
            gradients = [parameter.grad for parameter in self._parameters() if parameter.grad is not None]
            if gradients:
                torch._foreach_zero_(gradients)

    def _parameters(self) -> Iterator[nn.Parameter]:
        return itertools.chain.from_iterable(group["params"] for group in self.param_groups)


def build_optimizer(model: LanguageModel, optim: OptimSection, ranks: Ranks) -> Optimizer:
    """The optimizer that `optim.name` names, over the trainable parameters of `model`. Vectors and tables do not decay.

    adamw: Loshchilov and Hutter 2017, arXiv 1711.05101. muon: `muon.Muon` for the hidden matrices, AdamW for the rest.
    """
    matrices = hidden_matrices(model) if optim.name == "muon" else []
    decayed, plain = decay_groups(model, but=[matrix.parameter for matrix in matrices])
    groups: list[dict[str, Any]] = [
        {"params": parameters, "is_decayed": is_decayed, "lr": optim.lr, "lr_scale": 1.0, "betas": optim.betas}
        for parameters, is_decayed in ((decayed, True), (plain, False))
        if parameters
    ]
    if optim.name == "lion":
        return Optimizer(rules=(lion.Lion(groups),))
    if optim.name == "sgd":
        return Optimizer(rules=(sgd.SGD([{**group, "momentum": optim.momentum} for group in groups]),))
    rules: list[Rule] = []
    if matrices:
        settings = {"is_decayed": True, "lr": optim.lr, "lr_scale": optim.matrix_lr_scale, "momentum": optim.momentum}
        rules.append(muon.Muon(matrices, settings, ranks))
    if groups:
        rules.append(torch.optim.AdamW(groups, eps=optim.eps, fused=True))
    return Optimizer(rules=tuple(rules))


def tell(optimizer: Optimizer, hyper: StepHyper) -> None:
    """Set every hyperparameter for the coming step."""
    for group in optimizer.param_groups:
        group["lr"] = hyper.lr * group["lr_scale"]
        group["betas"] = hyper.betas
        group["weight_decay"] = hyper.weight_decay if group["is_decayed"] else 0.0


def state_tensors(optimizer: Optimizer, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The optimizer's state as (name, tensor), such as ("exp_avg/blocks.0.attention.qkv.weight", ...); none before a step."""
    rules = _rule_of_each(optimizer)
    for name, parameter in _trained(model):
        for key, tensor in rules[parameter].state.get(parameter, {}).items():
            yield f"{key}/{name}", tensor


def load_state_tensors(optimizer: Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `state_tensors` gave; none at all means an optimizer that has not stepped yet.

    Raises: StorageError when a tensor is missing or has another shape, or when the state is another optimizer's; the state that
    is there stays then.
    """
    if not tensors:
        for rule in optimizer.rules:
            rule.state.clear()
        return
    rules = _rule_of_each(optimizer)
    _refuse_another(frozenset(name.partition("/")[0] for name in tensors), optimizer)
    states: dict[nn.Parameter, dict[str, Tensor]] = {}
    for name, parameter in _trained(model):
        states[parameter] = {}
        for key in _STATE[type(rules[parameter])]:
            tensor = tensors.get(f"{key}/{name}")
            shape = () if key == "step" else tuple(parameter.shape)
            if tensor is None or tuple(tensor.shape) != shape:
                seen = "is missing" if tensor is None else f"has the shape {tuple(tensor.shape)} and not {shape}"
                raise StorageError(f"the checkpoint's optimizer state does not fit: {key} of {name} {seen}")
            states[parameter][key] = tensor.to(parameter.device, copy=True)
    for parameter, state in states.items():
        rules[parameter].state[parameter] = state


def _refuse_another(given: frozenset[str], optimizer: Optimizer) -> None:
    expected = frozenset(key for rule in optimizer.rules for key in _STATE[type(rule)])
    if given != expected and given in _KEPT_BY:
        raise StorageError(
            f"the checkpoint was trained with optim.name={_KEPT_BY[given]}, but this run has optim.name={_KEPT_BY[expected]}: "
            "change it back, or start a new run from the checkpoint's weights with train.init_from"
        )


def _rule_of_each(optimizer: Optimizer) -> dict[Tensor, Rule]:
    return {parameter: rule for rule in optimizer.rules for group in rule.param_groups for parameter in group["params"]}


def _trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)

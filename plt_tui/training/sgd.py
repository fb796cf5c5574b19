"""Stochastic gradient descent with Nesterov's momentum and decoupled weight decay.

torch's SGD adds the decay to the gradient, where momentum multiplies it by 1 / (1 - momentum). Here it shrinks the weights by
lr * weight_decay per step as with every other optimizer (Loshchilov and Hutter 2017, arXiv 1711.05101, algorithm 1), so that
optim.weight_decay means one thing. Without decay the two are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from plt_tui.training.moments import State, moments

STATE_NAMES = ("momentum_buffer",)


class SGD:
    """`groups`: params, lr, momentum and weight_decay each, read at every step."""

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        self.param_groups = list(groups)
        self.state: State = State(dict)

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter from its gradient."""
        for group in self.param_groups:
            parameters, momentum = group["params"], group["momentum"]
            gradients = [parameter.grad for parameter in parameters]
            buffers = moments(self.state, "momentum_buffer", parameters)
            torch._foreach_mul_(buffers, momentum)
            torch._foreach_add_(buffers, gradients)
            updates = torch._foreach_add(gradients, buffers, alpha=momentum)
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(parameters, updates, alpha=-group["lr"])

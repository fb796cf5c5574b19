"""Lion: the sign of an interpolated momentum as the update (Chen et al. 2023, arXiv 2302.06675, algorithm 2).

Every weight moves by the learning rate, whatever its gradient's size, so Lion wants a rate 3 to 10 times smaller than AdamW's
and a weight decay as many times larger (section 5 there). Keeps one moment instead of AdamW's two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from plt_tui.training.moments import State, moments

STATE_NAMES = ("exp_avg",)


class Lion:
    """`groups`: params, lr, betas and weight_decay (decoupled) each, read at every step."""

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        self.param_groups = list(groups)
        self.state: State = State(dict)

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter from its gradient."""
        for group in self.param_groups:
            parameters, (beta1, beta2) = group["params"], group["betas"]
            gradients = [parameter.grad for parameter in parameters]
            averages = moments(self.state, "exp_avg", parameters)
            updates = torch._foreach_lerp(gradients, averages, beta1)
            torch._foreach_sign_(updates)
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(parameters, updates, alpha=-group["lr"])
            torch._foreach_lerp_(averages, gradients, 1 - beta2)

"""What an optimizer of ours keeps per parameter: running averages of its gradients, 0 before the first step.

Does not update them. Invariant: all or none of an optimizer's parameters have theirs, so a checkpoint of step 0 holds none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

State = defaultdict[Tensor, dict[str, Tensor]]
"""Tensors by name, for each parameter."""


def moments(state: State, name: str, parameters: Sequence[Tensor]) -> list[Tensor]:
    """The moment `name` of each parameter, shaped as the parameter; made where there is none."""
    for parameter in parameters:
        if name not in state[parameter]:
            state[parameter][name] = torch.zeros_like(parameter)
    return [state[parameter][name] for parameter in parameters]

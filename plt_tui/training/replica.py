"""The model as the ranks train it: compiled when asked for, wrapped in DDP when there is more than one rank.

Knows nothing of batches or optimizers. All ranks build it together. Invariant: once it is built, the layout of DDP's gradient
buckets stays, so the order of every sum over ranks is the same in every session.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from plt_tui.config.schema import TrainSection
from plt_tui.errors import UsageError
from plt_tui.model.base import LanguageModel
from plt_tui.training.clock import StepClock
from plt_tui.training.precision import autocast
from plt_tui.training.ranks import Ranks


def build_replica(model: LanguageModel, train: TrainSection, ranks: Ranks, clock: StepClock) -> nn.Module:
    """`model` ready for forward and backward passes on all ranks; on a CPU `clock` is told when gradients start to travel.

    Raises: UsageError when a parameter takes no part in the loss and there are several ranks.
    """
    module: nn.Module = model
    if train.compile:
        module = cast("nn.Module", torch.compile(model, dynamic=False))  # typed as a plain callable
    if ranks.world_size == 1:
        return module
    on_gpu = ranks.device.type == "cuda"
    ranks.pulse.beat(is_waiting=True)  # DDP compares the parameters of all ranks first
    replica = DistributedDataParallel(
        module,
        device_ids=[ranks.device] if on_gpu else None,
        gradient_as_bucket_view=True,
        # On a CPU every core computes, so sending a bucket during the backward pass hides nothing: one transfer at the end
        # is 1.3 % faster at the quick start than DDP's default of several (docs/LOG.md, 2026-11-22).
        bucket_cap_mb=None if on_gpu else 1 + sum(p.numel() * p.element_size() for p in module.parameters()) // 2**20,
    )
    ranks.pulse.beat()
    _settle_buckets(replica, model, train, ranks, clock)
    return replica


def unsynchronised(replica: nn.Module) -> contextlib.AbstractContextManager[None]:
    """The context of a micro-step that is not the last: gradients stay here. Forward and backward must both be inside."""
    if isinstance(replica, DistributedDataParallel):
        return replica.no_sync()
    return contextlib.nullcontext()


def _settle_buckets(
    replica: DistributedDataParallel, model: LanguageModel, train: TrainSection, ranks: Ranks, clock: StepClock
) -> None:
    """Run one throw-away pass: DDP lays its buckets out anew after the first one.

    With three and more ranks the order of a sum depends on that layout, so without this the first step after a resume
    would differ in its last bits from the same step of a run that never stopped.
    """
    size = (train.batch_size, model.context)  # as in training: torch.compile sees one shape only
    ids = torch.zeros(size, dtype=torch.int64, device=ranks.device)
    with _order_of_gradients(model) as ready, autocast(train.precision, ranks.device):
        replica(ids, ids, torch.ones((), device=ranks.device)).backward()
    unused = [name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None]
    if unused:
        raise UsageError(
            f"model.arch = {model.shape.arch!r}: {', '.join(unused[:5])} take no part in the loss, and several ranks cannot "
            "train together then; use them, or give them requires_grad = False"
        )
    model.zero_grad(set_to_none=False)
    if ranks.device.type != "cuda":
        # The only bucket leaves when the last gradient is there; what follows until the backward pass ends is waiting.
        _when_complete(ready[-1], lambda _: clock.mark("comm"))


@contextlib.contextmanager
def _order_of_gradients(model: LanguageModel) -> Iterator[list[Tensor]]:
    """A list that fills with the parameters in the order in which a backward pass inside completes their gradients."""
    ready: list[Tensor] = []
    trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
    hooks = [_when_complete(parameter, ready.append) for parameter in trained]
    try:
        yield ready
    finally:
        for hook in hooks:
            hook.remove()


def _when_complete(parameter: Tensor, tell: Callable[[Tensor], None]) -> RemovableHandle:
    """Call `tell(parameter)` whenever a backward pass has completed its gradient."""
    handle: RemovableHandle = parameter.register_post_accumulate_grad_hook(tell)  # type: ignore[no-untyped-call]  # torch's
    return handle

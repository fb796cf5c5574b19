"""Whether training can go on from a checkpoint, and whether the bits will be those of a run that never stopped.

Pure comparisons of what a checkpoint's `state.json` says with what is there now. Invariant: two trainings with the same
`exact_if`, shape and data compute the same bits from the same checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from plt_tui.config.schema import RunConfig
from plt_tui.errors import DataError, UsageError
from plt_tui.training.muon import product_dtype
from plt_tui.training.ranks import Ranks

_NOT_IN_TRAIN = {"steps", "epochs", "tokens", "init_from"}
"""Targets are compared as the step at which the schedule ends; what step 0 began with is past."""
_NOT_IN_SHAPE = {"preset", "dropout", "init"}


def exact_if(config: RunConfig, ranks: Ranks, target_step: int) -> dict[str, Any]:
    """What must be the same for a resume to give the same bits."""
    return {
        "world_size": ranks.world_size,
        "global_batch": config.train.batch_size * config.train.accumulate * ranks.world_size,
        "threads": torch.get_num_threads(),
        "device": ranks.device.type,
        "hardware": _hardware(ranks.device),
        "torch": str(torch.__version__),
        "run.seed": config.run.seed,
        "model.dropout": config.model.dropout,
        "target_step": target_step,  # the schedule's end, however `[train]` asked for it
        **{f"train.{key}": value for key, value in config.train.model_dump(mode="json", exclude=_NOT_IN_TRAIN).items()},
        **{f"optim.{key}": value for key, value in config.optim.model_dump(mode="json").items()},
    }


def _hardware(device: torch.device) -> str:
    """What decides which kernels run: another GPU, or a CPU with other instructions, rounds differently."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.backends.cpu.get_cpu_capability()}, muon in {product_dtype(device)}"


def shape_of(config: RunConfig, vocab_size: int) -> dict[str, Any]:
    """What the size and the meaning of the weights depend on."""
    return {
        **config.model.model_dump(mode="json", exclude=_NOT_IN_SHAPE),
        "context": config.data.context,
        "vocab_size": vocab_size,
    }


def refuse_mismatch(folder: Path, state: Mapping[str, Any], shape: Mapping[str, Any], fingerprint: str) -> None:
    """Return when the checkpoint with `state` fits `shape` and the data. Raises: UsageError or DataError."""
    changes = differences(state["shape"], shape)
    if changes:
        what = ", ".join(changes)
        raise UsageError(f"{folder} holds a model of another shape ({what}); undo the change, or start with another --name")
    if state["data_fingerprint"] != fingerprint:
        raise DataError(
            f"the training data or tokenizer changed since {folder} was saved; "
            "put the old data back, or start a new run with another --name"
        )


def inexact_because(before: Mapping[str, Any], config: RunConfig, ranks: Ranks, target_step: int) -> list[str]:
    """Why a resume from a checkpoint whose `exact_if` was `before` will not give the same bits; empty when it will."""
    reasons = differences(before, exact_if(config, ranks, target_step))
    if ranks.device.type == "cuda" and not config.train.deterministic:
        reasons.append("train.deterministic is false, so a GPU adds in any order")
    return reasons


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Every key whose value changed, as "key before -> now"."""
    return [f"{key} {before.get(key)} -> {now[key]}" for key in now if before.get(key) != now[key]]

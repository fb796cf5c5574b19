"""A run in a few dozen numbers: what `show --json` prints and `/api/v1/run` answers, for live and finished runs alike.

Pure. Key names are a contract with scripts: keys may be added, never renamed. Invariant: the result is plain JSON; non-finite
floats are the strings "nan", "inf" and "-inf", as in `protocol.events`.
"""

from __future__ import annotations

import math
from typing import Any

from plt_tui.control.state import RunState
from plt_tui.protocol.framing import to_json


def summary(state: RunState, name: str) -> dict[str, Any]:
    """The run called `name` as JSON values; what is not known yet is null, empty or 0."""
    run, step, evaluation, end = state.run, state.last_step, state.last_eval, state.end
    last = None if step is None else {"loss": step.loss, "lr": step.lr, "tokens_per_s": step.tokens_per_s}
    facts = {
        "name": name,
        "state": state.phase,
        "reason": state.reason,
        "step": state.step,
        "target_step": run.target_step if run else 0,
        "tokens": step.tokens if step else 0,
        "epoch": _passes(state),
        "world_size": run.world_size if run else 0,
        "device": run.device if run else "",
        "params": run.params if run else 0,
        "ranks": [{"rank": rank.rank, "pid": rank.pid, "step": rank.step} for _, rank in sorted(state.ranks.items())],
        "last": last,
        "eval": to_json(evaluation) if evaluation else None,
        "best_eval": to_json(state.best_eval) if state.best_eval else None,
        "mfu": state.utilisation,
        "accuracy": evaluation.accuracy if evaluation else None,
        "eta_s": None if state.is_over else state.eta_s,
        "started_at": state.started_at,
        "restarts": state.restarts,
        "branches": [
            {"number": left.number, "first": left.first, "last": left.last, "skip": left.skip, "actor": left.actor}
            for left in state.branches
        ],
        "spikes": state.num_spikes,
        "guard_acts": state.guard_acts,
        "checkpoints": len(state.checkpoints),
        "last_checkpoint": state.checkpoints[-1].path if state.checkpoints else "",
        "alerts": [{"topic": alert.topic, "level": alert.level, "text": alert.text} for alert in state.alerts.values()],
        "viewers": [dict(viewer) for viewer in state.viewers],
        "weights_sha256": weights_sha256(state),
        "exit_code": end.exit_code if end else None,
    }
    return {key: json_ready(value) for key, value in facts.items()}


def _passes(state: RunState) -> float | None:
    """Passes over the training text so far, None while unknown: counted in tokens, as steps may differ in their batch size."""
    run, step = state.run, state.last_step
    if run is None or step is None or not run.train_tokens:
        return None
    return step.tokens / run.train_tokens


def weights_sha256(state: RunState) -> str:
    """Hash of the weights as they are now: the ended session's, or that of a checkpoint saved at this step; else empty."""
    if state.end is not None and state.end.weights_sha256:
        return state.end.weights_sha256
    return next((saved.weights_sha256 for saved in state.checkpoints if saved.step == state.step), "")


def json_ready(value: Any) -> Any:
    """`value`, built from JSON's own types, with every non-finite float spelled out as a string."""
    match value:
        case float():
            return value if math.isfinite(value) else repr(value)
        case dict():
            return {key: json_ready(item) for key, item in value.items()}
        case list() | tuple():
            return [json_ready(item) for item in value]
        case _:
            return value


def newest_saved(state: RunState) -> str:
    """What is left of a run that could not save, for people; not whether it is all: ranks may have been ahead of the record."""
    saved = state.checkpoints
    return f"the newest checkpoint is {saved[-1].path}" if saved else "there is no checkpoint"

"""Evaluation on held-out text, shared by all ranks.

Looks at the same windows whatever the number of ranks, and draws no random number. All ranks call it together.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from plt_tui.data.cursor import EvalWindows
from plt_tui.model.base import LanguageModel
from plt_tui.model.generate import eval_mode
from plt_tui.training.precision import autocast
from plt_tui.training.ranks import Ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalResult:
    """Means over all tokens that were looked at."""

    loss: float
    """Nats per token."""
    perplexity: float
    bits_per_byte: float
    accuracy: float
    tokens: int
    seconds: float


def evaluate(
    model: LanguageModel,
    windows: EvalWindows,
    ranks: Ranks,
    *,
    batch_size: int,
    batches: int,
    bytes_per_token: float,
    precision: str = "fp32",
) -> EvalResult:
    """Loss and accuracy over up to `batches` batches of windows, spread evenly over the held-out text.

    `precision`: of the forward pass, as `train.precision`; sums are float64.

    Bits per byte: nats / ln 2 / bytes per token (Gao et al. 2020, arXiv 2101.00027, section 3.1).
    """
    started = time.monotonic()
    starts = [index * batch_size for index in spread(math.ceil(windows.num_windows / batch_size), batches)]
    loss_sum, correct, tokens = 0.0, 0.0, 0
    with torch.inference_mode(), eval_mode(model), autocast(precision, ranks.device):
        for start in starts[ranks.rank :: ranks.world_size]:
            ranks.pulse.beat()
            count = min(batch_size, windows.num_windows - start)
            ids = torch.from_numpy(windows.batch(start, count)).to(ranks.device)
            score = model.token_losses(ids[:, :-1], ids[:, 1:])
            loss_sum += float(score.loss_sum)
            correct += float(score.num_correct)
            tokens += ids[:, 1:].numel()
    loss_sum, correct, all_tokens = ranks.sum([loss_sum, correct, float(tokens)])
    loss = loss_sum / all_tokens
    return EvalResult(
        loss=loss,
        perplexity=math.exp(loss) if loss < 700 else math.inf,
        bits_per_byte=loss / math.log(2) / bytes_per_token,
        accuracy=correct / all_tokens,
        tokens=int(all_tokens),
        seconds=time.monotonic() - started,
    )


def spread(available: int, wanted: int) -> list[int]:
    """At most `wanted` of the indices 0 .. available - 1, evenly spaced, the first one included."""
    count = min(available, wanted)
    return [index * available // count for index in range(count)]

"""Text from a model, one token after the other.

Knows token ids only, no tokenizer. Draws from a generator of its own, so training's random streams never notice. Invariant: the
same model, prompt and seed give the same tokens (on one kind of device).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from plt_tui.model.transformer import TransformerLM


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Dropout off inside; afterwards the mode that was. Not for a thread beside one that trains the same model."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@torch.inference_mode()
def generate(
    model: TransformerLM, prompt_ids: Tensor, *, tokens: int, temperature: float, seed: int, stop_id: int | None = None
) -> list[int]:
    """Up to `tokens` ids that continue `prompt_ids`, int64 (T,) with T at least 1, the prompt not included.

    `temperature`: 0 takes the most probable id. `stop_id` ends the text and is not returned. A window that is full drops its
    older half: every token is drawn with between half a context and a whole one before it.
    """
    assert prompt_ids.ndim == 1, f"a prompt is one row, not {tuple(prompt_ids.shape)}"
    assert len(prompt_ids) > 0, "a prompt has at least one token"
    generator = torch.Generator().manual_seed(seed)
    window: list[int] = prompt_ids.tolist()[-model.context :]
    past = model.new_past()
    fresh = window
    written: list[int] = []
    with eval_mode(model):
        while len(written) < tokens:
            hidden = model.hidden(torch.tensor([fresh], device=model.output_weight.device), past)
            token = pick(functional.linear(hidden[0, -1], model.output_weight), temperature, generator)
            if token == stop_id:
                break
            written.append(token)
            window.append(token)
            fresh = [token]
            if len(window) > model.context:
                # Positions count from the window's start, so what is kept has to be computed again.
                fresh = window = window[-max(1, model.context // 2) :]
                past = model.new_past()
    return written


def pick(logits: Tensor, temperature: float, generator: Generator) -> int:
    """One id from `logits`, (V,), drawn from `generator` on the CPU; temperature 0: the most probable, the first of equals."""
    logits = logits.float().cpu()
    if temperature == 0.0:
        return int(logits.argmax())
    probabilities = torch.softmax((logits - logits.max()) / temperature, dim=-1)
    return int(torch.multinomial(probabilities, 1, generator=generator))

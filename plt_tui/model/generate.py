"""Text from a model, one token after the other.

Knows token ids only, no tokenizer. Draws from a generator of its own, so training's random streams never notice. Invariant: the
same model, prompt and seed give the same tokens (on one kind of device).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Generator, Tensor, nn

from plt_tui.model.base import LanguageModel


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Dropout off inside; afterwards the mode that was. Not for a thread beside one that trains the same model."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def generate(
    model: LanguageModel,
    prompt_ids: Tensor,
    *,
    tokens: int,
    temperature: float,
    seed: int,
    top_k: int = 0,
    top_p: float = 1.0,
    stop_id: int | None = None,
    on_token: Callable[[], object] = lambda: None,
) -> list[int]:
    """All ids that `stream` gives, with dropout off meanwhile; `on_token` is called after each."""
    written: list[int] = []
    with eval_mode(model):
        for token in stream(
            model,
            prompt_ids,
            tokens=tokens,
            temperature=temperature,
            seed=seed,
            top_k=top_k,
            top_p=top_p,
            stop_id=stop_id,
        ):
            written.append(token)
            on_token()
    return written


@torch.inference_mode()
def stream(
    model: LanguageModel,
    prompt_ids: Tensor,
    *,
    tokens: int,
    temperature: float,
    seed: int,
    top_k: int = 0,
    top_p: float = 1.0,
    stop_id: int | None = None,
) -> Iterator[int]:
    """Up to `tokens` ids that continue `prompt_ids`, int64 (T,) with T at least 1, each as soon as it is drawn.

    `temperature`, `top_k`, `top_p`: see `probabilities`. `stop_id` ends the text and is not given. A window that is full drops
    its older half: every token is drawn with between half a context and a whole one before it. Dropout acts as the model's mode
    says.
    """
    assert prompt_ids.ndim == 1, f"a prompt is one row, not {tuple(prompt_ids.shape)}"
    assert len(prompt_ids) > 0, "a prompt has at least one token"
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    window: list[int] = prompt_ids.tolist()[-model.context :]
    past = model.new_past()
    fresh = window
    for _ in range(tokens):
        logits = model.next_logits(torch.tensor([fresh], device=device), past)[0]
        token = pick(logits, generator, temperature=temperature, top_k=top_k, top_p=top_p)
        if token == stop_id:
            return
        yield token
        window.append(token)
        fresh = [token]
        if len(window) > model.context:
            # Positions count from the window's start, so what is kept has to be computed again.
            fresh = window = window[-max(1, model.context // 2) :]
            past = model.new_past()


def pick(logits: Tensor, generator: Generator, *, temperature: float, top_k: int = 0, top_p: float = 1.0) -> int:
    """One id from `logits`, (V,), drawn from `generator` on the CPU; temperature 0: the most probable, the first of equals."""
    logits = logits.float().cpu()
    if temperature == 0.0:
        return int(logits.argmax())
    chances = probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    return int(torch.multinomial(chances, 1, generator=generator))


def probabilities(logits: Tensor, *, temperature: float, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """What `pick` draws from: softmax(logits / temperature), (V,), of which first the `top_k` largest are kept, 0: all.

    Of these the fewest that together have at least `top_p` of the probability (nucleus sampling, Holtzman et al. 2019, arXiv
    1904.09751, section 3.1): always one. Among equals the first ids are kept. What is kept sums to 1.
    """
    chances = torch.softmax((logits - logits.max()) / temperature, dim=-1)
    if not top_k and top_p == 1.0:
        return chances
    ranked, order = chances.sort(descending=True, stable=True)
    if top_k:
        ranked[top_k:] = 0.0
    ranked /= ranked.sum()
    ranked[ranked.cumsum(0) - ranked >= top_p] = 0.0  # what is more probable suffices without it
    return torch.zeros_like(chances).scatter_(0, order, ranked / ranked.sum())

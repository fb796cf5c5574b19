"""Generation: reproducible, polite to everybody else's state, and right against the uncached model."""

import pytest
import torch

from plt_tui.config.schema import ModelSection
from plt_tui.model.generate import generate, pick
from plt_tui.model.init import build_model
from plt_tui.model.transformer import TransformerLM

CONTEXT = 16
PROMPT = torch.tensor([3, 1, 4])


@pytest.fixture(params=["rope", "learned"])
def model(request: pytest.FixtureRequest) -> TransformerLM:
    """A small model with dropout, in training mode, whose logits are far from flat."""
    shape = ModelSection.model_validate({"layers": 2, "width": 32, "heads": 4, "position": request.param, "dropout": 0.3})
    built = build_model(shape, vocab_size=20, context=CONTEXT, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return built.train()


def test_same_seed_same_text_other_seed_other_text(model: TransformerLM) -> None:
    """The seed decides the text, beyond the context too."""
    first = generate(model, PROMPT, tokens=40, temperature=1.0, seed=7)
    assert len(first) == 40
    assert generate(model, PROMPT, tokens=40, temperature=1.0, seed=7) == first
    assert generate(model, PROMPT, tokens=40, temperature=1.0, seed=8) != first


def test_temperature_zero_takes_the_most_probable_token(model: TransformerLM) -> None:
    """Within the context every token is the argmax of the uncached logits, and the seed does not matter."""
    written = generate(model, PROMPT, tokens=CONTEXT - 3, temperature=0.0, seed=1)
    assert generate(model, PROMPT, tokens=CONTEXT - 3, temperature=0.0, seed=2) == written
    ids = torch.cat((PROMPT, torch.tensor(written)))
    logits = model.eval()(ids[None, :-1])[0]
    assert logits[2:].argmax(-1).tolist() == written


def test_full_window_drops_its_older_half(model: TransformerLM) -> None:
    """Past the context, each token is the argmax over a window that restarts with half a context whenever it is full."""
    written = generate(model, PROMPT, tokens=60, temperature=0.0, seed=1)
    model.eval()
    window = PROMPT.tolist()
    for token in written:
        assert int(model(torch.tensor([window]))[0, -1].argmax()) == token
        window.append(token)
        if len(window) > CONTEXT:
            window = window[-CONTEXT // 2 :]


def test_prompt_longer_than_the_context_is_cropped_to_its_end(model: TransformerLM) -> None:
    """Only the last `context` tokens of the prompt count."""
    prompt = torch.arange(30) % 20
    expected = generate(model, prompt[-CONTEXT:], tokens=5, temperature=1.0, seed=1)
    assert generate(model, prompt, tokens=5, temperature=1.0, seed=1) == expected


def test_stop_id_ends_the_text_and_is_not_returned(model: TransformerLM) -> None:
    """What comes before the first stop token is returned."""
    written = generate(model, PROMPT, tokens=40, temperature=1.0, seed=7)
    stop_id = written[10]
    assert generate(model, PROMPT, tokens=40, temperature=1.0, seed=7, stop_id=stop_id) == written[: written.index(stop_id)]


@pytest.mark.parametrize("training", [True, False])
def test_mode_and_random_state_are_left_as_they_were(model: TransformerLM, training: bool) -> None:
    """Dropout is off while generating, the mode comes back, and the global stream does not move."""
    model.train(training)
    before = torch.get_rng_state()
    generate(model, PROMPT, tokens=5, temperature=1.0, seed=1)
    assert model.training is training
    assert all(module.training is training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), before)


def test_training_after_generating_is_not_disturbed(model: TransformerLM) -> None:
    """No tensor of inference mode stays behind in the model: a backward pass still works and gives the same loss."""
    model.eval()
    ids = torch.arange(10)[None]
    before = model(ids, ids)
    generate(model, PROMPT, tokens=20, temperature=1.0, seed=1)
    after = model(ids, ids)
    after.backward()
    assert torch.equal(before, after)


def test_context_of_one_still_writes() -> None:
    """The smallest window restarts with every token."""
    model = build_model(ModelSection(layers=1, width=8, heads=2), vocab_size=5, context=1, seed=0)
    assert len(generate(model, torch.tensor([1, 2]), tokens=4, temperature=1.0, seed=0)) == 4


def test_draws_follow_the_softmax_at_the_temperature() -> None:
    """Frequencies of many draws equal softmax(logits / temperature); large logits do not overflow."""
    logits = torch.tensor([1000.0, 1001.0, 998.0])
    generator = torch.Generator().manual_seed(0)
    draws = torch.tensor([pick(logits, 2.0, generator) for _ in range(4000)])
    expected = torch.softmax(logits / 2.0, -1)
    torch.testing.assert_close(torch.bincount(draws, minlength=3) / 4000, expected, rtol=0, atol=0.03)

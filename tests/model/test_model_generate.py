"""Generation: reproducible, polite to everybody else's state, and right against the uncached model."""

import pytest
import torch

from plt_tui.config.schema import ModelSection
from plt_tui.model.build import build_model
from plt_tui.model.generate import generate, pick, probabilities
from plt_tui.model.transformer import TransformerLM

CONTEXT = 16
PROMPT = torch.tensor([3, 1, 4])


@pytest.fixture(params=[{"position": "rope"}, {"position": "learned"}, {"window": 3, "kv_heads": 1, "softcap": 5.0}], ids=str)
def model(request: pytest.FixtureRequest) -> TransformerLM:
    """A small model with dropout, in training mode, whose logits are far from flat."""
    shape = ModelSection.model_validate({"layers": 2, "width": 32, "heads": 4, "dropout": 0.3, **request.param})
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
    draws = torch.tensor([pick(logits, generator, temperature=2.0) for _ in range(4000)])
    expected = torch.softmax(logits / 2.0, -1)
    torch.testing.assert_close(torch.bincount(draws, minlength=3) / 4000, expected, rtol=0, atol=0.03)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, [0.4, 0.1, 0.3, 0.2]),
        ({"top_k": 2}, [0.4 / 0.7, 0, 0.3 / 0.7, 0]),
        ({"top_k": 1}, [1, 0, 0, 0]),
        ({"top_k": 9}, [0.4, 0.1, 0.3, 0.2]),
        ({"top_p": 0.35}, [1, 0, 0, 0]),
        ({"top_p": 0.45}, [0.4 / 0.7, 0, 0.3 / 0.7, 0]),
        ({"top_p": 0.85}, [0.4 / 0.9, 0, 0.3 / 0.9, 0.2 / 0.9]),
        ({"top_p": 0.95}, [0.4, 0.1, 0.3, 0.2]),
        ({"top_k": 2, "top_p": 0.5}, [1, 0, 0, 0]),
        ({"top_k": 2, "top_p": 0.6}, [0.4 / 0.7, 0, 0.3 / 0.7, 0]),
        ({"temperature": 0.5, "top_p": 0.5}, [1, 0, 0, 0]),
        ({"temperature": 0.5}, [0.16 / 0.3, 0.01 / 0.3, 0.09 / 0.3, 0.04 / 0.3]),
    ],
    ids=str,
)
def test_temperature_then_top_k_then_top_p(keys: dict[str, float], expected: list[float]) -> None:
    """What is left over of 0.4, 0.1, 0.3 and 0.2, each rule applied to the probabilities that the one before it leaves."""
    logits = torch.tensor([0.4, 0.1, 0.3, 0.2]).log() + 7
    got = probabilities(logits, **{"temperature": 1.0, **keys})
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float32))


def test_equal_logits_keep_exactly_k_of_them() -> None:
    """Ties go to the first ids, so that top_k = 3 never means more than three."""
    assert probabilities(torch.zeros(8), temperature=1.0, top_k=3).tolist() == pytest.approx([1 / 3] * 3 + [0] * 5)


def test_top_k_of_one_writes_what_temperature_zero_writes(model: TransformerLM) -> None:
    """Both take the most probable token; so does a nucleus that is no larger than it."""
    greedy = generate(model, PROMPT, tokens=30, temperature=0.0, seed=1)
    assert generate(model, PROMPT, tokens=30, temperature=1.0, seed=1, top_k=1) == greedy
    assert generate(model, PROMPT, tokens=30, temperature=1.0, seed=1, top_p=1e-9) == greedy

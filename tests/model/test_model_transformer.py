"""The whole model: causality, loss, scores, tied weights, published sizes, and that it learns."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from plt_tui.config.presets import model_preset
from plt_tui.config.schema import ModelSection
from plt_tui.model import base
from plt_tui.model.build import build_model
from plt_tui.model.flops import num_params
from plt_tui.model.transformer import TransformerLM

TINY = {"layers": 2, "width": 32, "heads": 4}
SHAPES = {
    "default": ModelSection(**TINY),
    "gpt2": ModelSection.model_validate({**model_preset("gpt2"), **TINY}),
    "llama": ModelSection.model_validate({**model_preset("llama-1b"), **TINY, "kv_heads": 2, "ffn": 48}),
    "no positions": ModelSection(**TINY, position="none"),
    "windows": ModelSection(layers=3, width=32, heads=4, kv_heads=2, window=4, window_pattern="SL", softcap=8.0),
    "multi-query": ModelSection(**TINY, kv_heads=1, rope_base=100.0, norm_eps=1e-3, window=1, window_pattern="S"),
}
VOCAB, CONTEXT = 17, 12


def _model(shape: ModelSection) -> TransformerLM:
    """A built model whose zero projections are disturbed, so that every part has a say in the logits."""
    model = build_model(shape, vocab_size=VOCAB, context=CONTEXT, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def _ids(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(VOCAB, (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=SHAPES)
def model(request: pytest.FixtureRequest) -> TransformerLM:
    """One model of each family."""
    return _model(SHAPES[request.param])


def test_a_later_token_never_changes_earlier_logits(model: TransformerLM) -> None:
    """Changing token t leaves the logits before t as they were, and changes those at t."""
    ids = _ids(2, CONTEXT)
    before = model(ids)
    for t in (1, CONTEXT // 2, CONTEXT - 1):
        changed = ids.clone()
        changed[:, t] = (changed[:, t] + 1) % VOCAB
        after = model(changed)
        torch.testing.assert_close(after[:, :t], before[:, :t], rtol=0, atol=1e-6)
        assert (after[:, t] - before[:, t]).abs().max() > 1e-3


def test_cached_logits_equal_those_of_the_whole_row(model: TransformerLM) -> None:
    """A prompt and then one token at a time, through the cache, gives the logits of one full pass."""
    ids = _ids(2, CONTEXT)
    past = model.new_past()
    parts = [model.hidden(ids[:, :5], past), *(model.hidden(ids[:, t : t + 1], past) for t in range(5, CONTEXT))]
    torch.testing.assert_close(torch.cat(parts, dim=1), model.hidden(ids), rtol=1e-4, atol=1e-5)
    past = model.new_past()
    nexts = [model.next_logits(ids[:, :5], past), *(model.next_logits(ids[:, t : t + 1], past) for t in range(5, CONTEXT))]
    torch.testing.assert_close(torch.stack(nexts, dim=1), model(ids)[:, 4:], rtol=1e-4, atol=1e-5)


def test_a_window_that_holds_everything_changes_no_bit() -> None:
    """From a window of the row's length on, all layers see what long ones do; a shorter one shows."""
    ids = _ids(2, 8)
    plain, same, shorter = (_model(ModelSection(**TINY, window=window))(ids) for window in (0, 8, 7))
    assert torch.equal(plain, same)
    assert not torch.allclose(plain, shorter)


def test_softcap_bounds_the_logits() -> None:
    """The model's logits are the plain ones, capped; without a cap they would be larger."""
    ids = _ids(2, 8)
    plain, capped = (_model(ModelSection(**TINY, softcap=softcap))(ids) for softcap in (0.0, 0.5))
    assert plain.abs().max() > 0.5
    torch.testing.assert_close(capped, 0.5 * torch.tanh(plain / 0.5))


def _loss_and_grads(model: TransformerLM, *, checkpoint: bool, seed: int = 0) -> tuple[Tensor, list[Tensor]]:
    model.checkpoint_blocks = checkpoint
    model.zero_grad()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        loss = model(_ids(2, CONTEXT), _ids(2, CONTEXT, seed=1))
        loss.backward()
    return loss.detach(), [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def test_activation_checkpointing_changes_no_bit(model: TransformerLM) -> None:
    """The recomputed blocks give the same loss and the same gradients; the blocks do run again."""
    runs: list[int] = []
    model.blocks[0].register_forward_pre_hook(lambda *_: runs.append(1))
    plain_loss, plain = _loss_and_grads(model, checkpoint=False)
    loss, grads = _loss_and_grads(model, checkpoint=True)
    assert len(runs) == 3
    assert torch.equal(loss, plain_loss)
    assert all(torch.equal(mine, other) for mine, other in zip(grads, plain, strict=True))


def test_activation_checkpointing_draws_the_same_dropout_again() -> None:
    """With dropout too the gradients are those of the forward pass that was seen."""
    model = _model(ModelSection(**TINY, dropout=0.4))
    plain_loss, plain = _loss_and_grads(model, checkpoint=False, seed=3)
    loss, grads = _loss_and_grads(model, checkpoint=True, seed=3)
    assert torch.equal(loss, plain_loss)
    assert all(torch.equal(mine, other) for mine, other in zip(grads, plain, strict=True))
    assert not torch.equal(_loss_and_grads(model, checkpoint=True, seed=4)[0], loss)


@pytest.mark.parametrize(("name", "checkpoint"), [("default", False), ("windows", True), ("gpt2", False)])
def test_compiling_changes_nothing_beyond_rounding(name: str, checkpoint: bool) -> None:
    """Loss and gradients of the model captured as one graph are the eager one's; the inductor's C++ would take a minute."""
    model = _model(SHAPES[name])
    expected_loss, expected = _loss_and_grads(model, checkpoint=checkpoint)
    model.zero_grad()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=False)  # as the trainer does
    loss = compiled(_ids(2, CONTEXT), _ids(2, CONTEXT, seed=1))
    loss.backward()
    torch.testing.assert_close(loss.detach(), expected_loss)
    for parameter, grad in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, grad, rtol=1e-3, atol=1e-5)


def _named_grads(model: TransformerLM, scale: float, *, checkpoint: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
    model.embedding_grad_scale = scale
    model.checkpoint_blocks = checkpoint
    model.zero_grad()
    loss = model(_ids(2, CONTEXT), _ids(2, CONTEXT, seed=1))
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("scale", [0.0, 0.1])
def test_only_the_embeddings_gradient_is_scaled(scale: float, checkpoint: bool) -> None:
    """The loss and every other gradient keep their bits, learned positions included, also with recomputed blocks."""
    model = _model(ModelSection.model_validate({**model_preset("gpt2"), **TINY, "tie_embeddings": False}))
    plain_loss, plain = _named_grads(model, 1.0)
    loss, grads = _named_grads(model, scale, checkpoint=checkpoint)
    assert torch.equal(loss, plain_loss)
    torch.testing.assert_close(grads.pop("embedding.weight"), scale * plain.pop("embedding.weight"), rtol=1e-5, atol=1e-8)
    assert grads.keys() == plain.keys() > {"positions.weight", "head.weight"}
    assert all(torch.equal(grads[name], plain[name]) for name in grads)


def test_a_tied_output_layer_keeps_its_gradient() -> None:
    """In float64: the gradient of the shared matrix is that of the output layer, plus the scaled one of the lookup."""
    tied = _model(ModelSection(**TINY, tie_embeddings=True)).double()
    apart = _model(ModelSection(**TINY)).double()
    assert apart.head is not None
    apart.load_state_dict({**tied.state_dict(), "head.weight": tied.embedding.weight})
    parts = _named_grads(apart, 1.0)[1]
    shared = _named_grads(tied, 0.1)[1]["embedding.weight"]
    torch.testing.assert_close(shared, 0.1 * parts["embedding.weight"] + parts["head.weight"])


def test_a_compiled_model_follows_the_embeddings_factor_without_being_compiled_again() -> None:
    """More values than torch compiles a function for: each scales the gradient, and none changes the loss."""
    model = _model(SHAPES["default"])
    plain_loss, plain = _named_grads(model, 1.0)
    graphs: list[object] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=backend, fullgraph=True, dynamic=False)
    for scale in torch.linspace(0.0, 1.0, 12).tolist():
        model.embedding_grad_scale = scale
        model.zero_grad()
        loss = compiled(_ids(2, CONTEXT), _ids(2, CONTEXT, seed=1))
        loss.backward()
        torch.testing.assert_close(loss.detach(), plain_loss)
        torch.testing.assert_close(model.embedding.weight.grad, scale * plain["embedding.weight"], rtol=1e-3, atol=1e-6)
    assert len(graphs) == 1


def test_the_embeddings_factor_is_no_part_of_the_weights() -> None:
    """It reads back as it was set, and neither state nor a forward pass without gradients knows of it."""
    model = _model(SHAPES["default"])
    before = model.state_dict().keys()
    plain = model(_ids(2, 5)).detach()
    model.embedding_grad_scale = 0.1
    assert model.embedding_grad_scale == 0.1
    assert model.state_dict().keys() == before
    with torch.no_grad():
        assert torch.equal(model(_ids(2, 5)), plain)


def test_order_matters_unless_positions_are_off() -> None:
    """Swapping two earlier tokens changes the last logits of one block exactly when positions enter."""
    for position, matters in (("rope", True), ("learned", True), ("none", False)):
        model = _model(ModelSection.model_validate({**TINY, "layers": 1, "position": position}))
        ids = torch.tensor([[1, 2, 3, 4]])
        difference = (model(ids)[:, -1] - model(ids[:, [1, 0, 2, 3]])[:, -1]).abs().max()
        assert (difference > 1e-4) == matters


def test_loss_is_the_mean_cross_entropy_of_the_logits(model: TransformerLM) -> None:
    """With targets the model returns a float32 scalar equal to F.cross_entropy over all positions."""
    ids, targets = _ids(3, 7), _ids(3, 7, seed=1)
    loss = model(ids, targets)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.cross_entropy(model(ids).flatten(0, 1), targets.flatten()))


def test_loss_is_float32_and_close_under_bf16_autocast(model: TransformerLM) -> None:
    """Autocast changes the loss by rounding only, and the gradient reaches every parameter in float32."""
    ids, targets = _ids(3, 7), _ids(3, 7, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(ids, targets)
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, model(ids, targets), rtol=0.02, atol=0.02)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())


def test_token_losses_sum_what_forward_averages(model: TransformerLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss sum and hits are those of the whole batch, also when it is taken row by row."""
    ids, targets = _ids(5, 7), _ids(5, 7, seed=1)
    expected_hits = int((model(ids).argmax(-1) == targets).sum())
    expected_loss = 35 * model(ids, targets).double()
    for limit in (2**24, 2 * 7 * VOCAB, 1):
        monkeypatch.setattr(base, "SCORE_LOGITS", limit)
        score = model.token_losses(ids, targets)
        assert score.loss_sum.dtype == torch.float64
        torch.testing.assert_close(score.loss_sum, expected_loss, rtol=1e-5, atol=1e-5, check_dtype=True)
        assert int(score.num_correct) == expected_hits


def test_every_parameter_gets_a_gradient_and_none_is_a_buffer(model: TransformerLM) -> None:
    """Nothing is unused (data-parallel training would wait for it), and there is no buffer to broadcast."""
    model(_ids(2, CONTEXT), _ids(2, CONTEXT, seed=1)).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert list(model.buffers()) == []


@pytest.mark.parametrize(
    ("preset", "vocab_size", "context", "published"),
    [
        ("gpt2", 50257, 1024, 124_439_808),
        ("gpt2-medium", 50257, 1024, 354_823_168),
        ("gpt2-large", 50257, 1024, 774_030_080),
        ("gpt2-xl", 50257, 1024, 1_557_611_200),
        ("llama-1b", 32000, 2048, 1_100_048_384),
        ("llama-7b", 32000, 2048, 6_738_415_616),
        ("llama-8b", 128256, 8192, 8_030_261_248),
    ],
)
def test_presets_have_the_published_number_of_parameters(preset: str, vocab_size: int, context: int, published: int) -> None:
    """GPT-2, TinyLlama 1.1B, Llama 7B and Llama 3 8B as released."""
    with torch.device("meta"):
        model = TransformerLM(ModelSection.model_validate(model_preset(preset)), vocab_size=vocab_size, context=context)
    assert num_params(model) == published


def test_tied_embedding_is_one_tensor_with_one_name() -> None:
    """Tying shares storage, and the state dict names it once (safetensors refuses aliases)."""
    tied = _model(ModelSection(**TINY, tie_embeddings=True))
    assert tied.output_weight is tied.embedding.weight
    pointers = [value.data_ptr() for value in tied.state_dict().values()]
    assert len(set(pointers)) == len(pointers)
    untied = _model(ModelSection(**TINY))
    assert untied.output_weight.data_ptr() != untied.embedding.weight.data_ptr()


def test_dropout_acts_in_training_only() -> None:
    """With dropout two training passes differ, two evaluation passes do not."""
    model = _model(ModelSection(**TINY, dropout=0.5))
    ids = _ids(2, CONTEXT)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert not torch.equal(model(ids), model(ids))
    model.eval()
    assert torch.equal(model(ids), model(ids))


def test_a_row_longer_than_the_context_is_refused(model: TransformerLM) -> None:
    """Too many tokens are our own mistake and stop at once, for every kind of position."""
    with pytest.raises(AssertionError, match=f"{CONTEXT + 1} tokens in a context of {CONTEXT}"):
        model(_ids(1, CONTEXT + 1))


@pytest.mark.parametrize("name", SHAPES)
def test_planted_batch_is_learned_by_heart(name: str) -> None:
    """A few hundred steps on one batch bring the loss from ln V to nearly zero."""
    model = build_model(SHAPES[name], vocab_size=VOCAB, context=CONTEXT, seed=1)
    row = torch.randperm(VOCAB, generator=torch.Generator().manual_seed(3))[: CONTEXT + 1]
    ids, targets = row[None, :-1], row[None, 1:]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    assert model(ids, targets).item() > 0.6 * math.log(VOCAB)
    for _ in range(100):
        optimizer.zero_grad()
        loss = model(ids, targets)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01


def test_a_model_made_by_hand_has_torchs_initial_values() -> None:
    """Without `build_model` the tables are normal and the layers uniform, drawn from the global stream."""
    torch.manual_seed(1)
    model = TransformerLM(ModelSection.model_validate({**TINY, "position": "learned"}), vocab_size=300, context=64)
    assert model.embedding.weight.std().item() == pytest.approx(1.0, abs=0.05)
    assert model.positions is not None
    assert model.positions.weight.std().item() == pytest.approx(1.0, abs=0.1)
    torch.manual_seed(1)
    again = TransformerLM(ModelSection.model_validate({**TINY, "position": "learned"}), vocab_size=300, context=64)
    assert torch.equal(again.embedding.weight, model.embedding.weight)

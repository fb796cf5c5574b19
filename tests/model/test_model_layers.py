"""Norms, rotary positions, attention and feed-forward against plain float64 versions of their formulas."""

import model_references as references
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from plt_tui.config.schema import ModelSection
from plt_tui.model import kernels
from plt_tui.model.layers import (
    CausalSelfAttention,
    FeedForward,
    _rotate_real,
    attention_scale,
    layer_windows,
    make_norm,
    rotary_table,
    rotate,
    window_mask,
)

CPU = torch.device("cpu")
NORM_EPS = 1e-5
BASE = 10_000.0


def _randn(*size: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _grads(out: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(out, inputs, _randn(*out.shape, seed=99).to(out.dtype))


@pytest.mark.parametrize("size", [(2, 3, 8), (5, 8), (2, 3, 4, 8)])
def test_rms_norm_and_its_gradients_equal_the_formula(size: tuple[int, ...]) -> None:
    """The fast CPU path gives the values and both gradients of the float64 formula."""
    x, weight = _randn(*size).requires_grad_(), _randn(8, seed=1).requires_grad_()
    exact_x, exact_weight = x.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    out = kernels.rms_norm(x, weight, NORM_EPS)
    exact = references.rms_norm(exact_x, exact_weight, NORM_EPS)
    torch.testing.assert_close(out.double(), exact, rtol=1e-5, atol=1e-6)
    for grad, exact_grad in zip(_grads(out, x, weight), _grads(exact, exact_x, exact_weight), strict=True):
        torch.testing.assert_close(grad.double(), exact_grad, rtol=1e-4, atol=1e-5)


def test_rms_norm_without_gain_equals_torch() -> None:
    """Without a weight the fast path and torch's own agree in value and gradient."""
    x = _randn(2, 3, 4, 8).requires_grad_()
    out, expected = kernels.rms_norm(x, None, NORM_EPS), F.rms_norm(x, (8,), None, NORM_EPS)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(_grads(out, x), _grads(expected, x))


def test_rms_norm_in_float64_takes_torchs_path_and_agrees() -> None:
    """Other types than float32 give the same function."""
    x, weight = _randn(3, 8, dtype=torch.float64), _randn(8, seed=1, dtype=torch.float64)
    torch.testing.assert_close(kernels.rms_norm(x, weight, NORM_EPS), references.rms_norm(x, weight, NORM_EPS))


def test_squared_relu_and_its_gradient_equal_the_formula() -> None:
    """max(x, 0)^2 and 2 max(x, 0), also at 0."""
    x = torch.tensor([-2.0, -0.0, 0.0, 0.5, 3.0], requires_grad=True)
    out = kernels.squared_relu(x)
    assert out.tolist() == [0.0, 0.0, 0.0, 0.25, 9.0]
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert grad.tolist() == [0.0, 0.0, 0.0, 1.0, 6.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_scaled_gradient_leaves_every_bit_of_the_value(dtype: torch.dtype) -> None:
    """The value is the input, infinities and the sign of zero included; the gradient is multiplied, in the input's type."""
    x = torch.tensor([0.1, -0.0, float("inf"), -3.7], dtype=dtype, requires_grad=True)
    out = kernels.scaled_gradient(x, torch.tensor(0.3, dtype=torch.float64))
    assert out.dtype == dtype
    assert torch.equal(out.detach().view(torch.uint8), x.detach().view(torch.uint8))
    (grad,) = torch.autograd.grad(out, x, torch.tensor([1.0, 2.0, -3.0, 0.7], dtype=dtype))
    assert torch.equal(grad, torch.tensor([1.0, 2.0, -3.0, 0.7], dtype=dtype) * 0.3)


@pytest.mark.parametrize("factor", [0.0, 0.1, 1.0])
def test_a_scaled_gradient_is_that_of_the_papers_formula(factor: float) -> None:
    """Value and gradient of factor x + (1 - factor) stop_gradient(x), in float64."""
    x = _randn(3, 5, dtype=torch.float64).requires_grad_()
    expected = factor * x + (1.0 - factor) * x.detach()
    out = kernels.scaled_gradient(x, torch.tensor(factor, dtype=torch.float64))
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(_grads(out.square(), x), _grads(expected.square(), x))


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_has_a_bias_only_if_asked(bias: bool) -> None:
    """`model.bias` decides over the bias of layer norms."""
    names = {name for name, _ in make_norm(ModelSection(norm="layernorm", bias=bias)).named_parameters()}
    assert names == ({"weight", "bias"} if bias else {"weight"})


@pytest.mark.parametrize("norm", ["rmsnorm", "layernorm"])
@pytest.mark.parametrize("eps", [1e-6, 0.05])
def test_norms_equal_the_formula_with_the_given_eps(norm: str, eps: float) -> None:
    """`model.norm_eps` is what is added: inputs are small, so that another value shows."""
    layer = make_norm(ModelSection.model_validate({"width": 8, "heads": 2, "norm": norm, "norm_eps": eps, "bias": True}))
    x, gain = 0.01 * _randn(3, 8), _randn(8, seed=1)
    layer.load_state_dict({name: gain for name, _ in layer.named_parameters()})
    exact = (
        references.rms_norm(x.double(), gain.double(), eps)
        if norm == "rmsnorm"
        else references.layer_norm(x.double(), gain.double(), gain.double(), eps)
    )
    torch.testing.assert_close(layer(x).double(), exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("base", [BASE, 500_000.0])
@pytest.mark.parametrize("start", [0, 7])
def test_rotation_equals_the_papers_matrices(start: int, base: float) -> None:
    """Each pair is turned by its position's angle, from any start and base; the compiled form gives the same."""
    x = _randn(2, 5, 3, 8)
    table = rotary_table(start, 5, 8, base, CPU)
    exact = references.rotate(x.double(), start, base)
    torch.testing.assert_close(rotate(x, table).double(), exact, rtol=1e-5, atol=1e-5)
    real = _rotate_real(x.unflatten(-1, (-1, 2)), table).flatten(-2)
    torch.testing.assert_close(real.double(), exact, rtol=1e-5, atol=1e-5)


def _reference_attention(layer: CausalSelfAttention, shape: ModelSection, x: Tensor) -> Tensor:
    """`layer` on `x`, float64 (B, T, C), with key-value heads repeated explicitly."""
    heads = F.linear(x, layer.qkv.weight.double()).unflatten(-1, (-1, layer.head_size))
    q, k, v = heads.split((layer.heads, layer.kv_heads, layer.kv_heads), dim=2)
    if shape.qk_norm:
        ones = torch.ones(layer.head_size, dtype=torch.float64)
        q, k = (references.rms_norm(part, ones, shape.norm_eps) for part in (q, k))
    if shape.position == "rope":
        q, k = (references.rotate(part, base=shape.rope_base) for part in (q, k))
    repeats = layer.heads // layer.kv_heads
    k, v = (part.repeat_interleave(repeats, dim=2) for part in (k, v))
    mixed = references.causal_attention(q, k, v, attention_scale(shape), shape.window).flatten(2)
    return F.linear(mixed, layer.project.weight.double())


@pytest.mark.parametrize("kv_heads", [0, 2, 1])
@pytest.mark.parametrize("position", ["rope", "none"])
@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("window", [0, 1, 3, 6])
def test_attention_equals_the_plain_version(kv_heads: int, position: str, qk_norm: bool, window: int) -> None:
    """Multi-head, grouped- and multi-query attention, with and without a window: values and input gradient in float64."""
    keys = {"kv_heads": kv_heads, "position": position, "qk_norm": qk_norm, "window": window}
    shape = ModelSection.model_validate({"width": 32, "heads": 4, "rope_base": 500.0, "norm_eps": 1e-3, **keys})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = CausalSelfAttention(shape)
    x = _randn(2, 6, 32).requires_grad_()
    exact_x = x.detach().double().requires_grad_()
    rotary = rotary_table(0, 6, layer.head_size, 500.0, CPU) if position == "rope" else None
    out, exact = layer(x, rotary, window_mask(0, 6, window, CPU)), _reference_attention(layer, shape, exact_x)
    torch.testing.assert_close(out.double(), exact, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(_grads(out, x)[0].double(), _grads(exact, exact_x)[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("start", "length", "window", "expected"),
    [
        (0, 3, 2, [[1, 0, 0], [1, 1, 0], [0, 1, 1]]),
        (0, 3, 1, [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        (4, 1, 3, [[0, 0, 1, 1, 1]]),
        (0, 3, 3, None),
        (2, 1, 3, None),
        (0, 9, 0, None),
    ],
)
def test_a_window_shows_a_position_and_those_just_before_it(
    start: int, length: int, window: int, expected: list[list[int]] | None
) -> None:
    """Row by row what may be seen; no mask where causality says it all."""
    mask = window_mask(start, length, window, CPU)
    assert (mask if mask is None else mask.int().tolist()) == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"layers": 6}, (0, 0, 0, 0, 0, 0)),
        ({"layers": 6, "window": 8}, (8, 8, 8, 0, 8, 0)),
        ({"layers": 3, "window": 8, "window_pattern": "S"}, (8, 8, 0)),
        ({"layers": 4, "window": 8, "window_pattern": "LS"}, (0, 8, 0, 0)),
        ({"layers": 1, "window": 8}, (0,)),
    ],
)
def test_short_layers_follow_the_pattern_and_the_last_is_long(keys: dict[str, object], expected: tuple[int, ...]) -> None:
    """The pattern repeats over the layers; without a window all are long."""
    assert layer_windows(ModelSection.model_validate(keys)) == expected


def test_grouped_query_equals_multi_head_with_repeated_keys_and_values() -> None:
    """Grouped-query attention is multi-head attention whose key and value weights are copies within a group."""
    grouped = CausalSelfAttention(ModelSection(width=32, heads=4, kv_heads=2))
    full = CausalSelfAttention(ModelSection(width=32, heads=4))
    q, k, v = grouped.qkv.weight.detach().unflatten(0, (-1, 8)).split((4, 2, 2))
    rows = torch.cat((q, k.repeat_interleave(2, 0), v.repeat_interleave(2, 0))).flatten(0, 1)
    full.load_state_dict({"qkv.weight": rows, "project.weight": grouped.project.weight.detach()})
    x, rotary = _randn(2, 6, 32), rotary_table(0, 6, 8, BASE, CPU)
    torch.testing.assert_close(grouped(x, rotary), full(x, rotary))


@pytest.mark.parametrize(
    ("activation", "formula"),
    [
        ("relu2", lambda x: torch.relu(x) ** 2),
        ("gelu", lambda x: 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))),
        (
            "swiglu",
            lambda x: x[..., : x.shape[-1] // 2] * torch.sigmoid(x[..., : x.shape[-1] // 2]) * x[..., x.shape[-1] // 2 :],
        ),
    ],
)
def test_feed_forward_equals_the_formula(activation: str, formula) -> None:
    """Each activation computes what its paper says."""
    layer = FeedForward(ModelSection.model_validate({"width": 8, "heads": 2, "activation": activation}))
    x = _randn(3, 8)
    up, down = layer.up.weight.double(), layer.down.weight.double()
    torch.testing.assert_close(layer(x).double(), formula(x.double() @ up.T) @ down.T, rtol=1e-4, atol=1e-6)

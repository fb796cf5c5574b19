"""Cross-entropy in chunks and as a whole: against float64 row by row, and without the whole logits in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import model_references as references
import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from plt_tui.config.schema import ModelSection
from plt_tui.model import loss
from plt_tui.model.build import build_model
from plt_tui.model.loss import IGNORED, cross_entropy, output_cross_entropy, softcapped

ROWS, WIDTH, VOCAB = 13, 8, 50
WHOLE, CHUNKED = 2**40, 3 * VOCAB


def _inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, an output layer with logits of about +-5, and targets of which two are ignored."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    weight = (2 * torch.randn(VOCAB, WIDTH, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()
    targets = torch.randint(VOCAB, (ROWS,), generator=generator)
    targets[[2, 12]] = IGNORED
    return hidden, weight, targets


def _exact(softcap: float) -> tuple[Tensor, Tensor, Tensor]:
    """Summed loss and its two gradients in float64."""
    hidden, weight, targets = _inputs(torch.float64)
    total = references.summed_cross_entropy(hidden, weight, targets, softcap)
    return (total.detach(), *torch.autograd.grad(total, (hidden, weight)))


@pytest.fixture(params=[WHOLE, CHUNKED], ids=["whole", "chunked"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "CPU_CHUNK", request.param)


@pytest.mark.usefixtures("_both_ways")
@pytest.mark.parametrize("softcap", [0.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loss_and_gradients_equal_the_formula(softcap: float, dtype: torch.dtype) -> None:
    """The mean over targets that are not ignored, and both gradients; float64 stays float64."""
    hidden, weight, targets = _inputs(dtype)
    value = output_cross_entropy(hidden, weight, targets, softcap=softcap)
    got = (value.detach(), *torch.autograd.grad(value, (hidden, weight)))
    rtol, atol = (1e-4, 1e-5) if dtype == torch.float32 else (1e-12, 1e-12)
    for mine, exact in zip(got, _exact(softcap), strict=True):
        torch.testing.assert_close(mine, (exact / (ROWS - 2)).to(dtype), rtol=rtol, atol=atol)


@pytest.mark.usefixtures("_both_ways")
@pytest.mark.parametrize("softcap", [0.0, 3.0])
def test_a_normalizer_divides_the_sum(softcap: float) -> None:
    """With a normalizer the number of targets plays no part; nor does whether gradients are wanted."""
    hidden, weight, targets = _inputs()
    value = output_cross_entropy(hidden, weight, targets, torch.tensor(7.0), softcap=softcap)
    torch.testing.assert_close(value, (_exact(softcap)[0] / 7).float())
    with torch.no_grad():
        torch.testing.assert_close(output_cross_entropy(hidden, weight, targets, torch.tensor(7.0), softcap=softcap), value)
        mean = output_cross_entropy(hidden, weight, targets, softcap=softcap)
    torch.testing.assert_close(mean * (ROWS - 2), value * 7)


@pytest.mark.usefixtures("_both_ways")
def test_rows_of_nothing_but_padding_cost_nothing() -> None:
    """With a normalizer a batch without targets has loss 0 and gradients of 0, as ranks with an empty share need it."""
    hidden, weight, targets = _inputs()
    value = output_cross_entropy(hidden, weight, torch.full_like(targets, IGNORED), torch.tensor(9.0))
    assert value.item() == 0.0
    assert all(not grad.any() for grad in torch.autograd.grad(value, (hidden, weight)))


@pytest.mark.usefixtures("_both_ways")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_small_gradients(dtype: torch.dtype) -> None:
    """Under autocast with a loss scale and a large normalizer, the unscaled gradients are right to the type's rounding."""
    hidden, weight, targets = _inputs()
    scale, normalizer = 2.0**16, 1e6
    with torch.autocast("cpu", dtype=dtype):
        value = output_cross_entropy(hidden, weight, targets, torch.tensor(normalizer))
    assert value.dtype == torch.float32
    grads = torch.autograd.grad(value * scale, (hidden, weight))
    for grad, exact in zip(grads, _exact(0.0)[1:], strict=True):
        assert grad.dtype == torch.float32
        difference = (grad.double() / scale * normalizer - exact).abs().max()
        assert difference < 0.03 * exact.abs().max()


class _Largest(TorchDispatchMode):
    """Remembers the most elements that any operation returned."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


@pytest.mark.parametrize("softcap", [0.0, 3.0])
@pytest.mark.parametrize(("limit", "largest"), [(WHOLE, ROWS * VOCAB), (CHUNKED, VOCAB * WIDTH)])
def test_no_tensor_holds_all_logits(softcap: float, limit: int, largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward in chunks make nothing larger than the output layer; as a whole they make all the logits."""
    monkeypatch.setattr(loss, "CPU_CHUNK", limit)
    hidden, weight, targets = _inputs()
    with _Largest() as seen:
        output_cross_entropy(hidden, weight, targets, softcap=softcap).backward()
    assert seen.numel == largest


def _tied_model(limit: int, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.setattr(loss, "CPU_CHUNK", limit)
    shape = ModelSection(layers=1, width=16, heads=2, tie_embeddings=True, softcap=5.0)
    return build_model(shape, vocab_size=VOCAB, context=8, seed=0)


@pytest.fixture
def _process_group() -> Iterator[None]:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("_process_group")
def test_a_tied_layer_trains_in_chunks_under_data_parallelism(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedding gets both its gradients, as lookup table and as output layer, through DDP's hooks."""
    ids = torch.randint(VOCAB, (2, 8), generator=torch.Generator().manual_seed(1))
    whole = _tied_model(WHOLE, monkeypatch)
    whole(ids, ids).backward()
    chunked = _tied_model(CHUNKED, monkeypatch)
    DistributedDataParallel(chunked)(ids, ids).backward()
    for expected, parameter in zip(whole.parameters(), chunked.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad)


def test_cross_entropy_is_computed_in_float32() -> None:
    """Half-precision logits give the loss of their exact values."""
    logits, targets = (3 * _inputs()[0]).bfloat16(), torch.arange(ROWS) % WIDTH
    assert cross_entropy(logits, targets).item() == cross_entropy(logits.float(), targets).item()


@pytest.mark.parametrize("softcap", [0.0, 15.0])
def test_softcap_bounds_logits(softcap: float) -> None:
    """The cap times tanh(x / cap), in float32 also for half-precision logits; 0 leaves them as they are."""
    logits = torch.tensor([-1000.0, -15.0, 0.0, 0.1, 15.0, 1000.0], dtype=torch.bfloat16)
    exact = softcap * torch.tanh(logits.double() / softcap) if softcap else logits.double()
    torch.testing.assert_close(softcapped(logits, softcap).double(), exact, rtol=1e-6, atol=1e-6)

"""Muon against straightforward references, and ranks that share its work."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from plt_tui.model.groups import Matrix
from plt_tui.training import muon
from plt_tui.training.muon import Muon, orthogonalised, pieces_of, share_out
from plt_tui.training.ranks import Ranks, joined
from tests.training.processes import run_two

ALONE = Ranks(0, 1, torch.device("cpu"))
STACKS = ((128, (128,)), (128, (64, 32, 32)), (128, (256,)), (128, (128,)))
"""Columns, and rows of the stacked matrices, of each parameter: squares, a stack of three, and a tall one."""
SETTINGS = {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1}


def planted(place: int, columns: int, rows: tuple[int, ...]) -> Tensor:
    """Numbers that depend on nothing but `place`."""
    return torch.randn(sum(rows), columns, generator=torch.Generator().manual_seed(place))


def matrices() -> list[Matrix]:
    """The same parameters in every process."""
    return [Matrix(nn.Parameter(planted(i, columns, rows)), rows) for i, (columns, rows) in enumerate(STACKS)]


def run_steps(optimizer: Muon, steps: int) -> None:
    """Steps with planted gradients."""
    for step in range(steps):
        for i, (parameter, (columns, rows)) in enumerate(zip(optimizer.param_groups[0]["params"], STACKS, strict=True)):
            parameter.grad = planted(100 * (step + 1) + i, columns, rows)
        optimizer.step()


def after(steps: int, ranks: Ranks) -> dict[str, Tensor]:
    """Weights and momenta after some steps."""
    optimizer = Muon(matrices(), SETTINGS, ranks)
    run_steps(optimizer, steps)
    parameters = optimizer.param_groups[0]["params"]
    weights = {f"weight/{i}": parameter.detach() for i, parameter in enumerate(parameters)}
    return weights | {f"momentum/{i}": optimizer.state[parameter]["momentum"] for i, parameter in enumerate(parameters)}


def polar_factor(matrix: Tensor) -> Tensor:
    """U V^T of a matrix U S V^T."""
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u @ vh


def newton_schulz(matrix: Tensor) -> Tensor:
    """The iteration as the paper writes it, one float64 matrix at a time."""
    x = matrix.double() / torch.linalg.norm(matrix.double())
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x @ x.T @ x + 2.0315 * x @ x.T @ x @ x.T @ x
    return x


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("shape", [(48, 48), (32, 128)])
def test_orthogonalised_is_near_the_polar_factor(shape: tuple[int, int], dtype: torch.dtype, tolerance: float) -> None:
    """The singular directions stay, the singular values come near 1, and the scale of the matrix does not matter."""
    stack = torch.stack([planted(7, shape[1], shape[:1]), 1e-6 * planted(8, shape[1], shape[:1])])
    u, s, vh = torch.linalg.svd(stack.double(), full_matrices=False)
    out = orthogonalised(stack, dtype).double()
    values = u.mT @ out @ vh.mT
    is_large = (s / torch.linalg.norm(s, dim=1, keepdim=True) > 0.01).unsqueeze(1)
    on_axis = torch.diagonal(values, dim1=1, dim2=2)[is_large.squeeze(1)]
    assert on_axis.min() > 0.65
    assert on_axis.max() < 1.25
    assert (values - torch.diag_embed(torch.diagonal(values, dim1=1, dim2=2))).abs().max() < tolerance
    assert torch.cosine_similarity(out[0].flatten(), polar_factor(stack[0].double()).flatten(), dim=0) > 0.97


def test_a_zero_matrix_stays_zero() -> None:
    """A matrix without a gradient is divided by nothing."""
    assert not orthogonalised(torch.zeros(2, 4, 4), torch.float32).any()


def test_two_steps_equal_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nesterov momentum, orthogonalisation of each stacked matrix, scale and decoupled decay as a float64 loop does them."""
    monkeypatch.setattr(muon, "product_dtype", lambda _: torch.float32)
    ours = after(2, ALONE)
    for i, (columns, rows) in enumerate(STACKS):
        weight, momentum = planted(i, columns, rows).double(), torch.zeros(sum(rows), columns, dtype=torch.float64)
        for step in (1, 2):
            gradient = planted(100 * step + i, columns, rows).double()
            momentum = 0.9 * momentum + 0.1 * gradient
            direction = 0.9 * momentum + 0.1 * gradient
            parts = [newton_schulz(part) * 0.2 * math.sqrt(max(part.shape)) for part in direction.split(rows)]
            weight = weight * (1 - 0.02 * 0.1) - 0.02 * torch.cat(parts)
        assert torch.allclose(ours[f"weight/{i}"].double(), weight, rtol=0, atol=1e-5)
        assert torch.allclose(ours[f"momentum/{i}"].double(), momentum, rtol=0, atol=1e-6)


def test_an_update_is_as_large_as_adamws() -> None:
    """A step moves each weight by about 0.2 learning rates, whatever the shape."""
    before = matrices()
    moved = after(1, ALONE)
    for i, matrix in enumerate(before):
        change = (moved[f"weight/{i}"] - matrix.parameter.detach() * (1 - 0.02 * 0.1)) / 0.02
        assert change.square().mean().sqrt() == pytest.approx(0.2, rel=0.2)


def test_batches_may_be_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few matrices a batched product takes, each gets its own update."""
    whole = after(1, ALONE)
    monkeypatch.setattr(muon, "MAX_BATCH", 1)
    for name, tensor in after(1, ALONE).items():
        assert torch.allclose(tensor, whole[name], rtol=0, atol=1e-3)


def _rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    with joined(rank, 2, "cpu", folder / "meet") as ranks:
        save_file(after(3, ranks), folder / f"rank{rank}.safetensors")


def test_two_ranks_share_the_work_and_end_with_the_same_bits(tmp_path: Path) -> None:
    """Each rank orthogonalises about half; weights and momenta are equal on both, and those of one rank but for rounding."""
    assert len(share_out(pieces_of(matrices()), 2)) == 2
    run_two(_rank, tmp_path)
    first, second = (load_file(tmp_path / f"rank{rank}.safetensors") for rank in range(2))
    alone = after(3, ALONE)
    for name, tensor in alone.items():
        assert torch.equal(first[name], second[name])
        assert torch.allclose(first[name], tensor, rtol=0, atol=2e-3)


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 8])
def test_shares_hold_every_matrix_once_and_are_balanced(num_ranks: int) -> None:
    """No rank has more than 4/3 of what the largest matrix or an even share asks for."""
    pieces = pieces_of(matrices() * 5)
    shares = share_out(pieces, num_ranks)
    assert len(shares) == num_ranks
    assert sorted(map(repr, pieces)) == sorted(repr(piece) for share in shares for piece in share)
    even = max(sum(piece.flops for piece in pieces) / num_ranks, max(piece.flops for piece in pieces))
    assert max(sum(piece.flops for piece in share) for share in shares) <= 4 / 3 * even


def test_little_work_is_not_shared() -> None:
    """Small matrices are done by every rank: the exchange would take longer."""
    small = [Matrix(nn.Parameter(torch.zeros(16, 16)), (16,))]
    assert share_out(pieces_of(small), 4) == [pieces_of(small)]

"""Promises of `training.alike`: ranks that hold other weights are found before a checkpoint is written of them."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.errors import PeerFailed, RankFailed
from plt_tui.training.alike import bit_sum, require_alike
from plt_tui.training.ranks import Ranks, joined
from tests.training.processes import run_two

SIZES = [(), (1,), (3,), (7, 5), (64, 33)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.uint8])
@given(data=st.data())
def test_one_flipped_bit_changes_the_sum(dtype: torch.dtype, data: st.DataObject) -> None:
    """Whichever bit of whichever element it is, in tensors of any size and type."""
    tensors = [(100 * torch.randn(size)).to(dtype) for size in SIZES]
    before = bit_sum(tensors)
    victim = data.draw(st.sampled_from(tensors))
    content = victim.view(-1).view(torch.uint8)
    index, bit = data.draw(st.integers(0, content.numel() - 1)), data.draw(st.integers(0, 7))
    content[index] ^= 1 << bit
    assert bit_sum(tensors) != before
    content[index] ^= 1 << bit
    assert bit_sum(tensors) == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_piece_of_a_larger_tensor_counts_like_a_copy_of_it(dtype: torch.dtype) -> None:
    """A plug-in's parameters may be pieces of one flat tensor, and begin anywhere in it."""
    flat = torch.randn(40).to(dtype)
    assert bit_sum([flat[1:30]]) == bit_sum([flat[1:30].clone()])


def test_the_sum_fits_in_a_float() -> None:
    """It travels as float64 and must arrive as it was."""
    for bits in (-1, 2**63 - 1, -(2**63), 1 << 62):
        total = bit_sum([torch.tensor([bits])])
        assert int(float(total)) == total


def test_a_process_alone_is_like_itself() -> None:
    """Without other ranks there is nothing to compare, not even NaN with NaN."""
    require_alike(Ranks(0, 1, torch.device("cpu")), [torch.tensor([torch.nan])], 3)


def _compares(rank: int, meeting_file: Path) -> None:
    weights = [torch.full((40, 3), torch.nan), torch.ones(5)]
    with joined(rank, 2, "cpu", meeting_file) as ranks:
        require_alike(ranks, weights, 1)
        if rank == 1:
            weights[1][4] = torch.nextafter(weights[1][4], torch.tensor(2.0))
        with pytest.raises(RankFailed, match="rank 1 are not rank 0's after step 2" if rank else "another rank") as error:
            require_alike(ranks, weights, 2)
        assert isinstance(error.value, PeerFailed) == (rank == 0)


def test_the_rank_that_differs_is_named(tmp_path: Path) -> None:
    """A last bit of one weight on rank 1: rank 1 says so, and rank 0 says that it is not the cause."""
    run_two(_compares, tmp_path / "meeting")

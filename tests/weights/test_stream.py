"""Promise of `weights.stream`: what it writes is a safetensors file, and costs no copy of the tensors."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load

from plt_tui.errors import StorageError
from plt_tui.weights.stream import pieces


def test_the_pieces_are_a_safetensors_file() -> None:
    """Of every type that is saved, of no dimension and of no element, to the bit; and the data is not copied."""
    types = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool)
    tensors = {f'{kind} "é': torch.randint(0, 2, (3, 5)).to(kind) for kind in types}
    tensors |= {"scalar": torch.tensor(float("nan")), "empty": torch.zeros(0, 3), "odd": torch.arange(7, dtype=torch.uint8)}
    read = load(b"".join(pieces(tensors)))
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape)
        assert read[name].view(-1).view(torch.uint8).tolist() == tensor.view(-1).view(torch.uint8).tolist()
    assert load(b"".join(pieces({}))) == {}
    weights = {"w": torch.zeros(4)}
    _, data = pieces(weights)
    weights["w"][0] = 1.0
    assert bytes(data[:4]) != bytes(4)


def test_a_type_that_has_no_word_is_a_sentence() -> None:
    """It names the tensor and its type."""
    with pytest.raises(StorageError, match=r"z: a tensor of torch\.complex64 cannot be saved"):
        list(pieces({"z": torch.zeros(2, dtype=torch.complex64)}))

"""Named tensors as the bytes of a safetensors file, piece by piece.

`safetensors.torch.save` makes two more copies in memory and lets no other thread run meanwhile: the step that a save shall not
hold up stands still, 2 s for a GB. Does not read. Invariant: the pieces, joined, are a file that `safetensors` reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from plt_tui.errors import StorageError

_WORDS = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def pieces(tensors: Mapping[str, Tensor]) -> Iterator[memoryview]:
    """The header, then the bytes of each tensor (contiguous, in main memory), not copied. Raises: StorageError for a type."""
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # so that each begins at its alignment
    header, end = {}, 0
    for name in names:
        tensor, start = tensors[name], end
        if tensor.dtype not in _WORDS:
            raise StorageError(f"{name}: a tensor of {tensor.dtype} cannot be saved")
        end += tensor.nbytes
        header[name] = {"dtype": _WORDS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield memoryview(len(text).to_bytes(8, "little") + text)
    for name in names:
        if tensors[name].nbytes:
            yield tensors[name].view(-1).view(torch.uint8).numpy().data

"""The file formats of tensors: safetensors, torch's `.pt`, and JSON; each read back to the same bits.

Knows nothing of shapes or models. Invariant: no file that is read here can run code.
"""

from __future__ import annotations

import json
import math
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from plt_tui.config.fields import printable, shown
from plt_tui.errors import StorageError, UsageError

MAX_JSON_NUMBERS = 20_000_000
"""Above, a JSON file would have more than 400 MB and need many times that to be read."""
_SPECIAL = {"inf": 0x7F800000, "-inf": 0xFF800000, "nan": 0x7FC00000}
"""Bits of the float32 values for which JSON has no numbers; another NaN is "nan:" and its bits in hexadecimal."""
_WORDS = {bits: word for word, bits in _SPECIAL.items()}
_NO_TORCH_FILE = "not a file of torch.save; choose another file"


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file. Raises: StorageError when it is not whole."""
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{_text(path)}: cannot be read as safetensors: {error}; choose another file") from None
    return tensors


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """All tensors in one file. `metadata`: texts for other programs. Raises: OSError, SafetensorError."""
    save_file(dict(tensors), path, metadata={"format": "pt", **metadata})  # transformers asks for this entry


def read_torch(path: Path) -> dict[str, Any]:
    """The dict in a file of `torch.save`.

    Raises: UsageError when it holds more than tensors and plain values, or is no such file; StorageError when it is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's, about pickles that it then refuses
            value = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused_pickle(path, str(error)) from None
    except (EOFError, ValueError, LookupError):
        raise UsageError(f"{_text(path)}: {_NO_TORCH_FILE}") from None
    except (OSError, RuntimeError) as error:
        reason = printable(str(error).partition("\n")[0])[:200]
        raise StorageError(f"{_text(path)}: cannot be read as a file of torch.save: {reason}; choose another file") from None
    if not isinstance(value, dict):
        raise UsageError(f"{_text(path)}: expected a dict of tensors, found a {type(value).__name__}")
    return value


def _refused_pickle(path: Path, reason: str) -> UsageError:
    """What torch's long message comes to: the name that the file wants to call, or that it is none of torch's files."""
    if "Unsupported operand" in reason:
        return UsageError(f"{_text(path)}: {_NO_TORCH_FILE}")
    name = re.search(r"GLOBAL (\S+)", reason)
    named = f" ({printable(name[1])[:200]})" if name else ""
    return UsageError(
        f"{_text(path)}: not tensors and plain values alone, so reading it could run code{named}; "
        "save it again as safetensors where you trust it"
    )


def write_torch(path: Path, content: Mapping[str, Any]) -> None:
    """A dict of tensors and plain values. Raises: OSError."""
    torch.save(dict(content), path)


def only_tensors(value: object, path: Path) -> dict[str, Tensor]:
    """`value`, which must be a dict of tensors. Raises: UsageError naming the first entry that is none."""
    if not isinstance(value, Mapping):
        raise UsageError(f"{_text(path)}: expected a dict of tensors, found a {type(value).__name__}")
    for name, tensor in value.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise UsageError(f"{_text(path)}: not a dict of tensors: {shown(str(name))} is of type {type(tensor).__name__}")
    return dict(value)


def as_float32(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Half-precision numbers as float32, which holds them exactly. Raises: UsageError for types that are no such numbers."""
    for name, tensor in tensors.items():
        if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            kind = str(tensor.dtype).removeprefix("torch.")
            raise UsageError(
                f"{_text(path)}: {printable(name)} is {kind}; only float32, float16 and bfloat16 weights are supported; "
                "convert it"
            )
    return {name: tensor.float().contiguous() for name, tensor in tensors.items()}


def write_json(path: Path, head: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """`head` and the key "tensors": name to {"shape", "values"}, the float32 numbers with all their digits in C order.

    Raises: OSError.
    """
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps({**head, "tensors": 0}, indent=1)[: -len("0\n}")] + "{")
        for index, (name, tensor) in enumerate(tensors.items()):
            entry = json.dumps({"shape": list(tensor.shape), "values": _plain(tensor)}, allow_nan=False)
            file.write(f"{',' if index else ''}\n{json.dumps(name)}: {entry}")
        file.write("\n}\n}\n")


def refuse_large_json(tensors: Mapping[str, Tensor]) -> None:
    """Raises: UsageError when `tensors` are too many numbers for a readable file."""
    numbers = sum(tensor.numel() for tensor in tensors.values())
    if numbers > MAX_JSON_NUMBERS:
        raise UsageError(
            f"{numbers} parameters are too many for --format json (at most {MAX_JSON_NUMBERS}); use --format safetensors"
        )


def json_tensors(value: object, path: Path) -> dict[str, Tensor]:
    """The tensors that `write_json` wrote. Raises: UsageError naming the one that is not valid."""
    if not isinstance(value, dict):
        raise UsageError(f"{_text(path)}: tensors: expected an object, found a {type(value).__name__}")
    return {name: _json_tensor(name, entry, path) for name, entry in value.items()}


def _json_tensor(name: str, entry: object, path: Path) -> Tensor:
    match entry:
        case {"shape": list(shape), "values": list(values)} if all(type(size) is int and size >= 0 for size in shape):
            pass
        case _:
            raise UsageError(f'{_text(path)}: {printable(name)}: expected an object with "shape" and "values"')
    if len(values) != math.prod(shape):
        sizes = " x ".join(map(str, shape))
        raise UsageError(f"{_text(path)}: {printable(name)}: {len(values)} values for the shape {sizes}")
    try:
        return _from_plain(values).reshape(shape)
    except (ValueError, TypeError, ArithmeticError):
        raise UsageError(f"{_text(path)}: {printable(name)}: its values are not all float32 numbers") from None


def _plain(tensor: Tensor) -> list[float | str]:
    """Numbers for JSON; those it cannot express as words. A float32 is exact as a Python float, and that as its repr."""
    flat = tensor.flatten()
    values: list[float | str] = flat.tolist()
    for index in (~flat.isfinite()).nonzero().flatten().tolist():
        bits = int(flat[index].view(torch.int32)) & 0xFFFFFFFF
        values[index] = _WORDS.get(bits, f"nan:{bits:08x}")
    return values


def _from_plain(values: list[Any]) -> Tensor:
    """The inverse of `_plain`. Raises: TypeError, ValueError or ArithmeticError for what is no float32."""
    if not {*map(type, values)} <= {int, float, str}:  # numpy takes null for a NaN
        raise TypeError
    words = {index: value for index, value in enumerate(values) if isinstance(value, str)}
    numbers = [0.0 if index in words else value for index, value in enumerate(values)] if words else values
    with np.errstate(over="raise"):
        out = np.array(numbers, dtype=np.float32)
    for index, word in words.items():
        out.view(np.uint32)[index] = _SPECIAL[word] if word in _SPECIAL else int(word.removeprefix("nan:"), 16)
    return torch.from_numpy(out)


def _text(path: Path) -> str:
    return printable(str(path))

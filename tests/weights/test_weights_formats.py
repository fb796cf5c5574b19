"""Promises of `weights.formats`: every format gives back the same bits, and no file that is read can run code."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import same_bits

from plt_tui.errors import PltTuiError, StorageError, UsageError
from plt_tui.weights import formats

SPECIAL_BITS = [0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00001, 0x7F800001, 1, 0x007FFFFF, 0x7F7FFFFF]
"""-0.0, infinities, three NaNs, the smallest and largest subnormal, the largest number."""


class Evil:
    """Would run code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("ran",))


def from_bits(bits: list[int]) -> torch.Tensor:
    """float32 (N,) of those bits."""
    return torch.tensor([value - (value >> 31 << 32) for value in bits], dtype=torch.int32).view(torch.float32)


def through_json(tensors: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Written and read back."""
    formats.write_json(path, {"format": "x"}, tensors)
    value = json.loads(path.read_text())
    assert value["format"] == "x"
    return formats.json_tensors(value["tensors"], path)


def through_safetensors(tensors: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Written and read back."""
    formats.write_safetensors(path, tensors, {})
    return formats.read_safetensors(path)


def through_torch(tensors: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Written and read back."""
    formats.write_torch(path, tensors)
    return formats.only_tensors(formats.read_torch(path), path)


@pytest.mark.parametrize("through", [through_json, through_safetensors, through_torch])
def test_every_bit_comes_back(through: Any, tmp_path: Path) -> None:
    """Signed zeros, infinities, NaNs with their payloads and subnormals among them."""
    generator = torch.Generator().manual_seed(3)
    tensors = {"a": from_bits(SPECIAL_BITS).reshape(3, 3), "b": torch.randn(4, 2, 3, generator=generator)}
    assert same_bits(through(tensors, tmp_path / "file"), tensors)


@given(bits=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_json_is_exact_for_any_float32(tmp_path_factory: pytest.TempPathFactory, bits: list[int]) -> None:
    """Whatever the 32 bits."""
    tensors = {"a": from_bits(bits)}
    assert same_bits(through_json(tensors, tmp_path_factory.getbasetemp() / "any.json"), tensors)


def test_json_has_readable_numbers(tmp_path: Path) -> None:
    """A value stands there as people write it."""
    formats.write_json(tmp_path / "a.json", {"context": 4}, {"a": torch.tensor([[0.5, -0.0], [1.0, float("nan")]])})
    assert '"a": {"shape": [2, 2], "values": [0.5, -0.0, 1.0, "nan"]}' in (tmp_path / "a.json").read_text()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "tensors: expected an object, found a list"),
        ({"a": [1.0]}, 'a: expected an object with "shape" and "values"'),
        ({"a": {"shape": [2, 2], "values": [1.0]}}, "a: 1 values for the shape 2 x 2"),
        ({"a": {"shape": [1], "values": ["big"]}}, "a: its values are not all float32 numbers"),
        ({"a": {"shape": [1], "values": ["nan:fffffffff"]}}, "a: its values are not all float32 numbers"),
        ({"a": {"shape": [1], "values": [1e39]}}, "a: its values are not all float32 numbers"),
        ({"a": {"shape": [1], "values": [[1.0]]}}, "a: its values are not all float32 numbers"),
        ({"a": {"shape": [1], "values": [None]}}, "a: its values are not all float32 numbers"),
        ({"a": {"shape": [-1], "values": []}}, "a: expected an object"),
    ],
)
def test_wrong_json_is_named(value: Any, said: str) -> None:
    """The tensor and what is wrong with it."""
    with pytest.raises(UsageError, match=f"^f.json: {said}"):
        formats.json_tensors(value, Path("f.json"))


def test_too_many_numbers_for_json_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the number, and the format to use instead."""
    monkeypatch.setattr(formats, "MAX_JSON_NUMBERS", 5)
    formats.refuse_large_json({"a": torch.zeros(5)})
    with pytest.raises(UsageError, match=r"6 parameters are too many.*--format safetensors"):
        formats.refuse_large_json({"a": torch.zeros(5), "b": torch.zeros(1)})


def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In torch's own container and as a bare pickle."""
    torch.save({"a": Evil()}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    for name in ("a.pt", "b.pt"):
        with pytest.raises(UsageError, match=rf"{name}: .*could run code \(\S*print\); save it again as safetensors"):
            formats.read_torch(tmp_path / name)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"no pickle", b"PK\x03\x04 cut off", b"\x80\x02}q\x00"])
def test_a_damaged_torch_file_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    """No traceback of torch's."""
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(PltTuiError, match=r"a\.pt: "):
        formats.read_torch(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [b"", b"no pickle", b"hello world", pickle.dumps({"a": 1}, protocol=4)])
def test_a_file_that_is_none_of_torchs_is_called_so(content: bytes, tmp_path: Path) -> None:
    """Without torch's advice to read it all the same, and without its warnings."""
    (tmp_path / "a.pt").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UsageError, match=r"a\.pt: not a file of torch\.save; choose another file$"):
            formats.read_torch(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("value", "said"),
    [([1], "expected a dict of tensors, found a list"), ({"a": 1}, 'not a dict of tensors: text "a" is of type int')],
)
def test_a_torch_file_of_other_things_is_named(value: Any, said: str, tmp_path: Path) -> None:
    """With the type that was found."""
    torch.save(value, tmp_path / "a.pt")
    with pytest.raises(UsageError, match=said):
        formats.only_tensors(formats.read_torch(tmp_path / "a.pt"), tmp_path / "a.pt")


@pytest.mark.parametrize("damage", ["cut", "empty", "missing"])
def test_a_damaged_safetensors_file_is_named(damage: str, tmp_path: Path) -> None:
    """With what can be done."""
    path = tmp_path / "a.safetensors"
    if damage != "missing":
        formats.write_safetensors(path, {"a": torch.zeros(8)}, {})
        path.write_bytes(path.read_bytes()[: -4 if damage == "cut" else 0])
    with pytest.raises(StorageError, match=r"a\.safetensors: cannot be read as safetensors: .*; choose another file"):
        formats.read_safetensors(path)


def test_half_precision_becomes_float32_and_other_types_are_refused() -> None:
    """Exactly, because float32 holds every float16 and bfloat16."""
    halves = {"a": torch.tensor([1.5, -(2**-14)], dtype=torch.float16), "b": torch.tensor([3.0], dtype=torch.bfloat16)}
    wide = formats.as_float32(halves, Path("x"))
    assert {tensor.dtype for tensor in wide.values()} == {torch.float32}
    assert wide["a"].tolist() == [1.5, -(2**-14)]
    with pytest.raises(UsageError, match="x: a is int8; only float32, float16 and bfloat16"):
        formats.as_float32({"a": torch.zeros(1, dtype=torch.int8)}, Path("x"))

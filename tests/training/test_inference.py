"""Promises of `training.inference`: weights that cannot be used are refused with a sentence, before they are used."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from plt_tui.config.blueprint import Blueprint
from plt_tui.config.schema import ModelSection, SampleSection
from plt_tui.data.tokenizer import IdTokenizer
from plt_tui.errors import UsageError
from plt_tui.model.build import build_model
from plt_tui.plugins import Plugins
from plt_tui.training import inference
from plt_tui.training.inference import device_named, ready_model, write_tokens
from plt_tui.weights.bundle import Weights

SHAPE = ModelSection(layers=1, width=16, heads=2)
CPU = torch.device("cpu")


def small_weights() -> Weights:
    """Untrained weights of 257 ids, with the byte tokenizer."""
    model = build_model(SHAPE, vocab_size=257, context=8, seed=1)
    return Weights(
        source="here",
        tensors={name: tensor.detach() for name, tensor in model.named_parameters()},
        blueprint=Blueprint(shape=SHAPE, context=8, vocab_size=257),
        tokenizer={"kind": "byte"},
    )


def test_a_ready_model_has_the_weights() -> None:
    """Bit for bit, in evaluation mode, with their tokenizer; without one it speaks in ids."""
    weights = small_weights()
    ready = ready_model(weights, CPU, Plugins())
    assert not ready.model.training
    assert ready.tokenizer.kind == "byte"
    assert all(torch.equal(tensor, weights.tensors[name]) for name, tensor in ready.model.named_parameters())
    without = ready_model(replace(weights, tokenizer=None), CPU, Plugins()).tokenizer
    assert isinstance(without, IdTokenizer)
    assert without.vocab_size == 257


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"blueprint": None}, "here: tensors without the shape of their model"),
        ({"tokenizer": {"kind": "ids", "vocab_size": 300}}, "here: its tokenizer has 300 ids, but the model 257"),
        ({"tensors": {"a": torch.tensor([0.0, float("inf")])}}, "here: a has values that are no finite numbers"),
        ({"tensors": {}}, "here: the weights do not fit"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(changes: dict[str, Any], said: str) -> None:
    """The sentence names what they are and where they came from."""
    with pytest.raises(UsageError, match=said):
        ready_model(replace(small_weights(), **changes), CPU, Plugins())


def test_a_device_without_room_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the numbers that torch gives, and the way out."""

    def full(*_: object, **__: object) -> list[int]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...\nSee")

    ready = ready_model(small_weights(), CPU, Plugins())
    monkeypatch.setattr(inference, "stream", full)
    with pytest.raises(UsageError, match=r"memory is full \(CUDA out of memory\); use --device cpu"):
        list(write_tokens(ready, [1], SampleSection(), 0))


@pytest.mark.parametrize("name", ["tpu", "cuda:", "cuda:x", "", "cpu:0", "cuda:9999"])
def test_a_device_of_another_name_is_refused(name: str) -> None:
    """The sentence lists what can be asked for."""
    with pytest.raises(UsageError, match="expected auto, cpu, cuda or cuda:N"):
        device_named(name)


@pytest.mark.parametrize(("num_gpus", "name", "device"), [(0, "auto", "cpu"), (2, "auto", "cuda"), (2, "cuda:1", "cuda:1")])
def test_the_device_that_a_name_stands_for(monkeypatch: pytest.MonkeyPatch, num_gpus: int, name: str, device: str) -> None:
    """Auto is a GPU where torch can use one; one that is not there is refused."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: num_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    assert str(device_named(name)) == device
    with pytest.raises(UsageError, match=f"can use {num_gpus} GPUs here"):
        device_named(f"cuda:{num_gpus}")

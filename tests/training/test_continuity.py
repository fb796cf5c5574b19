"""What a resume is told about its bits, on machines that are not here."""

import pytest
import torch

from plt_tui.training.continuity import exact_if, inexact_because
from plt_tui.training.ranks import Ranks
from tests.training.conftest import tiny

GPU = Ranks(0, 1, torch.device("cuda", 0))


@pytest.fixture(autouse=True)
def _card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100")


@pytest.mark.parametrize(("deterministic", "reasons"), [("true", 0), ("false", 1)])
def test_a_gpu_is_exact_only_when_deterministic(deterministic: str, reasons: int) -> None:
    """Otherwise nobody promises the same bits, and the sentence names the key."""
    config = tiny(f"train.deterministic={deterministic}")
    said = inexact_because(exact_if(config, GPU, 12), config, GPU, 12)
    assert len(said) == reasons
    assert all("train.deterministic is false" in reason for reason in said)


def test_another_card_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernels round differently."""
    config = tiny("train.deterministic=true")
    before = exact_if(config, GPU, 12)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA A100")
    assert inexact_because(before, config, GPU, 12) == ["hardware NVIDIA H100 -> NVIDIA A100"]

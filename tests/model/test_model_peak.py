"""Peak rates: data sheets by the driver's name, nothing for unknown cards, a measurement on CPUs."""

import time

import pytest
import torch

from plt_tui.model.peak import card_peak, peak_flops


@pytest.mark.parametrize(
    ("name", "precision", "teraflops"),
    [
        ("NVIDIA A100-SXM4-80GB", "bf16", 312.0),
        ("NVIDIA A100-PCIE-40GB", "fp16", 312.0),
        ("NVIDIA A100 80GB PCIe", "tf32", 156.0),
        ("NVIDIA A10", "bf16", 125.0),
        ("NVIDIA A10G", "fp32", 31.5),
        ("NVIDIA H100 80GB HBM3", "bf16", 989.5),
        ("NVIDIA H100 PCIe", "bf16", 756.0),
        ("NVIDIA H100 NVL", "tf32", 417.5),
        ("NVIDIA H200", "fp32", 67.0),
        ("NVIDIA GH200 480GB", "bf16", 989.5),
        ("NVIDIA B200", "bf16", 2250.0),
        ("NVIDIA L40S", "bf16", 362.0),
        ("Tesla V100-SXM2-16GB", "fp16", 125.0),
        ("Tesla V100-PCIE-32GB", "fp16", 112.0),
        ("Tesla T4", "tf32", 8.1),
        ("NVIDIA GeForce RTX 4090", "bf16", 165.2),
        ("NVIDIA RTX 6000 Ada Generation", "bf16", 364.2),
    ],
)
def test_known_cards_have_their_makers_figure(name: str, precision: str, teraflops: float) -> None:
    """Names as drivers report them, whatever memory size and socket they carry."""
    peak = card_peak(name, precision)
    assert peak.flops == pytest.approx(teraflops * 1e12)
    assert name in peak.source


@pytest.mark.parametrize(
    "name", ["NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "AMD Instinct MI300X", "", "NVIDIA"]
)
def test_other_cards_are_unknown_rather_than_guessed(name: str) -> None:
    """A slice, a mobile variant and another maker's card have no figure here."""
    assert card_peak(name, "bf16") == (0.0, f"unknown GPU {name}")


def test_a_cpu_is_measured() -> None:
    """At least one product was timed, and the words say what was measured."""
    peak = peak_flops(torch.device("cpu"), "fp32")
    assert peak.flops > 1e8
    assert peak.source == f"float32 matrix products measured on {torch.get_num_threads()} threads"


def test_a_product_that_was_held_up_does_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without a core for longer than the measuring takes: others are timed behind it."""
    product, num_products = torch.mm, 0

    def held_up(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        nonlocal num_products
        num_products += 1
        if num_products == 1:
            time.sleep(0.2)
        return product(a, b)

    monkeypatch.setattr(torch, "mm", held_up)
    assert peak_flops(torch.device("cpu"), "fp32").flops > 10 * 2 * 256**3 / 0.2
    assert num_products >= 5

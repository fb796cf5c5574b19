"""The most arithmetic a device can do in a second: what a run's model FLOPs are a share of.

Does not count a model's FLOPs (`flops` does). Invariant: a GPU's figure is its maker's, for dense matrix products, or 0.0:
never a guess.
"""

from __future__ import annotations

import re
import time
from typing import NamedTuple

import torch


class Peak(NamedTuple):
    """A device's matrix-product rate and where the figure comes from."""

    flops: float
    """Floating-point operations per second; 0.0: unknown."""
    source: str
    """In words, for people."""


class _Card(NamedTuple):
    """Data-sheet rates in 10^12 operations per second: tensor cores without sparsity, accumulating in fp32."""

    half: float
    """fp16, and bf16 where the card has it."""
    tf32: float
    fp32: float


_CARDS = {
    # NVIDIA Blackwell, Hopper, Ada Lovelace, Ampere, Turing and Volta: "NVIDIA <name> data sheet", and for GeForce and RTX the
    # architecture's white paper, appendix A. Sheets that print rates with sparsity only are halved. No TF32 before Ampere.
    "B200": _Card(2250.0, 1125.0, 75.0),
    "GH200": _Card(989.5, 494.7, 67.0),
    "H200": _Card(989.5, 494.7, 67.0),
    "H200 NVL": _Card(835.5, 417.5, 60.0),
    "H100": _Card(989.5, 494.7, 67.0),
    "H100 NVL": _Card(835.5, 417.5, 60.0),
    "H100 PCIe": _Card(756.0, 378.0, 51.0),
    "H20": _Card(148.0, 74.0, 44.0),
    "L40S": _Card(362.0, 183.0, 91.6),
    "L40": _Card(181.0, 90.5, 90.5),
    "L4": _Card(121.0, 60.0, 30.3),
    "A100": _Card(312.0, 156.0, 19.5),
    "A100 PCIe": _Card(312.0, 156.0, 19.5),
    "A800": _Card(312.0, 156.0, 19.5),
    "A40": _Card(149.7, 74.8, 37.4),
    "A30": _Card(165.0, 82.0, 10.3),
    "A10": _Card(125.0, 62.5, 31.2),
    "A10G": _Card(70.0, 35.0, 31.5),
    "V100": _Card(125.0, 15.7, 15.7),
    "V100 PCIe": _Card(112.0, 14.0, 14.0),
    "T4": _Card(65.0, 8.1, 8.1),
    "RTX 5090": _Card(209.5, 104.8, 104.8),
    "RTX 4090": _Card(165.2, 82.6, 82.6),
    "RTX 4080": _Card(97.5, 48.7, 48.7),
    "RTX 3090": _Card(71.0, 35.6, 35.6),
    "RTX 3090 Ti": _Card(80.0, 40.0, 40.0),
    "RTX 3080": _Card(59.5, 29.8, 29.8),
    "RTX 6000 Ada Generation": _Card(364.2, 182.1, 91.1),
    "RTX A6000": _Card(154.8, 77.4, 38.7),
}
_BRAND_OR_SIZE = re.compile(r"\b(NVIDIA|GeForce|Tesla|SXM\d?|HBM\d?e?|\d+GB)\b", re.IGNORECASE)
_MEASURING_S = 0.06
_LEAST_PRODUCTS = 5
"""Timed however long they take: of one alone nobody knows whether the process had a core meanwhile."""


def peak_flops(device: torch.device, precision: str) -> Peak:
    """The peak of `device` in `precision`: "bf16", "fp16", "tf32" or "fp32". Any thread; on a CPU it takes about 0.1 s.

    On a CPU: the best float32 matrix-product rate that this process reaches with its threads, whatever the precision.
    """
    if device.type != "cuda":
        rate = _matmul_rate()
        return Peak(rate, f"float32 matrix products measured on {torch.get_num_threads()} threads")
    return card_peak(torch.cuda.get_device_name(device), precision)


def card_peak(name: str, precision: str) -> Peak:
    """The data sheet's figure for the card that its driver calls `name`, such as "NVIDIA A100-SXM4-80GB"."""
    known = {key.lower(): card for key, card in _CARDS.items()}
    plain = " ".join(_BRAND_OR_SIZE.sub(" ", name.replace("-", " ")).split())
    card = known.get(plain.lower()) or known.get(plain.lower().removesuffix(" pcie"))
    if card is None:
        return Peak(0.0, f"unknown GPU {name}")
    teraflops = {"tf32": card.tf32, "fp32": card.fp32}.get(precision, card.half)
    return Peak(teraflops * 1e12, f"data sheet of {name}, {precision}, dense")


def _matmul_rate() -> float:
    """FLOP/s of the fastest of several square products, each twice as wide as the one before until it takes a while."""
    started = now = time.perf_counter()
    size, best, count = 256, 0.0, 0
    a = torch.ones(size, size)
    while count < _LEAST_PRODUCTS or now < started + _MEASURING_S:
        count += 1
        before = time.perf_counter()
        torch.mm(a, a)
        now = time.perf_counter()
        best = max(best, 2 * size**3 / (now - before))
        if now - before < _MEASURING_S / 4 and size < 2048:
            size *= 2
            a = torch.ones(size, size)
    return best

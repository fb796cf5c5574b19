"""A small corpus and a tiny configuration, prepared once."""

from pathlib import Path

import pytest
import torch

from plt_tui.config.load import load
from plt_tui.config.schema import RunConfig
from plt_tui.data.prepare import Dataset, prepare

CORPUS = Path(__file__).parents[2] / "data" / "tiny.txt"
TINY = (
    f"data.train={CORPUS}",
    "data.context=16",
    "model.layers=2",
    "model.width=32",
    "model.heads=2",
    "train.batch_size=4",
    "train.steps=12",
    "optim.warmup=3",
    "eval.batches=4",
    "sample.tokens=8",
)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Bits depend on the number of threads, and two threads suffer on a busy machine."""
    torch.set_num_threads(1)


def tiny(*sets: str) -> RunConfig:
    """The tiny configuration with some keys changed."""
    return load(None, sets=[*TINY, *sets]).config


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    """The small corpus as tokens."""
    return prepare(tiny().data)

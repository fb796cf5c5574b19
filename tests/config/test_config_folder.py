"""Promises of the files in `configs/`: each loads, and says what it says it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from plt_tui.config.load import load, template
from plt_tui.config.schema import RunConfig

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.name)
def test_every_shipped_config_loads(path):
    """Each file is valid and begins with a comment that says what it is for."""
    load(path)
    assert path.read_text().startswith("# ")


def test_the_quick_start_file_is_the_quick_start():
    """`configs/quickstart.toml` is a head and the generated template, and changes nothing."""
    text = (CONFIGS / "quickstart.toml").read_text()
    head, separator, body = text.partition("\n\n")
    assert body == template(), "the schema changed: write template() below the file's head"
    assert separator
    assert all(line.startswith("#") for line in head.splitlines())
    assert load(CONFIGS / "quickstart.toml").config == RunConfig()


def test_the_character_model_is_nanogpts():
    """Shape, batch and schedule of `configs/char-nanogpt-cpu.toml` are the published ones."""
    config = load(CONFIGS / "char-nanogpt-cpu.toml").config
    model, train, optim = config.model, config.train, config.optim
    assert (model.layers, model.heads, model.width, config.data.context) == (4, 4, 128, 64)
    assert (model.norm, model.position, model.activation) == ("layernorm", "learned", "gelu")
    assert (model.tie_embeddings, model.qk_norm, model.bias, model.dropout) == (True, False, False, 0.0)
    assert (train.steps, train.batch_size * train.accumulate * config.parallel.ranks) == (2000, 12)
    assert (optim.lr, optim.min_lr, optim.betas, optim.warmup) == (1e-3, 1e-4, (0.9, 0.99), 100)


@pytest.mark.parametrize("gpus", [1, 8])
def test_gpt2_trains_on_half_a_million_tokens_a_step(gpus):
    """`configs/gpt2-124m-*gpu.toml` have GPT-2's shape and nanoGPT's batch of 491,520 tokens."""
    config = load(CONFIGS / f"gpt2-124m-{gpus}gpu.toml").config
    assert config.parallel.ranks == gpus
    assert (config.model.layers, config.model.heads, config.model.width) == (12, 12, 768)
    train = config.train
    assert train.batch_size * train.accumulate * config.parallel.ranks * config.data.context == 491_520
    assert (train.steps, config.optim.lr, config.optim.min_lr) == (600_000, 6e-4, 6e-5)

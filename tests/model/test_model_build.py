"""From `model.arch` to a model: ours, a plug-in's, and what is said when a plug-in is not one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from plt_tui.config.schema import ModelSection
from plt_tui.errors import UsageError
from plt_tui.model.build import build_model
from plt_tui.model.transformer import TransformerLM
from plt_tui.plugins import Plugins

PLUGIN = """
import torch
from plt_tui.model.base import LanguageModel

class Bigram(LanguageModel):
    def __init__(self, shape, *, vocab_size, context, argument):
        super().__init__(shape, vocab_size=vocab_size, context=context)
        self.table = torch.nn.Embedding(vocab_size, vocab_size)
        self.argument = argument

    def logits(self, ids):
        return self.table(ids)

MODELS = {"bigram": Bigram, "number": lambda shape, **_: 5}
"""


@pytest.fixture
def plugins(tmp_path: Path) -> Plugins:
    """A file with a model and with something that is none."""
    path = tmp_path / "plugin.py"
    path.write_text(PLUGIN)
    return Plugins((str(path),))


def test_the_default_is_the_transformer() -> None:
    """`model.arch` says transformer unless something else is asked for."""
    assert isinstance(build_model(ModelSection(layers=1, width=8, heads=2), vocab_size=5, context=4, seed=0), TransformerLM)


def test_a_plug_in_is_built_with_its_argument_from_the_seed(plugins: Plugins) -> None:
    """Initial values that torch draws follow from the seed, and the global stream is where it was."""
    shape = ModelSection(arch="bigram:a:b")
    before = torch.get_rng_state()
    first, again, other = (build_model(shape, vocab_size=5, context=4, seed=s, plugins=plugins) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.get_parameter("table.weight").equal(again.get_parameter("table.weight"))
    assert not first.get_parameter("table.weight").equal(other.get_parameter("table.weight"))
    assert (first.vocab_size, first.context, first.shape, first.argument) == (5, 4, shape, "a:b")


@pytest.mark.parametrize(
    ("arch", "complaint"), [("number", "the plug-in returned a int"), ("trigram", "no plug-in of the kind models is called")]
)
def test_what_is_no_model_is_refused(plugins: Plugins, arch: str, complaint: str) -> None:
    """A plug-in that returns something else, or that nobody knows, is a usage error."""
    with pytest.raises(UsageError, match=complaint):
        build_model(ModelSection(arch=arch), vocab_size=5, context=4, seed=0, plugins=plugins)

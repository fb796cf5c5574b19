"""Promises of `config.partial`: a file and a command line that say the same, whatever was typed."""

from __future__ import annotations

import tomli
from hypothesis import example, given
from hypothesis import strategies as st

from plt_tui.config.fields import describe
from plt_tui.config.load import resolve
from plt_tui.config.partial import set_texts, toml_file
from plt_tui.config.schema import RunConfig
from plt_tui.config.sources import InvalidConfig, Layer, options_layer, toml_layer

NAMES = sorted(set(describe()) - {"train.init_from"})
"""All but the one whose value is a path that would be read."""
TYPED = st.one_of(
    st.text(max_size=12),
    st.integers(-3, 2000).map(str),
    st.floats(allow_nan=False).map(repr),
    st.sampled_from(
        ["true", "1e3", ".5", "3e-4 # rate", "[0.9, 0.95]", '["a", "b"]', '"quoted"', "{a = 1}", "07:32:00", " 5 "]
    ),
)


def _outcome(layer: Layer) -> RunConfig | list[tuple[str, str]]:
    """The configuration, or which keys are wrong and why."""
    try:
        return resolve([layer]).config
    except InvalidConfig as error:
        return sorted((problem.key, problem.text) for problem in error.problems)


@given(st.dictionaries(st.sampled_from(NAMES), TYPED, max_size=4))
@example({"sample.prompt": "a\nb\x7f\u202e\U000e0001", "run.name": '"a"'})
@example({"train.steps": "1_000", "optim.lr": ".5", "data.train": "[1]", "optim.betas": "[{a = 1}]"})
@example({"train.steps": "9" * 5000})
def test_the_file_and_the_options_say_the_same(texts: dict[str, str]) -> None:
    """The same configuration, or the same mistakes in the same keys."""
    assert _outcome(toml_layer(toml_file(texts), "a.toml")) == _outcome(options_layer((), set_texts(texts)))


def test_only_what_is_given_is_written_with_its_meaning() -> None:
    """In the schema's order, under one heading for each section, values as they were typed."""
    text = toml_file({"optim.lr": "3e-4", "data.train": "a.txt", "optim.betas": "[0.9, 0.99]"})
    assert [line for line in text.split("\n") if not line.startswith("#")] == [
        *("[data]", 'train = "a.txt"', ""),
        *("[optim]", "lr = 3e-4", "betas = [0.9, 0.99]", ""),
    ]
    assert "# Peak learning rate. (a number > 0 and <= 10)\nlr = 3e-4\n" in text


def test_nothing_is_a_file_too() -> None:
    """It changes nothing."""
    assert tomli.loads(toml_file({})) == {}
    assert set_texts({}) == []


def test_options_are_printable() -> None:
    """What a terminal would act on is spelled out, and means the same."""
    (text,) = set_texts({"sample.prompt": "a\x1b[31mb\n"})
    assert text == r'sample.prompt="a\u001b[31mb\n"'

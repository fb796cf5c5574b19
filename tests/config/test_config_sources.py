"""Promises of `config.sources`: `.env` lines and texts become the values that were meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.config.sources import Assignment, converted, environment_layer, options_layer, parse_dotenv, toml_layer

DOTENV = {
    "EPOCHS=3": {"EPOCHS": "3"},
    "export EPOCHS=3": {"EPOCHS": "3"},
    "  EPOCHS = 3  ": {"EPOCHS": "3"},
    "EPOCHS=3 # three": {"EPOCHS": "3"},
    "EPOCHS=": {"EPOCHS": ""},
    "EPOCHS=# none": {"EPOCHS": ""},
    "A='x # y' # z": {"A": "x # y"},
    'A="x # y"# z': {"A": "x # y"},
    r'A="say \"hi\" \\ C:\new"': {"A": r'say "hi" \ C:\new'},
    r"A='\"'": {"A": r"\""},
    "A=a#b": {"A": "a#b"},
    "A=x=y": {"A": "x=y"},
    'A="open': {"A": '"open'},
    "A=1\r\nB=2\r\n": {"A": "1", "B": "2"},
    "A=1\nA=2": {"A": "2"},
    "# A=1\n\nnot a line\n2A=1\n=3": {},
    'A="two\nlines"\nB=1': {"A": "two\nlines", "B": "1"},
}


@pytest.mark.parametrize(("text", "variables"), DOTENV.items())
def test_dotenv_lines_are_read_as_shells_would(text, variables):
    """Quotes, comments, `export` and blank values; lines that are no assignments are skipped."""
    assert parse_dotenv(text) == variables


@given(st.text())
def test_any_dotenv_text_is_read(text):
    """A `.env` of another program never stops a run."""
    assert all(isinstance(value, str) for value in parse_dotenv(text).values())


CONVERTED = [
    ("train.steps", "100", 100),
    ("train.steps", "1e3", 1000),
    ("train.steps", "1_000", 1000),
    ("train.steps", "007", 7),
    ("train.steps", " 5 ", 5),
    ("train.steps", "1.5", 1.5),
    ("train.steps", "many", "many"),
    ("train.steps", "true", True),
    ("optim.lr", "1e-3", 1e-3),
    ("optim.lr", ".5", 0.5),
    ("optim.lr", "1", 1),
    ("optim.betas", "[0.9, 0.99]", [0.9, 0.99]),
    ("train.compile", "true", True),
    ("train.compile", "yes", "yes"),
    ("parallel.ranks", "auto", "auto"),
    ("parallel.ranks", '"auto"', "auto"),
    ("parallel.ranks", "2", 2),
    ("data.train", "foo.txt", "foo.txt"),
    ("data.train", '["a", "b"]', ["a", "b"]),
    ("data.train", "123", "123"),
    ("data.train", "true", "true"),
    ("data.train", "2024-01-01", "2024-01-01"),
    ("data.train", '"quoted.txt"', "quoted.txt"),
    ("sample.prompt", "The ", "The "),
    ("sample.prompt", "1\nother = 2", "1\nother = 2"),
    ("sample.prompt", "", ""),
    ("optim.schedule", "wsd", "wsd"),
]


@pytest.mark.parametrize(("key", "text", "value"), CONVERTED)
def test_texts_become_the_type_of_their_field(key, text, value):
    """A number field takes numbers however they are written, a text field takes anything literally."""
    result = converted(key, text)
    assert result == value
    assert type(result) is type(value)


def test_typed_options_are_taken_as_they_are():
    """A value that an option has parsed already is not read again."""
    option = Assignment(key="train.epochs", value=2, origin="--epochs")
    assert options_layer([option]).values == {"train.epochs": option}


def test_variables_of_other_programs_are_ignored():
    """Only the eight variables count, and an empty one counts as not set."""
    layer = environment_layer({"HOME": "/root", "EPOCHS": "", "BATCH_SIZE": "4"}, "environment")
    assert layer.values == {"train.batch_size": Assignment(key="train.batch_size", value=4, origin="environment BATCH_SIZE")}


def test_the_same_key_twice_has_the_line_of_its_value():
    """A section split into a header and dotted keys elsewhere: each key has its own line."""
    layer = toml_layer("eval.every = 1\nsample.every = 2\neval.batches = 3\n", "x.toml")
    assert {key: given.origin for key, given in layer.values.items()} == {
        "eval.every": "x.toml:1",
        "sample.every": "x.toml:2",
        "eval.batches": "x.toml:3",
    }

"""Promises of `config.fields` and `config.suggest`: the schema in words, and hints that exist."""

from __future__ import annotations

import pytest
import tomli

from plt_tui.config.fields import describe, listed, printable, shown, template
from plt_tui.config.schema import RunConfig
from plt_tui.config.sources import toml_layer
from plt_tui.config.suggest import FOREIGN_NAMES, likely


def test_every_field_is_described():
    """Each field, in the schema's order, has a type, its default and a sentence that ends."""
    fields = {f"{section}.{key}": value for section, keys in RunConfig().model_dump().items() for key, value in keys.items()}
    assert list(describe()) == list(fields)
    for name, field in describe().items():
        assert (field.name, field.default) == (name, fields[name])
        assert field.doc.endswith(".")
        assert field.type


def test_types_are_written_for_people():
    """Ranges, choices and unions read as words."""
    types = {name: field.type for name, field in describe().items()}
    assert types["train.steps"] == "a whole number >= 0"
    assert types["optim.lr"] == "a number > 0 and <= 10"
    assert types["train.precision"] == '"fp32", "bf16" or "fp16"'
    assert types["parallel.ranks"] == '"auto" or a whole number >= 1'
    assert types["train.compile"] == "true or false"


def test_every_text_pattern_has_words():
    """No regular expression of the schema reaches a message."""
    assert not any("^" in field.type for field in describe().values())


def test_the_template_sets_every_key_to_its_default():
    """The generated file holds each key once, above it its meaning, and no other value than the default."""
    tree = tomli.loads(template())
    assert tree == {
        section: {key: list(value) if isinstance(value, tuple) else value for key, value in keys.items()}
        for section, keys in RunConfig().model_dump().items()
    }
    assert all(field.doc in template() for field in describe().values())
    assert list(toml_layer(template(), "x").values) == list(describe())


@pytest.mark.parametrize("name", FOREIGN_NAMES)
def test_names_of_other_trainers_lead_to_fields_of_ours(name):
    """Each foreign name has an existing target, is none of our names, and is suggested from any section."""
    assert FOREIGN_NAMES[name] in describe()
    assert name not in {field.key for field in describe().values()}
    assert likely("ui", name) == [FOREIGN_NAMES[name]]


def test_messages_hold_one_printable_line():
    """Escapes, newlines and bidirectional overrides are spelled out; long values are cut."""
    assert printable("a\x1b[31m\n\u202eb\x9b\u00e9") == "a\\x1b[31m\\n\\u202eb\\x9bé"
    assert shown("x\n") == 'text "x\\n"'
    assert shown([1, True, {"a": 1}]) == "[1, true, a table]"
    assert len(shown(list(range(1000)))) < 100
    assert shown(1 << 20_000) == "a number of 20001 bits"


@pytest.mark.parametrize(("words", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a or b"), (["a", "b", "c"], "a, b or c")])
def test_lists_read_as_sentences(words, text):
    """Commas, and a word before the last one."""
    assert listed(words) == text

"""Promises of `config.schema`: a RunConfig that exists is valid, frozen and typed."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from plt_tui.config.presets import PRESETS, preset
from plt_tui.config.schema import ModelSection, RunConfig
from plt_tui.config.section import field_docs


def test_the_defaults_pass_their_own_rules():
    """Validating every default explicitly, cross-field rules included, gives the same configuration."""
    assert RunConfig.model_validate(RunConfig().model_dump()) == RunConfig()


NAMES = [name for name in PRESETS if name != "depth:N"] + ["depth:1", "depth:6", "depth:99"]


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_is_valid(name):
    """Presets hold existing keys and values that fit each other."""
    sections: dict[str, dict[str, object]] = {"model": {"preset": name}}
    for key, value in preset(name).items():
        section, _, field = key.partition(".")
        sections.setdefault(section, {})[field] = value
    config = RunConfig.model_validate(sections)
    assert config.model.width % config.model.heads == 0


def test_values_cannot_change():
    """Sections are frozen: nobody edits a config behind the journal's back."""
    config = RunConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.optim.lr = 1.0
    with pytest.raises(ValidationError, match="frozen"):
        config.run = config.run


def test_types_are_not_guessed():
    """Strict: a text is no number, a number no text, a one no truth; a whole number is a number."""
    for section, key, value in [("train", "steps", "5"), ("run", "name", 5), ("train", "compile", 1), ("optim", "lr", "1")]:
        with pytest.raises(ValidationError):
            RunConfig.model_validate({section: {key: value}})
    assert RunConfig.model_validate({"train": {"epochs": 2}}).train.epochs == 2.0


def test_unknown_names_are_refused_everywhere():
    """No section and no key passes unread."""
    for section in RunConfig.model_fields:
        with pytest.raises(ValidationError, match="extra_forbidden"):
            RunConfig.model_validate({section: {"zzz": 1}})
    with pytest.raises(ValidationError, match="extra_forbidden"):
        RunConfig.model_validate({"zzz": {}})


def test_all_wrong_values_are_found_at_once():
    """One error per wrong value, over all sections."""
    with pytest.raises(ValidationError) as caught:
        RunConfig.model_validate({"train": {"batch_size": 0, "steps": -1}, "optim": {"lr": 0.0}, "run": {"seed": -1}})
    assert len(caught.value.errors()) == 4


# Values of [model] that do not fit each other -> a piece of the reason.
MISFITS = [
    ({"width": 128, "heads": 3}, "3 heads do not divide width 128"),
    ({"width": 120, "heads": 8, "kv_heads": 3}, "3 key-value heads do not divide 8 heads"),
    ({"width": 12, "heads": 4, "position": "rope"}, "rope needs an even head size"),
    ({"preset": "gpt5"}, "unknown preset 'gpt5'"),
]


@pytest.mark.parametrize(("values", "reason"), MISFITS, ids=[reason for _, reason in MISFITS])
def test_model_values_must_fit_each_other(values, reason):
    """Rules over several keys name the values that clash."""
    with pytest.raises(ValidationError, match=reason):
        ModelSection.model_validate(values)


@pytest.mark.parametrize("value", ["", "a", "run-1.x_y", "-", "x" * 64])
def test_good_run_names(value):
    """Letters, digits, dot, hyphen and underscore; empty asks for a made-up one."""
    assert RunConfig.model_validate({"run": {"name": value}}).run.name == value


@pytest.mark.parametrize("value", [".", "..", ".x", "a/b", "a\\b", "a b", "a\n", "é", "x" * 65])
def test_bad_run_names(value):
    """A name is one path component that cannot leave its folder."""
    with pytest.raises(ValidationError):
        RunConfig.model_validate({"run": {"name": value}})


@pytest.mark.parametrize("value", ["127.0.0.1:8081", "localhost:80", "[::1]:8081", "box.example:65535"])
def test_good_addresses(value):
    """Host and port, IPv6 in brackets."""
    assert RunConfig.model_validate({"metrics": {"address": value}}).metrics.address == value


@pytest.mark.parametrize("value", ["", "8081", ":8081", "host", "host:", "host:port", "::1:8081", "a b:80", "host:123456"])
def test_bad_addresses(value):
    """A missing host or port, or an IPv6 address without brackets, is refused."""
    with pytest.raises(ValidationError):
        RunConfig.model_validate({"metrics": {"address": value}})


@pytest.mark.parametrize("value", ["auto", "cpu", "cuda", "cuda:0", "cuda:15"])
def test_good_devices(value):
    """The four ways to name a device."""
    assert RunConfig.model_validate({"parallel": {"device": value}}).parallel.device == value


def test_every_field_has_a_sentence():
    """The docstring under each field is its description: forms, templates and messages are made of it."""
    for name, section in RunConfig.model_fields.items():
        docs = field_docs(section.annotation)
        assert list(docs) == list(section.annotation.model_fields), name
        assert [key for key, doc in docs.items() if not doc.endswith(".")] == []

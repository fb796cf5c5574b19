"""Promises of plug-in datasets: documents are tokenised as they come, and what is wrong with them is said with their name."""

from __future__ import annotations

import numpy as np
import pytest

from plt_tui.config.schema import DataSection
from plt_tui.data.prepare import prepare
from plt_tui.errors import DataError, UsageError
from plt_tui.plugins import Plugins

PLUGIN = """
import pathlib

calls = []

def lines(argument):
    calls.append(argument)
    for number in range(int(argument or 300)):
        yield f"document {number} of a plug-in\\r\\n"

def web(argument):
    yield f"{argument}: " + "some text " * 100

def named(argument):
    calls.append(argument)
    yield "some text " * 100
named.fingerprint = lambda argument: pathlib.Path(argument).read_text()

def bad_name(argument):
    yield "text"
bad_name.fingerprint = lambda argument: 7

def failing_name(argument):
    yield "text"
failing_name.fingerprint = lambda argument: 1 // 0

def failing(argument):
    yield "text"
    raise OSError("the network is down")

DATASETS = {
    "lines": lines, "web": web, "named": named, "bad_name": bad_name, "failing_name": failing_name, "failing": failing,
    "none": lambda argument: iter(()),
    "bytes": lambda argument: iter(["text", b"bytes"]),
    "half": lambda argument: iter(["\\ud800"]),
    "blank": lambda argument: iter(["", "  "]),
    "number": lambda argument: 7,
}
"""


@pytest.fixture
def plugins(tmp_path):
    """The plug-ins of a file of this test's own."""
    path = tmp_path / "my_data.py"
    path.write_text(PLUGIN)
    return Plugins(files=(str(path),))


@pytest.fixture
def run(tmp_path, plugins):
    """Prepares with these plug-ins and a fresh cache."""

    def run(**settings):
        config = DataSection(**{"context": 16, **settings})
        return prepare(config, plugins=plugins, cache_dir=tmp_path / "cache")

    return run


def calls(plugins: Plugins) -> list[str]:
    """Arguments with which documents were asked for."""
    found: list[str] = plugins.find("datasets", "lines").__globals__["calls"]
    return found


@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe"])
def test_documents_of_a_plugin_are_a_corpus(run, tokenizer):
    """One text per document, with end-of-text between them and plain newlines."""
    data = run(train="plugin:lines:400", tokenizer=tokenizer, vocab_size=300)
    ids = np.concatenate([data.train[0], data.eval])
    marks = np.flatnonzero(ids == data.tokenizer.end_of_text)
    assert len(marks) == 399
    assert data.tokenizer.decode(ids[: marks[0]]) == "document 0 of a plug-in\n"
    assert data.tokenizer.decode(ids[marks[-1] + 1 :]) == "document 399 of a plug-in\n"


def test_an_argument_is_everything_behind_the_name(run):
    """Colons and slashes in it stay as they are."""
    data = run(train="plugin:web:https://host//a:b")
    assert data.tokenizer.decode(data.train[0]).startswith("https://host//a:b: some text")


def test_a_plugin_can_be_mixed_and_held_out(run, tmp_path):
    """Beside files, and as the held-out corpus."""
    (tmp_path / "a.txt").write_text("a file of text\n" * 100)
    data = run(train=[str(tmp_path / "a.txt"), "plugin:lines"], eval="plugin:web:x")
    assert data.tokenizer.decode(data.train[1][:10]) == "document 0"
    assert data.tokenizer.decode(data.eval).startswith("x: some text")


def test_a_plugin_is_asked_once_as_long_as_nothing_changes(run, plugins, tmp_path):
    """The cache knows it by its code, its argument and its own fingerprint."""
    for _ in range(2):
        run(train="plugin:lines:500")
    run(train="plugin:lines:501")
    assert calls(plugins) == ["500", "501"]
    content = tmp_path / "content"
    for version in ("1", "1", "2"):
        content.write_text(version)
        run(train=f"plugin:named:{content}")
    assert calls(plugins)[2:] == [str(content)] * 2


BAD = {
    "none": r"plugin:none: gives no documents; mend",
    "bytes": r"plugin:bytes: document 1 must be a str, not bytes; mend the plug-in",
    "half": r"plugin:half: document 0 holds half a surrogate pair at character 0",
    "blank": r"data.train \(plugin:blank\): holds nothing but white space",
    "number": r"plugin:number: failed after 0 documents: TypeError: 'int' object is not iterable",
    "failing": r"plugin:failing: failed after 1 documents: OSError: the network is down",
    "bad_name": r"plugin:bad_name: its fingerprint must be a str, not int",
    "failing_name": r"plugin:failing_name: its fingerprint failed: ZeroDivisionError",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_plugin_is_named(run, tmp_path, name):
    """What is wrong, with which document; and nothing stays in the cache."""
    with pytest.raises(DataError, match=BAD[name]):
        run(train=f"plugin:{name}")
    assert not [path for path in tmp_path.glob("cache/tokens/*") if path.is_dir()]


def test_a_plugin_file_may_define_dataclasses(tmp_path):
    """With postponed annotations too, for which Python looks up the module of a class."""
    path = tmp_path / "with_dataclass.py"
    path.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\n"
        "@dataclass\nclass Options:\n    number: int = 3\n\nDATASETS = {'options': lambda argument: [str(Options())]}\n"
    )
    assert Plugins(files=(str(path),)).find("datasets", "options")("") == ["Options(number=3)"]


def test_an_edited_plugin_file_is_executed_again(tmp_path):
    """In a notebook: what is cached under the new content's name must be the new code's documents."""
    path = tmp_path / "edited.py"
    for text in ("first text", "other text, longer"):
        path.write_text(f"DATASETS = {{'words': lambda argument: [{text!r} * 100]}}\n")
        config = DataSection(train="plugin:words", context=16)
        data = prepare(config, plugins=Plugins(files=(str(path),)), cache_dir=tmp_path / "cache")
        assert data.tokenizer.decode(data.train[0]).startswith(text)


def test_a_plugin_file_that_exits_or_is_gone_is_named(tmp_path):
    """A script that was never meant to be imported does not end the command without a word."""
    path = tmp_path / "script.py"
    path.write_text("raise SystemExit(0)\n")
    with pytest.raises(UsageError, match=r"--plugin .*script.py: cannot be imported: SystemExit: 0"):
        Plugins(files=(str(path),)).find("datasets", "a")
    path.unlink()
    with pytest.raises(UsageError, match=r"--plugin .*script.py: cannot be read: No such file"):
        Plugins(files=(str(path),)).find("datasets", "a")


def test_an_unknown_plugin_is_a_usage_error(run):
    """The message lists what there is."""
    with pytest.raises(UsageError, match=r"no plug-in of the kind datasets is called 'wiki'; known: .*lines"):
        run(train="plugin:wiki")

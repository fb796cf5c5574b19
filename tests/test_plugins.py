"""Promises of `plugins`: code runs only when it is asked for by name, and every way to fail is a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from plt_tui.errors import UsageError
from plt_tui.plugins import Plugins, split_name


def _file(folder: Path, content: str, name: str = "plugin.py") -> str:
    path = folder / name
    path.write_text(content)
    return str(path)


def test_a_file_gives_what_its_table_names(tmp_path):
    """MODELS and DATASETS are looked up by kind and name; the file is executed once."""
    path = _file(tmp_path, "calls = []\ncalls.append(1)\ndef words(a): return [a]\nDATASETS = {'words': words}\n")
    plugins = Plugins((path,))
    assert plugins.find("datasets", "words")("x") == ["x"]
    assert plugins.find("datasets", "words").__globals__["calls"] == [1]


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path):
    """The message lists what there is and says how to add more."""
    path = _file(tmp_path, "DATASETS = {'b': print, 'a': print}\n")
    with pytest.raises(UsageError, match=r"no plug-in of the kind datasets is called 'c'; known: a, b\. .*--plugin FILE"):
        Plugins((path,)).find("datasets", "c")
    with pytest.raises(UsageError, match="known: none"):
        Plugins((path,)).find("models", "a")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("import nothing_like_this\n", "cannot be imported: ModuleNotFoundError"),
        ("1 / 0\n", "cannot be imported: ZeroDivisionError"),
        ("MODELS = ['a']\n", "MODELS must be a dict"),
        ("MODELS = {'a': 1}\n", "MODELS must be a dict"),
    ],
)
def test_a_broken_file_is_named(tmp_path, content, reason):
    """What goes wrong inside a plug-in's file is reported with its path."""
    path = _file(tmp_path, content)
    with pytest.raises(UsageError, match=rf"--plugin {path}: {reason}"):
        Plugins((path,)).find("models", "a")


def test_another_ending_is_refused(tmp_path):
    """A file that Python would not import is no plug-in."""
    with pytest.raises(UsageError, match=r"must end in \.py"):
        Plugins((_file(tmp_path, "", "plugin.txt"),)).find("models", "a")


def test_identity_follows_the_code(tmp_path):
    """Another content is another identity: prepared tokens of an old plug-in are not taken for the new one's."""
    first = Plugins((_file(tmp_path, "DATASETS = {'a': print}\n", "one.py"),)).identity("datasets", "a")
    second = Plugins((_file(tmp_path, "DATASETS = {'a': print}  # new\n", "two.py"),)).identity("datasets", "a")
    assert first != second


def test_an_installed_package_brings_plug_ins(tmp_path, monkeypatch):
    """Entry points of the group plt_tui.models are found without being imported before they are asked for."""
    (tmp_path / "brings.py").write_text("def build(): return 'built'\n")
    (tmp_path / "brings-1.2.dist-info").mkdir()
    (tmp_path / "brings-1.2.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: brings\nVersion: 1.2\n")
    (tmp_path / "brings-1.2.dist-info" / "entry_points.txt").write_text(
        "[plt_tui.models]\nmine = brings:build\nbroken = brings:nothing\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert Plugins().find("models", "mine")() == "built"
    assert Plugins().identity("models", "mine") == "brings:build 1.2"
    with pytest.raises(UsageError, match=r"plug-in broken \(brings:nothing\): cannot be imported"):
        Plugins().find("models", "broken")


def test_a_spec_is_a_name_and_an_argument():
    """Only the first colon separates."""
    assert split_name("a") == ("a", "")
    assert split_name("a:b:c") == ("a", "b:c")


def test_exporters_are_found_like_models(tmp_path):
    """By entry points of the package, and in files; a name is refused without importing what has it."""
    path = _file(tmp_path, "EXPORTERS = {'mine': print}\n")
    broken = _file(tmp_path, "1 / 0\n", "broken.py")
    assert Plugins((path,)).find("exporters", "mine") is print
    Plugins((broken,)).refuse_unknown("exporters", "tensorboard")
    Plugins((path,)).refuse_unknown("exporters", "mine")
    with pytest.raises(UsageError, match=r"no plug-in of the kind exporters is called 'x'; known: .*mine, mlflow, tensorboard"):
        Plugins((path,)).refuse_unknown("exporters", "x")

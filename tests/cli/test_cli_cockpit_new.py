"""Promises of the new-run form's port: it says what `check` and `run` would, overwrites nothing, and starts what it said."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

import pytest
import typer.main

from plt_tui.cli import launch
from plt_tui.cli.cockpit_new import NewRuns
from plt_tui.cli.launch import Prepared
from plt_tui.cli.main import app
from plt_tui.config.load import load
from plt_tui.config.sources import ENVIRONMENT
from plt_tui.control.folder import RunFolder
from plt_tui.errors import PltTuiError, StorageError, UsageError
from plt_tui.views.draft import Mistake, command_line
from tests.another_user import shared_folder, without_rights
from tests.cli.commands import Call

CPU = {"parallel.device": "cpu"}
DRAFTS: list[dict[str, str]] = [
    {},
    {"optim.lr": "3e-4", "optim.betas": "[0.9, 0.99]", "model.preset": "gpt2", "train.compile": "true"},
    {"sample.prompt": 'It\'s "so" $HOME `x` \\ ü ', "run.name": "a-b", "optim.min_lr": ".0001", "train.tokens": "1e6"},
    {
        "sample.prompt": "two\nlines\x1b",
        "data.train": '["builtin:python-docs", "builtin:python-source"]',
        "data.weights": "[1, 2]",
    },
]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and no variables that set a value."""
    for variable in ENVIRONMENT:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def port() -> NewRuns:
    """The port of the form on the default folder of runs."""
    return NewRuns(Path("runs"))


def _parsed_sets(line: str) -> list[str]:
    """What the real option parser makes of a command line."""
    group = typer.main.get_command(app)
    program, name, *words = shlex.split(line)
    assert program == "plt-tui"
    with group.make_context(program, [name, *words]) as context:  # type: ignore[attr-defined]
        subcommand = group.commands[name]  # type: ignore[attr-defined]
        with subcommand.make_context(name, words, parent=context) as parsed:
            assert {option for option, value in parsed.params.items() if value} <= {"sets"}
            return list(parsed.params["sets"] or ())


@pytest.mark.parametrize("draft", DRAFTS, ids=range(len(DRAFTS)))
def test_form_file_and_command_line_mean_the_same(draft: dict[str, str], port: NewRuns) -> None:
    """The command, read by the real option parser, and the saved file give one configuration, and the form shows it."""
    config = load(None, sets=_parsed_sets(command_line(draft))).config
    port.save(draft, "a.toml", replace=False)
    assert load(Path("a.toml")).config == config
    seen = port.check({**draft, **CPU})
    assert seen.mistakes == ()
    assert seen.values["model.layers"] == str(config.model.layers)
    assert float(seen.values["optim.min_lr"]) == config.optim.min_lr


def test_a_good_draft_is_told_as_check_tells_it(port: NewRuns, call: Call) -> None:
    """The same topics and texts, and where each value comes from."""
    draft = {**CPU, "model.preset": "modern-1m", "optim.lr": "1e-3"}
    seen = port.check(draft)
    port.save(draft, "a.toml", replace=False)
    told = call("check", "a.toml").out
    assert [f"{topic:<9} {text}" for topic, text in seen.summary.items()] == told.splitlines()[1:]
    assert (seen.values["model.softcap"], seen.origins["model.softcap"]) == ("15.0", "preset modern-1m")
    assert seen.origins["optim.min_lr"] == "default (lr / 10)"
    assert (seen.values["train.steps"], seen.origins["train.steps"]) == ("0", "default")


@pytest.mark.parametrize(
    ("draft", "key", "words"),
    [
        ({"optim.lr": "fast"}, "optim.lr", 'expected a number > 0 and <= 10, found text "fast"'),
        ({"optim.name": "lino"}, "optim.name", 'did you mean "lion"?'),
        ({"model.width": "130"}, "model.heads", "4 heads do not divide width 130"),
        ({"train.steps": "5", "train.epochs": "2"}, "train.epochs", "steps and epochs are both given; keep one"),
        ({"data.train": "no.txt"}, "data.train", "no such file"),
        ({"data.tokenizer": "no.json"}, "data.tokenizer", "no readable tokenizer.json"),
        ({"parallel.device": "cuda:99"}, "parallel.device", "cuda:99 was asked for"),
        ({"model.arch": "mine"}, "", "no plug-in of the kind models is called 'mine'"),
        ({"train.init_from": "nowhere"}, "train.init_from", "there is nothing"),
        ({"metrics.serve": "true", "metrics.address": "0.0.0.0:80"}, "metrics.address", "open to other machines"),
        ({"run.name": "taken"}, "run.name", "already holds a run; choose another name"),
        ({"run.name": ".."}, "run.name", "expected up to 64 letters"),
        ({"alerts.webhook": "hook-token"}, "alerts.webhook", "expected an address"),
    ],
)
def test_a_mistake_is_told_beside_its_field(draft: dict[str, str], key: str, words: str, port: NewRuns) -> None:
    """Whatever found it: the schema, the files, the devices, the plug-ins, the runs that there are; and there is no summary."""
    RunFolder(Path("runs/taken")).create("")
    seen = port.check({**CPU, **draft})
    assert [mistake.key for mistake in seen.mistakes] == [key]
    assert words in seen.mistakes[0].text
    assert "hook-token" not in seen.mistakes[0].text
    assert seen.summary == {}


@pytest.mark.parametrize(
    ("draft", "key", "words"),
    [
        ({"train.init_from": "x" * 300}, "train.init_from", "cannot be looked at: File name too long"),
        ({"run.dir": "x" * 300}, "run.dir", "cannot be used: File name too long"),
        ({"run.dir": "x" * 300, "run.name": "a"}, "run.dir", "cannot be used: File name too long"),
        ({"run.dir": '"a\\u0000b"'}, "run.dir", "cannot be used: embedded null byte"),
        ({"run.dir": "file/runs"}, "run.dir", "file is no folder"),
        ({"checkpoint.dir": "file"}, "checkpoint.dir", "file is no folder"),
        ({"checkpoint.dir": "x" * 300, "run.name": "a"}, "checkpoint.dir", "cannot be used: File name too long"),
        ({"checkpoint.dir": "kept", "run.name": "a"}, "checkpoint.dir", "holds the checkpoints of the run in /other/a"),
        ({"export.to": '["nonsense"]'}, "", "no plug-in of the kind exporters is called 'nonsense'"),
    ],
)
def test_what_a_start_would_refuse_is_a_mistake(draft: dict[str, str], key: str, words: str, port: NewRuns) -> None:
    """The form tells it while one types, and neither ends nor makes anything; a start does refuse it."""
    Path("file").write_text("")
    Path("kept/a").mkdir(parents=True)
    Path("kept/a/.owner").write_text("/other/a")
    seen = port.check({**CPU, **draft})
    assert [mistake.key for mistake in seen.mistakes] == [key]
    assert words in seen.mistakes[0].text
    assert sorted(str(path) for path in Path().rglob("*")) == ["file", "kept", "kept/a", "kept/a/.owner"]
    with pytest.raises((PltTuiError, ValueError)):
        port.launch({**CPU, **draft})


@pytest.mark.parametrize("key", ["train.init_from", "run.dir", "checkpoint.dir"])
def test_a_folder_that_is_closed_to_us_is_a_mistake(key: str, port: NewRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    """With or without a name, which is looked for in it."""
    with shared_folder() as folder:
        (folder / "closed").mkdir(mode=0)
        monkeypatch.chdir(folder)  # nobody may look into the other one
        (folder / "text").write_text("some words to read\n" * 400)
        for name in ("", "a"):
            with without_rights():
                seen = port.check({**CPU, "data.train": "text", key: str(folder / "closed" / "x"), "run.name": name})
            assert [mistake.key for mistake in seen.mistakes] == [key]
            assert "Permission denied" in seen.mistakes[0].text


def test_a_folder_that_can_only_be_read_is_a_mistake(port: NewRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one on a disk that is mounted so; of several that are to be made the nearest that is there counts."""
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place).name != "fixed")
    Path("fixed").mkdir()
    seen = port.check({**CPU, "run.dir": "fixed/a/b", "checkpoint.dir": "fixed"})
    assert [mistake.key for mistake in seen.mistakes] == ["run.dir", "checkpoint.dir"]
    assert all("nothing can be written in" in mistake.text for mistake in seen.mistakes)


def test_checkpoints_that_are_the_runs_own_are_no_mistake(port: NewRuns) -> None:
    """Their folder may have outlived the run's."""
    Path("kept/a").mkdir(parents=True)
    Path("kept/a/.owner").write_text(str(Path("runs/a").resolve()))
    assert port.check({**CPU, "checkpoint.dir": "kept", "run.name": "a"}).mistakes == ()


def test_all_mistakes_are_told_together(port: NewRuns) -> None:
    """Those of values and those of files, also beside defaults that clash; the others keep their values."""
    seen = port.check({**CPU, "optim.lr": "x", "model.width": "131", "data.train": "no.txt", "train.batch_size": "3"})
    assert {mistake.key for mistake in seen.mistakes} == {"optim.lr", "model.heads", "data.train"}
    assert seen.values["train.batch_size"] == "3"
    assert seen.values["optim.lr"] == "0.003"


def test_a_mistake_of_the_environment_says_where_it_is(port: NewRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    """The form cannot take it away; a value in the form wins over it."""
    monkeypatch.setenv("BATCH_SIZE", "many")
    seen = port.check(CPU)
    assert seen.mistakes == (
        Mistake("train.batch_size", 'environment BATCH_SIZE: expected a whole number >= 1, found text "many"'),
    )
    assert port.check({**CPU, "train.batch_size": "2"}).mistakes == ()


def test_a_corpus_that_appears_is_seen(port: NewRuns) -> None:
    """What was wrong is looked at again every time; what was right is not read again."""
    draft = {**CPU, "data.train": "t.txt", "data.context": "8"}
    assert [mistake.key for mistake in port.check(draft).mistakes] == ["data.train"]
    Path("t.txt").write_text("some words to read\n" * 40)
    assert port.check(draft).mistakes == ()


def test_nothing_shown_can_act_on_a_terminal(port: NewRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and mistakes come from files and variables as well."""
    monkeypatch.setenv("EVAL_DATA_PATH", "\x1b[31mx")
    seen = port.check({**CPU, "sample.prompt": "\x9b\u202e"})
    assert seen.mistakes
    texts = [*seen.values.values(), *seen.origins.values(), *(mistake.text for mistake in seen.mistakes)]
    assert [text for text in texts if not text.isprintable()] == []


def test_a_secret_is_neither_shown_nor_written(port: NewRuns) -> None:
    """The form says that it is there, the file that it is not."""
    draft = {**CPU, "alerts.webhook": "https://example.org/secret"}
    assert port.check(draft).values["alerts.webhook"] == "given, not shown"
    said = port.save(draft, "a.toml", replace=False)
    assert "alerts.webhook is not in it, PLT_WEBHOOK of the environment sets it" in said
    assert "secret" not in Path("a.toml").read_text()


def test_saving_overwrites_only_when_told(port: NewRuns) -> None:
    """And then the whole file or none; only its owner can read it."""
    Path("a.toml").write_text("mine")
    with pytest.raises(FileExistsError):
        port.save({"train.steps": "5"}, "a.toml", replace=False)
    assert Path("a.toml").read_text() == "mine"
    assert port.save({"train.steps": "5"}, "a.toml", replace=True) == "saved a.toml: plt-tui run a.toml"
    assert load(Path("a.toml")).config.train.steps == 5
    assert stat.S_IMODE(Path("a.toml").stat().st_mode) == 0o600
    assert [path.name for path in Path().iterdir()] == ["a.toml"]


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("no/such/a.toml", StorageError, "cannot be written"),
        (".", UsageError, "is a folder"),
        ("~nobody-here/a", StorageError, "~"),
    ],
)
def test_a_place_that_cannot_be_written_is_said(path: str, kind: type[PltTuiError], words: str, port: NewRuns) -> None:
    """With what to do."""
    with pytest.raises(kind, match=words):
        port.save({}, path, replace=False)


def test_a_file_whose_name_is_strange_is_a_file(port: NewRuns) -> None:
    """The name stands in a comment of the file, quoted for a shell, and cannot end it."""
    port.save({"train.steps": "5"}, "a\nb = 1.toml", replace=False)
    assert load(Path("a\nb = 1.toml")).config.train.steps == 5


def test_saving_says_what_would_win_over_the_file(port: NewRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables come before a file, unlike before the form."""
    monkeypatch.setenv("BATCH_SIZE", "4")
    said = port.save({"train.batch_size": "2"}, "a.toml", replace=False)
    assert "BATCH_SIZE of the environment still come before it" in said


@pytest.mark.parametrize(("directory", "values"), [("runs", {}), ("other", {"run.dir": "other"})])
def test_a_draft_begins_in_the_folder_that_is_looked_at(directory: str, values: dict[str, str]) -> None:
    """The default folder need not be said."""
    assert NewRuns(Path(directory)).first_values == values


@pytest.mark.parametrize(("directory", "is_elsewhere"), [("runs", False), ("other", True)])
def test_what_is_started_is_what_was_drafted(
    directory: str, is_elsewhere: bool, port: NewRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run in a folder of its own with the draft's configuration; its path is told where the name alone would not find it."""
    started: list[Prepared] = []
    monkeypatch.setattr(launch, "start_detached", started.append)
    Path("t.txt").write_text("some words to read\n" * 40)
    draft = {**CPU, "run.dir": directory, "data.train": "t.txt", "data.context": "8", "train.steps": "7"}
    called = port.launch(draft)
    (prepared,) = started
    for lock in prepared.locks:
        os.close(lock)  # the hub would have them
    assert called == (str(prepared.folder.path) if is_elsewhere else prepared.folder.name)
    assert prepared.folder.path.parent == Path(directory).absolute()
    assert load(prepared.folder.config).config == prepared.loaded.config
    assert prepared.loaded.config.train.steps == 7


def test_a_name_that_is_taken_starts_nothing(port: NewRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new run never goes on with an old one, whatever the form knew."""
    monkeypatch.setattr(launch, "start_detached", lambda _: pytest.fail("started"))
    RunFolder(Path("runs/old")).create("[train]\nsteps = 3\n")
    with pytest.raises(UsageError, match="already holds a run"):
        port.launch({**CPU, "run.name": "old"})
    assert Path("runs/old/config.toml").read_text() == "[train]\nsteps = 3\n"

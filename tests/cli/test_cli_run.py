"""Promises of `cli.run`: options mean what they say, every value's origin is written down, and names never collide."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.cli import run as run_module
from plt_tui.cli.run import (
    _assignments,
    _fresh,
    _hold,
    _known_name,
    _load,
    _prepare,
    _refuse_other_line,
    _Request,
    _resume_mode,
    _take,
    _with_origins,
)
from plt_tui.config.load import from_toml, resolve, to_toml
from plt_tui.config.sources import OPTIONS, options_layer
from plt_tui.control.folder import RunFolder
from plt_tui.control.record import Recorder
from plt_tui.errors import DataError, PltTuiError, RunInUse, StorageError, UsageError
from plt_tui.protocol.events import Checkpoint, Run
from tests.control.fake_reruns import checkpoint
from tests.control.said import rewind


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder and no variables that set a value."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_module.os, "environ", {})
    return tmp_path


def request(config: str | None = None, *sets: str, resume: str | None = None, **named: str | None) -> _Request:
    """A request with options given by the names of their flags."""
    flags = {f"--{name.replace('_', '-')}": value for name, value in named.items()}
    return _Request(
        config=Path(config) if config else None,
        named=flags,
        gpu=None,
        serve_metrics=False,
        sets=sets,
        resume=resume,
        plugins=(),
    )


@pytest.mark.parametrize(
    ("flag", "value", "section", "key", "seen"),
    [
        ("train_path", "corpus.txt", "data", "train", "corpus.txt"),
        ("eval_path", "held.txt", "data", "eval", "held.txt"),
        ("epochs", "2.5", "train", "epochs", 2.5),
        ("batch_size", "4", "train", "batch_size", 4),
        ("learning_rate", "1e-3", "optim", "lr", 1e-3),
        ("checkpoint_dir", "/c", "checkpoint", "dir", "/c"),
        ("ranks", "2", "parallel", "ranks", 2),
        ("name", "abc", "run", "name", "abc"),
    ],
)
def test_each_named_option_sets_its_key(flag: str, value: str, section: str, key: str, seen: Any) -> None:
    """And the origin is the flag."""
    loaded = _load(request(**{flag: value}), None)
    assert getattr(getattr(loaded.config, section), key) == seen
    assert loaded.origins[f"{section}.{key}"] == f"--{flag.replace('_', '-')}"


def test_every_option_of_the_table_can_be_given() -> None:
    """None is forgotten by the command, and what is not given is not assigned."""
    given = request(**{flag.removeprefix("--").replace("-", "_"): "1" for flag in OPTIONS})
    assert {assignment.origin: assignment.key for assignment in _assignments(given)} == dict(OPTIONS)
    assert _assignments(request(name=None)) == []


def test_switches_set_their_keys() -> None:
    """`--gpu 1` is a device, `--serve-metrics` a switch."""
    given = _Request(config=None, named={}, gpu=1, serve_metrics=True, sets=(), resume=None, plugins=())
    config = _load(given, None).config
    assert (config.parallel.device, config.metrics.serve) == ("cuda:1", True)


def test_commands_over_http_are_served_and_need_the_token() -> None:
    """`--http-control` is all that it takes."""
    given = _Request(config=None, named={}, gpu=None, serve_metrics=False, http_control=True, sets=(), resume=None, plugins=())
    loaded = _load(given, None)
    assert (loaded.config.metrics.serve, loaded.config.metrics.control, loaded.config.metrics.needs_token) == (True, True, True)
    assert {loaded.origins[f"metrics.{key}"] for key in ("serve", "control")} == {"--http-control"}


def test_each_export_to_names_one_exporter() -> None:
    """Together they are the list of the configuration, and take the place of that of a file."""
    Path("mine.toml").write_text('[export]\nto = ["mlflow"]\n')
    given = replace(request("mine.toml"), export_to=("tensorboard", "wandb"))
    loaded = _load(given, Path("mine.toml"))
    assert (loaded.config.export.to, loaded.origins["export.to"]) == (("tensorboard", "wandb"), "--export-to")


def test_an_unknown_exporter_is_refused_before_anything_is_made() -> None:
    """With the names that there are."""
    with pytest.raises(UsageError, match=r"no plug-in of the kind exporters is called 'wandbb'; known: .*wandb"):
        _prepare(replace(request(None, "parallel.device=cpu", name="abc"), export_to=("wandbb",)))
    assert not Path("runs").exists()


PROMPTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(prompt=PROMPTS, seed=st.integers(0, 2**63 - 1))
def test_origins_are_comments_only(prompt: str, seed: int) -> None:
    """The written configuration reads back as the same one, whatever a text in it holds."""
    loaded = resolve([options_layer([], [f"run.seed={seed}"])])
    sample = loaded.config.sample.model_copy(update={"prompt": prompt})
    config = loaded.config.model_copy(update={"sample": sample})
    written = _with_origins(to_toml(config), loaded.origins)
    assert from_toml(written) == config
    assert f"seed = {seed}  # --set" in written.split("\n")


def test_every_value_has_its_origin(empty_folder: Path) -> None:
    """File with line, option, environment, `.env` and default, each behind its value."""
    (empty_folder / "c.toml").write_text("[train]\nsteps = 7\n")
    (empty_folder / ".env").write_text("BATCH_SIZE=2\n")
    run_module.os.environ["LEARNING_RATE"] = "0.5"
    loaded = _load(request("c.toml", "eval.every=3"), Path("c.toml"))
    lines = _with_origins(to_toml(loaded.config), loaded.origins).split("\n")
    for line in (
        "steps = 7  # c.toml:2",
        "batch_size = 2  # .env BATCH_SIZE",
        "lr = 0.5  # environment LEARNING_RATE",
        "every = 3  # --set",
        "context = 128  # default",
    ):
        assert line in lines


def make_run(root: Path, name: str) -> RunFolder:
    """A run that is there."""
    folder = RunFolder(root / name)
    folder.create("")
    return folder


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"name": "mine"}, "mine"),
        ({"name": "mine", "resume": "auto"}, "mine"),
        ({"resume": "auto"}, "old"),
        ({}, "quickstart-"),
        ({"config": "my model.toml"}, "my-model-"),
        ({"config": "my model.toml", "resume": "auto"}, "my-model-0102-0304-2"),
        ({"config": "my model.toml", "resume": "auto", "name": "mine"}, "mine"),
        ({"config": "other.toml", "resume": "auto"}, "other-"),
    ],
)
def test_the_name_of_a_run(tmp_path: Path, asked: dict[str, str], name: str) -> None:
    """The one given; for `--resume auto` the newest run (of that file); else the config file's name and the date."""
    named = ("my-model-0102-0304", "my-model-0102-0304-2", "my-model-best", "my-model-0102-0304-x", "other-model-0102-0304")
    for age, there in enumerate(["my-model", *named, "old"]):
        config = make_run(tmp_path / "runs", there).config
        run_module.os.utime(config, (1e9 + age, 1e9 + age))
    for file in ("my model.toml", "other.toml"):
        (tmp_path / file).write_text("")
    given = request(asked.get("config"), resume=asked.get("resume"), name=asked.get("name"))
    loaded = _load(given, given.config)
    runs = tmp_path / "runs"
    found = _known_name(given, loaded, runs) or _fresh(given, runs).name
    assert found == name or (name.endswith("-") and found.startswith(name))


def test_resume_modes(tmp_path: Path) -> None:
    """Auto goes on, never refuses what is there, a path must be a checkpoint."""
    old, new = make_run(tmp_path, "old"), RunFolder(tmp_path / "new")
    assert _resume_mode(None, old) == _resume_mode("auto", new) == "auto"
    assert _resume_mode("never", new) == "never"
    with pytest.raises(UsageError, match="already holds a run; resume it with --resume auto"):
        _resume_mode("never", old)
    with pytest.raises(UsageError, match=r"--resume .*/step-1: no checkpoint there \(no manifest\.json\)"):
        _resume_mode("step-1", old)
    (tmp_path / "step-1").mkdir()
    (tmp_path / "step-1" / "manifest.json").write_text("{}")
    with pytest.raises(UsageError, match=r"--resume .*/step-1: its manifest\.json is no manifest"):
        _resume_mode("step-1", old)
    (tmp_path / "step-1" / "manifest.json").write_text('{"step": 1}')
    assert _resume_mode("step-1", old) == str(tmp_path / "step-1")


def test_a_run_in_use_is_not_touched(tmp_path: Path) -> None:
    """The second `run` of the same name is refused before it writes anything."""
    folder = make_run(tmp_path, "a")
    _, held = _take(folder)
    before = folder.config.stat().st_mtime_ns
    with pytest.raises(RunInUse, match="plt-tui attach a"):
        _take(folder)
    assert folder.config.stat().st_mtime_ns == before
    run_module.os.close(held)


def test_a_runs_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    """A file in its place: the path and the way out."""
    (tmp_path / "runs").write_text("")
    with pytest.raises(StorageError, match=r"--set run\.dir="):
        _take(RunFolder(tmp_path / "runs" / "a"))


def held(folder: RunFolder, *sets: str) -> None:
    """Take the run as `run` does, with `sets` given, and let it go again."""
    for lock in _hold(folder, _load(request(None, *sets), None), "auto", ()).locks:
        run_module.os.close(lock)


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ("model.width=64", UsageError, "model.width: 128 -> 64"),
        ("model.norm=layernorm", UsageError, 'model.norm: "rmsnorm" -> "layernorm"'),
        ("data.context=64", DataError, "data.context: 128 -> 64"),
        ("data.train=other.txt", DataError, 'data.train: "builtin:python-docs" -> "other.txt"'),
        ("data.tokenizer=char", DataError, 'data.tokenizer: "byte" -> "char"'),
        ("model.dropout=0.5", None, ""),
        ("train.batch_size=2", None, ""),
        ("optim.lr=0.5", None, ""),
        ("run.seed=3", None, ""),
    ],
)
@pytest.mark.parametrize("past", ["steps", "checkpoint", "none"])
def test_a_run_goes_on_with_its_model_and_its_data(
    tmp_path: Path, past: str, changed: str, error: type[PltTuiError] | None, said: str
) -> None:
    """Another shape or corpus is refused before anything is written; a run that never trained may still change."""
    folder = RunFolder(tmp_path / "a")
    held(folder)
    if past == "steps":
        folder.metrics.write_text("{}\n")
    if past == "checkpoint":
        saved = folder.checkpoints / "step-00000001"
        saved.mkdir()
        (saved / "manifest.json").write_text("{}")
    before = folder.config.read_bytes()
    if error is None or past == "none":
        held(folder, changed)
        assert folder.config.read_bytes() != before
        return
    with pytest.raises(error, match=f"a was trained with other settings \\({re.escape(said)}\\); take them back"):
        held(folder, changed)
    assert folder.config.read_bytes() == before
    assert not folder.is_live()


def test_all_that_differs_is_named_at_once(tmp_path: Path) -> None:
    """One sentence, in the order of the configuration."""
    folder = RunFolder(tmp_path / "a")
    held(folder)
    folder.metrics.write_text("{}\n")
    with pytest.raises(UsageError, match=r"\(model\.layers: 4 -> 2, model\.width: 128 -> 64, data\.context: 128 -> 8\)"):
        held(folder, "data.context=8", "model.width=64", "model.layers=2")


def test_runs_of_one_name_do_not_share_a_folder_of_checkpoints(tmp_path: Path) -> None:
    """The second is refused before its configuration is written, whether the first is live or not; the owner comes in again."""
    first, second = RunFolder(tmp_path / "x" / "a"), RunFolder(tmp_path / "y" / "a")
    given = f"checkpoint.dir={tmp_path / 'saved'}"
    prepared = _hold(first, _load(request(None, given), None), "auto", ())
    with pytest.raises(RunInUse, match=f"saved/a is in use by the run in {tmp_path}/x/a; choose another --name"):
        held(second, given)
    for lock in prepared.locks:
        run_module.os.close(lock)
    with pytest.raises(UsageError, match=f"saved/a holds the checkpoints of the run in {tmp_path}/x/a; .*\\.owner"):
        held(second, given)
    assert not second.exists
    assert not second.is_live()
    held(first, given)
    held(second, f"checkpoint.dir={tmp_path / 'others'}")
    assert second.exists


def test_checkpoints_in_the_run_folder_need_no_owner(tmp_path: Path) -> None:
    """The run folder can be copied and moved: nothing in it says where it was."""
    folder = RunFolder(tmp_path / "a")
    held(folder)
    assert list(folder.checkpoints.iterdir()) == []


def test_a_folder_of_checkpoints_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    """A file in its place: the path and the option."""
    (tmp_path / "saved").write_text("")
    with pytest.raises(StorageError, match="choose another --checkpoint-dir"):
        held(RunFolder(tmp_path / "a"), f"checkpoint.dir={tmp_path / 'saved'}")


def test_a_run_goes_on_from_its_own_line_only(tmp_path: Path) -> None:
    """A checkpoint of a branch or of another run has another past than the record: it is refused with the way to use it."""
    folder = make_run(tmp_path / "runs", "a")
    root, elsewhere = folder.checkpoints, tmp_path / "elsewhere"
    elsewhere.mkdir()
    own, left = checkpoint(root, 100, "of the line"), checkpoint(root, 200, "of a branch")
    left = left.rename(left.with_name(f"{left.name}.aside-1"))
    copied, foreign = checkpoint(elsewhere, 100, "of the line"), checkpoint(elsewhere, 200, "of another run")
    recorder = Recorder(folder, 0, lambda problem: None)
    for event in (
        Run(name="a", dir="", world_size=1, params=1, target_step=300),
        Checkpoint(step=100, path="own", weights_sha256="of the line"),
        Checkpoint(step=200, path="left", weights_sha256="of a branch"),
        rewind(150, before=250),
    ):
        recorder.record(event)
    recorder.close()
    for fits in (own, copied):
        _refuse_other_line(folder, root, str(fits))
    for other in (left, foreign):
        with pytest.raises(UsageError, match=r"of a branch, or of another run\); begin a new run with its weights"):
            _refuse_other_line(folder, root, str(other))
    _refuse_other_line(RunFolder(tmp_path / "runs" / "new"), tmp_path / "none", str(left))  # no past to contradict

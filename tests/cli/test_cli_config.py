"""Promises of `check` and `init`: all mistakes at once, nothing started, nothing overwritten."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from plt_tui.cli.config import first_config, summary
from plt_tui.config.blueprint import Blueprint, header
from plt_tui.config.load import load, to_toml
from plt_tui.config.schema import ModelSection, RunConfig
from plt_tui.control.placement import Placement
from plt_tui.data.sources import resolve
from tests.cli.commands import Call
from tests.cli.conftest import config_of

PLUGIN = "DATASETS = {'words': lambda argument: iter(['a b c'])}\nMODELS = {'mine': dict}\n"


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and no variables that set a value."""
    for variable in ("TRAIN_DATA_PATH", "EVAL_DATA_PATH", "EPOCHS", "BATCH_SIZE", "LEARNING_RATE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_first_config_changes_nothing(own_folder: Path) -> None:
    """Until somebody removes a "#": then that key counts, and a preset decides about the others."""
    file = own_folder / "a.toml"
    file.write_text(first_config("a.toml"))
    assert load(file).config == RunConfig()
    file.write_text(file.read_text().replace('\n#preset = ""', '\npreset = "depth:2"'))
    config = load(file).config
    assert (config.model.layers, config.optim.name) == (2, "muon")


def test_every_line_of_a_first_config_can_be_switched_on(own_folder: Path) -> None:
    """And then says the default."""
    lines = first_config("a.toml").split("\n")
    (own_folder / "a.toml").write_text(
        "\n".join(line[1:] if line[:1] == "#" and line[1:2].islower() else line for line in lines)
    )
    assert load(own_folder / "a.toml").config == RunConfig()


def test_init_writes_a_config_that_check_accepts(own_folder: Path, call: Call) -> None:
    """Under the given name, `config.toml` without one."""
    assert call("init").exit_code == 0
    assert call("init", "b.toml").exit_code == 0
    assert (own_folder / "config.toml").read_text() == first_config("config.toml")
    done = call("check", "b.toml")
    assert (done.exit_code, done.err) == (0, "")
    assert done.out.startswith("b.toml: no mistakes found\n")


def test_check_finds_weights_of_another_shape(own_folder: Path, call: Call) -> None:
    """Though their tensors are not read; and weights that are not there, even where everything they could fix is given."""
    of = Blueprint(shape=ModelSection(layers=3), context=32, vocab_size=257)
    (own_folder / "model.json").write_text(json.dumps(header(of, "byte")))
    (own_folder / "a.toml").write_text('[train]\ninit_from = "."\n')
    done = call("check", "a.toml")
    assert (done.exit_code, done.err) == (0, "")
    assert "3 layers, width 128, 4 heads, context 32 (begins with .)\n" in done.out
    refused = call("check", "a.toml", "--set", "model.heads=2")
    assert (refused.exit_code, refused.out) == (2, "")
    assert "not the shape of .: model.heads is 2 instead of 4; leave these" in refused.err
    (own_folder / "b.toml").write_text(to_toml(config_of("train.init_from=.")))
    (own_folder / "model.json").unlink()
    gone = call("check", "b.toml")
    assert (gone.exit_code, gone.out) == (2, "")
    assert ".: no weights" in gone.err


def test_init_overwrites_nothing(own_folder: Path, call: Call) -> None:
    """The file that is there stays as it is; a folder that is missing is not made."""
    (own_folder / "config.toml").write_text("mine")
    refused = call("init")
    assert (refused.exit_code, refused.out) == (2, "")
    assert "config.toml exists already" in refused.err
    assert (own_folder / "config.toml").read_text() == "mine"
    missing = call("init", "no/such/a.toml")
    assert missing.exit_code == 5
    assert "cannot be written: No such file" in missing.err


@pytest.mark.parametrize(
    ("text", "options", "exit_code", "said"),
    [
        ("[train]\nsteps = -1\n[optim]\nlr = 'x'\n", [], 2, ["a.toml:2: train.steps", "a.toml:4: optim.lr"]),
        ("[model]\nwidht = 3\n", [], 2, ["a.toml:2", "width"]),
        ("[data]\ntrain = 'nothing.txt'\n", [], 7, ["data.train (nothing.txt): no such file"]),
        ("[data]\ntrain = 'bad.txt'\n", [], 7, ["bad.txt"]),
        ("", ["--set", "parallel.device=cuda:99"], 2, ["cuda:99 was asked for"]),
        ("", ["--set", "data.train=plugin:words"], 2, ["no plug-in of the kind datasets is called 'words'"]),
        ("", ["--set", "model.arch=mine:3"], 2, ["no plug-in of the kind models is called 'mine'"]),
        ("", ["--set", 'export.to=["nonsense"]'], 2, ["no plug-in of the kind exporters is called 'nonsense'"]),
        ("", ["--set", "run.dir=bad.txt"], 5, ["run.dir: bad.txt cannot be used"]),
        ("", ["--set", "checkpoint.dir=bad.txt"], 5, ["checkpoint.dir: bad.txt cannot be used"]),
        ("", ["--set", f"train.init_from={'x' * 300}"], 2, ["train.init_from", "cannot be looked at: File name too long"]),
        ("", ["--plugin", "no.py"], 2, ["--plugin no.py: no such file"]),
        (None, [], 2, ["a.toml: no such file"]),
    ],
)
def test_check_names_every_mistake(
    own_folder: Path, call: Call, text: str | None, options: list[str], exit_code: int, said: list[str]
) -> None:
    """With the line of the file, the exit code that `run` would have, and nothing on stdout."""
    if text is not None:
        (own_folder / "a.toml").write_text(text)
    (own_folder / "bad.txt").write_bytes(b"abc\xff")
    done = call("check", "a.toml", *options)
    assert (done.exit_code, done.out) == (exit_code, "")
    assert [words for words in said if words not in done.err] == []
    assert "Traceback" not in done.err


def test_check_finds_plugins_where_the_command_line_says(own_folder: Path, call: Call) -> None:
    """Models and datasets."""
    (own_folder / "a.toml").write_text("[data]\ntrain = 'plugin:words:x'\n[model]\narch = 'mine'\n")
    (own_folder / "p.py").write_text(PLUGIN)
    done = call("check", "a.toml", "--plugin", "p.py")
    assert (done.exit_code, done.err) == (0, "")
    assert "plugin:words:x" in done.out


@pytest.mark.parametrize(
    ("sets", "key", "value"),
    [
        ([], "step", "2 ranks x 8 sequences x 128 tokens = 2,048 tokens"),
        (["train.accumulate=3"], "step", "2 ranks x 8 sequences x 3 micro-steps x 128 tokens = 6,144 tokens"),
        ([], "target", "1,000 steps, 2,048,000 tokens"),
        (["train.steps=5"], "target", "5 steps, 10,240 tokens"),
        (["train.epochs=2"], "target", "2 epochs"),
        (["train.tokens=3000"], "target", "3,000 tokens, 2 steps"),
        (["model.preset=gpt2"], "model", "12 layers, width 768, 12 heads, context 128 (preset gpt2)"),
        (["model.arch=mine:3"], "model", "mine:3, context 128"),
        (["data.eval_fraction=0.07"], "held out", "the last 7 % of each corpus"),
        ([], "ranks", "2 on cpu, 1 thread each"),
    ],
)
def test_the_summary_says_what_a_run_would_be(sets: list[str], key: str, value: str) -> None:
    """In the units that people compare."""
    config = config_of(*sets)
    assert summary(config, Placement(devices=("cpu", "cpu"), threads=1), resolve(config.data), 257)[key] == value


@pytest.mark.parametrize(
    ("sets", "vocab_size", "size"),
    [
        ([], 257, "853,376 parameters"),
        (["data.tokenizer=bpe"], 4096, "at most 1,836,160 parameters"),
        (["data.tokenizer=char"], None, "787,584 parameters, and 256 for each character of the corpus"),
        (
            ["data.tokenizer=char", "model.tie_embeddings=true"],
            None,
            "787,584 parameters, and 128 for each character of the corpus",
        ),
        (["model.arch=mine"], 257, None),
    ],
)
def test_the_summary_tells_the_size_as_far_as_it_is_known(sets: list[str], vocab_size: int | None, size: str | None) -> None:
    """Before anything is read or built; of a plug-in's model nobody knows it."""
    config = config_of(*sets)
    assert summary(config, Placement(devices=("cpu",), threads=1), resolve(config.data), vocab_size).get("size") == size


def test_the_summary_names_the_corpora(corpora: Path) -> None:
    """With files and size, the held-out one too, and each GPU."""
    config = config_of(f"data.train={corpora}/*.t*", f"data.eval={corpora}/text.txt")
    lines = summary(config, Placement(devices=("cuda:0", "cuda:3"), threads=1), resolve(config.data), 257)
    assert lines["data"] == f"{corpora}/*.t* (0.0 MB)"
    assert lines["held out"] == f"{corpora}/text.txt (0.0 MB)"
    assert lines["ranks"] == "2 on cuda:0, cuda:3"


def test_neither_check_nor_data_imports_torch(own_folder: Path) -> None:
    """They answer in a fraction of the time that its import takes."""
    (own_folder / "t.txt").write_text("some words to read\n" * 40)
    (own_folder / "a.toml").write_text("[data]\ntrain = 't.txt'\ncontext = 8\n")
    code = (
        "import sys; from plt_tui.cli.config import check; from plt_tui.cli.data import inspect; from pathlib import Path\n"
        "check(Path('a.toml')); inspect(Path('a.toml')); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.endswith("\nFalse\n")


@pytest.mark.parametrize("command", [("check", "a.toml"), ("run", "--no-ui")])
@pytest.mark.parametrize("key", ["run.dir", "checkpoint.dir", "data.eval"])
def test_bytes_that_are_no_text_are_a_mistake(own_folder: Path, call: Call, command: tuple[str, str], key: str) -> None:
    """A path may have them, the file that the run keeps its configuration in may not; nothing is made."""
    name = os.fsdecode(b"caf\xe9")
    (own_folder / "a.toml").write_text("")
    (own_folder / name).write_text("some words to read\n" * 400)
    done = call(*command, "--set", f"{key}={name}")
    assert (done.exit_code, done.out) == (2, "")
    assert f"--set {key}: " in done.err
    assert "not UTF-8, so no configuration can keep it; rename" in done.err
    assert {path.name for path in own_folder.iterdir()} == {"a.toml", name}

"""The whole engine on two real ranks: all of it resumes to the same bits, a script trains like a run, weights travel."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.runs import (
    CORPUS,
    command,
    end_of,
    environment,
    losses,
    options,
    stopped_at,
    train,
)

PLUGIN = Path(__file__).parents[2] / "docs" / "plugin_example.py"
EVERYTHING = (
    "train.steps=60",
    "train.accumulate=2",
    "train.precision=bf16",
    "train.activation_checkpointing=true",
    "model.dropout=0.1",
    "model.window=8",
    "model.softcap=15.0",
    "model.kv_heads=1",
    "optim.name=muon",
    "optim.schedule=wsd",
    "data.packing=best_fit",
    "data.weights=[3.0, 1.0]",
    "eval.every=25",
)
"""Every part of a step that keeps state or draws numbers."""
SCRIPT = """
from plt_tui import Trainer, load_config
import os, sys, torch
torch.set_num_threads(1)
with Trainer(load_config(None, *sys.argv[1:])) as trainer:
    trainer.train()
    if os.environ["RANK"] == "1":
        print(trainer.ranks.world_size, trainer.weights_sha256())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of this module lie, with a second corpus."""
    folder = tmp_path_factory.mktemp("engine")
    documents = [{"text": f"{number} times {number} is {number * number}."} for number in range(2000)]
    (folder / "squares.jsonl").write_text("".join(json.dumps(document) + "\n" for document in documents))
    return folder


def test_everything_at_once_resumes_to_the_same_bits(folder: Path) -> None:
    """Muon, accumulation, dropout, bf16, windows, recomputation, mixed packed corpora: stop and resume equals no stop."""
    corpora = f'data.train=["{CORPUS}", "{folder}/squares.jsonl"]'
    reference = train(folder, "whole", *EVERYTHING, corpora)
    before = stopped_at(folder, "parts", 21, *EVERYTHING, corpora)
    after = train(folder, "parts", *EVERYTHING, corpora)
    assert {**losses(before), **losses(after)} == losses(reference)
    assert end_of(after)["weights_sha256"] == end_of(reference)["weights_sha256"]
    assert losses(reference)[60] < losses(reference)[1] - 1.0


def test_a_script_under_torchrun_trains_to_the_bits_of_a_run(folder: Path) -> None:
    """`Trainer` on two processes started by torchrun is the training that `plt-tui run` does, to the last bit."""
    run = train(folder, "by-hub", "train.steps=15", "parallel.device=cpu")
    (folder / "script.py").write_text(SCRIPT)
    sets = options("train.steps=15", "parallel.device=cpu")[1::2]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "script.py", *sets]
    done = subprocess.run(torchrun, cwd=folder, env=environment(), capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["2", end_of(run)["weights_sha256"]]


def test_weights_go_out_in_and_on(folder: Path) -> None:
    """A run's weights start another run: directly, and through an export; the first loss is where the old run ended."""
    old = train(folder, "old", "train.steps=80", "data.tokenizer=char", "model.width=64")
    command(folder, "export", "old", "--format", "safetensors", "-o", "exported")
    for name, source in (("tuned", "runs/old"), ("tuned-export", "exported")):
        sets = [
            f"train.init_from={source}",
            *(word for word in options()[1::2] if not word.startswith(("model.", "data.context"))),
        ]
        words = [word for value in (*sets, "train.steps=2") for word in ("--set", value)]
        lines = [json.loads(line) for line in command(folder, "run", "--json", "--name", name, *words).splitlines()]
        assert losses(lines)[1] == pytest.approx(losses(old)[80], abs=0.5)
        assert lines[0]["params"] == old[0]["params"]
    refused = command(
        folder, "run", "--json", "--name", "no", *options("train.init_from=exported", "model.width=32"), exit_code=2
    )
    assert "model.width is 32 instead of 64" in refused
    assert not (folder / "runs/no").exists()
    assert "runs/old" in command(folder, "show", "tuned", "--config")
    (folder / "exported").rename(folder / "gone")
    words = [word for value in (*sets, "train.steps=3") for word in ("--set", value)]
    lines = [json.loads(line) for line in command(folder, "run", "--json", "--name", "tuned-export", *words).splitlines()]
    assert list(losses(lines)) == [3]
    (folder / "gone").rename(folder / "exported")


def test_a_plug_in_trains_on_all_ranks(folder: Path) -> None:
    """`--plugin` reaches every rank; without it the names mean nothing, and the sentence says what is missing."""
    sets = ("model.arch=averager", "data.train=plugin:sums:300", "train.steps=20", "data.context=16")
    lines = train(folder, "plugged", *sets, extra=("--plugin", str(PLUGIN)))
    assert losses(lines)[20] < losses(lines)[1]
    refused = command(folder, "run", "--json", "--name", "unplugged", *options(*sets), exit_code=2)
    assert "--plugin FILE" in refused

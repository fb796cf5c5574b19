"""Promises of `show --batch`: the texts that a step trained on, from the record alone, whatever was changed on the way."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from plt_tui.cli.batch import spike_text, spikes_by_branch
from plt_tui.config.edits import edits_to
from plt_tui.config.load import to_toml
from plt_tui.config.schema import RunConfig
from plt_tui.control.folder import RunFolder
from plt_tui.control.record import Recorder
from plt_tui.control.state import RunState, apply
from plt_tui.data.cursor import train_batches
from plt_tui.data.prepare import prepare
from plt_tui.protocol.events import CommandStatus, End, Event, Run, Spike, Step
from plt_tui.training.seeds import stream_seed
from tests.cli.commands import Call
from tests.cli.conftest import TEXT, TINY, config_of

Rows = list[list[int]]
LAST = 12


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder and cache with two corpora: one of small letters and an escape, one of capitals."""
    monkeypatch.setenv("PLT_TUI_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.txt").write_text(f"{TEXT.lower()}\x1b[2J", encoding="utf-8")
    (tmp_path / "capital.txt").write_text(TEXT.upper(), encoding="utf-8")
    return tmp_path


def two_corpora(*sets: str) -> RunConfig:
    """A run on both corpora."""
    return config_of('data.train=["small.txt", "capital.txt"]', *TINY, "train.steps=12", *sets)


def session(config: RunConfig, *, world_size: int = 1, start_step: int = 0, edits: list[Any] | None = None) -> Run:
    """A session begins."""
    return Run(
        name="a",
        dir="/a",
        world_size=world_size,
        params=1,
        target_step=LAST,
        start_step=start_step,
        config=config.model_dump(mode="json"),
        edits=edits or [],
    )


def applied(step: int, name: str, /, *, before: Any = None, **args: Any) -> CommandStatus:
    """A command that came into force."""
    command_id = f"{name}-{step}"
    return CommandStatus(id=command_id, name=name, args=args, actor="me", status="applied", step=step, before=before)


def spike(step: int, act: str = "warn", z: float = 9.5, reason: str = "") -> Spike:
    """The guard says something about a step."""
    return Spike(step=step, what="loss", value=12.25, z=z, act=act, reason=reason)  # type: ignore[arg-type]


def end(step: int) -> End:
    """The run is over."""
    return End(phase="finished", step=step, exit_code=0)


def recorded(folder: Path, config: RunConfig, events: list[Event]) -> RunFolder:
    """A run folder with a record."""
    run = RunFolder(folder)
    run.create(to_toml(config))
    with closing(Recorder(run, 0, pytest.fail)) as recorder:
        for event in events:
            recorder.record(event)
    return run


def shown(call: Call, step: int, *options: str) -> list[dict[str, Any]]:
    """What `show --batch STEP --json` says."""
    done = call("show", "a", "--dir", "runs", "--batch", str(step), "--json", *options)
    assert done.exit_code == 0, done.err
    value: list[dict[str, Any]] = json.loads(done.out)
    return value


class Watched:
    """A trainer on one rank, and every sequence that its model was given, by step."""

    def __init__(self, config: RunConfig) -> None:
        import torch

        from plt_tui.training.trainer import Trainer

        self.trainer = Trainer(config)
        self.seen: dict[int, Rows] = {}

        def note(_: object, given: tuple[torch.Tensor, ...]) -> None:
            if self.trainer.model.training and len(given) == 3:
                rows = torch.cat((given[0][:, :1], given[1]), dim=1).tolist()
                self.seen.setdefault(self.trainer.step + 1, []).extend(rows)

        self.trainer.model.register_forward_pre_hook(note)

    def train(self, events: list[Event], last: int) -> dict[int, Rows]:
        """Train to step `last` with the edits that `events` tell of."""
        self.trainer.edits = list(reduce(apply, events, RunState()).edits)
        while self.trainer.step < last:
            self.trainer.train_step()
        return self.seen


def texts(config: RunConfig, rows: Rows) -> list[str]:
    """The rows as text."""
    tokenizer = prepare(config.data).tokenizer
    return [tokenizer.decode([token for token in row if token >= 0]) for row in rows]


def test_the_texts_are_those_that_the_ranks_trained_on(own_folder: Path, call: Call) -> None:
    """Over changes of batch and mixture, an undo, a rewind with a skip, and a session with another configuration."""
    config, later = two_corpora(), two_corpora("train.batch_size=5")
    first: list[Event] = [
        session(config),
        applied(3, "set", name="batch_size", value=[2, 2], mode="keep"),
        applied(4, "set", name="weights", value=[1.0, 5.0]),
        applied(6, "set", name="weights", value=[9.0, 1.0]),
    ]
    watched = Watched(config)
    watched.train(first, 5)
    folder = watched.trainer.save_checkpoint(own_folder / "saved")
    on_branch = watched.train(first, 7)

    second = [
        *first,
        applied(5, "rewind", before=7, step=5, skip=3),
        applied(8, "set", name="accumulate", value=3),
        applied(9, "undo", edit="set-4"),
        applied(10, "undo", edit="set-3"),
    ]
    rewound = Watched(config)
    rewound.trainer.load_checkpoint(folder)
    now = rewound.train(second, 10)
    resumed = Watched(later)
    resumed.trainer.load_checkpoint(rewound.trainer.save_checkpoint(own_folder / "saved"))
    now |= resumed.train(second, LAST)
    edits = edits_to(resumed.trainer.edits)
    recorded(own_folder / "runs" / "a", later, [*second, session(later, start_step=10, edits=edits), end(LAST)])

    lines = {0: {**on_branch, **now}, 1: on_branch}
    assert lines[0][6] != lines[1][6]
    assert [len(lines[0][step]) for step in (1, 3, 8, 11)] == [4, 4, 6, 15]
    for branch, seen in lines.items():
        for step, rows in seen.items():
            sequences = shown(call, step, "--branch", str(branch))
            assert [one["text"] for one in sequences] == texts(config, rows)
            assert all(one["corpus"] == ("capital.txt" if one["text"].isupper() else "small.txt") for one in sequences)


def test_ranks_and_micro_steps_share_a_batch_as_in_training(own_folder: Path, call: Call) -> None:
    """Micro-step by micro-step, in each rank by rank, batch_size sequences each."""
    config = two_corpora("train.batch_size=3", "train.accumulate=2")
    recorded(own_folder / "runs" / "a", config, [session(config, world_size=2), end(5)])
    batches = train_batches(prepare(config.data), config.data, stream_seed(config.run.seed, "data"))
    sequences = shown(call, 4)
    turns = [(micro, rank) for micro in range(2) for rank in range(2) for _ in range(3)]
    assert [(one["micro_step"], one["rank"]) for one in sequences] == turns
    assert [one["sample"] for one in sequences] == list(range(36, 48))
    assert [one["text"] for one in sequences] == texts(config, batches.batch(36, 12).tolist())
    assert [one["corpus"] for one in sequences] == [config.data.corpora[number] for number in batches.sources(36, 12)]


def test_people_see_each_text_under_a_line_that_says_whose_it_was(own_folder: Path, call: Call) -> None:
    """Indented, the guard's word about the step above, the corpus where there are several."""
    config = two_corpora("train.batch_size=1")
    events = [session(config, world_size=2), spike(2), spike(3, reason="limit"), end(5)]
    recorded(own_folder / "runs" / "a", config, events)
    done = call("show", "a", "--dir", "runs", "--batch", "3")
    above, _, *lines = done.out.split("\n")
    assert above == "step 3: loss 12.25, 9.5 standard deviations above the mean; guard: warn (limit)"
    heads = [line for line in lines if line and not line.startswith("  ")]
    corpora = [one["corpus"] for one in shown(call, 3)]
    assert heads == [f"step 3 · rank {rank} · micro-step 0 · sample {4 + rank} · corpus {corpora[rank]}" for rank in range(2)]


def test_one_corpus_is_not_named_padding_is_left_out_and_nothing_acts_on_the_terminal(own_folder: Path, call: Call) -> None:
    """The ends of documents are marked."""
    documents = "".join(json.dumps({"text": text}) + "\n" for text in ["one\x1b[2J", "two\nlines"] * 50)
    (own_folder / "short.jsonl").write_text(documents)
    config = config_of("data.train=short.jsonl", *TINY, "data.context=24", "data.packing=best_fit")
    recorded(own_folder / "runs" / "a", config, [session(config), end(3)])
    done = call("show", "a", "--dir", "runs", "--batch", "2")
    assert done.exit_code == 0
    assert "\x1b" not in done.out
    assert "  one\\x1b[2J[end of text]\n" in done.out
    assert "two\n  lines[end of text]\n" in done.out
    assert "corpus" not in done.out
    assert all(set(one["text"]) <= set("one\x1b[2Jtwo\nlines") for one in shown(call, 2))


def test_the_batch_that_the_guard_stopped_at_is_shown(own_folder: Path, call: Call) -> None:
    """Its step was never completed: of the record only the spike knows of it."""
    config = two_corpora()
    events = [session(config), spike(4, act="stop", z=math.nan), replace(end(3), phase="failed", exit_code=3)]
    recorded(own_folder / "runs" / "a", config, events)
    assert [one["sample"] for one in shown(call, 4)] == [12, 13, 14, 15]


@pytest.mark.parametrize(
    ("options", "exit_code", "said"),
    [
        (("--batch", "6"), 2, "step 6: this run has steps 1 to 5; give one of them"),
        (("--batch", "8", "--branch", "1"), 2, "step 8: branch 1 has steps 1 to 7; give one of them"),
        (("--batch", "1", "--branch", "2"), 2, "branch 2: a has no such branch; branches: 1 (steps 4 to 7)"),
        (("--branch", "1"), 2, "--branch 1: of which step? give --batch STEP too"),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(
    own_folder: Path, call: Call, options: tuple[str, ...], exit_code: int, said: str
) -> None:
    """In one sentence on stderr."""
    config = two_corpora()
    steps = [
        Step(step=number, loss=1.0, lr=1.0, grad_norm=1.0, tokens=1, tokens_per_s=1.0, step_ms=1.0) for number in range(1, 8)
    ]
    recorded(own_folder / "runs" / "a", config, [session(config), *steps, applied(3, "rewind", before=7, step=3), *steps[3:5]])
    done = call("show", "a", "--dir", "runs", *options)
    assert (done.exit_code, done.out) == (exit_code, "")
    assert said in done.err


def test_a_run_without_a_step_has_no_batch(own_folder: Path, call: Call) -> None:
    """It says so."""
    recorded(own_folder / "runs" / "a", two_corpora(), [])
    assert "has computed no step yet" in call("show", "a", "--dir", "runs", "--batch", "1").err


def test_texts_of_other_data_than_the_run_had_are_not_shown(own_folder: Path, call: Call) -> None:
    """Each session's record knows what it was trained on."""
    config = two_corpora()
    trained_on = {"data": Watched(config).trainer.dataset.fingerprint}
    recorded(own_folder / "runs" / "a", config, [replace(session(config), environment=trained_on), end(5)])
    assert len(shown(call, 1)) == 4
    (own_folder / "small.txt").write_text(TEXT.swapcase())
    done = call("show", "a", "--dir", "runs", "--batch", "1")
    assert (done.exit_code, done.out) == (7, "")
    assert "small.txt, capital.txt: changed since a trained on it" in done.err


def test_no_torch_is_loaded(own_folder: Path) -> None:
    """It would take seconds."""
    config = two_corpora()
    recorded(own_folder / "runs" / "a", config, [session(config), end(5)])
    code = "import sys; from plt_tui.cli.main import main\ntry: main()\nfinally: assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, "show", "a", "--dir", "runs", "--batch", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.count("Error")) == (0, 0)
    assert done.stdout.startswith("step 1 · rank 0")


def test_spikes_stay_with_the_steps_that_a_rewind_leaves() -> None:
    """Each line has its own, and those that it shares with others."""
    steps = [spike(number) for number in (2, 5, 7)]
    late = [spike(number, act="skip") for number in (5, 9)]
    events: list[Event] = [
        *steps,
        applied(4, "rewind", before=7, step=4),
        *late,
        applied(9, "rewind", before=9, step=9, skip=2),
        replace(applied(1, "rewind", before=9, step=1), status="refused"),
        applied(6, "rewind", before=10, step=6),
        spike(8),
    ]
    assert spikes_by_branch(events) == [[steps[0], late[0], spike(8)], steps, [steps[0], *late]]


def test_a_spike_in_words() -> None:
    """A value that is no number lies no number of deviations away."""
    assert spike_text(spike(4, act="stop", z=math.nan, reason="a\nb")) == "step 4: loss 12.25; guard: stop (a\\nb)"

"""Promises of `plt-tui replay` and `verify-resume` as commands: what they say, what they refuse, and that nothing is left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from plt_tui.cli import replay as cli_replay
from plt_tui.cli.replay import differs_text, exact_text, inexact_text, proof_json, same_text, verdict_json
from plt_tui.config.load import to_toml
from plt_tui.config.schema import ParallelSection, RunConfig, RunSection
from plt_tui.control import replay as control_replay
from plt_tui.control import verify as control_verify
from plt_tui.control.folder import RunFolder
from plt_tui.control.replay import Difference, Report, Verdict
from plt_tui.control.rerun import Job
from plt_tui.control.stretches import Line
from plt_tui.control.verify import Proof
from plt_tui.protocol.events import CommandStatus, Event, Phase, Run
from plt_tui.protocol.framing import encode
from tests.cli.commands import Call
from tests.control.fake_reruns import checkpoint

SAME = Verdict(first=1, last=523, num_recorded=523, weights_sha256="1f3a")
OTHER_LOSS = Difference(step=7, values={"loss": (0.1, 0.30000000000000004), "lr": (1e-05, 2e-05)})
OTHER_WEIGHTS = Difference(step=9, values={"weights_sha256": ("1f3a", "77aa")})
WHERE = "2 ranks, cpu"

LR_EDIT: dict[str, Any] = {
    "id": "e1",
    "name": "set",
    "args": {"name": "lr", "value": 0.5, "mode": "set"},
    "actor": "ana",
    "status": "applied",
    "step": 2,
}

SAID: dict[str, tuple[str, str]] = {
    "all the same": (
        same_text(SAME, [2]),
        "replayed 523 steps on 2 ranks: every loss has the same bits, and so have the weights (sha256 1f3a)",
    ),
    "from a checkpoint, ranks changed on the way": (
        same_text(Verdict(first=101, last=523, num_recorded=423, weights_sha256="1f3a"), [1, 2]),
        "replayed 423 steps (101 to 523) on 1 and 2 ranks: every loss has the same bits, and so have the weights (sha256 1f3a)",
    ),
    "no hash to compare with": (
        same_text(Verdict(first=1, last=1, num_recorded=1, weights_sha256=""), [1]),
        "replayed 1 step on 1 rank: every loss has the same bits, and the record has no hash of the weights after step 1 to "
        "compare with",
    ),
    "a record with holes": (
        same_text(Verdict(first=1, last=523, num_recorded=500, weights_sha256="1f3a"), [2]),
        "replayed 523 steps on 2 ranks: the 500 losses that the record holds have the same bits, and so have the weights "
        "(sha256 1f3a)",
    ),
    "a difference that is explained": (
        differs_text(
            Verdict(
                first=1, last=7, num_recorded=7, weights_sha256="", because=("torch was 2.0, is 2.1", "threads was 2, is 1")
            ),
            OTHER_LOSS,
        ),
        "step 7 has other bits: loss 0.1 in the record, 0.30000000000000004 computed again; lr 1e-05 in the record, 2e-05 "
        "computed again; steps 1 to 6 have the same bits\nwhy it might: torch was 2.0, is 2.1; threads was 2, is 1",
    ),
    "a difference that nothing explains": (
        differs_text(Verdict(first=9, last=9, num_recorded=1, weights_sha256=""), OTHER_WEIGHTS),
        "step 9 has other bits: weights_sha256 1f3a in the record, 77aa computed again\nwhy it might: versions, machine, "
        "threads and the size of the data are as they were, so the record, the text of the corpus or the code has changed",
    ),
    "exact": (
        exact_text(Proof(first=6, last=10, difference=None, because=""), WHERE),
        "exact: steps 6 to 10 have the same bits after a resume (2 ranks, cpu)",
    ),
    "exact, but not by promise": (
        exact_text(Proof(first=6, last=10, difference=None, because="a GPU adds in any order"), WHERE),
        "steps 6 to 10 had the same bits this time (2 ranks, cpu), but not by promise: a GPU adds in any order",
    ),
    "inexact, explained": (
        inexact_text(Proof(first=6, last=10, difference=OTHER_LOSS, because="a GPU adds in any order"), OTHER_LOSS, WHERE),
        "inexact (2 ranks, cpu) because a GPU adds in any order; step 7 has other bits: loss 0.1 without a stop, "
        "0.30000000000000004 after the resume; lr 1e-05 without a stop, 2e-05 after the resume",
    ),
    "inexact, not explained": (
        inexact_text(Proof(first=6, last=10, difference=OTHER_WEIGHTS, because=""), OTHER_WEIGHTS, WHERE),
        "inexact (2 ranks, cpu) because step 9 has other bits: weights_sha256 1f3a without a stop, 77aa after the resume",
    ),
}


@pytest.mark.parametrize(("said", "expected"), SAID.values(), ids=SAID.keys())
def test_what_was_found_is_one_sentence(said: str, expected: str) -> None:
    """With all digits of what differs, and nothing claimed that was not compared."""
    assert said == expected


def test_scripts_get_the_same_as_json() -> None:
    """A number that JSON does not know is a text."""
    nan = Difference(step=7, values={"loss": (0.1, float("nan"))})
    found = Verdict(first=1, last=7, num_recorded=7, weights_sha256="", difference=nan, because=("torch was 2.0, is 2.1",))
    assert verdict_json(found, "abc", 2, [1, 2]) == {
        "run": "abc",
        "branch": 2,
        "first": 1,
        "last": 7,
        "recorded": 7,
        "ranks": [1, 2],
        "exact": False,
        "weights_sha256": "",
        "difference": {"step": 7, "values": {"loss": [0.1, "nan"]}},
        "because": ["torch was 2.0, is 2.1"],
    }
    assert proof_json(Proof(first=6, last=10, difference=None, because=""), 2) == {
        "first": 6,
        "last": 10,
        "ranks": 2,
        "exact": True,
        "difference": None,
        "because": [],
    }


@pytest.fixture
def make_record(tmp_path: Path) -> Callable[..., RunFolder]:
    """`make_record(*events)`: a run folder `runs/abc` with these events in its journal."""

    def make(*events: Event) -> RunFolder:
        folder = RunFolder(tmp_path / "runs" / "abc")
        folder.create(to_toml(RunConfig()))
        folder.journal.write_bytes(b"".join(encode(event) + b"\n" for event in events))
        return folder

    return make


def session(**values: object) -> Run:
    """The beginning of a session."""
    facts = {"name": "abc", "dir": "", "world_size": 1, "params": 1, "target_step": 9, "time": 1.0, "seq": 1, **values}
    return Run(**facts)  # type: ignore[arg-type]  # a table of its fields


def test_what_cannot_be_replayed_is_refused(call: Call, make_record: Callable[..., RunFolder], tmp_path: Path) -> None:
    """Before any process is started: a usage error, or a record of another version."""
    where = ("--dir", str(tmp_path / "runs"))
    make_record(session())
    assert call("replay", "abc", *where).exit_code == 2
    assert "no step to replay yet" in call("replay", "abc", *where).err
    assert "no run 'other'" in call("replay", "other", *where).err
    outcome = call("replay", "abc", "--branch", "3", *where)
    assert (outcome.exit_code, "branch 3: this run has none" in outcome.err) == (2, True)
    make_record(session(start_step=5), session(start_step=9, seq=2))
    outcome = call("replay", "abc", *where)
    assert (outcome.exit_code, "written by an older version" in outcome.err) == (5, True)
    config = RunConfig().model_dump(mode="json")
    make_record(session(start_step=5, config=config), session(start_step=9, seq=2, config=config))
    outcome = call("replay", "abc", *where)
    assert (outcome.exit_code, "begins with step 6; give --from" in outcome.err) == (2, True)
    outcome = call("replay", "abc", "--from", "9", *where)
    assert (outcome.exit_code, "the record ends with step 9" in outcome.err) == (2, True)


def test_a_proof_needs_a_config_or_a_checkpoint(call: Call, make_record: Callable[..., RunFolder], tmp_path: Path) -> None:
    """Both are said: which runs there are, and what else to give."""
    where = ("--dir", str(tmp_path / "runs"))
    folder = make_record(session())
    outcome = call("verify-resume", "abc", *where)
    assert (outcome.exit_code, f"give its config, {folder.config}, instead" in outcome.err) == (2, True)
    outcome = call("verify-resume", "missing.toml", *where)
    assert (outcome.exit_code, "no run 'missing.toml'" in outcome.err) == (2, True)
    (tmp_path / "bad.toml").write_text("[train]\nstepz = 5\n")
    outcome = call("verify-resume", str(tmp_path / "bad.toml"))
    assert (outcome.exit_code, "stepz" in outcome.err) == (2, True)


@pytest.fixture
def own_signals() -> Iterator[None]:
    """The signals come, however the tests were started, and are as before afterwards."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in cli_replay._EXIT_CODES}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_work_in_good_order(number: signal.Signals, exit_code: int) -> None:
    """The work is cancelled, cleans up undisturbed by a second signal, and its folder is gone."""
    places: list[Path] = []

    async def work(place: RunFolder, report: Report) -> None:
        places.append(place.path)
        assert place.path.is_dir()
        try:
            os.kill(os.getpid(), number)
            await asyncio.sleep(20.0)
        finally:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.05)
            places.append(place.path)

    with pytest.raises(typer.Exit) as ended:
        cli_replay._in_own_folder("replaying", work)
    assert ended.value.exit_code == exit_code
    assert len(places) == 2
    assert not places[0].exists()


def test_the_exit_code_says_whether_the_bits_are_the_same(
    call: Call, make_record: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """0 and the sentence, or 8 with the difference on stderr; `--json` prints its line in both cases. The run may be live."""
    config = RunConfig().model_dump(mode="json")
    folder = make_record(session(config=config), Phase(phase="stopped", step=7, time=2.0, seq=2))
    lock = folder.lock()
    arguments = ("replay", "abc", "--dir", str(tmp_path / "runs"))
    found = Verdict(first=1, last=7, num_recorded=7, weights_sha256="1f3a")

    async def fake(line: Line, *_: object, **__: object) -> Verdict:
        assert (line.last, line.stretches[0].run.world_size) == (7, 1)
        return found

    monkeypatch.setattr(control_replay, "replay", fake)
    outcome = call(*arguments)
    assert (outcome.exit_code, outcome.out, outcome.err) == (0, same_text(found, [1]) + "\n", "")
    outcome = call(*arguments, "--json")
    assert (outcome.exit_code, json.loads(outcome.out)["exact"]) == (0, True)
    found = Verdict(first=1, last=7, num_recorded=7, weights_sha256="", difference=OTHER_LOSS)
    outcome = call(*arguments)
    assert (outcome.exit_code, outcome.out, outcome.err) == (8, "", f"plt-tui: {differs_text(found, OTHER_LOSS)}\n")
    outcome = call(*arguments, "--json")
    assert (outcome.exit_code, json.loads(outcome.out)["difference"]["step"]) == (8, 7)
    os.close(lock)


def test_a_proof_begins_where_its_target_says(
    call: Call, make_record: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A config from scratch, a run from its newest good checkpoint with its edits; the exit code is that of the bits."""
    config = RunConfig(run=RunSection(seed=5), parallel=ParallelSection(ranks=2, device="cpu"))
    folder = make_record(session(), CommandStatus(time=2.0, seq=2, **LR_EDIT))
    folder.create(to_toml(config))
    saved = [checkpoint(folder.checkpoints, step) for step in (3, 6)]
    (saved[1] / "model.safetensors").write_bytes(b"torn")
    found = Proof(first=6, last=10, difference=None, because="")
    asked: list[tuple[str, int, int, list[str]]] = []

    async def fake(job: Job, start: int, steps: int, *_: object, **__: object) -> Proof:
        assert (job.config.run.seed, job.placement.devices) == (5, ("cpu", "cpu"))
        asked.append((job.resume, start, steps, [edit.id for edit in job.edits]))
        return found

    monkeypatch.setattr(control_verify, "verify_resume", fake)
    outcome = call("verify-resume", str(folder.config))
    assert (outcome.exit_code, outcome.out) == (0, exact_text(found, WHERE) + "\n")
    found = Proof(first=6, last=10, difference=OTHER_LOSS, because="")
    outcome = call("verify-resume", "abc", "--steps", "7", "--dir", str(tmp_path / "runs"))
    assert (outcome.exit_code, outcome.err) == (8, f"plt-tui: {inexact_text(found, OTHER_LOSS, WHERE)}\n")
    assert asked == [("never", 0, 5, []), (str(saved[0]), 3, 7, ["e1"])]

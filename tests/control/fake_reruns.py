"""Ranks without torch that compute steps again: entries for `control.rerun`, "tests.control.fake_reruns:NAME".

The loss of step s is 1/s, the rate 0.1 or that of the last edit, a checkpoint a name. `checkpoint` makes one that lies on
the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from plt_tui.config.load import from_toml
from plt_tui.protocol.events import Alert, Checkpoint, Done, Failed, RankStatus, Run, Step
from plt_tui.protocol.link import RankEnd
from plt_tui.protocol.manifest import FORMAT, MANIFEST, MODEL, OPTIMIZER, STATE, Manifest
from plt_tui.protocol.rank import RankSpec

Loss = Callable[[RankSpec, int], float]


def step_of(number: int, loss: float, edits: list[dict[str, Any]] | None = None) -> Step:
    """The step that honest ranks say."""
    rates = [edit["value"] for edit in edits or [] if edit["step"] <= number]
    lr = rates[-1] if rates else 0.1
    return Step(step=number, loss=loss, lr=lr, grad_norm=2.0, tokens=number, tokens_per_s=1.0, step_ms=1.0)


def checkpoint(root: Path, step: int, weights: str = "") -> Path:
    """A checkpoint whose files hold nothing of use, as its manifest says."""
    folder = root / f"step-{step:08d}"
    folder.mkdir()
    file = {"bytes": 7, "sha256": hashlib.sha256(b"content").hexdigest()}
    for name in (MODEL, OPTIMIZER, STATE):
        (folder / name).write_bytes(b"content")
    manifest = Manifest(
        format=FORMAT,
        step=step,
        name="",
        weights_sha256=weights or f"sha of {step}",
        files=dict.fromkeys((MODEL, OPTIMIZER, STATE), file),
        written_at=0.0,
        plt_tui="",
        torch="",
    )
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest)))
    return folder


def start_of(spec: RankSpec) -> int:
    """The completed steps that the ranks begin with."""
    match = re.search(r"step-(\d+)$", spec.resume)
    return int(match[1]) if match else 0


def _run(spec: RankSpec) -> Run:
    return Run(
        name="fake",
        dir=spec.run_dir,
        world_size=spec.world_size,
        params=7,
        target_step=100,
        start_step=start_of(spec),
        device=spec.device,
        environment={"threads": spec.threads, "torch": "2.0"},
    )


def _play(spec: RankSpec, link: RankEnd, loss: Loss = lambda _, step: 1.0 / step) -> int:
    every = from_toml((Path(spec.run_dir) / "config.toml").read_text()).checkpoint.every
    if spec.rank == 0:
        link.send(_run(spec))
        for number in range(start_of(spec) + 1, spec.until + 1):
            link.send(step_of(number, loss(spec, number), spec.edits))
            if every and number % every == 0:
                link.send(Checkpoint(step=number, path=f"{spec.run_dir}/checkpoints/step-{number:08d}"))
    link.send(Done(rank=spec.rank, step=spec.until, finished=True, weights_sha256=f"sha of {spec.until}"))
    return 0


def computes(spec: RankSpec, link: RankEnd) -> int:
    """Every step as it should be."""
    return _play(spec, link)


def computes_for_ever(spec: RankSpec, link: RankEnd) -> int:
    """The first difference, then no end."""
    link.send(RankStatus(rank=spec.rank, pid=os.getpid(), doing="training"))
    if spec.rank == 0:
        link.send(_run(spec))
        link.send(step_of(1, 1.0))
    while True:
        time.sleep(1.0)


def errs_at_7(spec: RankSpec, link: RankEnd) -> int:
    """One bit of step 7's loss is wrong."""
    return _play(spec, link, lambda _, step: 1.0 / step + (2.0**-55 if step == 7 else 0.0))


def errs_after_a_resume(spec: RankSpec, link: RankEnd) -> int:
    """What follows a resume is not what it would have been."""
    return _play(spec, link, lambda spec, step: 1.0 / step + (1.0 if start_of(spec) and step == 9 else 0.0))


def doubts_after_a_resume(spec: RankSpec, link: RankEnd) -> int:
    """The ranks say themselves that a resume promises nothing."""
    if start_of(spec) and spec.rank == 0:
        link.send(Alert(topic="resume", text="threads 1 -> 2", level="info"))
    return _play(spec, link)


def is_killed_at_3(spec: RankSpec, link: RankEnd) -> int:
    """Rank 0 is killed once its third step is said."""
    if spec.rank == 0:
        link.send(_run(spec))
        for number in (1, 2, 3):
            link.send(step_of(number, 1.0 / number))
        link.close()
        os.kill(os.getpid(), signal.SIGKILL)
    while True:
        time.sleep(1.0)


def has_no_data(spec: RankSpec, link: RankEnd) -> int:
    """The corpus is missing."""
    link.send(Failed(rank=spec.rank, message="corpus.txt: no such file", exit_code=7, traceback="Traceback"))
    return 1

"""`make soak`: hurt real runs at random for ten minutes, and print what they made of it.

Each run of a round is hurt again and again until it reaches its target; then it must have computed what a run that nothing was
done to has computed, bit for bit. stdout belongs to the table. Exit code 1 when anything was lost.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

from benchmarks.faults import FAULTS, Fault, Victim
from benchmarks.machine import head_line
from benchmarks.records import newest_step
from benchmarks.workplace import Workplace, headless, wait_until, workplace
from plt_tui.control.feed import Feed
from plt_tui.control.folder import RunFolder
from plt_tui.control.meeting import MEMORY, Meeting
from plt_tui.control.record import read_feed, read_journal
from plt_tui.errors import EXIT_SIGTERM
from plt_tui.protocol.events import Checkpoint, End, Event, Run
from plt_tui.protocol.manifest import is_whole

STEPS = 3000
SETTINGS = (
    f"train.steps={STEPS}",
    "model.layers=2",
    "model.width=32",
    "model.heads=2",
    "data.context=32",
    "train.batch_size=4",
    "parallel.device=cpu",
    "parallel.ranks=2",
    "checkpoint.every=40",
    "eval.every=500",
    "sample.every=0",
    "control.hang_s=3",
)
"""A model of a few milliseconds a step, so that a checkpoint is nearly always being written."""
LONGEST_QUIET_S = 4.0
"""Between two faults the run trains for up to this long."""
RECOVERY_S = 90.0
"""A run that has not got further than it was by then is lost."""
ORPHANED_S = 5.0
"""No rank may be alive this long after its hub, and nobody may hold the run then."""


@dataclass(slots=True)
class Tally:
    """What became of one kind of fault."""

    seconds: list[float] = field(default_factory=list)
    """From the end of each fault that was survived until the run was further than before."""
    lost: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run has computed: loss by step, and the hash of its last weights; and how it ended."""

    losses: dict[int, float]
    weights: str
    exit_code: int | None = None
    """By its record; None while it has not ended."""


def main(words: Sequence[str] | None = None) -> int:
    """Hurt runs for as long as asked. Returns the exit code."""
    options = _parse(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_SIGTERM))  # as by `timeout`: nothing may be left behind
    chance = random.Random(options.seed)
    tallies = {name: Tally() for name in FAULTS}
    wrong: list[str] = []
    give_up_at = time.monotonic() + 60 * options.minutes
    with workplace() as place:
        _say(f"seed {options.seed}; the run that nothing is done to ...")
        place.execute(headless("undisturbed", *SETTINGS))
        expected = _outcome(read_feed(place.run_folder("undisturbed")))
        rounds = 0
        while time.monotonic() < give_up_at and not wrong:
            rounds += 1
            wrong += _round(place, f"hurt-{rounds}", chance, tallies, give_up_at, expected)
    print(table(tallies, f"{head_line()}, seed {options.seed}, {rounds} runs of {STEPS} steps"))
    for problem in wrong:
        print(f"\n**wrong**: {problem}")
    return 1 if wrong else 0


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description="Hurt real runs at random.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the choice of faults")
    return parser.parse_args(words)


def _round(
    place: Workplace, name: str, chance: random.Random, tallies: dict[str, Tally], give_up_at: float, expected: Outcome
) -> list[str]:
    """One run, hurt until it reaches its target or the time is over. Returns what is wrong with what it computed."""
    folder = place.run_folder(name)
    victim = Victim(folder, _process(place, name), chance)
    try:
        _wait_until_begun(victim, 0)
        while time.monotonic() < give_up_at:
            time.sleep(chance.uniform(0.0, LONGEST_QUIET_S))
            if victim.process.poll() is not None or not _is_hurt(place, victim, tallies):
                break
        return _wrong(victim, expected)
    except (TimeoutError, RuntimeError) as error:
        return [f"{name}: {error}"]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(victim.process.pid, signal.SIGKILL)
        victim.process.wait()


def _is_hurt(place: Workplace, victim: Victim, tallies: dict[str, Tally]) -> bool:
    """Do something to the run, and tell what became of it; False when the run was at its end before.

    Raises: TimeoutError, RuntimeError when it is lost.
    """
    step = newest_step(victim.folder)
    kind = victim.chance.choice([name for name, fault in FAULTS.items() if step <= STEPS - fault.steps_left])
    before = f"{victim.folder.name}: {kind} at step {step}"
    try:
        seconds = _hurt(place, victim, FAULTS[kind])
    except (TimeoutError, RuntimeError) as error:
        tallies[kind].lost.append(str(error))
        _say(f"{before}: LOST: {error}")
        raise
    if seconds is None:
        return False
    tallies[kind].seconds.append(seconds)
    _say(f"{before}: further after {seconds:.1f} s")
    return True


def _process(place: Workplace, name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        headless(name, *SETTINGS),
        cwd=place.folder,
        env=place.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _hurt(place: Workplace, victim: Victim, fault: Fault) -> float | None:
    """Inflict `fault` and see the run get further than it was; returns how long that took from the end of the fault.

    None when the run has reached its target before the fault could be inflicted. Raises: RuntimeError, TimeoutError when it
    does not get further, or something that was reported saved is gone.
    """
    sessions = _sessions(victim.folder)
    try:
        ranks = victim.ranks
        fault.inflict(victim)
    except (psutil.NoSuchProcess, IndexError, OSError):
        if _exit_code(victim) != 0:
            raise
        return None
    over_s = time.monotonic()
    if fault.exit_codes:
        exit_code = _exit_code(victim)
        if exit_code not in fault.exit_codes:
            raise RuntimeError(f"it ended with exit code {exit_code}")
        if psutil.wait_procs(ranks, ORPHANED_S)[1]:
            raise RuntimeError(f"a rank was alive {ORPHANED_S:g} s after its hub")
    reached = newest_step(victim.folder)
    if fault.exit_codes and victim.process.returncode != 0:
        victim.process = _process(place, victim.folder.name)
        _wait_until_begun(victim, sessions)
    _wait_until_further(victim, reached, sessions + (fault.ends_ranks or bool(fault.exit_codes)))
    seconds = time.monotonic() - over_s
    problem = lost_save(read_journal(victim.folder), sessions, spoils=fault.spoils)
    if problem:
        raise RuntimeError(problem)
    return seconds


def lost_save(events: Iterable[Event], sessions: int, *, spoils: bool) -> str:
    """In words, which reported checkpoint the session behind the first `sessions` did not go on from; empty when none.

    `spoils`: one of them may be unusable. What a session left behind its beginning does not count for those after it.
    """
    saved: set[int] = set()
    for event in events:
        if isinstance(event, Checkpoint):
            saved.add(event.step)
        elif isinstance(event, Run) and sessions > 0:
            saved = {step for step in saved if step <= event.start_step}
            sessions -= 1
        elif isinstance(event, Run):
            newest = [0, 0, *sorted(saved)][-2 if spoils else -1]
            began = event.start_step
            return f"step {newest} was reported saved, and the run went on from step {began}" if began < newest else ""
    return ""


def _exit_code(victim: Victim) -> int:
    """With which the run ends, which it must do now. Raises: TimeoutError."""
    try:
        return victim.process.wait(RECOVERY_S)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"it did not end within {RECOVERY_S:g} s") from None


def _wait_until_begun(victim: Victim, sessions: int) -> None:
    """Return once the ranks train in a session behind the first `sessions`. Raises: TimeoutError, RuntimeError."""

    def begins() -> bool:
        if victim.process.poll() not in (None, 0):
            raise RuntimeError(f"it did not start: exit code {victim.process.returncode}")
        return _sessions(victim.folder) > sessions and newest_step(victim.folder) > 0

    wait_until(begins, RECOVERY_S)


def _wait_until_further(victim: Victim, reached: int, sessions: int) -> None:
    """Return once the `sessions`-th session is behind all that was computed before it, `reached` at least, or at its target.

    Raises: TimeoutError, RuntimeError when it has ended otherwise.
    """

    def is_further() -> bool:
        nonlocal reached
        if victim.process.poll() not in (None, 0):
            raise RuntimeError(f"it gave up with exit code {victim.process.returncode}")
        has_begun = _sessions(victim.folder) >= sessions
        newest = newest_step(victim.folder)
        if not has_begun:  # steps of the session before are still being written down
            reached = max(reached, newest)
        return victim.process.returncode == 0 or (has_begun and newest > reached)

    wait_until(is_further, RECOVERY_S)


def _wrong(victim: Victim, expected: Outcome) -> list[str]:
    """What the run at its end, or at the end of the time, does not share with the run that nothing was done to.

    Raises: TimeoutError when it does not end.
    """
    is_told_to_end = victim.process.poll() is None
    if is_told_to_end:
        victim.process.terminate()
    exit_code = _exit_code(victim)
    wait_until(lambda: not victim.folder.is_live(), ORPHANED_S)
    outcome = _outcome(read_feed(victim.folder))
    problems = differences(outcome, expected)
    if exit_code not in (0, *([EXIT_SIGTERM] if is_told_to_end else [])):
        problems.append(f"it ended with exit code {exit_code}")
    if exit_code == 0 and len(outcome.losses) != STEPS:
        problems.append(f"it ended with exit code 0 at step {len(outcome.losses)}")
    newest = max(victim.folder.checkpoints.glob("step-????????"), default=None)
    if newest is not None and not is_whole(newest):
        problems.append(f"its last checkpoint, {newest.name}, is damaged")
    if exit_code != outcome.exit_code:
        problems.append(f"it ended with exit code {exit_code}, and its record with {outcome.exit_code}")
    if left := sorted(path.name for path in MEMORY.glob(f"{Meeting(victim.folder.path).prefix}*")):
        problems.append(f"{', '.join(left)} is left in {MEMORY}")
    return [f"{victim.folder.name}: {problem}" for problem in problems]


def differences(outcome: Outcome, expected: Outcome) -> list[str]:
    """In words, where `outcome`, of which the end may be missing, is not that of the run that nothing was done to."""
    others = [step for step, loss in outcome.losses.items() if expected.losses.get(step) != loss]
    problems = [f"{len(others)} steps have other bits, the first is {others[0]}"] if others else []
    if list(outcome.losses) != list(range(1, len(outcome.losses) + 1)):
        problems.append("its steps have a gap")
    if len(outcome.losses) == len(expected.losses) and outcome.weights != expected.weights:
        problems.append("its weights have other bits")
    return problems


def _outcome(feed: Feed) -> Outcome:
    columns = feed.history.columns
    losses = dict(zip(map(int, columns["step"]), columns["loss"], strict=True))
    hashes = [event.weights_sha256 for event in feed.events if isinstance(event, End)]
    last = feed.events[-1]
    return Outcome(losses, hashes[-1] if hashes else "", last.exit_code if isinstance(last, End) else None)


def _sessions(folder: RunFolder) -> int:
    """How often the ranks of a run have begun to train."""
    return sum(isinstance(event, Run) for event in read_journal(folder))


def table(tallies: dict[str, Tally], head: str) -> str:
    """What `main` prints: a line for each kind of fault, and one for all of them."""
    everything = Tally(
        [second for tally in tallies.values() for second in tally.seconds],
        [reason for tally in tallies.values() for reason in tally.lost],
    )
    rows = [
        "| fault | injected | survived | lost | mean time to recover | longest |",
        "|---|---|---|---|---|---|",
    ]
    for name, tally in {**tallies, "all": everything}.items():
        survived, lost = len(tally.seconds), len(tally.lost)
        mean = f"{statistics.mean(tally.seconds):.1f} s" if survived else "-"
        longest = f"{max(tally.seconds):.1f} s" if survived else "-"
        rows.append(f"| {name} | {survived + lost} | {survived} | {lost} | {mean} | {longest} |")
    return "\n".join([head, "", *rows])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

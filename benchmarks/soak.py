"""`make soak`: hurt real runs at random for ten minutes, and print what they made of it.

Each run of a round is hurt again and again until it reaches its target; then it must have computed what a run that nothing was
done to has computed, bit for bit. stdout belongs to the table. Exit code 1 when anything was lost.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.faults import FAULTS, Fault, Victim
from benchmarks.machine import head_line
from benchmarks.records import newest_step
from benchmarks.workplace import Workplace, headless, wait_until, workplace
from plt_tui.control.feed import Feed
from plt_tui.control.folder import RunFolder
from plt_tui.control.record import read_feed, read_journal
from plt_tui.errors import STOP_EXIT_CODES
from plt_tui.protocol.events import Checkpoint, End, Run

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


@dataclass(slots=True)
class Tally:
    """What became of one kind of fault."""

    seconds: list[float] = field(default_factory=list)
    """From the end of each fault that was survived until the run was further than before."""
    lost: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run has computed: loss by step, and the hash of its last weights."""

    losses: dict[int, float]
    weights: str


def main(words: Sequence[str] | None = None) -> int:
    """Hurt runs for as long as asked. Returns the exit code."""
    options = _parse(words)
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
    print(_table(tallies, f"{head_line()}, seed {options.seed}, {rounds} runs of {STEPS} steps"))
    for problem in wrong:
        _say(problem)
    return 1 if wrong or any(tally.lost for tally in tallies.values()) else 0


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description="Hurt real runs at random.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the choice of faults")
    return parser.parse_args(words)


def _round(
    place: Workplace, name: str, chance: random.Random, tallies: dict[str, Tally], give_up_at: float, expected: Outcome
) -> list[str]:
    """One run, hurt until it reaches its target or the time is over. Returns what is wrong with what it computed."""
    victim = _start(place, name, chance)
    while time.monotonic() < give_up_at:
        time.sleep(chance.uniform(0.0, LONGEST_QUIET_S))
        if victim.process.poll() is not None or newest_step(victim.folder) == 0:
            break
        kind = chance.choice(list(FAULTS))
        before = newest_step(victim.folder)
        try:
            victim, seconds = _hurt(place, victim, FAULTS[kind])
        except (TimeoutError, RuntimeError) as error:
            tallies[kind].lost.append(str(error))
            _say(f"{name}: {kind} at step {before}: LOST: {error}")
            break
        tallies[kind].seconds.append(seconds)
        _say(f"{name}: {kind} at step {before}: further after {seconds:.1f} s")
    return _wrong(name, victim, expected)


def _start(place: Workplace, name: str, chance: random.Random) -> Victim:
    """Start the run, or start it again, and return once it makes steps. Raises: TimeoutError, RuntimeError."""
    folder = place.run_folder(name)
    sessions = _sessions(folder)
    process = subprocess.Popen(
        headless(name, *SETTINGS),
        cwd=place.folder,
        env=place.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def begins() -> bool:
        if process.poll() not in (None, 0):
            raise RuntimeError(f"it did not start again: exit code {process.returncode}")
        return _sessions(folder) > sessions and newest_step(folder) > 0

    wait_until(begins, RECOVERY_S)
    return Victim(folder, process, chance)


def _hurt(place: Workplace, victim: Victim, fault: Fault) -> tuple[Victim, float]:
    """Inflict `fault` and see the run get further than it was; returns it and how long that took from the end of the fault.

    Raises: RuntimeError, TimeoutError when it does not, or something that was reported saved is gone.
    """
    sessions, step = _sessions(victim.folder), newest_step(victim.folder)
    saved = [event.step for event in read_feed(victim.folder).events if isinstance(event, Checkpoint)]
    fault.inflict(victim)
    over_s = time.monotonic()
    if fault.ends_run:
        victim = _started_again(place, victim)
    _wait_until_further(victim, step, sessions + (fault.ends_ranks or fault.ends_run))
    seconds = time.monotonic() - over_s
    began_at = [event.start_step for event in read_feed(victim.folder).events if isinstance(event, Run)][sessions:]
    if saved and began_at and began_at[0] < max(saved) and not fault.spoils:
        raise RuntimeError(f"a checkpoint of step {max(saved)} was reported, and the run went on from step {began_at[0]}")
    return victim, seconds


def _started_again(place: Workplace, victim: Victim) -> Victim:
    """The run of `victim`, which is ending, in a new process. Raises: RuntimeError, TimeoutError when it does not start."""
    exit_code = victim.process.wait(RECOVERY_S)
    if exit_code not in (-9, 0, *STOP_EXIT_CODES.values()):
        raise RuntimeError(f"it ended with exit code {exit_code}")
    wait_until(lambda: not victim.folder.is_live(), 5.0)
    return _start(place, victim.folder.name, victim.chance)


def _wait_until_further(victim: Victim, step: int, sessions: int) -> None:
    """Return once the run is behind `step` in its `sessions`-th session, or at its target.

    Raises: TimeoutError, RuntimeError when it has ended otherwise.
    """

    def is_further() -> bool:
        if victim.process.poll() not in (None, 0):
            raise RuntimeError(f"it gave up with exit code {victim.process.returncode}")
        return victim.process.returncode == 0 or (newest_step(victim.folder) > step and _sessions(victim.folder) >= sessions)

    wait_until(is_further, RECOVERY_S)


def _wrong(name: str, victim: Victim, expected: Outcome) -> list[str]:
    """What the run at its end, or at the end of the time, does not share with the run that nothing was done to."""
    if victim.process.poll() is None:
        victim.process.terminate()
    victim.process.wait(RECOVERY_S)
    wait_until(lambda: not victim.folder.is_live(), 5.0)
    outcome = _outcome(read_feed(victim.folder))
    others = [step for step, loss in outcome.losses.items() if expected.losses[step] != loss]
    problems = [f"{name}: {len(others)} steps have other bits, the first is {others[0]}"] if others else []
    if list(outcome.losses) != list(range(1, len(outcome.losses) + 1)):
        problems.append(f"{name}: its steps have a gap")
    if len(outcome.losses) == STEPS and outcome.weights != expected.weights:
        problems.append(f"{name}: its weights have other bits")
    return problems


def _outcome(feed: Feed) -> Outcome:
    columns = feed.history.columns
    hashes = [event.weights_sha256 for event in feed.events if isinstance(event, End)]
    losses = dict(zip(map(int, columns["step"]), columns["loss"], strict=True))
    return Outcome(losses, hashes[-1] if hashes else "")


def _sessions(folder: RunFolder) -> int:
    """How often the ranks of a run have begun to train."""
    return sum(isinstance(event, Run) for event in read_journal(folder))


def _table(tallies: dict[str, Tally], head: str) -> str:
    rows = [
        "| fault | injected | survived | lost | mean time to recover | longest |",
        "|---|---|---|---|---|---|",
    ]
    for name, tally in tallies.items():
        survived, lost = len(tally.seconds), len(tally.lost)
        mean = f"{statistics.mean(tally.seconds):.1f} s" if survived else "-"
        longest = f"{max(tally.seconds):.1f} s" if survived else "-"
        rows.append(f"| {name} | {survived + lost} | {survived} | {lost} | {mean} | {longest} |")
    return "\n".join([head, "", *rows])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""What `soak` does to a run: each kind of fault as one function on a live victim.

Knows nothing of what the run should do about it. Invariant: a fault that needs the run to be started again by a person says so.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.workplace import ranks_of
from plt_tui.control.folder import RunFolder
from plt_tui.errors import STOP_EXIT_CODES
from plt_tui.protocol.hello import hello

SHORT_S = 2.0
"""How long a passing fault lasts, such as a full disk or a view that does not read."""
RANK_SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS)
KILLED = frozenset({0, -signal.SIGKILL})
STOPPED = frozenset({0, *STOP_EXIT_CODES.values()})


@dataclass(slots=True)
class Victim:
    """A live headless run: `process` is its hub, in a process group of its own; another one once it was started again."""

    folder: RunFolder
    process: subprocess.Popen[bytes]
    chance: random.Random

    @property
    def ranks(self) -> list[psutil.Process]:
        """The processes of its ranks, in no order."""
        return ranks_of(psutil.Process(self.process.pid))


def kill_rank(victim: Victim) -> None:
    """One rank dies of a signal, as by a crash or for want of memory."""
    victim.chance.choice(victim.ranks).send_signal(victim.chance.choice(RANK_SIGNALS))


def stop_rank(victim: Victim) -> None:
    """One rank stands still and says nothing."""
    victim.chance.choice(victim.ranks).send_signal(signal.SIGSTOP)


def kill_hub(victim: Victim) -> None:
    """The hub is gone from one moment to the next."""
    victim.process.kill()


def kill_all(victim: Victim) -> None:
    """Hub and ranks are gone at once, as when the power fails."""
    os.killpg(victim.process.pid, signal.SIGKILL)


def stop_run(victim: Victim) -> None:
    """A person or a batch system stops the run, or its whole process group."""
    number = victim.chance.choice([*STOP_EXIT_CODES])
    if victim.chance.random() < 0.5:
        victim.process.send_signal(number)
    else:
        os.killpg(victim.process.pid, number)


def damage_checkpoint(victim: Victim) -> None:
    """A bit of the newest checkpoint flips on disk, and then a rank dies."""
    newest = max(victim.folder.checkpoints.glob("step-????????"), default=None)
    if newest is not None:
        with suppress(FileNotFoundError):  # pruned meanwhile
            _flip_a_bit(victim.chance.choice(sorted(newest.iterdir())), victim.chance)
    kill_rank(victim)


def fill_disk(victim: Victim) -> None:
    """For a short time no process of the run can write a byte to any file."""
    processes = [psutil.Process(victim.process.pid), *victim.ranks]
    _, most = processes[0].rlimit(resource.RLIMIT_FSIZE)
    for process in processes:
        process.rlimit(resource.RLIMIT_FSIZE, (0, most))
    time.sleep(SHORT_S)
    for process in processes:
        process.rlimit(resource.RLIMIT_FSIZE, (most, most))


def hold_a_view(victim: Victim) -> None:
    """A view attaches, reads nothing for a short time, and is gone in the middle of a line."""
    info = victim.folder.read_info()
    assert info is not None
    with socket.socket(socket.AF_UNIX) as view:
        view.connect(info.socket)
        view.sendall(json.dumps(hello("soak", readonly=True)).encode() + b"\n")
        time.sleep(SHORT_S)


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault: what it does, and what must follow."""

    inflict: Callable[[Victim], None]
    """Returns when it is over."""
    ends_ranks: bool = False
    """They have to be started again: by the run itself."""
    exit_codes: frozenset[int] = frozenset()
    """With one of these the run ends, to be started again by somebody else; with 0 at its target."""
    spoils: bool = False
    """The newest checkpoint may be unusable."""
    steps_left: int = 0
    """Only while the run has this many steps to go."""


FAULTS: Mapping[str, Fault] = {
    "a rank is killed": Fault(kill_rank, ends_ranks=True),
    "a rank stands still": Fault(stop_rank, ends_ranks=True),
    "the hub is killed": Fault(kill_hub, exit_codes=KILLED),
    "hub and ranks are killed": Fault(kill_all, exit_codes=KILLED),
    "the run is stopped by a signal": Fault(stop_run, exit_codes=STOPPED),
    "a checkpoint is damaged and a rank killed": Fault(damage_checkpoint, ends_ranks=True, spoils=True),
    # A run that cannot save its last step ends with exit code 5, as it must: there is nothing to survive then.
    "the disk is full for 2 s": Fault(fill_disk, steps_left=1200),
    "a view stops reading and dies": Fault(hold_a_view),
}


def _flip_a_bit(path: Path, chance: random.Random) -> None:
    with path.open("r+b") as file:
        position = chance.randrange(max(1, path.stat().st_size))
        file.seek(position)
        byte = file.read(1) or b"\0"
        file.seek(position)
        file.write(bytes([byte[0] ^ (1 << chance.randrange(8))]))

"""What to do when ranks fail, or the hub: what was the cause, and whether to start ranks again.

Pure, but for a line in the log.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from plt_tui.errors import PltTuiError, RankFailed
from plt_tui.protocol.events import Failed

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """Start all ranks again from the newest good checkpoint, after `after_s` seconds."""

    after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """End the run with `exit_code`."""

    exit_code: int
    reason: str


def decide(failure: Failed, earlier: Sequence[Failed], max_restarts: int) -> Restart | GiveUp:
    """What follows `failure`, given the failures before it in this session.

    A failure that would come back (bad data, a non-finite loss, two failures at the same step) is not retried, nor one of which
    a process is left that still holds its device and files.
    """
    if failure.exit_code != RankFailed.exit_code:
        return GiveUp(exit_code=failure.exit_code, reason=failure.message)
    what = f"{where(failure)}: {failure.message}"
    if failure.left_alive:
        return GiveUp(exit_code=failure.exit_code, reason=f"{what}; {undead(failure.left_alive)}")
    if earlier and (earlier[-1].step, earlier[-1].while_starting) == (failure.step, failure.while_starting):
        return GiveUp(exit_code=failure.exit_code, reason=f"{what} (the second time at this step)")
    if len(earlier) >= max_restarts:
        return GiveUp(exit_code=failure.exit_code, reason=f"{what} ({len(earlier)} of {max_restarts} restarts used)")
    return Restart(after_s=min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** len(earlier)))


def root_cause(failures: Sequence[Failed]) -> Failed:
    """The failure that made the others fail: a rank that was killed, else the first one that was not a lost connection."""
    killed = [failure for failure in failures if _is_cause(failure)]
    own = [failure for failure in failures if not failure.is_lost_peer]
    return min(killed or own or failures, key=lambda failure: failure.time)


def foreseen(error: Exception) -> PltTuiError:
    """The error that ended the run as its record tells it; of one that nobody foresaw the log has where it came from."""
    if isinstance(error, PltTuiError):
        return error
    _logger.error("the hub failed", exc_info=error)
    return RankFailed(f"the hub failed: {type(error).__name__}: {error}")


def where(failure: Failed) -> str:
    """Which rank failed, and when."""
    return f"rank {failure.rank} failed " + ("while starting" if failure.while_starting else f"at step {failure.step}")


def undead(pids: Sequence[int]) -> str:
    """The processes that SIGKILL did not end, for people."""
    which, their = (f"process {pids[0]}", "its") if len(pids) == 1 else (f"processes {', '.join(map(str, pids))}", "their")
    reason = "waiting for a device or a network file system?"
    return f"{which} cannot be ended ({reason}), so nothing may be started in {their} place"


def exit_failure(rank: int, exit_code: int, now: float, log_tail: Sequence[str], why: str = "") -> Failed:
    """The failure of a rank that ended with `exit_code` (negative: by that signal) and could not say why itself.

    why: what is known of the reason, for people.
    """
    killed = f"killed by {signal_name(-exit_code)}" + (f": {why}" if why else "")
    message = killed if exit_code < 0 else f"ended with exit code {exit_code} and no message"
    return Failed(
        time=now,
        rank=rank,
        message=message,
        exit_code=RankFailed.exit_code,
        log_tail=list(log_tail),
        is_signal=exit_code < 0,
    )


def signal_name(number: int) -> str:
    """Such as SIGKILL for 9; the number itself for one that this system does not know."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _is_cause(failure: Failed) -> bool:
    """True for a failure that no other rank's can have led to: a rank ended by a signal.

    Except SIGABRT, by which NCCL's watchdog ends a process whose peer is gone.
    """
    return failure.is_signal and signal.Signals.SIGABRT.name not in failure.message

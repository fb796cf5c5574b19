"""Every error that a user can meet, as one tree; each class knows its exit code.

Does not print, log or exit: the process that catches an error decides that. A message says what was wrong, the value seen,
and the next action.

    PltTuiError
     |-- UsageError           2   bad config, bad option, unknown run
     |    `-- Refused         2   the run will not do what was asked of it
     |-- NonFiniteLoss        3   the loss or a gradient is NaN or infinite
     |-- RankFailed           4   a rank died and restarts are used up
     |    `-- PeerFailed      4   on the ranks that lost it
     |-- StorageError         5   a checkpoint or the run folder cannot be written or read
     |-- RunInUse             6   another process holds the run folder
     |-- DataError            7   data missing, unusable or changed
     |-- ReplayDiffers        8   a step computed again has other bits
     `-- HubUnreachable       1   nobody answers on the run's socket
          `-- ConnectionLost  1   a hub that answered is gone
"""

from __future__ import annotations

import signal


class PltTuiError(Exception):
    """Root of the tree; `exit_code` is what the process ends with when nobody handles the error."""

    exit_code: int = 1


class UsageError(PltTuiError):
    """The request itself is wrong: config file, option, environment variable, run name or command argument."""

    exit_code = 2


class Refused(UsageError):
    """A command reached the run, or what is left of it, and was not taken. `command`: its verb; `reason`: why, in words."""

    def __init__(self, command: str, reason: str) -> None:
        super().__init__(command, reason)
        self.command = command
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.command} refused: {self.reason}"


class NonFiniteLoss(PltTuiError):
    """The loss or the gradient norm became NaN or infinite and the policy says stop."""

    exit_code = 3


class RankFailed(PltTuiError):
    """A rank died or raised, and `control.max_restarts` is used up."""

    exit_code = 4


class PeerFailed(RankFailed):
    """Another rank failed, which this one learned from it: not the cause, and never named as one."""


class StorageError(PltTuiError):
    """A checkpoint or another file of the run folder could not be written, or none could be read back."""

    exit_code = 5


class RunInUse(PltTuiError):
    """Another live process holds the lock of the run folder."""

    exit_code = 6


class DataError(PltTuiError):
    """A corpus or tokenizer is missing, empty, too short, undecodable, or not the one the run started with."""

    exit_code = 7


class ReplayDiffers(PltTuiError):
    """A step or the final weights, computed again from the record or after a resume, have other bits."""

    exit_code = 8


class HubUnreachable(PltTuiError):
    """The run's hub does not answer: it has ended, or lives on another machine."""


class ConnectionLost(HubUnreachable):
    """A connection to a hub is over, and the run was not told to have ended."""


EXIT_SIGINT = 130
EXIT_SIGTERM = 143
STOP_EXIT_CODES = {signal.SIGINT: EXIT_SIGINT, signal.SIGTERM: EXIT_SIGTERM, signal.SIGUSR2: EXIT_SIGTERM}
"""The signals that stop a run. Batch systems send SIGUSR2 some time before their limit, as NCCL may use SIGUSR1."""


def by_exit_code(exit_code: int, message: str) -> PltTuiError:
    """The error that a process reported by `exit_code`, to be raised again on this side of the process boundary."""
    classes = {cls.exit_code: cls for cls in PltTuiError.__subclasses__()}
    return classes.get(exit_code, PltTuiError)(message)

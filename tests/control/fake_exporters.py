"""Exporters' processes without exporters: `python -m tests.control.fake_exporters NAME RUN_DIR ...` plays the function NAME."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from plt_tui.control.exports import FLUSHED, SIGN

PACE_S = 0.01


class Tie:
    """The socket to the hub."""

    def __init__(self, descriptor: int) -> None:
        self.socket = socket.socket(fileno=descriptor)
        self.socket.setblocking(False)
        self.is_told = False

    def beat(self, word: bytes = SIGN) -> None:
        """Say something, and hear what is said."""
        try:
            self.socket.send(word)
            if not self.socket.recv(1):
                os._exit(1)
            self.is_told = True
        except BlockingIOError:
            pass
        except OSError:
            os._exit(1)


def _starts(run_dir: Path) -> int:
    """How often a process was started here before."""
    with (run_dir / "starts").open("a+") as file:
        file.write("x")
        return file.tell() - 1


def works(tie: Tie, run_dir: Path) -> int:
    """Do all that is asked for."""
    while not tie.is_told:
        tie.beat(FLUSHED)
        time.sleep(PACE_S)
    return 0


def raises(tie: Tie, run_dir: Path) -> int:
    """Fail with a sentence."""
    _starts(run_dir)
    return _fail()


def _fail() -> int:
    print("on my way\nERROR ValueError: boom \x1b[2J\nno more")
    return 1


def raises_once(tie: Tie, run_dir: Path) -> int:
    """Fail the first time."""
    return _fail() if _starts(run_dir) == 0 else works(tie, run_dir)


def refuses(tie: Tie, run_dir: Path) -> int:
    """Fail with what only a person can mend."""
    _starts(run_dir)
    print("ERROR there is no key")
    return 2


def leaves(tie: Tie, run_dir: Path) -> int:
    """End well, while the run goes on."""
    _starts(run_dir)
    return 0


def crashes(tie: Tie, run_dir: Path) -> int:
    """End by a signal."""
    _starts(run_dir)
    os.kill(os.getpid(), signal.SIGSEGV)
    return 0


def hangs(tie: Tie, run_dir: Path) -> int:
    """Never say anything."""
    _starts(run_dir)
    time.sleep(600.0)
    return 0


def fails_at_the_end(tie: Tie, run_dir: Path) -> int:
    """Work, and fail when the run is over."""
    _starts(run_dir)
    works(tie, run_dir)
    print("ERROR the server is gone")
    return 1


def never_finishes(tie: Tie, run_dir: Path) -> int:
    """Say that it moves, for ever."""
    while True:
        tie.beat()
        time.sleep(PACE_S)


def floods(tie: Tie, run_dir: Path) -> int:
    """Print without end."""
    tie.beat()
    block = b"x" * 99 + b"\n"
    while True:
        os.write(1, block * 1000)


def has_a_child(tie: Tie, run_dir: Path) -> int:
    """Leave a process behind."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (run_dir / "child").write_text(str(child.pid))
    return works(tie, run_dir)


def tells_its_environment(tie: Tie, run_dir: Path) -> int:
    """Write down how it was started."""
    (run_dir / "told").write_text("\n".join([*sys.argv[2:], os.environ["OMP_NUM_THREADS"], os.environ["CUDA_VISIBLE_DEVICES"]]))
    return works(tie, run_dir)


def main() -> int:
    """Play."""
    play: Callable[[Tie, Path], int] = globals()[sys.argv[1]]
    (descriptor,) = [int(word.partition("=")[2]) for word in sys.argv if word.startswith("--life=")]
    return play(Tie(descriptor), Path(sys.argv[2]))


if __name__ == "__main__":
    sys.exit(main())

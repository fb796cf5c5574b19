"""An `ssh` for tests: it runs the remote command on this machine, through `sh -c` in another home, with pipes between.

As sshd it is a process of its own beside the far side: when it is killed, the far side sees the end of its input. It knows the
options that are given to it, and no others.

    FAKE_SSH_HOME      home and working folder of the far side
    FAKE_SSH_RECORD    file that gets the arguments of each call, a line of JSON each
    FAKE_SSH_NOISE     what the login shell there prints first
    FAKE_SSH_DELAY_S   seconds that it takes to log in
    FAKE_SSH_FAILURE   what is said on stderr in the place of logging in; the exit code is 255
"""

import getopt
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

ENDED_BY_SIGNAL = 255


def install(environment: "pytest.MonkeyPatch", folder: Path, home: Path) -> Path:
    """Put the fake first on PATH, from `folder`, with its far side in `home`; returns the file that records its calls."""
    ssh, record = folder / "bin" / "ssh", folder / "ssh-calls"
    ssh.parent.mkdir(parents=True)
    home.mkdir(parents=True, exist_ok=True)
    ssh.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} "$@"\n')
    ssh.chmod(0o700)
    environment.setenv("PATH", f"{ssh.parent}{os.pathsep}{os.environ['PATH']}")
    environment.setenv("FAKE_SSH_HOME", str(home))
    environment.setenv("FAKE_SSH_RECORD", str(record))
    return record


def calls(record: Path) -> list[list[str]]:
    """The arguments of each call so far."""
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


def main(arguments: list[str]) -> int:
    """Be ssh."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with Path(os.environ["FAKE_SSH_RECORD"]).open("a") as record:
        record.write(json.dumps(arguments) + "\n")
    _, words = getopt.getopt(arguments, "Taxo:p:l:")
    if "FAKE_SSH_FAILURE" in os.environ:
        print(os.environ["FAKE_SSH_FAILURE"], file=sys.stderr, flush=True)
        return 255
    time.sleep(float(os.environ.get("FAKE_SSH_DELAY_S", "0")))
    write(1, os.environ.get("FAKE_SSH_NOISE", "").encode())
    home = os.environ["FAKE_SSH_HOME"]
    far = subprocess.Popen(
        ["/bin/sh", "-c", " ".join(words[1:])],
        cwd=home,
        env={**os.environ, "HOME": home},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert far.stdin is not None
    assert far.stdout is not None
    there = far.stdin
    threading.Thread(target=lambda: (pass_on(0, there.fileno()), there.close()), daemon=True).start()
    pass_on(far.stdout.fileno(), 1)
    far.stdout.close()
    code = far.wait()
    return code if code >= 0 else ENDED_BY_SIGNAL


def pass_on(source: int, target: int) -> None:
    """Bytes from one descriptor to another until either has ended; waits for the reader, and holds no more than a piece."""
    with suppress(OSError):
        while data := os.read(source, 65536):
            write(target, data)


def write(target: int, data: bytes) -> None:
    """Write all of it."""
    while data:
        data = data[os.write(target, data) :]


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)

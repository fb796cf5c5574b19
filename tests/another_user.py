"""Files as another user of this machine meets them: a folder that is closed to us, also where tests run as root."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def shared_folder() -> Iterator[Path]:
    """A folder that everybody may enter, which pytest's own are not. What was closed in it is opened again at the end."""
    folder = Path(tempfile.mkdtemp(prefix="plt-tui-shared-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        for place in (folder, *folder.iterdir()):
            place.chmod(0o755)
        shutil.rmtree(folder)


@contextmanager
def without_rights() -> Iterator[None]:
    """What this thread asks of files is asked for nobody, where we are root (setfsuid(2)): mode 0 keeps root out of nothing.

    Not of `os.access`, which asks for the real user.
    """
    us = os.getuid()
    setfsuid = ctypes.CDLL(None).setfsuid
    if us == 0:
        setfsuid(NOBODY)
    try:
        yield
    finally:
        setfsuid(us)

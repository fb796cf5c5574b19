"""Files and folders that survive a power cut: each is as safe as the name in the folder that holds it.

Knows nothing of what they hold. Invariant: when a function returns, the disk holds the names, where it can be asked to.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

_NO_SUCH_THING = (errno.EINVAL, errno.ENOTSUP)
"""What a file system says that cannot sync a folder at all: some network ones, some in user space."""


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make `folder` (with `mode`) and those above it that are missing, each of them for good. Raises: OSError."""
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(mode=mode if missing == folder else 0o777, exist_ok=True)
        sync_folder(missing.parent)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut; where nobody can ask for that, they are as safe as they get.

    Raises: OSError.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SUCH_THING:
            raise
    finally:
        os.close(descriptor)


def sync_above(path: Path, levels: int) -> None:
    """Make the name of `path` survive, and those of the folders above it: whoever made them may have died before.

    levels: how many folders are synced. One that others own may be closed to us. Raises: OSError.
    """
    for folder in path.parents[:levels]:
        with contextlib.suppress(PermissionError):
            sync_folder(folder)


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, sync it, and rename for good: a reader sees the old or the new one. Raises: OSError.

    The file is new and its owner's alone: what somebody laid where it is written, a link or a file of theirs, is removed first.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise

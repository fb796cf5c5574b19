"""Where a run keeps what its configuration must not hold: the address of its webhook.

`config.toml` is copied, compared, shown and sent with bug reports, every rank reads it, and the record repeats it; who reads
the address can post to it. So it lies in a file of its own, which only the run's owner can read and only the hub does.
Invariant: a file that cannot be read counts as none: training needs no webhook.
"""

from __future__ import annotations

from plt_tui.control.folder import RunFolder, not_made
from plt_tui.protocol.durable import replace_file

MAX_BYTES = 8192


def keep_webhook(folder: RunFolder, url: str) -> None:
    """Keep `url`, or forget an earlier one when it is empty. The caller holds the lock. Raises: StorageError."""
    try:
        if url:
            replace_file(folder.webhook, url.encode())
        else:
            folder.webhook.unlink(missing_ok=True)
    except OSError as error:
        raise not_made(folder.path, error) from None


def kept_webhook(folder: RunFolder) -> str:
    """The address that was kept; empty for none."""
    try:
        with folder.webhook.open("rb") as file:
            return file.read(MAX_BYTES).decode().strip()
    except (OSError, UnicodeError):
        return ""

"""The run's token: what a client of the HTTP server must know where the server asks for one.

A file in the run's folder that only its owner can read; made anew by each hub, and gone with it. It is never in a log, an
argument, `run.json`, the record, the configuration or a URL. Knows no request. Invariant: while the file is there and a hub
lives, it holds the token of that hub.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets

from plt_tui.control.folder import RunFolder
from plt_tui.errors import StorageError
from plt_tui.protocol.durable import replace_file

BEARER_PROTOCOL = "bearer."
"""Begins the WebSocket subprotocol that carries a token, for browsers can send no Authorization with a WebSocket."""
STREAM_PROTOCOL = "plt-tui.v1"
"""The subprotocol that the server picks, offered beside it."""


def new_token(folder: RunFolder) -> str:
    """A token of 256 random bits, written where the run's owner finds it. The caller holds the run's lock.

    Raises: StorageError when it cannot be written.
    """
    token = secrets.token_urlsafe(32)
    try:
        replace_file(folder.http_token, token.encode())
    except OSError as error:
        raise StorageError(f"{folder.http_token}: cannot be written: {error.strerror}; free some space") from None
    return token


def drop_token(folder: RunFolder) -> None:
    """Remove the file; a token whose hub has gone opens nothing, and is only in the way. The caller holds the run's lock."""
    with contextlib.suppress(OSError):
        folder.http_token.unlink(missing_ok=True)


def is_token(given: str, token: str) -> bool:
    """True when `given` is the token, in a time that does not tell how much of it is right."""
    return hmac.compare_digest(given.encode(errors="surrogatepass"), token.encode())

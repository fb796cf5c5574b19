"""What a view says first on the hub's socket, and the limits of what it may say."""

PROTOCOL_VERSION = 1
"""Grows when a view of an older version would misread the hub, or the hub it."""
MAX_MESSAGE_BYTES = 64 * 1024
"""Longest message from a view to the hub."""


def hello(actor: str, *, readonly: bool, after: int = 0) -> dict[str, object]:
    """The first message of a view. `actor` says who it is, for the journal.

    after: number of the last recorded thing that it knows already, the greatest `seq` of its events; 0: nothing.
    """
    message: dict[str, object] = {"op": "hello", "actor": actor, "readonly": readonly, "version": PROTOCOL_VERSION}
    return {**message, "after": after} if after else message

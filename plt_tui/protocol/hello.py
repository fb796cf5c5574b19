"""What a view says first on the hub's socket, and the limits of what it may say."""

PROTOCOL_VERSION = 1
"""Grows when a view of an older version would misread the hub, or the hub it."""
MAX_MESSAGE_BYTES = 64 * 1024
"""Longest message from a view to the hub."""


def hello(actor: str, *, readonly: bool) -> dict[str, object]:
    """The first message of a view. `actor` says who it is, for the journal."""
    return {"op": "hello", "actor": actor, "readonly": readonly, "version": PROTOCOL_VERSION}

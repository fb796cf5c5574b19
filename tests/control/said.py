"""What a run says in several tests."""

from __future__ import annotations

from plt_tui.protocol.events import CommandStatus


def rewind(last_step: int, before: int | None = None, *, id_: str = "r", skip: int = 0, actor: str = "me") -> CommandStatus:
    """A rewind to `last_step` in force; `before`: what it says of the step that the run was at."""
    args = {"step": last_step, "skip": skip} if skip else {"step": last_step}
    return CommandStatus(id=id_, name="rewind", args=args, actor=actor, status="applied", step=last_step, before=before)

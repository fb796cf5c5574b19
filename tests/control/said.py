"""What a run says in several tests, and a feed that numbers it as a record does."""

from __future__ import annotations

from dataclasses import replace

from plt_tui.control.feed import Feed
from plt_tui.control.record import NOT_RECORDED
from plt_tui.protocol.events import CommandStatus, Event


def rewind(last_step: int, before: int | None = None, *, id_: str = "r", skip: int = 0, actor: str = "me") -> CommandStatus:
    """A rewind to `last_step` in force; `before`: what it says of the step that the run was at."""
    args = {"step": last_step, "skip": skip} if skip else {"step": last_step}
    return CommandStatus(id=id_, name="rewind", args=args, actor=actor, status="applied", step=last_step, before=before)


class NumberedFeed(Feed):
    """A feed behind a recorder that writes nothing: what is recorded gets its number."""

    def publish(self, event: Event) -> None:
        if not isinstance(event, NOT_RECORDED) and not event.seq:
            event = replace(event, seq=self.last_seq + 1)
        super().publish(event)

    def publish_unrecorded(self, event: Event) -> None:
        """As the hub does with what it cannot write down."""
        super().publish(event)

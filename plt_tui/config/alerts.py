"""`[alerts]`: what a person is called for, and how: by the terminal, by a webhook.

Sends nothing. Invariant: no message about a wrong webhook holds its address, which is a secret: who knows it can post there.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from plt_tui.config.section import Section, as_tuple

AlertKind = Literal["finish", "crash", "nan", "spike", "plateau", "disk", "gpu"]
"""What can be told of: the run's end; a rank that failed, or the run that did; a loss or gradient that is no number; one that
is out of line; no more progress; a disk on which something was not saved, or will not be; a GPU that heat holds back."""
ALERT_KINDS: tuple[AlertKind, ...] = get_args(AlertKind)
Bell = Literal["never", "away", "always"]
WebhookFormat = Literal["json", "slack", "ntfy"]
MAX_ADDRESS_CHARS = 2048


class AlertsSection(Section):
    """What a person is called for, and how."""

    on: tuple[AlertKind, ...] = ALERT_KINDS
    """What to call for, by toast, bell and webhook: the end, a failure, a loss that is NaN, a spike, a plateau, a full disk, a
    GPU slowed down by heat."""
    bell: Bell = "away"
    """When to ring the terminal and send a desktop notification (OSC 9); away: while it has no focus, or, where the terminal
    does not tell, when nobody has pressed a key for two minutes."""
    webhook: str = Field(default="", repr=False)
    """http:// or https:// address to which the hub posts each alert; empty: none. It is a secret: the run keeps it in a file of
    its own, and `PLT_WEBHOOK` in the environment sets it too."""
    webhook_format: WebhookFormat = "json"
    """What is posted: a JSON object; what Slack, Mattermost and Discord's /slack take; or a message to a topic of ntfy."""
    plateau_steps: Literal["auto"] | Annotated[int, Field(ge=0, le=2**53)] = "auto"
    """Steps without a better evaluation (without evaluations: training loss) that make a plateau; auto: a fifth of the run, as
    a loss falls by shares of what was trained, not by steps; 0: never."""
    plateau_delta: float = Field(default=0.002, gt=0.0, lt=1.0)
    """A loss is better when it is below the best one by more than this share of it."""

    _lists = field_validator("on", mode="before")(as_tuple)

    @field_validator("webhook")
    @classmethod
    def _address(cls, webhook: str) -> str:
        if webhook and not _is_web_address(webhook):
            raise ValueError(
                "expected an address such as https://example.org/path (what was given is not shown: it is a secret)"
            )
        return webhook


def _is_web_address(text: str) -> bool:
    if len(text) > MAX_ADDRESS_CHARS or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is no number
        return False

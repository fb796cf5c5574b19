"""Promises of `[alerts]`: what can be asked for, and that the webhook's address stays out of everything that is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from plt_tui.config.alerts import ALERT_KINDS, AlertsSection
from plt_tui.config.load import from_toml, load, to_toml
from plt_tui.config.schema import RunConfig
from plt_tui.config.separate import WEBHOOK, separated
from plt_tui.errors import UsageError

SECRET = "T0PS3CRET"
URL = f"https://hooks.example.org/{SECRET}"


@pytest.mark.parametrize(
    "url",
    ["", "http://localhost", "https://ntfy.sh/topic", "https://ana:pw@box.example:8443/a?b=c#d", "http://[::1]:80/x", URL],
)
def test_good_addresses(url: str) -> None:
    """Web addresses with a host; empty for none."""
    assert AlertsSection(webhook=url).webhook == url


@pytest.mark.parametrize(
    "url",
    [
        SECRET,
        f"ftp://box/{SECRET}",
        f"https:///{SECRET}",
        f"https:{SECRET}",
        f"http://[::1/{SECRET}",
        f"http://box:port/{SECRET}",
        f"http://box:0/{SECRET}",
        f"http://box/{SECRET}\r\nX: y",
        f"http://box/{SECRET} x",
        f"http://box/{SECRET}/{'x' * 2048}",
        f"javascript:{SECRET}",
    ],
)
def test_bad_addresses_are_refused_without_being_shown(url: str) -> None:
    """The message says what is expected, and nothing of what was given, whatever gave it."""
    with pytest.raises(UsageError, match=r"alerts.webhook: expected an address such as https://") as caught:
        load(None, environ={"PLT_WEBHOOK": url})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("text", ['["finish", "fire"]', "finish", "[1]"])
def test_only_known_kinds_can_be_asked_for(text: str) -> None:
    """The kinds are named in the message."""
    with pytest.raises(UsageError, match=r'"spike", "plateau", "disk" or "gpu"'):
        load(None, sets=[f"alerts.on={text}"])


def test_everything_is_told_unless_somebody_says_otherwise() -> None:
    """All kinds are on, an empty list switches all off, and a list comes back from the run's file as it was."""
    assert load(None).config.alerts.on == ALERT_KINDS
    some = load(None, sets=['alerts.on=["nan", "disk"]', "alerts.plateau_steps=500"]).config
    assert from_toml(to_toml(some)) == some
    assert load(None, sets=["alerts.on=[]"]).config.alerts.on == ()


def test_the_address_is_taken_out_and_its_origin_stays() -> None:
    """What is written and shown names the source of the address; nothing but it holds the address."""
    loaded, url = separated(load(None, environ={"PLT_WEBHOOK": URL}))
    assert url == URL
    assert loaded.config == RunConfig()
    assert SECRET not in to_toml(loaded.config) + repr(loaded)
    assert loaded.origins[WEBHOOK] == "environment PLT_WEBHOOK; given, and not written here"


def test_a_configuration_without_one_is_left_as_it_is() -> None:
    """Nothing is taken out of nothing."""
    loaded = load(None)
    assert separated(loaded) == (loaded, "")


def test_no_repr_shows_the_address(tmp_path: Path) -> None:
    """A configuration in a traceback or a log line tells nobody."""
    (tmp_path / "a.toml").write_text(f'[alerts]\nwebhook = "{URL}"\n')
    loaded = load(tmp_path / "a.toml")
    assert loaded.config.alerts.webhook == URL
    assert SECRET not in repr(loaded) + str(loaded.config) + str(loaded.config.alerts)

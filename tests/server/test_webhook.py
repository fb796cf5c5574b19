"""Promises of `server.webhook`: a person hears of it whatever the network does, the run never does, the address stays ours."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from plt_tui.config.alerts import AlertsSection
from plt_tui.control.feed import Feed
from plt_tui.protocol import notices
from plt_tui.protocol.events import Alert, CheckpointFailed, End, Event, Phase, Spike
from plt_tui.protocol.notices import Notice
from plt_tui.server import webhook
from plt_tui.server.webhook import QUEUE, TRIES, Webhook, letter
from tests.server.hub_fakes import FakeHub, until
from tests.server.receivers import SECRET, receiving

SHORT_S = 0.5
"""For a receiver that does not answer."""
END = End(time=5.0, phase="finished", step=9, exit_code=0, reason="target reached")
FULL = CheckpointFailed(step=9, reason="disk full")
SPIKE = Spike(step=7, what="loss", value=8.0, z=9.0, act="warn", reason="loss 8 is far out")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up within moments, and ask no proxy of the person who runs the tests."""
    monkeypatch.setattr(webhook, "BACKOFF_S", 0.01)
    monkeypatch.setattr(webhook, "FAREWELL_S", 30.0)
    for scheme in ("http", "https", "all"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme}_proxy".upper(), raising=False)


@asynccontextmanager
async def following(feed: Feed, url: str, said: list[str], **alerts: object) -> AsyncIterator[Webhook]:
    """A webhook of `feed`; closed at the end."""
    section = AlertsSection.model_validate(alerts)
    hook = Webhook(url, section, name="big", host="box", say=said.append)
    hook.follow(feed)
    yield hook
    await hook.close(asyncio.Event())


async def test_what_happens_is_posted(hub: FakeHub) -> None:
    """Each alert once, in order, as JSON with the run and the machine; what was before is not told again."""
    hub.feed.publish(FULL)
    said: list[str] = []
    async with receiving(200) as receiver:
        async with following(hub.feed, receiver.url, said):
            hub.begin()
            hub.train(1, 5)
            hub.feed.publish(SPIKE)
            await until(lambda: len(receiver.requests) == 1)
            hub.feed.publish(END)
        first, headers, body = receiver.requests[0]
        assert first == f"POST /{SECRET} HTTP/1.1"
        assert headers["content-type"] == "application/json"
        assert headers["user-agent"].startswith("plt-tui/")
        assert json.loads(body) == {
            "run": "big",
            "host": "box",
            "kind": "spike",
            "level": "warning",
            "text": "step 7: loss 8 is far out",
            "time": 0.0,
        }
        assert [json.loads(body)["kind"] for body in receiver.bodies] == ["spike", "finish"]
    assert said == []


async def test_only_what_was_asked_for_is_posted(hub: FakeHub) -> None:
    """A kind that is switched off in `on` leaves no trace."""
    async with receiving(200) as receiver:
        async with following(hub.feed, receiver.url, [], on=["disk", "crash"]):
            for event in (SPIKE, FULL, END):
                hub.feed.publish(event)
        assert [json.loads(body)["kind"] for body in receiver.bodies] == ["disk"]


@pytest.mark.parametrize(
    ("answers", "num_requests", "problem"),
    [
        ((503, 429, 204), 3, ""),
        ((500,), TRIES, "it answers 500"),
        ((404,), 1, "it answers 404"),
        ((302,), 1, "it answers 302 (redirects are not followed)"),
        ((307,), 1, "it answers 307 (redirects are not followed)"),
        ((0,), TRIES, f"no answer within {SHORT_S} s"),
        ((0, 200), 2, ""),
    ],
)
async def test_a_receiver_in_trouble(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, answers: tuple[int, ...], num_requests: int, problem: str
) -> None:
    """What may pass is tried again, TRIES times in all; the rest is given up at once; the next alert comes all the same."""
    said: list[str] = []
    if 0 in answers:
        monkeypatch.setattr(webhook, "TIMEOUT_S", SHORT_S)
    async with receiving(*answers) as receiver:
        async with following(hub.feed, receiver.url, said):
            hub.feed.publish(FULL)
            await until(lambda: said or not problem)
            await until(lambda: len(receiver.requests) == num_requests)
            hub.feed.publish(SPIKE)
            await until(lambda: len(receiver.requests) > num_requests)
        assert all(line.startswith("POST ") and SECRET in line for line, _, _ in receiver.requests)
        assert not any("elsewhere" in line for line, _, _ in receiver.requests)
    assert said[:1] == ([f"the webhook was not told of 'disk': {problem}"] if problem else [])


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (f"http://127.0.0.1:1/{SECRET}", "Connection refused"),
        (f"http://no-such-host.invalid/{SECRET}", "the name of its machine is not known"),
        (f"http://{'a' * 70}.invalid/{SECRET}", "the name of its machine is not known"),
        (f"http://[::1/{SECRET}", "InvalidUrlClientError"),
        (f"https://127.0.0.1:1/{SECRET}", "Connection refused"),
    ],
)
async def test_the_address_is_in_no_word_about_a_failure(
    hub: FakeHub, caplog: pytest.LogCaptureFixture, url: str, problem: str
) -> None:
    """Why it was not delivered is told; where to is not, neither by us nor by the library."""
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    async with following(hub.feed, url, said):
        hub.feed.publish(FULL)
        await until(lambda: said)
    assert said == [f"the webhook was not told of 'disk': {problem}"]
    assert SECRET not in caplog.text


async def test_a_receiver_that_never_answers_takes_no_time_of_the_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of alerts is taken at once; QUEUE of them wait, the oldest are left out, and that is told."""
    monkeypatch.setattr(notices, "GAP_S", 0.0)
    monkeypatch.setattr(webhook, "TIMEOUT_S", 60.0)
    monkeypatch.setattr(webhook, "FAREWELL_S", 0.05)
    said: list[str] = []
    async with receiving(0) as receiver, following(hub.feed, receiver.url, said) as hook:
        hub.feed.publish(FULL)
        await receiver.is_asked.wait()
        for _ in range(10 * QUEUE):
            hub.feed.publish(SPIKE)
        assert len(hook._queue) == QUEUE
        assert len(receiver.requests) == 1
    assert said[-1] == "the webhook did not take the run's last word in time"
    assert set(said[:-1]) == {f"the webhook is slow: of more than {QUEUE} alerts the oldest is left out"}


async def test_the_end_comes_before_what_waits(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends while its receiver is slow: what waits is dropped for the one word that counts."""
    monkeypatch.setattr(notices, "GAP_S", 0.0)
    monkeypatch.setattr(webhook, "TIMEOUT_S", SHORT_S)
    async with receiving(0, 503, 200) as receiver:
        async with following(hub.feed, receiver.url, []):
            for event in (FULL, SPIKE, SPIKE, SPIKE, END):
                hub.feed.publish(event)
            await receiver.is_asked.wait()
        assert [json.loads(body)["kind"] for body in receiver.bodies] == ["disk", "finish", "finish"]


@pytest.mark.parametrize("is_hurried", [False, True])
async def test_a_hub_whose_run_has_ended_does_not_wait_for_ever(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, is_hurried: bool
) -> None:
    """FAREWELL_S at most; not even that once somebody wants the process to go."""
    monkeypatch.setattr(webhook, "TIMEOUT_S", 60.0)
    monkeypatch.setattr(webhook, "FAREWELL_S", 60.0 if is_hurried else 0.1)
    said: list[str] = []
    async with receiving(0) as receiver:
        hook = Webhook(receiver.url, AlertsSection(), name="big", host="box", say=said.append)
        hook.follow(hub.feed)
        hub.feed.publish(END)
        await receiver.is_asked.wait()
        hurry = asyncio.Event()
        if is_hurried:
            hurry.set()
        await asyncio.wait_for(hook.close(hurry), 10.0)
    assert said == ["the webhook did not take the run's last word in time"]


def test_a_name_service_that_hangs_does_not_keep_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look-up is left behind: neither the farewell nor the end of the event loop waits for it."""
    gate = threading.Event()
    monkeypatch.setattr(webhook, "TIMEOUT_S", SHORT_S)
    monkeypatch.setattr(webhook, "_addresses", lambda *_: gate.wait(30.0))
    said: list[str] = []

    async def scenario() -> None:
        feed = Feed()
        async with following(feed, f"http://example.invalid/{SECRET}", said):
            feed.publish(END)

    began = time.monotonic()
    asyncio.run(scenario())
    assert time.monotonic() - began < 10.0
    gate.set()
    assert len(said) == 1


def notice(text: str, **said: object) -> Notice:
    """A failed run."""
    return Notice(**{"kind": "crash", "level": "error", "text": text, "time": 3.0, **said})  # type: ignore[arg-type]


def test_slack_gets_words_that_call_nobody_else() -> None:
    """What an exception says cannot mention people, channels or links."""
    posted = letter(notice("<!channel> a & b <http://x|y>"), "slack", name="big", host="box")
    assert json.loads(posted.body) == {"text": "big on box: &lt;!channel&gt; a &amp; b &lt;http://x|y&gt;"}


@pytest.mark.parametrize(
    ("kind", "level", "tag", "priority"),
    [("crash", "error", "rotating_light", "5"), ("finish", "info", "checkered_flag", "3"), ("spike", "warning", None, "3")],
)
def test_ntfy_gets_a_message_with_a_title(kind: str, level: str, tag: str | None, priority: str) -> None:
    """The text is the body; headers are ASCII, whatever the machine is called."""
    posted = letter(notice("naïve ☂", kind=kind, level=level), "ntfy", name="big", host="bücher\u2028")
    assert posted.body.decode() == "naïve ☂"
    assert posted.headers["Title"] == "big on b?cher?"
    assert posted.headers["Priority"] == priority
    assert tag is None or posted.headers["Tags"] == tag


EVENTS: list[tuple[Event, str]] = [
    (Phase(phase="restarting", step=3, reason="rank 1: killed"), "crash"),
    (Alert(topic="plateau", text="no better"), "plateau"),
    (Alert(topic="disk", text="little space"), "disk"),
    (Alert(topic="gpu", text="slowed down by heat: gpu 0"), "gpu"),
]


@pytest.mark.parametrize("form", ["json", "slack", "ntfy"])
async def test_every_form_arrives(hub: FakeHub, form: str) -> None:
    """Each kind of receiver gets one request an alert, with a body that can be decoded."""
    decode: Callable[[bytes], object] = bytes.decode if form == "ntfy" else json.loads
    async with receiving(200) as receiver:
        async with following(hub.feed, receiver.url, [], webhook_format=form):
            for event, _ in EVENTS:
                hub.feed.publish(event)
            await until(lambda: len(receiver.requests) == len(EVENTS))
        assert all(decode(body) for body in receiver.bodies)

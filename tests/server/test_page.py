"""The built-in page on a hub without ranks: a lost link, a long run, rewinds, broken numbers, narrow windows, both themes."""

from __future__ import annotations

import asyncio
import re
import threading
from array import array
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from itertools import count
from math import inf, nan
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from plt_tui.protocol.events import Alert, CommandStatus, End, Eval, Event, Gauges, Logs, Phase, RankStatus, Sample, Step
from plt_tui.server.http import HttpServer, serve_http
from tests.browser import DEADLINE_MS, visit
from tests.server.hub_fakes import FakeHub

TOKEN = "t0ken_of-a-run"
BLUE_ABOVE = """(() => {
    const canvas = document.querySelector("#loss");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height / 2);
    return data.filter((blue, i) => i % 4 === 2 && blue > data[i - 2] + 60).length;
})()"""
"""How many pixels of the upper half of the loss chart have the colour of the curve."""
LONG_LIVE = """async () => {
    const { Curves, MEASURES } = await import("/static/curves.js");
    const [curves, losses] = [new Curves(), []];
    for (let step = 1; step <= 50000; step++) {
        losses.push(step % 9973 === 0 ? NaN : Math.abs(Math.sin(step * step)));
        curves.append(Object.fromEntries([["step", step], ...MEASURES.map((name) => [name, losses.at(-1)])]));
    }
    let next = 1;
    const wrong = curves.points.filter(({ first, step, last, min, max }) => {
        const inside = losses.slice(first - 1, step);
        const numbers = inside.filter((loss) => !Number.isNaN(loss));
        const isRight = first === next && Object.is(last.loss, inside.at(-1)) && Object.is(max.loss, Math.max(...inside))
            && Object.is(min.loss, numbers.length ? Math.min(...numbers) : NaN);
        next = step + 1;
        return !isRight;
    });
    return [curves.points.length, next === 50001 ? wrong : ["steps are missing"]];
}"""
"""50 000 steps one by one: how many buckets the page makes of them, and those that are wrong."""
CUT_OFF = """[...document.querySelectorAll("main :is(p, li, h2, dd, button):not(.unseen)")]
    .filter((element) => element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display !== "inline")
    .map((element) => element.outerHTML)"""
"""Elements whose words do not fit into them."""
PAGE = files("plt_tui.server").joinpath("page")

_ResultT = TypeVar("_ResultT")

expect.set_options(timeout=DEADLINE_MS)


class Stage:
    """A hub whose events are recorded, and its server, in a thread of their own."""

    def __init__(self) -> None:
        self.hub = FakeHub()
        self.url = ""
        self._seqs = count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._server: HttpServer | None = None
        self._thread.start()

    def open(self, token: str = "") -> str:
        """Serve, where it was served before if it was."""
        address = urlsplit(self.url).netloc or "127.0.0.1:0"
        self._server = self._do(serve_http(self.hub, address, name="demo", token=token, control=bool(token)))
        assert self._server.problem == ""
        self.url = self._server.url
        return self.url

    def close(self) -> None:
        """The server is gone."""
        if self._server is not None:
            self._do(self._server.close())
        self._server = None

    def end(self) -> None:
        """The hub is gone too."""
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def say(self, *events: Event) -> None:
        """Publish events; but for what only counts while it is, each gets the next number of the record."""
        self._call(lambda: [self.hub.feed.publish(self._numbered(event)) for event in events])

    def train(self, first: int, last: int, loss: float = 2.5) -> None:
        """Steps of a run."""
        self.say(*(step(number, loss) for number in range(first, last + 1)))

    def forget(self) -> None:
        """Another run, whose record begins anew."""
        self.hub, self._seqs = FakeHub(), count(1)

    def begin(self) -> None:
        """The run starts to train."""
        self._call(self.hub.begin)
        self.say(Phase(phase="running"))

    def _numbered(self, event: Event) -> Event:
        is_recorded = not isinstance(event, Gauges | RankStatus | Logs)
        return replace(event, seq=next(self._seqs)) if is_recorded else event

    def _call(self, function: Callable[[], object]) -> None:
        async def call() -> None:
            function()

        self._do(call())

    def _do(self, work: Coroutine[Any, Any, _ResultT]) -> _ResultT:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30.0)


def step(number: int, loss: float) -> Step:
    """A step, a second after the one before."""
    return Step(
        time=1e9 + number,
        step=number,
        loss=loss,
        lr=3e-3,
        grad_norm=0.8,
        tokens=number * 100,
        tokens_per_s=4e4,
        step_ms=20.0,
    )


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A stage with a run that trains."""
    stage = Stage()
    try:
        stage.begin()
        yield stage
    finally:
        stage.end()


@contextmanager
def watched(stage: Stage, **window: Any) -> Iterator[Page]:
    """The page, live; it must not have complained."""
    with visit(stage.open(), **window) as visited:
        expect(visited.page.locator("#link-word")).to_have_text("live")
        yield visited.page
        assert [text for text in visited.complaints if "ERR_CONNECTION_REFUSED" not in text] == []


def shown(page: Page, words: str) -> None:
    """The loss curve is read off as `words`, in the end."""
    expect(page.locator("#loss")).to_have_attribute("aria-label", words)


def test_a_lost_link_is_told_and_goes_on_where_it_was(stage: Stage) -> None:
    """The page says that it reconnects and that the state was so; then it has what it missed, and asks for no past again."""
    stage.train(1, 50)
    with watched(stage) as page:
        shown(page, "Training loss 2.500 at step 50")
        stage.close()
        expect(page.locator("#link-word")).to_contain_text("reconnecting, last heard at")
        expect(page.locator("#state-word")).to_have_text("was training")
        stage.train(51, 60, loss=2.25)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(urlsplit(request.url).path))
        page.on("websocket", lambda socket: asked.append(urlsplit(socket.url).query))
        stage.open()
        expect(page.locator("#link-word")).to_have_text("live")
        shown(page, "Training loss 2.250 at step 60")
        assert "/api/v1/metrics" not in asked
        assert any(re.fullmatch("after=5[0-9]", query) for query in asked)


def test_another_run_at_the_same_address_is_shown_from_its_start(stage: Stage) -> None:
    """Nothing of the run that was there before is left."""
    stage.train(1, 50)
    with watched(stage) as page:
        shown(page, "Training loss 2.500 at step 50")
        stage.close()
        stage.forget()
        stage.begin()
        stage.train(1, 3, loss=1.0)
        stage.open()
        shown(page, "Training loss 1.000 at step 3")


def test_a_rewind_takes_its_steps_off_the_curve(stage: Stage) -> None:
    """Behind single steps and inside a bucket of many."""
    back = CommandStatus(id="r", name="rewind", args={"step": 30}, actor="x", status="applied", step=30, before=50)
    stage.train(1, 50)
    with watched(stage) as page:
        shown(page, "Training loss 2.500 at step 50")
        stage.say(back)
        shown(page, "Training loss 2.500 at step 30")
        stage.train(31, 33, loss=9.0)
        shown(page, "Training loss 9.000 at step 33")


def test_a_rewind_into_a_bucket_loads_the_curve_anew(stage: Stage) -> None:
    """A bucket cannot be cut, so the server is asked."""
    stage.train(1, 5000)
    with watched(stage) as page:
        shown(page, "Training loss 2.500 at step 5,000")
        stage.say(
            CommandStatus(id="r", name="rewind", args={"step": 4001}, actor="x", status="applied", step=4001, before=5000)
        )
        shown(page, "Training loss 2.500 at step 4,001")
        stage.train(4002, 4010, loss=2.0)
        shown(page, "Training loss 2.000 at step 4,010")


def test_a_spike_of_one_step_in_a_long_run_is_drawn(stage: Stage) -> None:
    """The curve reaches as high as the one step does, although 50 steps share a point; and the value can be read off."""
    losses = array("d", [2.0]) * 100_000
    losses[70_000] = 8.0
    columns = {name: array("d", range(1, 100_001)) for name in ("time", "step", "tokens")}
    columns.update({name: array("d", [1.0]) * 100_000 for name in ("lr", "grad_norm", "tokens_per_s", "step_ms", "data_ms")})
    columns["loss"] = losses
    stage._call(lambda: stage.hub.feed.publish_rows(columns, replace(step(100_000, 2.0), seq=200_000)))
    with watched(stage) as page:
        shown(page, "Training loss 2.000 at step 100,000")
        assert page.evaluate(BLUE_ABOVE) > 50
        page.locator("#loss").focus()
        page.keyboard.press("Home")
        for _ in range(70):
            page.keyboard.press("PageDown")
        expect(page.locator("#loss-note")).to_have_text("step 70,050 · 2.000 – 8.000")
        expect(page.locator("#announce")).to_have_text("Training loss 2.000 at step 70,050")


def test_no_extreme_is_lost_when_a_page_has_been_open_for_long(stage: Stage) -> None:
    """Steps that came one by one are put together in the end: each bucket has the least, greatest and last of its steps."""
    with watched(stage) as page:
        buckets, wrong = page.evaluate(LONG_LIVE)
    assert 2000 <= buckets <= 6000
    assert wrong == []


def test_the_newest_steps_can_be_looked_at_alone(stage: Stage) -> None:
    """They are asked for, each for itself, and the curve begins with them."""
    stage.train(1, 5000)
    with watched(stage) as page:
        shown(page, "Training loss 2.500 at step 5,000")
        with page.expect_response(re.compile("metrics.from=4901&")):
            page.get_by_label("Steps").select_option("newest 100")
        page.locator("#loss").focus()
        page.keyboard.press("Home")
        expect(page.locator("#loss-note")).to_have_text("step 4,901")
        page.keyboard.press("Escape")
        expect(page.locator("#loss-note")).to_have_text("nats per token")


def test_what_is_no_number_is_shown_as_that(stage: Stage) -> None:
    """NaN and infinity stand there in words, before and after the page was opened, and in evaluations."""
    stage.train(1, 20)
    stage.train(21, 21, loss=nan)
    stage.say(Eval(step=21, loss=nan, perplexity=inf, bits_per_byte=nan, accuracy=0.1))
    with watched(stage) as page:
        shown(page, "Training loss NaN at step 21")
        expect(page.locator("#evals")).to_contain_text("NaN")
        stage.train(22, 22, loss=inf)
        shown(page, "Training loss inf at step 22")
        page.get_by_label("log axis").check()
        stage.train(23, 23, loss=-1.0)
        shown(page, "Training loss -1.000 at step 23")


@pytest.mark.parametrize(("phase", "words"), [("finished", "finished"), ("failed", "failed"), ("stopped", "stopped")])
def test_an_end_is_an_end_and_no_lost_link(stage: Stage, phase: Literal["finished", "failed", "stopped"], words: str) -> None:
    """The page says how it ended and why, and does not say that it reconnects."""
    stage.train(1, 5)
    with watched(stage) as page:
        stage.say(End(phase=phase, step=5, exit_code=4, reason="rank 1 was killed"))
        stage.close()
        expect(page.locator("#link-word")).to_have_text("ended")
        expect(page.locator("#state-word")).to_have_text(words)
        expect(page.locator("#reason")).to_contain_text("rank 1 was killed")
        expect(page.locator("#reason")).to_contain_text("exit code 4")


def test_no_window_is_too_narrow(stage: Stage) -> None:
    """At 360 pixels nothing sticks out to the side, however long the words of a run are; with controls too."""
    word = "x" * 300
    stage.train(1, 300)
    stage.say(
        Alert(topic="disk", text=word, level="error"),
        Phase(phase="paused", reason=word),
        Sample(step=3, prompt=word, text=word),
        Eval(step=3, loss=2.0, perplexity=7.4, bits_per_byte=1.0, accuracy=0.3),
        Logs(lines=[[1e9, "rank 0", "ERROR", word]]),
        RankStatus(rank=0, pid=1, doing="training " + word, step=3, step_ms=9.0, forward_ms=3.0, memory_bytes=10**9),
        Gauges(
            cores=[50.0] * 48,
            memory_used_bytes=10**9,
            memory_total_bytes=10**10,
            gpus=[
                {"index": 0, "name": word, "utilisation": 40, "memory_used_bytes": 1, "memory_total_bytes": 2, "reason": word}
            ],
        ),
    )
    with visit(f"{stage.open(token=TOKEN)}/#token={TOKEN}", width=360, height=740) as visited:
        expect(visited.page.locator("#link-word")).to_have_text("live")
        expect(visited.page.locator("#control-card")).to_be_visible()
        expect(visited.page.locator("#machine")).to_contain_text("GPU 0")
        assert not visited.is_too_wide
        assert visited.page.evaluate(CUT_OFF) == []


def luminance(color: str) -> float:
    """Relative luminance of a colour as in CSS (WCAG 2.2)."""
    digits = color.removeprefix("#")
    parts = [int(part * 2 if len(part) == 1 else part, 16) / 255 for part in re.findall("." * (len(digits) // 3), digits)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, 1 to 21 (WCAG 2.2)."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("number", [0, 1], ids=["dark", "light"])
def test_words_can_be_read_and_curves_be_seen(number: int) -> None:
    """Contrast of at least 4.5 for words and 3 for curves on every background of the theme."""
    style = PAGE.joinpath("page.css").read_text()
    colors = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+);", style.split(":root {")[1 + number].split("}")[0]))
    for ground in ("back", "card", "well"):
        for words in ("ink", "muted", "good", "warning", "bad", "accent"):
            assert contrast(colors[words], colors[ground]) >= 4.5, (words, ground)
        for curve in ("train", "eval", "speed", "lr", "norm"):
            assert contrast(colors[curve], colors[ground]) >= 3, (curve, ground)
    assert contrast(colors["on-accent"], colors["accent"]) >= 4.5


def test_the_page_makes_no_markup_and_has_none_inside() -> None:
    """No way of turning words into markup or code is used, and nothing stands inline, so the policy needs no exception."""
    sources = {entry.name: entry.read_text() for entry in PAGE.iterdir()}
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc|eval\(|Function\(|setAttribute\(\"style|https?://"
    found = {name: re.findall(ways, text.replace("http://www.w3.org/2000/svg", "")) for name, text in sources.items()}
    assert {name: ways for name, ways in found.items() if ways} == {}
    inline = r"<script(?![^>]*src=)|<style|\sstyle=|\son[a-z]+="
    assert re.findall(inline, re.sub(r'href="data:[^"]*"', "", sources["index.html"])) == []


def test_who_may_not_steer_is_told_how(stage: Stage) -> None:
    """A read-only page says so, and has no buttons."""
    with watched(stage) as page:
        expect(page.locator("#footer")).to_contain_text("read-only")
        expect(page.locator("#control-card")).to_be_hidden()


def test_commands_are_answered_where_they_were_given(stage: Stage) -> None:
    """In force, refused with the reason, and after the hub has gone."""
    stage.train(1, 7)
    with visit(f"{stage.open(token=TOKEN)}/#token={TOKEN}") as visited:
        page = visited.page
        page.get_by_role("button", name="Checkpoint").click()
        expect(page.locator("#answer")).to_have_text("Checkpoint taken at step 7")
        page.get_by_role("button", name="Undo last edit").click()
        expect(page.locator("#answer")).to_contain_text("nothing to \\x1b[31mundo")
        assert [command.name for command in stage.hub.commands] == ["checkpoint"]
        stage.close()
        expect(page.get_by_role("button", name="Pause")).to_be_disabled()


def test_the_hub_is_left_with_no_follower_of_a_page_that_is_closed(stage: Stage) -> None:
    """Who goes away takes nothing of the hub's with them."""
    with watched(stage):
        assert len(stage.hub.feed._listeners) == 1
    stage.close()
    assert stage.hub.feed._listeners == []

"""The built-in page of a real run, in a real browser: what it shows, what it does, and what it must not do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from plt_tui.control.folder import RunFolder
from plt_tui.control.record import read_journal
from plt_tui.protocol.events import CommandStatus
from tests.browser import DEADLINE_MS, visit
from tests.end_to_end.runs import UNHURRIED, at_step, ended, finish, read_until, show, start, stop, wait_until

PLUGIN = Path(__file__).with_name("hostile_plugin.py")
MARKUP = "<img src=x onerror='window.owned = 1'><script>window.owned = 2</script><b id=owned>&amp;"
LONG = (
    "train.steps=1000000",
    "eval.every=20",
    "sample.every=20",
    "checkpoint.every=0",
    "metrics.address=127.0.0.1:0",
    "parallel.ranks=1",
    "metrics.log_every=0",  # the page keeps the newest lines, and what the tests look for is said once
)
SHOWN_STEP = "Number(document.querySelector('#loss').ariaLabel?.match(/[0-9,]+$/)[0].replaceAll(',', '') ?? 0)"
DRAWN = "document.querySelector('#loss').toDataURL()"

expect.set_options(timeout=DEADLINE_MS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A live run with a metrics server."""

    name: str
    folder: Path
    url: str

    @property
    def token(self) -> str:
        return (self.folder / "runs" / self.name / "http-token").read_text()

    def answers(self, verb: str) -> list[CommandStatus]:
        """What the record says about commands of this verb that are in force."""
        journal = read_journal(RunFolder(self.folder / "runs" / self.name))
        return [
            event for event in journal if isinstance(event, CommandStatus) and (event.name, event.status) == (verb, "applied")
        ]


@contextmanager
def served(folder: Path, name: str, *sets: str, extra: tuple[str, ...], exit_code: int = 143) -> Iterator[Served]:
    """A run that trains until the block is left; it must then have ended, or end, with `exit_code`."""
    process = start(folder, name, *LONG, *sets, extra=extra)
    with ended(process):
        read_until(process, at_step(40))
        info = json.loads((folder / "runs" / name / "run.json").read_text())
        yield Served(name=name, folder=folder, url=info["metrics_url"])
        if process.poll() is None:
            stop(process)
        finish(process, exit_code)


def wait_for_step(page: Page, step: int) -> None:
    """Return once the page has drawn this step."""
    wait_until(lambda: page.evaluate(SHOWN_STEP) >= step)


def test_the_page_shows_a_run_as_it_goes_on(tmp_path: Path) -> None:
    """The curve moves; state, ranks, machine, sample and log are there; nobody else is asked, and nothing can be done."""
    with (
        served(tmp_path, "watched", "parallel.ranks=2", extra=("--serve-metrics", *UNHURRIED), exit_code=130) as run,
        visit(run.url) as visited,
    ):
        page = visited.page
        expect(page.locator("#state-word")).to_have_text("training")
        expect(page.locator("#link-word")).to_have_text("live")
        expect(page.locator("#name")).to_have_text("watched")
        wait_for_step(page, 40)
        drawn, step = page.evaluate(DRAWN), page.evaluate(SHOWN_STEP)
        wait_for_step(page, step + 20)
        assert page.evaluate(DRAWN) != drawn
        expect(page.locator("#lines")).to_contain_text("CPU threads")
        expect(page.locator("#ranks li")).to_have_count(2)
        expect(page.locator("#machine")).to_contain_text("memory")
        expect(page.locator("#evals")).to_contain_text("Perplexity")
        expect(page.locator("#sample")).not_to_be_empty()
        expect(page.locator("#viewers")).to_have_text("2 viewers")  # the other one is the console
        expect(page.locator("#control-card")).to_be_hidden()
        expect(page.locator("#token-card")).to_be_hidden()
        assert visited.hosts == {urlsplit(run.url).netloc}
        assert visited.complaints == []
        assert not visited.is_too_wide


def test_who_has_the_token_pauses_resumes_and_changes_the_run(tmp_path: Path) -> None:
    """Each button does what the record says it did; the token leaves the address bar; the end of the run is told as such."""
    with (
        served(tmp_path, "steered", extra=("--http-control", *UNHURRIED)) as run,
        visit(f"{run.url}/#token={run.token}") as visited,
    ):
        page = visited.page
        run_token = run.token  # gone with the run
        expect(page.locator("#control-card")).to_be_visible()
        assert page.url == f"{run.url}/"
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("#answer")).to_contain_text("Paused at step")
        expect(page.locator("#state-word")).to_have_text("paused")
        assert show(tmp_path, "steered")["state"] == "paused"
        (paused,) = run.answers("pause")
        assert paused.actor == "http page"
        wait_for_step(page, paused.step)
        assert page.evaluate(SHOWN_STEP) == paused.step
        page.get_by_role("button", name="Resume").click()
        expect(page.locator("#state-word")).to_have_text("training")
        wait_for_step(page, paused.step + 20)
        page.get_by_role("textbox", name="Learning rate").fill("0.0005")
        page.get_by_role("button", name="Apply").click()
        expect(page.locator("#answer")).to_contain_text("in force at step")
        assert [status.after for status in run.answers("set")] == [0.0005]
        page.get_by_role("textbox", name="Learning rate").fill("fast")
        page.get_by_role("button", name="Apply").click()
        expect(page.locator("#answer")).to_contain_text("not a number")
        page.get_by_role("button", name="Stop …").click()
        page.get_by_role("button", name="Stop without saving").click()
        expect(page.locator("#state-word")).to_have_text("stopped")
        expect(page.locator("#link-word")).to_have_text("ended")
        expect(page.get_by_role("button", name="Pause")).to_be_disabled()
        assert not [url for url in visited.asked if run_token in url]


def test_without_the_token_nothing_is_shown(tmp_path: Path) -> None:
    """The page asks for the token and holds nothing of the run; a wrong one opens nothing, the right one all."""
    with served(tmp_path, "closed", extra=("--http-control", *UNHURRIED), exit_code=130) as run, visit(run.url) as visited:
        page = visited.page
        expect(page.locator("#token-card")).to_be_visible()
        expect(page.locator("#control-card")).to_be_hidden()
        expect(page.locator("#link-word")).to_have_text("token needed")
        assert "closed" not in page.inner_text("body")
        page.get_by_label("Token of the run").fill("wrong")
        page.get_by_role("button", name="Open").click()
        expect(page.locator("#token-problem")).to_contain_text("not the run's token")
        expect(page.locator("#control-card")).to_be_hidden()
        page.get_by_label("Token of the run").fill(run.token)
        page.get_by_role("button", name="Open").click()
        expect(page.locator("#control-card")).to_be_visible()
        expect(page.locator("#token-card")).to_be_hidden()
        expect(page.locator("#name")).to_have_text("closed")
        page.reload()
        expect(page.locator("#control-card")).to_be_visible()
        assert [text for text in visited.complaints if "401" not in text] == []
        assert not [url for url in visited.asked if run.token in url or "wrong" in url]


def test_what_a_run_says_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Markup in log lines, a prompt and a reason is shown as it is, and does nothing."""
    (tmp_path / "said").write_text(f"{MARKUP}\n")
    monkeypatch.setenv("SAY", str(tmp_path / "said"))
    sets = ("model.arch=hostile", f"sample.prompt={MARKUP}")
    extra = ("--serve-metrics", "--plugin", str(PLUGIN))
    with served(tmp_path, "hostile", *sets, extra=extra, exit_code=130) as run, visit(run.url) as visited:
        page = visited.page
        expect(page.locator("#lines")).to_contain_text(MARKUP)
        expect(page.locator("#prompt")).to_have_text(MARKUP)
        assert page.evaluate("window.owned === undefined")
        assert page.locator("main img, main script, #owned").count() == 0
        assert visited.complaints == []
        assert visited.hosts == {urlsplit(run.url).netloc}
        wait_until(lambda: page.evaluate(SHOWN_STEP) > 40)

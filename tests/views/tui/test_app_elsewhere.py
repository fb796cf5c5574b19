"""The UI on a run of another machine: whose run it is can be seen, and what it tells to type leads there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import fakes
import pytest
from driving import WIDE, screen_text, until

from plt_tui.config.schema import UiSection
from plt_tui.control.state import RunState
from plt_tui.errors import HubUnreachable, UsageError
from plt_tui.protocol.events import Event
from plt_tui.views.files import RunFiles
from plt_tui.views.source import Elsewhere
from plt_tui.views.tui.app import RunApp
from plt_tui.views.tui.session import SILENCE_S, RunSession
from tests.server.hub_fakes import until as until_so

GPU1 = Elsewhere(host="gpu1", login="ssh -t ana@gpu1", command="~/bin/plt-tui", again="ssh://ana@gpu1/quickstart")


def refuse(*_: object) -> None:
    """What is asked of files that are elsewhere."""
    raise UsageError("those files are on gpu1")


@pytest.mark.parametrize(
    ("history", "keys", "wanted"),
    [
        (fakes.training, "", ["gpu1:quickstart"]),
        (fakes.finished, "", ["ssh -t ana@gpu1 '~/bin/plt-tui show quickstart'"]),
        (fakes.failed, "", ["ssh -t ana@gpu1 '~/bin/plt-tui run --resume auto --name quickstart'"]),
        (fakes.training, "i", ["ssh -t ana@gpu1 '~/bin/plt-tui ctl quickstart stop'"]),
        (fakes.finished, "i", ["ssh -t ana@gpu1 '~/bin/plt-tui eval quickstart'"]),
        (fakes.training, "b", ["those files are on gpu1"]),
    ],
)
async def test_a_run_elsewhere_says_where(history: Callable[[], list[Event]], keys: str, wanted: list[str]) -> None:
    """In the header, in the lines to type, and where its files are asked for."""
    source = fakes.FakeSource(history())
    files = RunFiles(last_words=lambda *_: None, texts=refuse)  # type: ignore[arg-type]  # it never returns
    app = RunApp(
        source.connect,
        name="quickstart",
        ui=UiSection(),
        config=fakes.CONFIG,
        files=files,
        elsewhere=GPU1,
        clock=lambda: fakes.at(600),
    )
    async with app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: app.model.is_live)
        await pilot.press(*keys)
        await until(pilot, lambda: all(text in screen_text(app) for text in wanted))


def session_of(source: fakes.FakeSource, last_words: Callable[..., Sequence[Event] | None]) -> RunSession:
    """A session on a run of that machine."""
    files = RunFiles(last_words=last_words, texts=refuse)  # type: ignore[arg-type]  # it never returns
    return RunSession(source.connect, name="quickstart", config=None, readonly=False, actor="", files=files, elsewhere=GPU1)


async def test_a_view_that_was_let_go_leads_back_to_the_other_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its address; the name alone would be looked for here."""
    monkeypatch.setattr("plt_tui.views.tui.session.FATE_S", 0.1)
    source = fakes.FakeSource(fakes.training())
    source.hang_up()
    session = session_of(source, lambda *_: None)
    await session.follow()
    assert session.is_cut
    assert session.trouble.endswith("but the run goes on: plt-tui attach ssh://ana@gpu1/quickstart")


async def test_the_loss_of_a_link_is_no_end() -> None:
    """What only the other machine knows is not said; and a command has its reason."""

    def unknown(_: RunState, __: int, ___: bool) -> None:
        raise HubUnreachable("whether the run goes on is known there")

    source = fakes.FakeSource(fakes.training())
    source.hang_up()
    session = session_of(source, unknown)
    await session.follow()
    assert session.trouble == "the hub has closed the connection; whether the run goes on is known there"
    assert not session.model.state.is_over
    assert "known there" in session.refusal()


async def test_silence_may_be_the_link_and_is_no_cut() -> None:
    """A view that is left in the meantime has lost nothing."""
    source = fakes.FakeSource(fakes.training())
    session = session_of(source, lambda *_: None)
    following = asyncio.ensure_future(session.follow())
    await until_so(lambda: session.model.is_live)
    session.notice_silence(100.0)
    session.notice_silence(100.0 + SILENCE_S)
    assert "or the link to it is slow" in session.trouble
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert not session.is_cut

"""The page of the run's configuration: every setting, where it came from, and nothing that is a secret."""

from __future__ import annotations

import fakes
import pytest
from driving import COMPACT, WIDE, driven, screen_lines, until, until_seen

from plt_tui.config.alerts import AlertsSection
from plt_tui.config.schema import RunConfig, TrainSection
from plt_tui.control.state import RunState
from plt_tui.views.tui.screens.configuration import ConfigurationDialog, passages

CONFIG = RunConfig(train=TrainSection(batch_size=4, grad_clip=0.5))


def lines_of(config: RunConfig, state: RunState | None = None) -> dict[str, str]:
    """By section and key what stands beside it."""
    found = {}
    for passage in passages(config, state or RunState()):
        for line in passage.text.split("\n"):
            key, _, rest = line.partition(" ")
            found[f"{passage.heading.strip('[]')}.{key}"] = " ".join(rest.split())
    return found


def test_every_setting_is_there_with_where_it_came_from() -> None:
    """As one would type it."""
    lines = lines_of(CONFIG)
    names = {f"{section}.{key}" for section, values in CONFIG.model_dump().items() for key in values}
    assert set(lines) == names - {"alerts.webhook"}
    assert lines["train.batch_size"] == "4 configured"
    assert lines["train.grad_clip"] == "0.5 configured"
    assert lines["optim.betas"] == "[0.9, 0.95] default"
    assert lines["data.train"].endswith(" default")
    assert lines["metrics.control"] == "false default"


def test_a_secret_is_not_shown() -> None:
    """Also where the configuration has one."""
    secret = RunConfig(alerts=AlertsSection(webhook="https://hooks.example/secret"))
    assert "secret" not in str(passages(secret, RunState()))


@pytest.mark.parametrize("size", [WIDE, COMPACT, (60, 16)])
async def test_the_page_scrolls_and_closes(size: tuple[int, int]) -> None:
    """The key that opens it closes it; what an edit put in force stands above what was configured."""
    edit = fakes.command("e2", "set", {"name": "grad_clip", "value": 0.25}, 400, actor="ctl bob@laptop")
    async with driven([*fakes.training(), *edit], size=size, config=CONFIG) as (pilot, source):
        await pilot.press("C")
        await until_seen(pilot, "configuration · at step 600")
        await until_seen(pilot, "[run]")
        assert [len(line) for line in screen_lines(pilot.app)] == [size[0]] * size[1]
        dialog = pilot.app.screen
        assert isinstance(dialog, ConfigurationDialog)
        lines = lines_of(CONFIG, dialog._state)
        assert lines["train.grad_clip"] == "0.25 since step 400 · ctl bob@laptop, configured 0.5"
        assert "×0.5 since step 301 · tui ana@box, configured 0.003" in lines["optim.lr"]
        await pilot.press("end")
        await until_seen(pilot, "chart")
        await pilot.press("Y")
        await until(pilot, lambda: "[optim]" in pilot.app.clipboard)
        await pilot.press("C")
        await until(pilot, lambda: not isinstance(pilot.app.screen, ConfigurationDialog))
        assert source.sent == []


async def test_a_view_that_does_not_know_the_configuration_says_so() -> None:
    """Rather than show an empty page."""
    async with driven(fakes.training(), config=None) as (pilot, _):
        await pilot.press("C")
        await until_seen(pilot, "this view does not know the run's configuration")

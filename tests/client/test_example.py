"""The rule of docs/examples/lower_lr_on_plateau.py; against real ranks it is tried in tests/end_to_end/test_client.py."""

from __future__ import annotations

import asyncio
import math
import runpy
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plt_tui.client.history import History
from plt_tui.client.picture import Picture
from plt_tui.client.table import Table
from plt_tui.control.folder import RunFolder
from tests.client.hubs import NAME, WordyHub, door_of
from tests.server.hub_fakes import DEADLINE_S

EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "examples" / "lower_lr_on_plateau.py"))
OPTIONS = Namespace(run=NAME, directory="runs", window=5, least=0.01, factor=0.5, times=2)


def history(losses: list[float]) -> History:
    """Steps with these losses."""
    picture = Picture()
    columns: dict[str, Any] = {name: np.zeros(len(losses)) for name in picture.history.as_dict()}
    kinds = {name: values.dtype.type for name, values in picture.history.as_dict().items()}
    return History(**Table(kinds, {**columns, "step": np.arange(1, len(losses) + 1), "loss": losses}).columns())


@pytest.mark.parametrize(
    ("losses", "since", "still"),
    [
        ([], 1, False),
        ([2.0] * 9, 1, False),
        ([2.0] * 10, 1, True),
        ([2.0] * 10, 2, False),
        ([2.0] * 5 + [1.99] * 5, 1, True),
        ([2.0] * 5 + [1.9] * 5, 1, False),
        ([2.0] * 5 + [3.0] * 5, 1, True),
        ([9.0] * 5 + [2.0] * 10, 6, True),
        ([2.0] * 9 + [math.nan], 1, False),
    ],
)
def test_when_the_loss_stands_still(losses: list[float], since: int, still: bool) -> None:
    """Only steps since the last edit count, and a loss that is no number is none of its business."""
    stands_still: Callable[..., bool] = EXAMPLE["stands_still"]
    assert stands_still(history(losses), since, 5, 0.01) is still


async def test_it_lowers_waits_and_lowers_again(
    folder: RunFolder, no_task_left: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each time twice the window after the last edit, and then it leaves."""
    hub = WordyHub()
    hub.begin()
    async with door_of(folder, hub):
        watching = asyncio.create_task(EXAMPLE["watch"](OPTIONS))
        give_up_at = asyncio.get_running_loop().time() + DEADLINE_S
        while not watching.done() and asyncio.get_running_loop().time() < give_up_at:
            hub.train(hub.feed.state.step + 1, hub.feed.state.step + 1)
            await asyncio.sleep(0.01)
        await asyncio.wait_for(watching, DEADLINE_S)
    first, second = hub.feed.state.edits
    assert second.step - first.step >= 2 * OPTIONS.window
    assert [command.args for command in hub.commands] == [{"name": "lr", "value": 0.5, "mode": "scale"}] * 2
    assert capsys.readouterr().out.splitlines() == [f"step {edit.step}: lr 0.003 -> 0.5" for edit in (first, second)]

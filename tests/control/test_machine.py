"""Promises of `control.machine`: a GPU that heat or power holds back is told once, and taken back once."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.control.machine import CLEAR_AFTER, PAUSE, REASONS, TOLD_AFTER, MachineWatch
from plt_tui.control.nvml import SLOWDOWNS
from plt_tui.control.state import RunState, apply
from plt_tui.protocol.events import Alert, Checkpoint, Gauges
from plt_tui.protocol.notices import notice_of


def reading(*throttled: str | None, **said: Any) -> Gauges:
    """GPUs that are held back by this; None: the sensor does not say."""
    gpus = [{"index": index, "throttled": reason} for index, reason in enumerate(throttled)]
    return Gauges(cores=[], memory_used_bytes=0, memory_total_bytes=0, gpus=gpus, **said)


class Hub:
    """What the hub does with the alerts."""

    def __init__(self) -> None:
        self.watch, self.state = MachineWatch(), RunState()
        self.said: list[Alert] = []

    def read(self, count: int, *throttled: str | None) -> list[str]:
        """So many equal readings, and what was said about them."""
        before = len(self.said)
        for _ in range(count):
            for alert in self.watch.look(self.state, reading(*throttled)):
                self.said.append(alert)
                self.state = apply(self.state, alert)
        return [alert.text for alert in self.said[before:]]


@pytest.mark.parametrize("reason", REASONS)
def test_a_slowdown_is_told_once_and_taken_back_once(reason: str) -> None:
    """When it has lasted, and when it has been gone for long."""
    hub = Hub()
    assert hub.read(TOLD_AFTER - 1, "", reason) == []
    assert hub.read(100, "", reason) == [f"slowed down by {reason}: gpu 1"]
    assert hub.read(CLEAR_AFTER, "", "") == []
    assert hub.read(100, "", "") == [""]
    assert hub.state.alerts == {}


def test_heat_calls_a_person_and_the_power_cap_only_stands() -> None:
    """A card that is kept within its watts works as it was bought."""
    hub = Hub()
    hub.read(TOLD_AFTER, "power cap")
    hub.read(TOLD_AFTER, "power cap, heat")
    assert [alert.text for alert in hub.said] == [
        "slowed down by power cap: gpu 0",
        "slowed down by power cap: gpu 0; by heat: gpu 0",
    ]
    assert notice_of(hub.said[0]) is None
    notice = notice_of(hub.said[1])
    assert notice is not None
    assert (notice.kind, notice.level) == ("gpu", "warning")
    assert hub.read(2 * CLEAR_AFTER, "power cap") == ["slowed down by power cap: gpu 0"]
    assert hub.said[-1].level == "info"


def test_another_gpu_is_news_and_one_less_is_none() -> None:
    """Who was called comes anyway."""
    hub = Hub()
    assert hub.read(20, "heat", "") == ["slowed down by heat: gpu 0"]
    assert hub.read(20, "heat", "heat") == ["slowed down by heat: gpu 0, 1"]
    assert hub.read(2 * CLEAR_AFTER, "", "heat") == []
    assert hub.read(2 * CLEAR_AFTER, "", "") == [""]


def test_moments_are_not_worth_a_word() -> None:
    """Nor is a GPU that waits for the clocks of others, or one whose sensor does not say."""
    hub = Hub()
    for _ in range(20):
        assert hub.read(TOLD_AFTER - 1, "heat") == []
        assert hub.read(PAUSE + 1, "") == []
    assert hub.read(100, SLOWDOWNS[0x10]) == []
    assert hub.read(100, None) == []
    assert hub.read(100) == []


def test_what_a_sensor_does_not_say_changes_nothing() -> None:
    """A driver that hangs is no cool GPU."""
    hub = Hub()
    assert hub.read(TOLD_AFTER, "heat") == ["slowed down by heat: gpu 0"]
    assert hub.read(2 * CLEAR_AFTER, None) == []
    assert hub.read(2 * CLEAR_AFTER) == []


def test_an_alert_of_a_hub_that_died_is_taken_back() -> None:
    """Its successor knows no slowdown until it has seen one."""
    hub = Hub()
    hub.state = apply(hub.state, Alert(topic="gpu", text="slowed down by heat: gpu 0"))
    assert hub.read(1, "heat") == [""]
    assert hub.read(TOLD_AFTER, "heat") == ["slowed down by heat: gpu 0"]


@given(st.lists(st.tuples(st.integers(1, 80), st.sampled_from(["", "heat", "power cap", "heat, power cap"])), max_size=40))
def test_alerts_do_not_flap(spells: list[tuple[int, str]]) -> None:
    """Whatever the GPU does: what is told has lasted, and is taken back at last."""
    hub = Hub()
    for count, reasons in spells:
        assert len(hub.read(count, reasons)) <= 2
    hub.read(CLEAR_AFTER + 1, "")
    assert hub.state.alerts == {}
    texts = [alert.text for alert in hub.said]
    assert all(one != other for one, other in itertools.pairwise(texts))


def test_little_space_is_told_with_it() -> None:
    """One reading may be news of both."""
    watch, state = MachineWatch(), apply(RunState(), Checkpoint(step=5, path="c", bytes=1 << 30))
    for _ in range(TOLD_AFTER - 1):
        assert watch.look(state, reading("heat", disk_free_bytes=2 << 30)) == []
    assert [alert.topic for alert in watch.look(state, reading("heat", disk_free_bytes=1 << 30))] == ["disk", "gpu"]

"""What the gauges warn of: too little space for the next checkpoint, and GPUs held back by heat or power.

Pure: reads no sensor and no clock. Invariant: the answer does not flap: a slowdown that is told has lasted for TOLD_AFTER
readings, and has been gone for CLEAR_AFTER when it is taken back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from plt_tui.control.nvml import SLOWDOWNS
from plt_tui.control.space import space_alert
from plt_tui.control.state import RunState
from plt_tui.protocol.events import Alert, Gauges

TOPIC = "gpu"
POWER_CAP = SLOWDOWNS[0x04]
REASONS = tuple(words for bit, words in SLOWDOWNS.items() if bit != 0x10)
"""Those that are told; that a GPU waits for the clocks of others says nothing of itself."""
TOLD_AFTER = 10
"""Readings, one a second: a GPU at work meets its power cap for moments, which costs nothing that one would see."""
PAUSE = 3
"""Readings without the reason that do not end a spell which is not told yet."""
CLEAR_AFTER = 60


@dataclass(slots=True)
class Spell:
    """One reason on one GPU: readings that have had it, and readings without it since."""

    held: int = 0
    free: int = 0
    is_told: bool = False

    @property
    def is_over(self) -> bool:
        """It counts no more."""
        return self.free > (CLEAR_AFTER if self.is_told else PAUSE)


class MachineWatch:
    """Follows the gauges of one session. In the hub's event loop."""

    def __init__(self) -> None:
        self._spells: dict[tuple[int, str], Spell] = {}
        """By GPU and reason."""
        self._named: frozenset[tuple[int, str]] = frozenset()
        """What the last alert named."""

    def look(self, state: RunState, gauges: Gauges) -> list[Alert]:
        """What is new with this reading, for a run in `state`."""
        news = space_alert(state, gauges.disk_free_bytes), self._slowdown(gauges, state.alerts)
        return [alert for alert in news if alert is not None]

    def _slowdown(self, gauges: Gauges, alerts: Mapping[str, Alert]) -> Alert | None:
        """A GPU slowed down since now, or none any more; None for nothing new.

        alerts: those that stand. What a reading does not know leaves everything as it was.
        """
        for gpu in gauges.gpus:
            if gpu.get("throttled") is not None:
                self._take(gpu.get("index", 0), str(gpu["throttled"]).split(", "))
        self._spells = {key: spell for key, spell in self._spells.items() if not spell.is_over}
        for spell in self._spells.values():
            spell.is_told |= spell.held >= TOLD_AFTER
        told = frozenset(key for key, spell in self._spells.items() if spell.is_told)
        if told <= self._named and (told or TOPIC not in alerts) and _is_usual(told) == _is_usual(self._named):
            return None
        self._named = told
        return Alert(topic=TOPIC, text=_words(told) if told else "", level="info" if _is_usual(told) else "warning")

    def _take(self, gpu: int, reasons: list[str]) -> None:
        for reason in REASONS:
            if reason in reasons:
                spell = self._spells.setdefault((gpu, reason), Spell())
                spell.held, spell.free = spell.held + 1, 0
            elif (gpu, reason) in self._spells:
                self._spells[gpu, reason].free += 1


def _is_usual(told: Collection[tuple[int, str]]) -> bool:
    """The power cap alone: how a card at full load is kept within its watts."""
    return all(reason == POWER_CAP for _, reason in told)


def _words(told: Collection[tuple[int, str]]) -> str:
    """Which GPUs, by reason: "slowed down by heat: gpu 0, 1; by power cap: gpu 3"."""
    gpus = {reason: sorted(gpu for gpu, of in told if of == reason) for reason in REASONS}
    return "slowed down " + "; ".join(f"by {reason}: gpu {', '.join(map(str, of))}" for reason, of in gpus.items() if of)

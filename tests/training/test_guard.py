"""Promises of the guard: what is out of line, to the bit on every rank and after a restore, and what is done about it."""

from __future__ import annotations

import json
import math
import random
import statistics
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.config.schema import GuardSection
from plt_tui.training.guard import LEAST_SPREAD, Act, Finding, Windows, decide

NAN, INF = math.nan, math.inf
SPIKE = Finding(what="loss", value=8.213, z=9.31, mean=3.102, steps=128)
BROKEN = Finding(what="grad_norm", value=INF, z=NAN, mean=NAN, steps=128)

numbers = st.floats(0.0, 1e30, allow_subnormal=False)
pairs = st.tuples(numbers, numbers)


def filled(*pairs: tuple[float, float], window: int = 8, z: float = 6.0) -> Windows:
    """Windows that have seen `pairs`, oldest first."""
    windows = Windows(GuardSection(window=window, z=z))
    for pair in pairs:
        windows.add(*pair)
    return windows


def noise(seed: int, count: int) -> list[tuple[float, float]]:
    """Losses around 3 and gradient norms around 1."""
    draw = random.Random(seed)
    return [(draw.gauss(3.0, 0.1), draw.gauss(1.0, 0.05)) for _ in range(count)]


def test_z_is_the_textbook_s() -> None:
    """Mean and sample standard deviation of the window alone: older steps no longer count."""
    pairs = noise(1, 300)
    finding = filled(*pairs, window=128).look(9.0, 1.0)
    losses = [loss for loss, _ in pairs[-128:]]
    assert finding is not None
    assert (finding.what, finding.value, finding.steps) == ("loss", 9.0, 128)
    assert finding.mean == statistics.fmean(losses)
    assert finding.z == pytest.approx((9.0 - finding.mean) / statistics.stdev(losses), rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "grad_norm", "what"),
    [(9.0, 1.0, "loss"), (3.0, 9.0, "grad_norm"), (9.0, 99.0, "grad_norm"), (99.0, 9.0, "loss"), (0.1, 0.1, None)],
)
def test_the_worse_of_both_is_named(loss: float, grad_norm: float, what: str | None) -> None:
    """The larger z wins, and what falls is no spike."""
    finding = filled(*noise(2, 64), window=64).look(loss, grad_norm)
    assert (finding.what if finding else None) == what


@pytest.mark.parametrize(("steps", "is_found"), [(0, False), (3, False), (4, True), (8, True), (20, True)])
def test_half_a_window_must_be_known(steps: int, is_found: bool) -> None:
    """Before that nothing is a spike, however far out."""
    assert (filled(*noise(3, steps)).look(1e9, 1.0) is not None) is is_found


@pytest.mark.parametrize(
    ("loss", "grad_norm", "what"),
    [(NAN, 1.0, "loss"), (INF, INF, "loss"), (3.0, NAN, "grad_norm"), (1e9, -INF, "grad_norm")],
)
@pytest.mark.parametrize("spike", ["warn", "off"])
@pytest.mark.parametrize("known", [0, 8])
def test_a_value_that_is_no_number_is_always_found(known: int, spike: str, loss: float, grad_norm: float, what: str) -> None:
    """With an empty window, beside a spike, and where spikes are not looked for; it has no z."""
    section = GuardSection.model_validate({"window": 8, "spike": spike})
    finding = Windows.restored(section, filled(*noise(4, known)).state()).look(loss, grad_norm)
    assert finding is not None
    assert (finding.what, finding.is_finite, math.isnan(finding.z)) == (what, False, True)


def test_values_that_are_no_numbers_do_not_poison_the_window() -> None:
    """The other quantity of that step counts, and the steps after it are judged as before."""
    windows = filled(*noise(5, 8))
    before = windows.look(9.0, 1.0)
    windows.add(NAN, INF)
    assert windows.look(9.0, 1.0) == before
    windows.add(INF, 1.0)
    assert [len(values) for values in windows.state().values()] == [8, 8]
    assert windows.state()["grad_norm"][-1] == 1.0
    assert windows.look(9.0, 1.0) == before


def test_spikes_are_not_looked_for_when_off() -> None:
    """The policy "off" finds none."""
    section = GuardSection(window=8, spike="off")
    assert Windows.restored(section, filled(*noise(6, 8)).state()).look(1e9, 1e9) is None


def test_looking_changes_nothing() -> None:
    """The same question has the same answer, and the step that was looked at is not one of those it is compared with."""
    windows = filled(*noise(7, 8))
    state = windows.state()
    assert windows.look(9.0, 9.0) == windows.look(9.0, 9.0)
    assert windows.state() == state


@given(numbers, numbers, st.integers(8, 40))
def test_a_constant_series_never_alarms(loss: float, grad_norm: float, steps: int) -> None:
    """Its standard deviation is 0; neither the same value again nor a jitter far below its size is a spike."""
    windows = filled(*[(loss, grad_norm)] * steps)
    assert windows.look(loss, grad_norm) is None
    assert windows.look(loss * (1 + LEAST_SPREAD), grad_norm * (1 + LEAST_SPREAD)) is None


@given(st.lists(pairs, min_size=8, max_size=40))
def test_one_step_far_out_always_alarms(pairs: list[tuple[float, float]]) -> None:
    """Above the largest value by a hundred times the window's whole extent, and then some for a constant one."""
    losses = [loss for loss, _ in pairs[-8:]]
    far = max(losses) + 100 * (max(losses) - min(losses)) + max(losses) + 1.0
    finding = filled(*pairs).look(far, 0.0)
    assert finding is not None
    assert finding.what == "loss"


@given(st.lists(numbers, min_size=8, max_size=40))
def test_a_falling_series_never_alarms(values: list[float]) -> None:
    """Whatever falls to or below its past is no spike."""
    falling = sorted(values, reverse=True)
    windows = Windows(GuardSection(window=8))
    for value in falling:
        assert windows.look(value, value) is None
        windows.add(value, value)


@given(st.lists(pairs, max_size=60), st.lists(pairs, max_size=20), st.integers(8, 16))
def test_a_restored_window_finds_the_same_to_the_bit(
    before: list[tuple[float, float]], after: list[tuple[float, float]], size: int
) -> None:
    """Saved as JSON in the middle and read again, it gives the findings and the state of the one that never stopped."""
    section = GuardSection(window=size, z=1e-9)
    gone_on = Windows(section)
    for pair in before:
        gone_on.add(*pair)
    restored = Windows.restored(section, json.loads(json.dumps(gone_on.state())))
    for pair in after:
        assert gone_on.look(*pair) == restored.look(*pair)
        gone_on.add(*pair)
        restored.add(*pair)
    assert gone_on.state() == restored.state()


def test_a_state_of_another_size_or_age_is_taken() -> None:
    """A smaller window keeps the newest steps of a larger one; a state that knows nothing of the guard is an empty one."""
    state = filled(*[(float(n), 0.5) for n in range(20)], window=20).state()
    assert Windows.restored(GuardSection(window=8), state).state()["loss"] == [float(n) for n in range(12, 20)]
    assert Windows.restored(GuardSection(window=8), {}).state() == {"loss": [], "grad_norm": []}


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e300])
def test_no_size_of_number_is_too_large_or_small(scale: float) -> None:
    """Squares of the values may leave the range of floats."""
    finding = filled(*[(loss * scale, 1.0) for loss, _ in noise(8, 8)]).look(9.0 * scale, 1.0)
    assert finding is not None
    assert finding.z == pytest.approx(filled(*noise(8, 8)).look(9.0, 1.0).z, rel=1e-6)  # type: ignore[union-attr]


def test_a_step_costs_microseconds_whatever_the_window() -> None:
    """Looking and adding take about 10 us (measured); 100 us for the slowest machine, with the largest window there is."""
    section = GuardSection(window=100_000)
    pairs = noise(9, 50_000)
    windows = Windows.restored(section, {"loss": [loss for loss, _ in pairs], "grad_norm": [norm for _, norm in pairs]})
    best_s = min(_seconds(windows, pairs[start : start + 500]) for start in range(0, 5000, 500))
    assert best_s / 500 < 100e-6


def _seconds(windows: Windows, pairs: list[tuple[float, float]]) -> float:
    started_s = time.thread_time()
    for pair in pairs:
        windows.look(*pair)
        windows.add(*pair)
    return time.thread_time() - started_s


def test_a_finding_is_a_sentence() -> None:
    """Value, distance, mean and number of steps."""
    assert str(SPIKE) == "loss 8.213 is 9.3 standard deviations above the mean 3.102 of 128 steps"
    assert str(BROKEN) == "gradient norm is inf"


@pytest.mark.parametrize(
    ("finding", "policy", "last_act_step", "acts", "expected"),
    [
        (SPIKE, {"spike": "warn"}, None, 99, Act("warn", str(SPIKE))),
        (SPIKE, {"spike": "skip"}, None, 0, Act("skip", str(SPIKE))),
        (SPIKE, {"spike": "lower"}, 100, 9, Act("lower", str(SPIKE))),
        (SPIKE, {"spike": "rewind"}, 449, 1, Act("rewind", str(SPIKE))),
        (SPIKE, {"spike": "stop"}, None, 0, Act("stop", str(SPIKE))),
        (
            SPIKE,
            {"spike": "skip"},
            450,
            1,
            Act("warn", f"{SPIKE}; only a warning within 50 steps of the act at step 450"),
        ),
        (
            SPIKE,
            {"spike": "rewind"},
            None,
            10,
            Act("stop", f"{SPIKE}; to rewind would be act 11, and the limit is 10"),
        ),
        (SPIKE, {"spike": "skip", "limit": 0}, None, 0, Act("stop", f"{SPIKE}; to skip would be act 1, and the limit is 0")),
        (BROKEN, {"spike": "off"}, None, 0, Act("stop", "gradient norm is inf")),
        (BROKEN, {"non_finite": "skip"}, 499, 3, Act("skip", "gradient norm is inf")),
        (BROKEN, {"non_finite": "stop"}, None, 10, Act("stop", "gradient norm is inf")),
        (
            BROKEN,
            {"non_finite": "lower"},
            499,
            10,
            Act("stop", "gradient norm is inf; to lower would be act 11, and the limit is 10"),
        ),
    ],
)
def test_what_is_done_follows_the_policy(
    finding: Finding, policy: dict[str, object], last_act_step: int | None, acts: int, expected: Act
) -> None:
    """The policy of its kind; a spike in the cool-down only warns; at the limit the run stops and says so."""
    guard = GuardSection.model_validate(policy)
    assert decide(finding, guard, step=500, last_act_step=last_act_step, acts=acts) == expected


def test_warnings_go_on_at_the_limit() -> None:
    """A spike in the cool-down asks for no act, so the limit does not end the run."""
    guard = GuardSection(spike="skip", limit=3)
    assert decide(SPIKE, guard, step=500, last_act_step=480, acts=3).name == "warn"

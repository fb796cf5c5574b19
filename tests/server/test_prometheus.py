"""The scrape: parsed by Prometheus' own reader, with conventional names, and nothing invented."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from plt_tui.control.state import RunState
from plt_tui.protocol.events import Checkpoint, Eval, Gauges, Phase, RankStatus, Spike
from plt_tui.server.prometheus import exposition
from tests.control.said import rewind
from tests.server.hub_fakes import FakeHub

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(state: RunState, name: str = "demo") -> Samples:
    """Values by name and labels (without `run`, which every sample carries)."""
    samples: Samples = {}
    for family in text_string_to_metric_families(exposition(state, name).decode()):
        assert family.documentation
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("run") == name
            samples[sample.name, tuple(sorted(labels.items()))] = sample.value
    return samples


def busy_hub() -> FakeHub:
    """A run that has said something of every kind."""
    hub = FakeHub()
    hub.begin()
    hub.train(1, 3)
    hub.feed.publish(Phase(phase="running"))
    hub.feed.publish(Eval(step=3, loss=float("nan"), perplexity=7.0, bits_per_byte=3.0, accuracy=0.25))
    hub.feed.publish(Checkpoint(step=2, path="c"))
    for rank in (1, 0):
        hub.feed.publish(RankStatus(rank=rank, pid=rank + 50, doing="training", step=3, step_ms=20.0 + rank, memory_bytes=7))
    gpu = {"index": 0, "utilisation": 90.0, "memory_used_bytes": None, "temperature_c": 61.0, "power_w": None, "reason": "n/a"}
    hub.feed.publish(Gauges(cores=[50.0, 100.0], memory_used_bytes=5, memory_total_bytes=9, gpus=[gpu]))
    return hub


def test_measurements_have_base_units() -> None:
    """Seconds for milliseconds, ratios for per cents, per rank, core and GPU."""
    samples = scrape(busy_hub().feed.state)
    assert samples["plt_tui_step", ()] == 3
    assert samples["plt_tui_target_step", ()] == 600
    assert samples["plt_tui_train_loss", ()] == 2.5
    assert samples["plt_tui_learning_rate", ()] == 3e-3
    assert samples["plt_tui_tokens_per_second", ()] == 4e4
    assert samples["plt_tui_step_duration_seconds", ()] == 0.02
    assert samples["plt_tui_eval_accuracy_ratio", ()] == 0.25
    assert samples["plt_tui_checkpoint_step", ()] == 2
    assert samples["plt_tui_rank_step_duration_seconds", (("rank", "1"),)] == 0.021
    assert samples["plt_tui_cpu_utilization_ratio", (("core", "1"),)] == 1.0
    assert samples["plt_tui_gpu_utilization_ratio", (("gpu", "0"),)] == 0.9
    assert samples["plt_tui_gpu_temperature_celsius", (("gpu", "0"),)] == 61.0
    assert samples["plt_tui_run_phase", (("phase", "running"),)] == 1
    assert samples["plt_tui_run_phase", (("phase", "paused"),)] == 0
    assert samples["plt_tui_restarts_total", ()] == 0


def test_what_the_guard_and_rewinds_did_is_counted() -> None:
    """Counters never go back, also when a rewind leaves the steps behind that they counted; a hibernated run says so."""
    hub = busy_hub()
    for act in ("warn", "skip", "rewind"):
        hub.feed.publish(Spike(step=3, what="loss", value=9.0, z=7.0, act=act))  # type: ignore[arg-type]  # these words
    hub.feed.publish(rewind(1, 3))
    hub.feed.publish(Phase(phase="hibernated"))
    samples = scrape(hub.feed.state)
    assert samples["plt_tui_spikes_total", ()] == 3
    assert samples["plt_tui_guard_acts_total", ()] == 2
    assert samples["plt_tui_branches", ()] == 1
    assert samples["plt_tui_step", ()] == 1
    assert samples["plt_tui_run_phase", (("phase", "hibernated"),)] == 1
    assert not {"plt_tui_train_loss", "plt_tui_checkpoint_step"} & {name for name, _ in samples}


def test_nan_is_a_value() -> None:
    """A loss that is not a number is scraped as NaN, for an alert to fire on."""
    value = scrape(busy_hub().feed.state)["plt_tui_eval_loss", ()]
    assert value != value


def test_the_unknown_is_left_out() -> None:
    """A run that has said nothing has no loss, no ranks and no machine; a GPU that cannot say its power has none."""
    names = {name for name, _ in scrape(RunState())}
    counts = {"plt_tui_restarts_total", "plt_tui_spikes_total", "plt_tui_guard_acts_total", "plt_tui_branches"}
    assert names == {"plt_tui_run_info", "plt_tui_run_phase", "plt_tui_step"} | counts
    assert not {name for name, _ in scrape(busy_hub().feed.state)} & {
        "plt_tui_gpu_power_watts",
        "plt_tui_gpu_memory_used_bytes",
    }


def test_a_strange_name_cannot_break_the_format() -> None:
    """Quotes, newlines and backslashes in labels are escaped."""
    assert scrape(busy_hub().feed.state, 'a"b\\c\nd')

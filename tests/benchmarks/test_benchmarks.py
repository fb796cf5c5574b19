"""The benchmarks without their measurements: the pure parts, the command line, and that a workplace cleans up."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks import __main__ as command
from benchmarks import agreement, checkpoint_stall, latency, table, terminal, throughput, ui_overhead, workplace
from benchmarks.checkpoint_stall import Save, Stall
from benchmarks.machine import cpu_model, head_line
from benchmarks.records import newest_step, read_checkpoints, read_steps, step_seconds
from benchmarks.table import END, START, Row
from plt_tui.control.folder import RunFolder, RunInfo
from plt_tui.protocol.events import Checkpoint, Eval, Step
from plt_tui.protocol.framing import encode

README = Path(command.README)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0], 1.0), ([2.0, 1.0], 2.0), (list(range(1, 21)), 19), (list(range(1, 22)), 20), (list(range(100, 0, -1)), 95)],
)
def test_p95_is_the_nearest_rank(values: list[float], expected: float) -> None:
    """At least 95 % of the values are not above it, and it is one of them."""
    assert table.p95(values) == expected


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "0.000"), (0.21345, "0.213"), (-9.5, "-9.500"), (12.345, "12.35"), (287.34, "287.3"), (20309.4, "20,309")],
)
def test_numbers_keep_about_four_digits(value: float, words: str) -> None:
    """Small ones keep three decimals, large ones none."""
    assert table.number(value) == words


@pytest.mark.parametrize(
    ("values", "limits", "is_met"),
    [
        ([0.2, 0.25, 0.9], {"at_most": 0.25}, True),
        ([0.2, 0.26, 0.3], {"at_most": 0.25}, False),
        ([0.9, 1.0, 1.2], {"at_least": 1.0}, True),
        ([0.9, 0.9999, 1.2], {"at_least": 1.0}, False),
        ([1.0] * 19 + [60.0], {"at_most": 50, "by": "p95"}, True),
        ([1.0] * 9 + [60.0], {"at_most": 50, "by": "p95"}, False),
        ([1.0], {}, None),
    ],
)
def test_the_verdict_rests_on_the_named_statistic(values: list[float], limits: dict, is_met: bool | None) -> None:
    """The median decides unless the 95th percentile was asked for; without a limit there is no verdict."""
    assert table.row("what", values, "s", **limits).is_met is is_met


def test_a_row_tells_statistic_spread_and_number() -> None:
    """The figure that decides stands first; a single value has no spread; the budget's words can be given."""
    assert table.row("start", [0.2, 0.1, 0.4], "s", at_most=0.25) == Row(
        what="start", budget="≤ 0.25 s", measured="0.200 s (0.100 to 0.400, n = 3)", is_met=True
    )
    percentile = table.row("key", [1.0, 3.0], "ms", at_most=50, by="p95", budget="one step + 50 ms")
    assert (percentile.measured, percentile.budget) == (
        "p95 3.000 ms, median 2.000 ms (1.000 to 3.000, n = 2)",
        "one step + 50 ms",
    )
    assert table.row("one", [0.987], at_least=0.99) == Row(what="one", budget="≥ 0.99", measured="0.987 (n = 1)", is_met=False)


def test_the_table_is_markdown() -> None:
    """Head line, headings, one line per row, words for a verdict, the note of a row, and no cell that breaks the table."""
    rows = [
        Row(what="a|b", budget="≤ 1 s", measured="2 s", is_met=False),
        Row(what="c", budget="≤ 1 s", measured="1 s", is_met=True),
        Row(what="d", measured="3\n4"),
    ]
    assert table.render("today, here", rows, {"c": "why"}).splitlines() == [
        "today, here",
        "",
        "| what | budget | measured | met | note |",
        "| --- | --- | --- | --- | --- |",
        "| a\\|b | ≤ 1 s | 2 s | **no** |  |",
        "| c | ≤ 1 s | 1 s | yes | why |",
        "| d |  | 3 4 |  |  |",
    ]


def test_only_what_lies_between_the_markers_is_replaced() -> None:
    """Text before and after stays, and a second time changes nothing more."""
    written = table.write_between(f"before\n{START}\nold\n{END}\nafter\n", "| new |\n")
    assert written == f"before\n{START}\n\n| new |\n\n{END}\nafter\n"
    assert table.write_between(written, "| new |\n") == written


@pytest.mark.parametrize("text", ["", f"{START}\n", f"{END}\n{START}\n"])
def test_a_text_without_markers_is_refused(text: str) -> None:
    """Nothing is appended at a guess."""
    with pytest.raises(ValueError, match="measured: begin"):
        table.write_between(text, "table")


def test_the_readme_has_its_markers_and_names_every_benchmark() -> None:
    """`--write` finds its place, and a reader finds each NAME."""
    text = README.read_text(encoding="utf-8")
    assert "| table |" in table.write_between(text, "| table |")
    assert [name for name in command.BENCHMARKS if f"| `{name}` |" not in text] == []


def test_every_benchmark_has_a_measure() -> None:
    """Each name is a module that defines what the command calls."""
    for name in command.BENCHMARKS:
        tree = ast.parse(README.with_name(f"{name}.py").read_text(encoding="utf-8"))
        assert "measure" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


@pytest.mark.parametrize(
    ("words", "says"),
    [(["speed"], "unknown benchmark"), (["--write", "--quick"], "--write"), (["--write", "chart"], "--write")],
)
def test_a_wrong_request_exits_2(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A table that would lie is not begun."""
    with pytest.raises(SystemExit) as ended:
        command.main(words)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_a_benchmark_that_fails_does_not_take_the_others_along(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rows of the others are printed, its traceback too, and the exit code is 1."""

    def fail(*, quick: bool) -> list[Row]:
        raise RuntimeError(f"no luck, quick is {quick}")

    monkeypatch.setattr(latency, "measure", fail)
    monkeypatch.setattr(throughput, "measure", lambda quick: [Row(what="speed", measured="fast")])
    assert command.main(["latency", "throughput", "--quick"]) == 1
    printed = capsys.readouterr()
    assert "| speed |  | fast |  |  |" in printed.out
    assert "quick: not to be trusted" in printed.out
    assert "no luck, quick is True" in printed.err
    assert "not measured: latency" in printed.err


def test_the_machine_is_named() -> None:
    """The processor comes from /proc/cpuinfo where it stands there; the head line names versions and commit."""
    assert cpu_model("processor\t: 0\nmodel name\t: AMD EPYC 7:B\nmodel name\t: other\n") == "AMD EPYC 7:B"
    assert cpu_model("Hardware\t: BCM2835\n") == ""
    assert all(word in head_line() for word in ("cores", "GB memory", "Python 3.", "torch ", "textual ", "commit "))


def test_a_step_lasts_from_the_end_of_the_one_before() -> None:
    """Steps count from 1; both limits are included."""
    assert step_seconds([1.0, 3.0, 6.0, 10.0], 2, 4) == [2.0, 3.0, 4.0]


def test_the_record_of_a_run_is_read_while_it_grows(tmp_path: Path) -> None:
    """The newest whole line tells how far the run is, also with a torn line behind it; evaluations are not steps."""
    folder = RunFolder(tmp_path)
    assert newest_step(folder) == 0
    lines = [
        encode(_step(1)),
        encode(Eval(step=1, loss=1.0, perplexity=2.0, bits_per_byte=1.0, accuracy=0.5)),
        encode(_step(2)),
    ]
    folder.metrics.write_bytes(b"\n".join(lines) + b'\n{"kind":"st')
    assert newest_step(folder) == 2
    assert [step.step for step in read_steps(folder)] == [1, 2]
    folder.journal.write_bytes(encode(Checkpoint(step=2, path="checkpoints/step-00000002")) + b"\n")
    assert [saved.step for saved in read_checkpoints(folder)] == [2]


def _step(number: int) -> Step:
    return Step(step=number, loss=1.0, lr=0.1, grad_norm=1.0, tokens=number, tokens_per_s=1.0, step_ms=1.0)


def test_a_stall_is_what_the_steps_beside_a_save_took_above_the_others() -> None:
    """Steps 4 and 5 lie beside the save of step 3, whose manifest came to disk in step 5; the last save reaches the end."""
    ends_s = [1.0, 2.0, 3.0, 4.5, 7.5, 8.5, 9.5, 11.5]
    saves = [Save(step=3, saved_s=7.0), Save(step=7, saved_s=99.0)]
    usual_s, stalls = checkpoint_stall.stalls(ends_s, saves, 2)
    assert usual_s == 1.0
    assert stalls == [Stall(worst_s=2.0, total_s=2.5), Stall(worst_s=1.0, total_s=1.0)]


def test_a_resume_waits_for_no_step() -> None:
    """The step is subtracted from everything but a resume, which acts in a pause."""
    answers = [latency.Answered(name="pause", seconds=0.060), latency.Answered(name="resume", seconds=0.004)]
    assert latency.beyond(answers, step_s=0.050) == pytest.approx([10.0, 4.0])


def test_a_pace_leaves_the_warm_up_out() -> None:
    """Median and mean are of the steps from FIRST_STEP on."""
    ends_s = [float(second) for second in range(0, throughput.FIRST_STEP * 100, 100)]
    ends_s += [ends_s[-1] + later for later in (1.0, 2.0, 6.0)]
    pace = throughput.pace(ends_s, [])
    assert (pace.median_s, pace.mean_s) == (2.5, (100 + 1 + 1 + 4) / 4)


def test_a_window_is_timed_as_a_whole() -> None:
    """The mean step between its two ends."""
    ends_s = [0.0, 1.0, 2.0, 6.0]
    before, after, seen = (ui_overhead.Window(first=first, last=last) for first, last in [(1, 3), (3, 4), (2, 4)])
    assert ui_overhead.seconds(seen, ends_s) == 2.5
    assert ui_overhead.ratio(ui_overhead.Watch(before=before, seen=seen, after=after), ends_s) == 1.0  # (1 + 4) / 2 over 2.5


def test_ranks_wait_longer_for_a_core_by_what_they_waited_less_without_a_view() -> None:
    """In percent of the time, against the windows around."""
    before, seen, after = (ui_overhead.Window(first=1, last=2, waited_share=share) for share in (0.125, 0.5, 0.375))
    assert ui_overhead.more_waiting([ui_overhead.Watch(before=before, seen=seen, after=after)]) == [25.0]


def test_a_thrifty_view_is_judged_by_its_bytes() -> None:
    """Of the other views they are told without a budget."""
    window = ui_overhead.Window(first=1, last=2, bytes_per_s=4_000.0)
    found = {
        row.what: (row.is_met, row.measured)
        for view in (*ui_overhead.VIEWS, ui_overhead.THRIFTY)
        for row in ui_overhead.rows(view, [ui_overhead.Watch(before=window, seen=window, after=window)], [0.0, 1.0, 2.0])
    }
    assert found["bytes to the terminal, 140x45, low bandwidth"] == (True, "4,000 a second (n = 1)")
    assert found["(bytes to the terminal, 140x45)"] == (None, "4,000 a second (n = 1)")
    assert found["tokens/s with the UI attached, 200x60, against headless"][0]


def test_a_block_lasts_as_long_as_its_slowest_rank() -> None:
    """What the exchange costs is said in per cent of the plain step beside it."""
    said = [{"plain": [2.0, 4.0], "agreed": [2.0, 5.0]}, {"plain": [1.0, 4.0], "agreed": [2.5, 4.0]}]
    pairs = agreement.slowest(said)
    assert pairs == [agreement.Pair(2.0, 2.5), agreement.Pair(4.0, 5.0)]
    assert [agreement.cost(pair) for pair in pairs] == [25.0, 25.0]


def test_a_workplace_leaves_nothing_behind() -> None:
    """A process that was started in it and left its session is ended, and the folder is gone, when it is left."""
    program = "import time; print(flush=True); time.sleep(600)"
    with workplace.workplace() as place:
        process = subprocess.Popen(
            [sys.executable, "-c", program], env=place.environment, stdout=subprocess.PIPE, start_new_session=True
        )
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == b"\n"
    assert not psutil.pid_exists(process.pid)
    assert not place.folder.exists()
    process.wait(0)


def test_what_the_caller_set_for_itself_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that change a run's configuration or a terminal's size do not reach it."""
    monkeypatch.setenv("BATCH_SIZE", "999")
    monkeypatch.setenv("COLUMNS", "80")
    with workplace.workplace() as place:
        assert {"BATCH_SIZE", "COLUMNS"}.isdisjoint(place.environment)
        assert place.environment["PATH"] == os.environ["PATH"]


def test_a_run_that_has_ended_is_not_waited_for(tmp_path: Path) -> None:
    """A step that a dead run never wrote ends the wait at once."""
    folder = RunFolder(tmp_path)
    folder.write_info(RunInfo(name="bench", host="h", pid=1, boot_id="b", socket="s", phase="finished"))
    with pytest.raises(RuntimeError, match="ended before step 3"):
        workplace.wait_for_step(folder, 3)


def test_a_failed_command_says_why() -> None:
    """Its last words are in the error."""
    with workplace.workplace() as place, pytest.raises(RuntimeError, match="exit code 3: no luck"):
        place.execute([sys.executable, "-c", "import sys; print('no luck', file=sys.stderr); sys.exit(3)"])


def test_a_terminal_waits_for_bytes_counts_them_and_ends_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was typed comes through; a text that never comes is an error, not a wait without end."""
    monkeypatch.setattr(terminal, "PLT_TUI", sys.executable)
    with workplace.workplace() as place:
        program = "import os, time; print(os.get_terminal_size().columns, flush=True); print('got', input(), flush=True)"
        with terminal.Terminal(place, "-c", program, columns=123) as view:
            assert view.wait_for("123") > view.started_s
            view.press("key\n")
            view.wait_for("got key")
            with pytest.raises(TimeoutError, match="never"):
                view.wait_for("never")
        assert view.num_bytes >= len("123\r\nkey\r\ngot key\r\n")
        assert view.process.returncode == 0
        assert not psutil.pid_exists(view.process.pid)

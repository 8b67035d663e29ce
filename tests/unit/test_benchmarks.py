"""How the benchmark counts, judges and draws; what it measures is in tests/integration."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import sys
import threading
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import chart, consumption, report, results
from benchmarks.goals import GOALS, Goal
from benchmarks.lineup import LINEUP
from benchmarks.measurement import Measurements
from benchmarks.percentile import median_ratio, percentile
from benchmarks.program import BenchError, Program, environment
from benchmarks.scenarios import SCENARIOS, accept, idle, memory, run
from benchmarks.tally import Tally
from benchmarks.verdict import Outcome, exit_code, judge

ROOT = Path(__file__).parents[2]
RATIO = Goal("faster", "run.a", against="run.b", at_least=2.0)
LIMIT = Goal("soon", "wait.a", at_most=5.0, unit="ms")


def measured(**series):
    """Return measurements; ``run_a=[1, 2]`` are two rounds of ``run.a``."""
    found = Measurements()
    for name, samples in series.items():
        for value in samples:
            found.note(name.replace("_", "."), value, title=name, unit="tasks/s", keeps="little")
    return found


# Counting


@pytest.mark.parametrize(
    ("percent", "value"), [(1, 1), (50, 50), (99, 99), (99.5, 100), (100, 100)]
)
def test_a_percentile_is_the_nearest_rank(percent, value):
    assert percentile(range(100, 0, -1), percent) == value


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.1, 100))
def test_a_percentile_was_measured_and_enough_values_do_not_exceed_it(values, percent):
    found = percentile(values, percent)

    assert found in values
    assert sum(value <= found for value in values) >= len(values) * percent / 100 - 1e-9


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1], 0), ([1], 101)])
def test_a_percentile_of_nothing_is_an_error(values, percent):
    with pytest.raises(ValueError, match="no percentile"):
        percentile(values, percent)


def test_a_ratio_is_taken_round_by_round():
    assert median_ratio([10, 30, 90], [5, 10, 100]) == 2
    assert median_ratio([10, 20, 90], [5]) == 4


def test_a_rate_leaves_the_warm_up_out_and_counts_until_the_end():
    started = [100.0 + n / 10 for n in range(20)]

    assert run.rate([started[5], *started[:5], *started[6:]]) == pytest.approx(18 / 1.7)
    assert run.rate(started, ended=103.8) == pytest.approx(18 / 3.6)


def count_runs(path, numbers):
    tally = Tally(path)
    threads = [threading.Thread(target=tally.ran, args=(n,)) for n in numbers for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_tally_counts_the_runs_of_all_threads_and_processes(tmp_path):
    tally = Tally.create(tmp_path / "tally", 30)
    tally.since[29] = 1.5
    spawn = multiprocessing.get_context("spawn")

    processes = [
        spawn.Process(target=count_runs, args=(tmp_path / "tally", range(n, n + 10)))
        for n in (0, 10)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)

    assert tally.total() == 40
    assert [bool(at) for at in tally.started] == [True] * 20 + [False] * 10
    assert (tally.capacity, tally.since[29]) == (30, 1.5)


# Programs


BURN = """
import subprocess, sys, time
def burn():
    end = time.process_time() + 0.3
    while time.process_time() < end: pass
if sys.argv[1] == "parent":
    subprocess.run([sys.executable, __file__, "gone"])
    stays = subprocess.Popen([sys.executable, __file__, "stays"], stdout=subprocess.PIPE)
    stays.stdout.readline()
burn()
print("done", flush=True)
if sys.argv[1] != "gone":
    time.sleep(600)
"""


@pytest.mark.skipif(not consumption.PROC.is_dir(), reason="only Linux tells")
def test_what_a_program_and_its_children_use_is_added_up(tmp_path):
    (tmp_path / "burn.py").write_text(BURN)
    argv = [sys.executable, str(tmp_path / "burn.py"), "parent"]

    with Program(argv, environment(), tmp_path / "log") as program:
        program.wait_for("done\n(.*\n)*done")
        used = program.consumption()

    assert used.cpu_s >= 0.85
    assert 4_000_000 < used.largest < 100_000_000


HOLD = """
import fcntl, signal, time
signal.signal(signal.SIGTERM, lambda *_: None)
file = open("lock", "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(600)
"""


def test_a_program_is_ended_with_its_children_even_if_they_do_not_want_to(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.program.GRACE_S", 0.1)
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLD!r}])"
    program = Program([sys.executable, "-c", parent], environment(), tmp_path / "log")
    program.wait_for("locked")

    program.stop()

    with (tmp_path / "lock").open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)  # in vain, if the child is still there


def test_a_program_that_fails_says_why(tmp_path):
    argv = [sys.executable, "-c", "raise SystemExit('no luck')"]

    with pytest.raises(BenchError, match=r"ended with 1:\nno luck"):
        Program(argv, environment(), tmp_path / "log").finish(30)
    with pytest.raises(BenchError, match="no luck"):
        Program(argv, environment(), tmp_path / "log").wait_for("luck, at last")


def test_a_contestant_sees_no_settings_of_ours(monkeypatch):
    monkeypatch.setenv("POSTLUDE_WORKERS", "3")

    assert "POSTLUDE_WORKERS" not in environment()
    assert environment(POSTLUDE_DATA_DIR="x")["POSTLUDE_DATA_DIR"] == "x"


# Judging


@pytest.mark.parametrize(
    ("goal", "series", "slack", "outcome", "value"),
    [
        (RATIO, {"run_a": [4, 4, 4], "run_b": [2, 1, 3]}, 1.0, Outcome.MET, 2.0),
        (RATIO, {"run_a": [1.9], "run_b": [1]}, 1.0, Outcome.MISSED, 1.9),
        (RATIO, {"run_a": [1.7], "run_b": [1]}, 0.8, Outcome.MET, 1.7),
        (LIMIT, {"wait_a": [5]}, 1.0, Outcome.MET, 5),
        (LIMIT, {"wait_a": [4, 6, 9]}, 1.0, Outcome.MISSED, 6),
        (LIMIT, {"wait_a": [6]}, 0.8, Outcome.MET, 6),
        (RATIO, {"run_a": [9]}, 1.0, Outcome.NOT_JUDGED, None),
        (RATIO, {"run_b": [9]}, 1.0, Outcome.NOT_JUDGED, None),
        (LIMIT, {}, 1.0, Outcome.NOT_JUDGED, None),
    ],
)
def test_a_goal_is_met_missed_or_not_judged(goal, series, slack, outcome, value):
    verdict = judge(goal, measured(**series), slack=slack)

    assert (verdict.outcome, verdict.value) == (outcome, value)
    assert exit_code([verdict]) == (outcome is Outcome.MISSED)


def test_a_goal_whose_server_is_absent_says_so():
    measurements = measured(run_a=[9])
    measurements.lacks("run.b", "no RabbitMQ at AMQP_URL")

    assert judge(RATIO, measurements).reason == "no RabbitMQ at AMQP_URL"


def test_what_failed_in_a_later_round_counts_no_more():
    measurements = measured(run_a=[9], run_b=[1])
    measurements.lacks("run.b", "failed")

    assert judge(RATIO, measurements).outcome is Outcome.NOT_JUDGED


def test_every_goal_of_the_embedded_topology_has_a_row():
    """The goals as the design states them; a looser one would have to be changed here, too."""
    assert {(g.subject, g.against, g.at_least or g.at_most, g.unit) for g in GOALS} == {
        ("accept.postlude", "accept.bare", 0.5, "×"),
        ("accept.postlude", "accept.background-tasks", 2, "×"),
        ("accept.postlude", "accept.celery", 3, "×"),
        ("accept-busy.p99", None, 50, "ms"),
        ("run.postlude-2x8", "run.dramatiq", 2.5, "×"),
        ("run.postlude-2x8", "run.celery", 5, "×"),
        ("run.postlude-2x8", "run.huey", 4, "×"),
        ("run.postlude-full", "run.postlude-2x8", 0.8, "×"),
        ("latency.postlude-1x8.p50", None, 5, "ms"),
        ("latency.postlude-1x8.p99", None, 25, "ms"),
        ("latency.http.p50", None, 5, "ms"),
        ("latency.http.p99", None, 25, "ms"),
        ("idle.cpu", None, 1, "%"),
        ("schedules.last", None, 2, "s"),
        ("memory.worker", None, 80, "MB"),
        ("memory.growth", None, 5, "MB"),
    }


def test_every_goal_names_figures_that_a_scenario_takes():
    taken = {f"run.{each.name}" for each in LINEUP}
    taken |= {f"accept.{each.name}" for each in accept.ENDPOINTS}
    taken |= {
        f"latency.{name}.{part}"
        for name in ("http", *(each.name for each in LINEUP))
        for part in idle.PARTS
    }
    taken |= {"accept-busy.p99", "idle.cpu", "schedules.last", *memory.KEYS}

    named = {key for goal in GOALS for key in (goal.subject, goal.against) if key}
    assert named - taken == set()


# Telling


def example():
    measurements = measured(accept_bare=[5000, 5100], run_huey=[1000], wait_a=[3])
    measurements.note(
        "run.postlude-2x8",
        12_345.6,
        title="Postlude & co",
        unit="tasks/s",
        cpu_us=81.0,
        p50_ms=None,
    )
    measurements.lacks("run.celery", "no RabbitMQ at AMQP_URL")
    return results.Run({"cores": "2"}, 1.0, measurements)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123, "0.12"), (9.876, "9.88"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346")],
)
def test_a_figure_is_written_with_three_digits(value, text):
    assert report.number(value) == text


def test_a_table_for_the_terminal_leaves_empty_columns_out():
    lines = report.plain(("a", "b", "c", "d"), [("1", "", "", "x"), ("22", "", "", "yy")]).split(
        "\n"
    )

    assert lines == ["a   b  d", "--  -  --", "1      x", "22     yy"]


def test_the_tables_say_what_is_missing_and_why():
    rows = report.figure_rows(example().measurements, "run.")

    assert [row[:2] for row in rows] == [
        ("run_huey", "1,000 tasks/s"),
        ("Postlude & co", "12,346 tasks/s"),
        ("run.celery", "–"),
    ]
    assert rows[1][3] == "81.0 µs"
    assert rows[2][-1] == "no RabbitMQ at AMQP_URL"


def test_a_run_survives_its_file(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Method\n\n{results.BEGIN}\n\nolder results\n")
    run_ = example()

    results.write(run_, tmp_path / "run.json", tmp_path / "run.svg", page)

    again = results.read(json.loads((tmp_path / "run.json").read_text()))
    assert results.page(again) == results.page(run_)
    assert page.read_text() == f"# Method\n\n{results.BEGIN}\n\n{results.page(run_)}"
    assert (tmp_path / "run.svg").read_text() == chart.draw(run_.measurements)


def test_the_chart_is_an_image_with_a_bar_for_each_contestant():
    svg = chart.draw(example().measurements)
    root = ET.fromstring(svg)
    page, *bars = [each.attrib for each in root.iter("{http://www.w3.org/2000/svg}rect")]

    assert [(bar["class"], float(bar["width"])) for bar in bars] == [
        ("limit", chart.BAR_WIDTH),
        ("ours", chart.BAR_WIDTH),
        ("peer", pytest.approx(chart.BAR_WIDTH * 1000 / 12_345.6, abs=0.1)),
    ]
    assert page["class"] == "page"
    assert "Postlude &amp; co" in svg
    assert "prefers-color-scheme: dark" in svg


def test_the_documentation_shows_the_results_that_are_stored():
    stored = results.read(json.loads((ROOT / "benchmarks/results.json").read_text()))
    documented = (ROOT / "docs/benchmarks.md").read_text()

    assert documented.partition(results.BEGIN)[2] == f"\n\n{results.page(stored)}"
    assert (ROOT / "docs/benchmarks.svg").read_text() == chart.draw(stored.measurements)


def test_the_documentation_names_every_scenario_and_every_contestant():
    documented = (ROOT / "docs/benchmarks.md").read_text().partition(results.BEGIN)[0]

    assert [name for name in SCENARIOS if f"`{name}`" not in documented] == []
    assert [each.title for each in LINEUP if each.title.split()[0] not in documented] == []

"""The table of a study as a frame, in files and as Vega-Lite charts; the conclusions; and studies from Python."""

from __future__ import annotations

import io
import json
import math
import threading
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console
from rich.progress import Progress

from optimizer.study.executors.engine import Done, Step
from optimizer.study.executors.in_process import InProcess
from optimizer.study.rows import Row
from optimizer.study.run import StudyProgress, Table
from service.cli.study_progress import COLUMNS, Bars, Shown
from service.documents.reading import Text
from service.documents.study import read_study
from service.studies import notebook
from service.studies.charts import charts, specifications
from service.studies.conclusions import StudyExit, conclusions
from service.studies.files import put, written
from service.studies.frame import columns_of, frame
from service.studies.shelf import Shelf
from service.studies.whole import Whole, load_whole, run_whole
from service.studies.wording import against, label_of
from tests.service.study_tables import goal, infeasible, large, planless, row, scenario, table
from tests.service.test_cli_study import STUDY
from tests.service.test_cli_study import put as put_study


def small(**fields: object) -> Table:
    return table(
        [
            (scenario({}, baseline=True), row("b", goal(10.0, 10.5), metrics={"watts": 3.0})),
            (scenario({"a": 0}, usd=5.0), row("k0", goal(8.0), metrics={"watts": 4.0})),
            (scenario({"a": 1}), infeasible("k1")),
            (scenario({"a": 2}), row("k2", goal(12.0, math.inf), metrics={"watts": 5.5})),
            (scenario({"a": 3}), planless("k3").failed("k3", "it broke")),
            (scenario({"a": 4}), None),
        ],
        **fields,
    )


def test_the_frame_has_a_line_for_each_scenario_and_nulls_for_what_is_not_known() -> None:
    found = frame(small())
    assert found["label"].to_list() == ["baseline", "a=0", "a=1", "a=2", "a=3", "a=4"]
    assert found["a"].to_list() == [None, 0, 1, 2, 3, 4]
    assert found["objective"].to_list() == [10.0, 8.0, None, 12.0, None, None]
    assert found["objective_bound"].to_list() == [10.5, 8.0, None, None, None, None]
    assert found["outcome"].to_list() == ["optimal", "optimal", "infeasible", "optimal", None, None]
    assert found["watts"].to_list() == [3.0, 4.0, None, 5.5, None, None]
    assert found["failure"].to_list()[4] == "it broke"
    assert found["spend_usd"].to_list()[1] == 5.0
    low, high = found["change_low"][1], found["change_high"][1]
    assert low <= 8.0 - 10.5
    assert 8.0 - 10.0 <= high < -1.99
    assert found["change_high"][3] is None  # no bound: endless
    assert found["change_low"][3] == pytest.approx(1.5, abs=1e-3)


def test_names_that_meet_are_kept_apart() -> None:
    pairs = [
        (scenario({"label": 1, "objective": 2}), row("k0", goal(1.0), metrics={"outcome": 7.0, "label": 8.0})),
        (scenario({"label": 2, "objective": 2}), row("k1", goal(2.0), metrics={"outcome": 9.0, "label": 8.0})),
    ]
    found = frame(table(pairs, axes={"label": (1, 2), "objective": (2,)}))
    assert found["axis_label"].to_list() == [1, 2]
    assert found["axis_objective"].to_list() == [2, 2]
    assert found["objective"].to_list() == [1.0, 2.0]
    assert found["metric_outcome"].to_list() == [7.0, 9.0]


def test_mixed_values_of_an_axis_are_text_and_mixed_numbers_floats() -> None:
    pairs = [(scenario({"a": value, "c": other}), row(f"k{value}", goal(1.0))) for value, other in ((1, "x"), (2.5, 3))]
    found = frame(table(pairs, axes={"a": (1, 2.5), "c": ("x", 3)}))
    assert found["a"].dtype == pl.Float64
    assert found["c"].to_list() == ["x", "3"]


def test_the_files_hold_the_frame(tmp_path: Path) -> None:
    made = small()
    told = conclusions(made)
    assert {Path(path).name for _, path in written(Whole(made), told, tmp_path)} == {"table.csv", "table.parquet", "report.html"}
    assert pl.read_parquet(tmp_path / "table.parquet").equals(frame(made))
    assert pl.read_csv(tmp_path / "table.csv")["objective"].to_list() == frame(made)["objective"].to_list()
    assert not list(tmp_path.glob(".quartermaster-*"))


def test_a_folder_that_takes_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="cannot be written") as raised:
        put(tmp_path / "missing" / "file", b"")
    assert "answers in it are kept" in str(raised.value)


@pytest.mark.parametrize(
    ("rows", "gates", "code"),
    [
        ([row("b", goal(10.0)), row("k", goal(9.0))], (), StudyExit.passed),
        ([row("b", goal(10.0)), infeasible("k")], (), StudyExit.passed),
        ([row("b", goal(10.0)), planless("k")], (), StudyExit.unanswered),
        ([row("b", goal(10.0)), None], (), StudyExit.unanswered),
        ([row("b", goal(10.0)), row("k", goal(9.0))], ({"metric": "objective", "fall_at_most": 0.05},), StudyExit.gate_failed),
        ([row("b", goal(10.0)), row("k", goal(9.0, 9.9))], ({"metric": "objective", "fall_at_most": 0.05},), StudyExit.gate_undecided),
        ([row("b", goal(10.0)), row("k", goal(9.8))], ({"metric": "objective", "fall_at_most": 0.05},), StudyExit.passed),
    ],
)
def test_what_a_study_comes_to(rows: list[object], gates: tuple[object, ...], code: StudyExit) -> None:
    scenarios = scenario({}, baseline=True), scenario({"a": 1})
    assert conclusions(table(list(zip(scenarios, rows, strict=True)), gates=gates)).exit_code is code  # type: ignore[arg-type]


def test_differences_in_a_few_words() -> None:
    told = conclusions(small()).differences
    assert against(told["a=0"]).startswith("worse by 19.9% to 23.9%")
    assert against(told["a=1"]) == "no plan exists (proved)"
    assert against(told["a=2"]).startswith("better by at least 14.2%")
    assert against(None) == ""


def test_labels_round_what_was_drawn() -> None:
    assert label_of(scenario({"growth": 1.10804048043, "n": 1234567890})) == "growth=1.10804, n=1234567890"
    assert label_of(scenario({}, replicate=3), numbered=True) == "baseline #3"


def test_charts_are_vega_lite_with_their_data() -> None:
    found = specifications(large(36))
    assert set(found) == {"tornado", "trade_off", "heat_map", "along_nodes", "along_price"}
    for specification in found.values():
        text = json.dumps(specification, allow_nan=False)
        assert "vega-lite" in specification["$schema"]
        assert "http" not in text.replace(specification["$schema"], "")
    values = next(iter(found["heat_map"]["datasets"].values())) if "datasets" in found["heat_map"] else None
    tiles = values if values is not None else found["heat_map"]["layer"][0]["data"]["values"]
    assert sum(tile["state"] == "infeasible" for tile in tiles) == 2
    assert len(tiles) == 36


@pytest.mark.parametrize("rows", [[None, None], [infeasible("b"), infeasible("k")], [row("b", goal(1.0)), row("k", goal(1.0))]])
def test_there_are_only_charts_of_what_there_is(rows: list[object]) -> None:
    scenarios = scenario({}, baseline=True), scenario({"a": 1})
    assert set(charts(table(list(zip(scenarios, rows, strict=True))))) <= {"tornado"}  # type: ignore[arg-type]


def test_a_study_that_is_stopped_says_what_is_open_and_goes_on(tmp_path: Path) -> None:
    asks = [{"ask": "target", "axis": "hours", "metric": "objective", "at_least": 20}]
    text = Text("study", json.dumps(STUDY | {"asks": asks}).encode(), is_yaml=False)
    found = read_study(text, tmp_path, lambda _: text)
    cancel = threading.Event()

    class Impatient(Shown):
        def take(self, progress: StudyProgress) -> None:
            if progress.state == "done":
                cancel.set()

    with Shelf.opened(tmp_path / "out", found.study, found.base) as shelf:
        first = run_whole(found.study, found.base, shelf, InProcess(), watch=Impatient(), cancel=cancel)
    assert first.table.solved == 1
    assert first.table.missing > 0
    assert first.asks == ()
    assert "asks of the study are not answered yet" in first.table.complaints[-1]
    assert conclusions(first.table).exit_code is StudyExit.unanswered
    assert "asks of the study are not answered" in load_whole(tmp_path / "out").table.complaints[-1]
    with Shelf.opened(tmp_path / "out", found.study, found.base) as shelf:
        second = run_whole(found.study, found.base, shelf, InProcess())
    assert (second.table.solved, second.table.missing) == (2, 0)
    assert second.asks[0]["answer"]["value"] == 10.0
    assert load_whole(tmp_path / "out").asks == second.asks


def test_what_failed_is_tried_again_when_asked(tmp_path: Path) -> None:
    text = Text("study", json.dumps(STUDY).encode(), is_yaml=False)
    found = read_study(text, tmp_path, lambda _: text)
    with Shelf.opened(tmp_path / "out", found.study, found.base) as shelf:
        keys = [row.key for row in run_whole(found.study, found.base, shelf, InProcess()).table.rows if row is not None]
        shelf.put(Done(Row.failed(keys[1], "its process was lost")))
        assert run_whole(found.study, found.base, shelf, InProcess()).table.failed == 1
        again = run_whole(found.study, found.base, shelf, InProcess(), again=True)
    assert (again.table.failed, again.table.solved) == (0, 1)


def test_bars_follow_a_study() -> None:
    screen = io.StringIO()
    bars = Bars(Progress(*COLUMNS, console=Console(file=screen, force_terminal=True, width=120)))
    one = scenario({"a": "[red]"})
    step = Step("k", "searching", 0, incumbent=8.0, bound=10.0)
    bars.take(StudyProgress(4, 1, 0, 0, 0.5, "looked_up"))
    bars.take(StudyProgress(4, 1, 0, 0, 0.6, "searching", one, step))
    assert bars.lines() == [("scenarios", "1/4", "1 known before"), ("a=\\[red]", "", "incumbent 8  bound 10  gap 25.00%")]
    bars.take(StudyProgress(4, 1, 1, 1, 1.0, "done", one, row=Row.failed("k", "it broke")))
    assert bars.lines() == [("scenarios", "2/4", "1 known before, 1 failed, about 2 s left")]
    bars.asking(0, 2, "sweep")
    bars.take(StudyProgress(2, 0, 0, 0, 0.0, "looked_up"))
    assert bars.lines()[0][1] == "2/4"
    assert bars.lines()[1] == ("asks", "0/2", "sweep")


def test_columns_agree_with_the_frame() -> None:
    made = large(36)
    assert list(columns_of(made)) == frame(made).columns


def test_a_study_from_python(tmp_path: Path) -> None:
    file = put_study(tmp_path, STUDY)
    steps: list[str] = []
    found = notebook.run_file(file, tmp_path / "out", workers=0, on_progress=lambda progress: steps.append(progress.state))
    assert (found.solved, found.failed) == (3, 0)
    assert steps.count("done") == 3
    again = notebook.run_file(file, tmp_path / "out", workers=0)
    assert (again.solved, again.reused) == (0, 3)
    assert notebook.frame(notebook.table_of(tmp_path / "out")).equals(notebook.frame(found))
    assert load_whole(tmp_path / "out").asks == ()
    assert notebook.conclusions(found).goal == "objective"

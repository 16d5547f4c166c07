"""The report of a study: what it says, that names cannot break it, and that it stands any table, however empty or large."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest

from optimizer.study.conclusions.intervals import Interval
from service.report import study_charts
from service.report.study import MOST_LINES, render_study
from service.report.study_plot import Scale, canvas, limits, ticks
from tests.browser.test_report import OUTSIDE
from tests.service.study_tables import NASTY, goal, infeasible, large, planless, row, scenario, table

SWEEP = {
    "ask": "sweep",
    "axis": "a",
    "answer": {
        "pieces": [
            {"start": 0.0, "end": 2.0, "start_value": 1.0, "end_value": 7.0},
            {"start": 2.0, "end": 5.0, "start_value": 7.0, "end_value": 7.0},
        ],
        "exact": True,
    },
    "sentence": "From a 0 to 5 the optimum goes from 1 to 7.",
    "failure": None,
}
FRONT = {
    "ask": "pareto",
    "first": "value",
    "second": "cost",
    "answer": {
        "points": [
            {"first": 9.0, "second": 5.0, "bound": 9.0, "gap": 0.0},
            {"first": 6.0, "second": 3.0, "bound": 6.5, "gap": 0.08},
            {"first": 2.0, "second": 1.0, "bound": 2.0, "gap": 0.0},
        ],
        "outer": [[6.5, 3.0], [2.0, 1.0]],
        "coverage": 0.93,
        "lines": False,
    },
    "sentence": "value goes from 9 to 2.",
    "failure": None,
}
TARGET = {
    "ask": "target",
    "axis": "a",
    "metric": "value",
    "answer": {
        "asked": [
            {
                "value": 1.0,
                "standing": "impossible",
                "seen": {"low": 2.0, "high": 2.5, "attained": 2.0, "proved": True, "no_plan": False, "why": ""},
            },
            {
                "value": 2.0,
                "standing": "reached",
                "seen": {"low": 9.0, "high": None, "attained": 9.0, "proved": True, "no_plan": False, "why": ""},
            },
            {
                "value": 3.0,
                "standing": "undecided",
                "seen": {"low": None, "high": None, "attained": None, "proved": False, "no_plan": False, "why": "out of time"},
            },
        ]
    },
    "sentence": "2 reaches it.",
    "failure": None,
}
REFUSED = {"ask": "sweep", "axis": "b", "answer": None, "sentence": "", "failure": "axis 'b' has no numbers"}


class Balanced(HTMLParser):
    """Fails on a tag that is closed out of turn."""

    VOID = frozenset({"meta", "link", "line", "path", "circle", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, _attributes: object) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def balanced(page: str) -> str:
    """The page, whose tags fit together, and which asks for nothing outside."""
    parser = Balanced()
    parser.feed(page)
    parser.close()
    assert not parser.open
    assert not OUTSIDE.search(page)
    assert "nan" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL).lower().replace("finance", "").split()
    assert ">None<" not in page
    return page


SMALL = [
    (scenario({}, baseline=True), row("b", goal(10.0, 10.5))),
    (scenario({"a": 0}, usd=5.0), row("k0", goal(8.0, 8.0))),
    (scenario({"a": 1}, usd=7.0), row("k1", goal(10.2, 10.6))),
    (scenario({"a": 2}, usd=9.0), row("k2", goal(12.0, 12.0))),
]


def test_everything_is_said() -> None:
    gates = ({"metric": "objective", "fall_at_most": 0.05, "name": "no_loss"},)
    page = balanced(render_study(table(SMALL, gates=gates, title="Larger a"), (SWEEP, FRONT, TARGET, REFUSED)))
    assert "<h1>Larger a</h1>" in page
    assert "Take a=2" in page
    assert "better by 14.2% to 20.1%" in page  # 12 against 10 to 10.5, ends moved outwards
    assert "not distinguishable" in page
    assert "worse by" in page
    assert "<code>a=2</code>" in page  # by which `study plan` prints it
    linked = render_study(table(SMALL), plan_at=lambda one: f"/plans/{one.key}")
    assert 'href="/plans/k2"' in linked
    assert "no loss" in page
    assert "1 failed" in page
    tags = re.findall(r'<tr[^>]*><th scope="row">([^<]+)<.*?<span class="tag (\w+)">(passed|failed|undecided)</span>', page)
    assert [(name, found) for name, _, found in tags] == [("a=0", "failed"), ("a=1", "passed"), ("a=2", "passed")]
    assert "From a 0 to 5 the optimum goes from 1 to 7." in page
    assert "93% of the trade-off is covered" in page
    assert "2 reaches it." in page
    assert "out of time" in page
    assert "axis &#39;b&#39; has no numbers" in page
    assert page.count('role="img"') == 5  # tornado bar, against spend, along a, sweep, trade-off
    assert page.count("aria-label") >= 5


def test_a_point_tells_what_is_certain_of_it() -> None:
    page = render_study(table(SMALL))
    titles = re.findall(r"<title>([^<]*)</title>", page)
    assert "a=2: 12, proved optimal" in titles
    assert any(title.startswith("a=1: 10.2, optimum between 10.1") for title in titles)


def test_names_cannot_break_the_page() -> None:
    pairs = [
        (scenario({}, baseline=True), row("b", goal(10.0))),
        (scenario({NASTY: NASTY}), row("k0", goal(8.0, name="objective"))),
        (scenario({NASTY: 1}), row("k1", goal(9.0))),
        (scenario({NASTY: 2}), row("k2", goal(9.5)).failed("k2", f"it broke: {NASTY}")),
    ]
    ask = REFUSED | {"failure": NASTY}
    page = balanced(render_study(table(pairs, title=NASTY), (ask,)))
    assert "<script" not in page
    assert "alert(1)" in page


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([infeasible("b"), infeasible("k")], "no plan exists (proved)"),
        ([planless("b"), planless("k")], "no plan found"),
        ([row("b", goal(1.0)).failed("b", "the process was lost"), None], "the process was lost"),
        ([None, None], "No scenario is answered yet."),
        ([row("b", goal(3.0)), infeasible("k")], "1 proved to have none"),
        ([infeasible("b"), row("k", goal(3.0))], "the other has no plan (proved)"),
    ],
)
def test_a_table_without_much_in_it(rows: list[object], told: str) -> None:
    scenarios = scenario({}, baseline=True), scenario({"a": 1})
    page = balanced(render_study(table(list(zip(scenarios, rows, strict=True)))))  # type: ignore[arg-type]
    assert told in page


def test_one_scenario_alone() -> None:
    page = balanced(render_study(table([(scenario({}, baseline=True), row("b", goal(3.0)))], axes={})))
    assert "<svg" not in page
    assert "optimal" in page


def test_unknown_bounds_are_told_as_such() -> None:
    endless = goal(3.0, float("inf"))
    page = balanced(render_study(table([(scenario({"a": number}), row(f"k{number}", endless)) for number in range(3)])))
    assert "inf" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL).lower().replace("infeasible", "")
    assert "unknown" in page


def test_replicates_have_their_statistics() -> None:
    pairs = []
    for replicate in range(4):
        pairs.append((scenario({}, baseline=True, replicate=replicate), row(f"b{replicate}", goal(10.0 + replicate))))
        pairs.append((scenario({"a": 1}, replicate=replicate), row(f"k{replicate}", goal(11.0 + replicate))))
    page = balanced(render_study(table(pairs, replicates=4)))
    assert "Over the replicates" in page
    assert "4, 0, 0, 0" in page
    assert "a=1 #3" in page


def test_a_heat_map_shows_what_is_open_and_what_cannot_be() -> None:
    page = balanced(render_study(large(36)))
    assert page.count('<td class="infeasible"') == 2
    assert page.count('<td class="unknown" style') == 2  # one failed, one without a plan
    assert page.count('<td class="open"') >= 1
    assert "not distinguishable from the baseline at these limits" in page


@pytest.mark.parametrize("count", [400, 1_024])
def test_a_large_study_stays_small_and_fast(count: int) -> None:
    began = time.process_time()
    page = balanced(render_study(large(count, gates=({"metric": "objective", "fall_at_most": 0.01},))))
    assert time.process_time() - began < 20  # measured: under 1 s; this only catches what grows out of hand
    assert page.count("<tr") < MOST_LINES + 60
    assert "more lines are in table.csv" in page
    assert len(page) < 2**20


def test_a_line_is_cut_where_there_is_no_plan() -> None:
    values = [1.0, 2.0, None, 4.0, 5.0]
    pairs = [
        (scenario({"a": number}), infeasible(f"k{number}") if value is None else row(f"k{number}", goal(value)))
        for number, value in enumerate(values)
    ]
    page = render_study(table([(scenario({}, baseline=True), row("b", goal(1.0))), *pairs], axes={"a": range(5)}))
    assert page.count('<path class="incumbent"') == 2
    assert page.count('<path class="none"') == 1


def test_links_lead_where_plans_are_kept() -> None:
    page = render_study(table(SMALL), plan_at=lambda one: "" if one.key == "k0" else f"/v1/runs/{one.key}/plan")
    assert 'href="/v1/runs/k2/plan"' in page
    assert "k0/plan" not in page
    assert "quartermaster study plan" not in page


def test_very_many_points_are_not_all_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_charts, "MOST_POINTS", 50)
    page = balanced(render_study(large(400)))
    assert "Of those that others beat one in" in page
    monkeypatch.setattr(study_charts, "MOST_RANKED", 100)
    assert "Objective against spend" not in render_study(large(400))


# ---------------------------------------------------------------- scales


@pytest.mark.parametrize(
    ("low", "high", "first", "last"),
    [
        (0.0, 1.0, "0", "1"),
        (0.0, 120_000.0, "0", "100k"),
        (0.0, 8e6, "0", "8M"),
        (-2.0, 2.0, "-2", "2"),
        (10.0, 10.5, "10", "10.5"),
        (1e-7, 5e-7, "1e-07", "5e-07"),
    ],
)
def test_ticks_are_round_and_true(low: float, high: float, first: str, last: str) -> None:
    found = ticks(low, high)
    assert (found[0][1], found[-1][1]) == (first, last)
    sizes = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    for value, text in found:
        assert low - 1e-9 <= value <= high + 1e-9
        plain = text.replace(",", "")
        said = float(plain[:-1]) * sizes[plain[-1]] if plain[-1] in sizes else float(plain)
        assert said == pytest.approx(value, rel=1e-2, abs=1e-12)


def test_far_bounds_do_not_squeeze_the_plans() -> None:
    low, high = limits([1.0, 2.0], [Interval(0.0, 1e9)])
    assert low < 1.0
    assert 2.0 < high < 10.0


@pytest.mark.parametrize("values", [[], [0.0], [5.0, 5.0], [1e-12, 1e-12], [-1e300, 1e300], [7.0, 7.0 + 1e-12]])
def test_no_range_is_empty(values: list[float]) -> None:
    low, high = limits(values)
    assert low < high
    assert all(low <= value <= high for value in values)
    assert Scale(low, high, 0.0, 1.0).at((low + high) / 2) == pytest.approx(0.5, abs=0.11)


def test_a_plot_holds_what_lies_outside_at_its_edge() -> None:
    drawn = canvas("t", ("x", "y"), [0.0, 1.0], [0.0, 1.0])
    drawn.mark("best", 0.5, 1e9, "far")
    assert drawn.marks[0].y == drawn.y.end

"""Shipped studies run and say what they are meant to say; the page on studies is true; and every kind can be studied."""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.suite import SHARED
from models.catalogue import kind as kind_called
from models.catalogue import kind_of, kinds
from models.contract import ContradictionError
from models.vocabulary import Document
from optimizer.result import Outcome
from optimizer.study.conclusions.gates import Standing
from optimizer.study.executors.in_process import InProcess
from optimizer.study.rows import BASELINE
from optimizer.study.run import Table, run_study
from optimizer.study.scenarios.expansion import expanded
from optimizer.study.schema import Study, read
from optimizer.study.store import Memory
from service.cli import main
from service.documents.reading import Text
from service.documents.study import read_study
from service.importers.openb import import_openb
from service.studies.conclusions import Conclusions, StudyExit, conclusions
from service.studies.frame import columns_of
from service.studies.shelf import Shelf
from service.studies.shipped import example, examples
from service.studies.whole import Whole, run_whole
from tests.conformance.documents import ROOT, fenced

OPENB = ROOT / "benchmarks" / "data" / "openb"
PAGE = ROOT / "optimizer" / "study" / "README.md"
GTSCE = SHARED / "ncflow"
PROVED = 1e-9  # relative gap of small problems, which are solved to the end
FEW = 3  # scenarios of each example besides the baseline


@dataclass(frozen=True)
class Expected:
    """What a shipped study says: how many scenarios, which fail a gate or have no plan (proved), and some of the recommendation."""

    scenarios: int
    failing: frozenset[str] = frozenset()
    infeasible: frozenset[str] = frozenset()
    says: str = ""


def ids(axis: str, *values: object) -> frozenset[str]:
    return frozenset(f"{axis}={value}" for value in values)


TOO_EARLY = frozenset(f"deadlines=0.6,h200={price}" for price in (3, 4, 5))
WHOLE = {
    "rack_loss": Expected(13, frozenset(f"lost={rack},more=2" for rack in "abcd"), says="Take more=1: over 4 circumstances"),
    "quota_change": Expected(5, ids("quota", "8-to-research"), says="Take quota=8 to product"),
    "link_upgrade": Expected(5, says="Take upgrade=mad-par, for 400,000 USD: it beats the baseline by 10.7%"),
    "tier_resize": Expected(
        16,
        frozenset(f"flash={size},budget=3000" for size in (10000, 20000, 30000, 40000, 60000))
        | {"flash=10000,budget=4500", "flash=10000,budget=9000"},
        says="Take flash=40000, budget=9000",
    ),
    "growth_and_failures": Expected(48),
    "archive_uncertainty": Expected(25, says="Nothing is chosen here"),
    "h100_until_placed": Expected(6, frozenset({BASELINE, *ids("h100", 0, 3, 9, 12)}), says="Take h100=6, for 2,892,900 USD"),
    "gpu_hours": Expected(15, frozenset({"gpu-hours=600,energy=1200", "gpu-hours=900,energy=1200"})),
    "deadline_cost": Expected(
        13,
        frozenset({"deadlines=0.8,h200=5", "deadlines=0.7,h200=4", "deadlines=0.7,h200=5"}) | TOO_EARLY,
        TOO_EARLY,
        says="Take deadlines=1",
    ),
}  # fmt: skip
CUT = {"openb_expansion", "link_upgrade_gtsce"}


def told(name: str, folder: Path = ROOT, **changes: Any) -> tuple[Study, Document]:
    """A shipped study with some fields changed, and its base problem, which may lie in ``folder``."""
    from service.documents.yaml_loader import loaded

    raw: Any = loaded(example(name).encode())
    text = Text("study.json", json.dumps(raw | changes).encode(), is_yaml=False)
    found = read_study(text, folder, lambda path: Text(path, Path(path).read_bytes(), is_yaml=False))
    return found.study, found.base


def is_right(table: Table) -> None:
    """Every scenario is answered: by a verified plan with a bound of its first goal on the right side, or by a proof that there is none."""
    assert table.missing == 0
    assert table.failed == 0
    for line in table.answered:
        if line.row.outcome == Outcome.infeasible.value:
            assert line.row.refuted, line.scenario.id
            continue
        assert line.row.verified, line.scenario.id
        goal = line.row.goals[0]
        ahead = goal.bound - goal.objective if goal.sense == "maximise" else goal.objective - goal.bound
        assert ahead >= -1e-6 * max(1.0, abs(goal.objective)), line.scenario.id
        assert goal.gap <= table.study.limits.gap + PROVED or line.row.stop_reason != "gap", line.scenario.id


def failing(found: Conclusions) -> frozenset[str]:
    return frozenset(one.scenario for one in found.gates if one.standing is Standing.failed)


def as_rows(table: Table) -> list[dict[str, Any]]:
    return [{} if row is None else row.as_json() for row in table.rows]


# ---------------------------------------------------------------- shipped studies


def test_every_shipped_study_is_expected_here() -> None:
    assert set(examples()) == set(WHOLE) | CUT
    assert all(examples().values())  # each has a title


@pytest.fixture(scope="module")
def shelves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each shipped study is solved once."""
    return tmp_path_factory.mktemp("shelves")


def answered(name: str, shelves: Path) -> Whole:
    """A shipped study with its asks."""
    study, base = told(name)
    with Shelf.opened(shelves / name, study, base) as shelf:
        return run_whole(study, base, shelf, InProcess())


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_a_shipped_study_says_what_it_is_meant_to_say(name: str, shelves: Path) -> None:
    expected, first = WHOLE[name], answered(name, shelves)
    is_right(first.table)
    assert len(first.table.scenarios) == expected.scenarios
    found = conclusions(first.table)
    assert failing(found) == expected.failing
    assert not [one for one in found.gates if one.standing is Standing.undecided]
    assert found.exit_code is (StudyExit.gate_failed if expected.failing else StudyExit.passed)
    lines = first.table.answered
    assert frozenset(line.scenario.id for line in lines if line.row.outcome == Outcome.infeasible.value) == expected.infeasible
    assert expected.says in found.advice.paragraph


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_a_second_run_solves_nothing_and_has_the_same_table(name: str, shelves: Path) -> None:
    first, again = answered(name, shelves), answered(name, shelves)
    assert again.table.solved == 0
    assert as_rows(again.table) == as_rows(first.table)
    assert columns_of(again.table) == columns_of(first.table)
    assert again.asks == first.asks


def test_six_nodes_are_the_fewest_by_hand(shelves: Path) -> None:
    """Production asks for 12 + 15 + 16 + 8 + 6 whole GPUs, and six shares of 0.6 need a GPU each: 63 of 64 on 2 + 6 nodes of 8."""
    (target,) = answered("h100_until_placed", shelves).asks
    assert target["failure"] is None
    assert target["answer"]["value"] == 6
    assert "proved least" in target["sentence"]


def test_the_curve_of_gpu_hours_is_that_of_the_table(shelves: Path) -> None:
    whole = answered("gpu_hours", shelves)
    (sweep,) = whole.asks
    assert sweep["failure"] is None
    at_900_kwh = {
        line.scenario.numbers["gpu-hours"]: line.row.goals[0].objective
        for line in whole.table.answered
        if line.scenario.numbers.get("energy") == 900
    }
    assert len(at_900_kwh) == 7
    pieces = sweep["answer"]["pieces"]
    for hours, value in at_900_kwh.items():
        piece = next(one for one in pieces if one["start"] - 1e-9 <= hours <= one["end"] + 1e-9)
        assert piece["start_value"] + slope(piece) * (hours - piece["start"]) == pytest.approx(value, rel=1e-6)
    slopes = [slope(one) for one in pieces]
    assert slopes[0] == pytest.approx(3.0)  # by hand: serving, 12 of each hour of 4 GPUs, is what is worth most of what is left
    assert slopes == sorted(slopes, reverse=True)  # what is worth most is done first


def slope(piece: dict[str, float]) -> float:
    return (piece["end_value"] - piece["start_value"]) / (piece["end"] - piece["start"])


def test_the_ends_of_the_trade_off_are_those_of_single_goals(shelves: Path) -> None:
    whole = answered("tier_resize", shelves)
    (front,) = whole.asks
    points = [(point["first"], point["second"]) for point in front["answer"]["points"]]
    assert points == sorted(points)
    assert [cost for _, cost in points] == sorted((cost for _, cost in points), reverse=True)
    baseline = whole.table.answered[0].row
    assert points[0] == pytest.approx((baseline.goals[0].objective, baseline.goals[1].objective), rel=1e-4)


def test_the_same_replicate_has_the_same_failures_and_growth_for_every_upgrade() -> None:
    study, base = told("growth_and_failures")
    by_replicate: dict[int, set[str]] = {}
    for scenario in expanded(study, base):
        touched = [change for change in scenario.changes if change.pointer.startswith("/demands")]
        lost = [change.pointer for change in scenario.changes if change.pointer.startswith("/links") and change.value == 0]
        key = json.dumps([[(change.pointer, change.value) for change in touched], lost])
        by_replicate.setdefault(scenario.replicate, set()).add(key)
    assert len(by_replicate) == 12
    assert all(len(one) == 1 for one in by_replicate.values())
    assert len(set.union(*by_replicate.values())) == 12


# ---------------------------------------------------------------- those on large problems


def test_the_expansion_of_openb_on_a_part_of_the_cluster(tmp_path: Path) -> None:
    """Twelve nodes of 2 P100, and a hundred pods that fit there: the more is bought, the more is placed, for certain."""
    whole = import_openb(OPENB / "openb_node_list_gpu_node.csv", OPENB / "openb_pod_list_default.csv")
    small = [job for job in whole.jobs if job.gpus_per_worker <= 2 and not job.model_speeds]
    part = whole.model_copy(update={"nodes": whole.nodes[:12], "jobs": tuple(small[:100])})
    assert part.nodes[0].id == "openb-node-0000"
    (tmp_path / "openb.json").write_text(part.model_dump_json(), encoding="utf-8")
    study, base = told("openb_expansion", tmp_path)
    assert next(one for one in expanded(study, base) if one.id == "t4=6,a10=6,v100=12").spend_usd == 6 * (68538 + 142683) + 12 * 273417
    axes = [axis.model_copy(update={"values": (0, 1) if axis.name == "t4" else (0,)}) for axis in study.axes]
    limits = study.limits.model_copy(update={"time_limit_s": 2.0, "gap": 0.1})  # small does not mean easy: proofs take their time here
    table = run_study(study.model_copy(update={"axes": tuple(axes), "limits": limits}), base, Memory(), InProcess())
    is_right(table)
    value = {line.scenario.id: line.row.goals[0] for line in table.answered}
    assert value["t4=1,a10=0,v100=0"].objective > value[BASELINE].bound


@pytest.mark.long
def test_the_expansion_of_openb_on_the_whole_cluster(tmp_path: Path) -> None:
    problem = import_openb(OPENB / "openb_node_list_gpu_node.csv", OPENB / "openb_pod_list_default.csv", OPENB / "arrivals_default.csv")
    (tmp_path / "openb.json").write_text(problem.model_dump_json(), encoding="utf-8")
    study, base = told("openb_expansion", tmp_path)
    axes = [axis.model_copy(update={"values": (0, 6) if axis.name == "t4" else (0,)}) for axis in study.axes]
    table = run_study(study.model_copy(update={"axes": tuple(axes)}), base, Memory(), InProcess())
    is_right(table)
    more = conclusions(table).differences["t4=6,a10=0,v100=0"]
    assert more.finding.value == "better"
    assert more.absolute is not None
    assert 30 < more.absolute.low <= more.absolute.high < 48  # 48 GPUs are added, and hardly one of them may stay idle


@pytest.mark.long
@pytest.mark.skipif(not GTSCE.is_dir(), reason="GtsCe is not on this machine: its licence is not stated (see QUARTERMASTER_SHARED_DATA)")
def test_the_link_upgrade_of_gtsce(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = [str(GTSCE / f"GtsCe_uniform_x64_seed1216622520.{part}") for part in ("links.csv", "demands.csv.gz")]
    options = ["--objective", "max_throughput", "--paths", "edge-disjoint:4", "--out", "gtsce.json"]
    assert run_line(["quartermaster", "import", "links-demands", *files, *options])[0] == 0
    study, base = told("link_upgrade_gtsce", tmp_path)
    study = study.model_copy(update={"axes": (study.axes[0].model_copy(update={"values": ("33", "61")}),)})
    table = run_study(study, base, Memory(), InProcess())
    is_right(table)
    found = conclusions(table)
    assert table.answered[0].row.goals[0].objective == pytest.approx(23444.957968, rel=1e-6)  # as published
    assert [found.differences[name].finding.value for name in ("site=33", "site=61")] == ["better", "equal_within"]
    assert found.exit_code is StudyExit.passed


def test_the_prices_of_the_expansion_are_those_of_the_list() -> None:
    study, _ = told("openb_expansion", base={"problem": TINY_OPENB})
    with (ROOT / "benchmarks" / "data" / "node_prices" / "node_prices.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["instance"]: row for row in csv.DictReader(file)}
    for axis, instance in (("t4", "g4dn.metal"), ("a10", "g5.48xlarge"), ("v100", "p3dn.24xlarge")):
        found = next(one for one in study.axes if one.name == axis)
        assert found.usd_each == float(rows[instance]["usd_per_year"]) == round(8760 * float(rows[instance]["usd_per_h"]))
        merge = found.edits[0].model_dump()["merge"]
        assert (merge["gpus"], merge["cpu_cores"], merge["memory_gib"]) == (
            int(rows[instance]["gpus"]),
            int(rows[instance]["vcpu"]),
            int(rows[instance]["memory_mib"]) / 1024,
        )


TINY_OPENB = {"nodes": [{"id": "openb-node-0000", "gpu_model": "P100", "gpus": 2, "cpu_cores": 64, "memory_gib": 256}]}


# ---------------------------------------------------------------- every kind


def examples_of(kind: str) -> dict[str, Document]:
    found: dict[str, Document] = importlib.import_module(f"{kind_called(kind).package}.examples").examples()
    return found


EXAMPLES = [(name, one) for name in sorted(kinds()) for one in examples_of(name)]


def numbers(value: Any, path: str = "") -> Iterator[str]:
    """Pointers of all numbers above 0 with a fraction or of 2 and more, wherever they stand."""
    match value:
        case bool():
            return
        case int() | float():
            if value >= 2 or (isinstance(value, float) and value > 0):
                yield path
        case dict():
            for name, item in value.items():
                yield from numbers(item, f"{path}/{name.replace('~', '~0').replace('/', '~1')}")
        case list():
            for place, item in enumerate(value):
                yield from numbers(item, f"{path}/{place}")


def scaling(base: Document) -> Study:
    """A study that scales some number of a problem: the first with which every scenario is a right problem, and another one."""
    for pointer in numbers(base.model_dump(mode="json")):
        if pointer == "/schema_version":
            continue
        raw = {
            "name": "scaled",
            "kind": kind_of(base).name,
            "base": {"problem": {}},
            "axes": [{"name": "scale", "values": [0.5, 1.5, 2], "edits": [{"op": "scale", "at": pointer, "by": "$value"}]}],
            "limits": {"time_limit_s": 10, "gap": 1e-4},
        }
        study = read(raw)
        with contextlib.suppress(ContradictionError):
            if all(scenario.changes for scenario in expanded(study, base)[1:]):
                return study
    raise AssertionError("no number of the problem can be scaled")


@pytest.mark.parametrize(("kind", "name"), EXAMPLES, ids=str)
def test_every_example_of_every_kind_can_be_studied(kind: str, name: str) -> None:
    base = examples_of(kind)[name]
    kept = Memory()
    table = run_study(scaling(base), base, kept, InProcess())
    assert len(table.scenarios) == 1 + FEW
    is_right(table)
    assert conclusions(table).advice.paragraph
    assert run_study(scaling(base), base, kept, InProcess()).solved == 0


# ---------------------------------------------------------------- the page


def run_line(words: list[str]) -> tuple[int, str]:
    """One ``quartermaster`` line; the exit code and what it printed."""
    with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit) as stop:
        main(words[1:])
    return int(stop.value.code or 0), printed.getvalue()


def page_lines() -> Iterator[tuple[list[str], int]]:
    """The lines of the page's shell blocks, each with the exit code that a comment tells, as in ``# exit code 5``."""
    for block in fenced(PAGE.read_text(encoding="utf-8"), "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            code = re.search(r"# .*exit code (\d)", line)
            if words and words[0] == "quartermaster":
                yield words, int(code[1]) if code else 0


def test_the_commands_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after another, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    found = list(page_lines())
    assert {words[2] for words, _ in found} >= {"example", "run", "show", "compare", "schema", "plan"}
    for words, expected in found:
        arguments, _, target = " ".join(shlex.quote(word) if word != ">" else ">" for word in words).partition(" > ")
        code, printed = run_line(shlex.split(arguments))
        assert code == expected, (words, printed[-2000:])
        if target:
            Path(shlex.split(target)[0]).write_text(printed, encoding="utf-8")


def test_the_python_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("quota.yaml").write_text(example("quota_change"), encoding="utf-8")
    blocks = fenced(PAGE.read_text(encoding="utf-8"), "python")
    assert blocks
    names: dict[str, Any] = {}
    for block in blocks:
        if "Client(" not in block:  # that one needs a service: tests/service/api has it
            exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102  (our own page)
    assert names["frame"] is not None


def test_the_study_on_the_page_is_one() -> None:
    """Every YAML block that has a kind is a whole study, and runs."""
    from service.documents.yaml_loader import loaded

    found = 0
    for block in fenced(PAGE.read_text(encoding="utf-8"), "yaml"):
        raw = loaded(block.encode())
        if isinstance(raw, dict) and "kind" in raw:
            study = read(raw)
            base = kind_called(study.kind).problem.model_validate(study.base.problem)
            is_right(run_study(study, base, Memory(), InProcess()))
            found += 1
    assert found


def test_the_page_names_every_field_of_the_file() -> None:
    text = PAGE.read_text(encoding="utf-8")
    schema = Study.model_json_schema()
    fields = {field for part in (schema, *schema["$defs"].values()) for field in part.get("properties", {})}
    assert not [field for field in sorted(fields) if f"`{field}`" not in text]


def test_the_links_of_the_page_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#\s]+)", PAGE.read_text(encoding="utf-8"))
    assert not [link for link in links if "://" not in link and not (PAGE.parent / link).exists()]

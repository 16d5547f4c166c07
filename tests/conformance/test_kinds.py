"""What every kind promises (``models.contract``), asked of every kind there is. A new kind adds no line here."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import BaseModel, ValidationError

from models.catalogue import kind as kind_called
from models.catalogue import kind_of, kinds
from models.contract import Kind, Sense
from models.vocabulary import Document
from optimizer.compile import compile_model
from optimizer.limits import Limits
from optimizer.result import Outcome, Result
from optimizer.solve import solve
from service.cli import app, main
from tests.conformance.documents import (
    ROOT,
    commands,
    fenced,
    names_in_code,
    numeric_fields,
    page,
    reachable,
    section,
    strings,
    tables,
    with_number,
)

KINDS = sorted(kinds())
UNITS = ("_s", "_gib", "_gbps", "_usd", "_kw", "_kwh", "_cores", "_gpus", "_percent", "_per_s")
CODES = {"why_not", "would_place", "displaces", "binding", "moved", "evicted", "summary"}  # models.contract.Reason
HOOKS = {  # models.contract
    "schema": ("Problem", "Plan", "Rule", "example"),
    "verify": ("verify", "goals"),
    "heuristic": ("heuristic", "simple_bounds"),
    "formulation": ("build", "extract", "start", "size"),
    "explain": ("explain", "subjects", "rule_units", "repair_text", "FIRM_RULES", "CUT_COLUMNS"),
}
SCALE_HOOKS = (
    "METHOD",
    "applies",
    "relaxation",
    "guided",
    "packing",
    "exchange",
    "filled",
    "neighbourhoods",
)  # of a kind that has large problems

each_kind = pytest.mark.parametrize("name", KINDS)


def parts_of(name: str) -> list[type[BaseModel]]:
    kind = kind_called(name)
    return reachable(kind.problem, kind.plan)


each_document = pytest.mark.parametrize(
    "document", [pytest.param(one, id=f"{name}-{one.__name__}") for name in KINDS for one in parts_of(name)]
)


def example(kind: Kind) -> Any:
    return kind.part("schema").example()


@cache
def solved(name: str) -> Result:
    return solve(example(kind_called(name)), Limits(time_limit_s=10), isolate=False)


# ---------------------------------------------------------------- schema


def test_there_are_kinds() -> None:
    assert KINDS


@each_kind
def test_the_folder_is_complete(name: str) -> None:
    kind = kind_called(name)
    assert kind.name == name
    assert kind.package == f"models.{page(kind).parent.name}"  # mostly, but not always, the kind's own name
    assert kind.summary.endswith(".")
    assert [part for part in HOOKS if not kind.has(part)] == []
    converses = kind.has("scale") and hasattr(kind.part("scale"), "converse")
    hooks = HOOKS | ({"scale": ("METHOD", "applies") if converses else SCALE_HOOKS} if kind.has("scale") else {})
    assert [f"{part}.{hook}" for part in hooks for hook in hooks[part] if not hasattr(kind.part(part), hook)] == []
    assert callable(kind.problem.ordered_goals)  # type: ignore[attr-defined]
    assert page(kind).exists()
    assert len(set(kind.rules)) == len(kind.rules) > 0


@each_document
def test_documents_are_frozen_and_closed(document: type[BaseModel]) -> None:
    assert issubclass(document, Document)
    assert document.model_config.get("frozen") is True
    with pytest.raises(ValidationError) as refused:
        document.model_validate({"no_such_field": 1})
    assert "extra_forbidden" in {error["type"] for error in refused.value.errors()}


@each_document
def test_no_number_is_nan_or_infinite(document: type[BaseModel]) -> None:
    for name, schema in numeric_fields(document):
        for number in (math.nan, math.inf, -math.inf):
            assert name in complaints(document, {name: with_number(schema, number)}), f"{document.__name__}.{name} takes {number}"
        assert name not in complaints(document, {name: with_number(schema, 1)}), f"{document.__name__}.{name} does not take 1"


def complaints(document: type[BaseModel], contents: dict[str, Any]) -> set[str]:
    """The fields that are refused; those that are only missing do not count."""
    try:
        document.model_validate(contents)
    except ValidationError as refused:
        return {str(error["loc"][0]) for error in refused.errors() if error["loc"] and error["type"] != "missing"}
    return set()


@each_document
def test_every_number_has_a_unit(document: type[BaseModel]) -> None:
    """By its name's ending, by its description, or because it counts what it is named after (``max_workers``)."""
    untold = [
        name
        for name, schema in numeric_fields(document)
        if not name.endswith(UNITS) and "description" not in schema and not (name.endswith("s") and "number" not in json.dumps(schema))
    ]
    assert untold == []


@each_kind
def test_problem_and_plan_have_a_version(name: str) -> None:
    kind = kind_called(name)
    for document in (kind.problem, kind.plan):
        assert "schema_version" in document.model_fields
        assert isinstance(document.model_fields["schema_version"].default, int)
        with pytest.raises(ValidationError):
            document.model_validate({"schema_version": 10**6})


@each_kind
def test_documents_survive_json(name: str) -> None:
    kind, plan = kind_called(name), solved(name).plan
    assert plan is not None
    for document in (example(kind), plan):
        assert type(document).model_validate_json(document.model_dump_json()) == document
        assert type(document).model_validate(json.loads(json.dumps(document.model_dump(mode="json")))) == document
        assert kind_of(document) is kind


# ---------------------------------------------------------------- solving


@each_kind
def test_the_example_is_solved_and_verified(name: str) -> None:
    kind, result = kind_called(name), solved(name)
    assert result.outcome in {Outcome.optimal, Outcome.feasible}
    assert result.failure is None
    assert result.plan is not None
    verdict = kind.verify(example(kind), result.plan)
    assert (verdict.ok, verdict.largest_violation, verdict.violations) == (True, 0.0, ())
    assert list(verdict.objectives) == [goal.name for goal in kind.goals(example(kind))]
    assert all(math.isfinite(value) for value in (*verdict.objectives.values(), *verdict.metrics.values()))


@each_kind
def test_the_heuristic_is_feasible_and_no_better_than_the_bounds(name: str) -> None:
    kind, problem = kind_called(name), example(kind_called(name))
    heuristic = kind.part("heuristic")
    plan = heuristic.heuristic(problem, 0, 1.0)
    assert plan is not None
    assert plan == heuristic.heuristic(problem, 0, 1.0)
    verdict = kind.verify(problem, plan)
    assert verdict.ok
    certificate = solved(name).certificate
    assert certificate is not None
    bounds = heuristic.simple_bounds(problem)
    for goal, proved in zip(kind.goals(problem), certificate.goals, strict=True):
        if goal.name in bounds:
            assert not goal.better(proved.objective, bounds[goal.name])
    first = kind.goals(problem)[0]
    assert not first.better(verdict.objectives[first.name], certificate.bound)


@each_kind
def test_the_program_is_named_and_agrees_with_verify(name: str) -> None:
    """Rows have names that the page tells, and the values of the solved plan are feasible and worth what ``verify`` says."""
    kind, problem, plan = kind_called(name), example(kind_called(name)), solved(name).plan
    formulation = kind.part("formulation")
    known = {*kind.rules, *getattr(formulation, "LINKING", ()), *getattr(formulation, "HASTENING", ())}
    for goal, called in zip(kind.goals(problem), problem.ordered_goals(), strict=True):
        compiled = compile_model(formulation.build(problem, called, {}))
        assert {block.name for block in compiled.program.row_blocks} <= known
        assert compiled.program.maximise == (goal.sense is Sense.maximise)
        assert compiled.fallbacks == 0
        start = formulation.start(problem, plan)
        told = {
            family: {_bare(ids): number for ids, number in values.items() if _bare(ids) in compiled.columns[family]}
            for family, values in start.items()
            if family in compiled.columns
        }
        values = compiled.vector_of(told)
        assert compiled.program.relative_violation(values) <= 1e-6
        assert compiled.program.objective(values) == pytest.approx(kind.verify(problem, plan).objectives[goal.name], rel=1e-6)
        by_name = {
            family: {index if isinstance(index, tuple) else () if index is None else (index,): number for index, number in found.items()}
            for family in compiled.columns
            if (found := compiled.values_of(family, values))
        }
        again = formulation.extract(problem, by_name)
        assert kind.verify(problem, again).objectives == pytest.approx(kind.verify(problem, plan).objectives)
    assert formulation.size(problem) > 0


def _bare(ids: tuple[Any, ...]) -> Any:
    return ids if len(ids) > 1 else ids[0] if ids else None


# ---------------------------------------------------------------- explaining


@each_kind
def test_reasons_cite_what_exists(name: str) -> None:
    kind, problem, plan = kind_called(name), example(kind_called(name)), solved(name).plan
    explain = kind.part("explain")
    citable = {*kind.rules, *(goal.name for goal in kind.goals(problem))}
    known = {*strings(problem.model_dump(mode="json"))}
    subjects = explain.subjects(problem, plan)
    assert set(subjects) <= known
    for subject in (None, *subjects):
        reasons = explain.explain(problem, plan, subject)
        assert reasons or subject is not None
        for reason in reasons:
            assert reason.code in CODES, reason
            assert reason.rule in citable, reason
            assert set(reason.ids) <= known, reason
            assert reason.subject in {*subjects, ""}, reason
            assert reason.status in {"proved", "heuristic"}, reason
            assert reason.text, reason
    with pytest.raises(KeyError):
        explain.explain(problem, plan, "nobody is called this")


# ---------------------------------------------------------------- the page


@each_kind
def test_the_page_tells_every_rule(name: str) -> None:
    kind = kind_called(name)
    formulation = kind.part("formulation")
    text = page(kind).read_text(encoding="utf-8")
    told = [names_in_code(row["name in code"]) for table in tables(section(text, "Rules")) for row in table if "name in code" in row]
    assert {each for one in told for each in one} == set(kind.rules)
    rows = [row for table in tables(text) for row in table if "name in code" in row]
    others = {each for row in rows for each in names_in_code(row["name in code"])} - set(kind.rules)
    assert others == {*getattr(formulation, "LINKING", ()), *getattr(formulation, "HASTENING", ())}
    assert all(row[column] for row in rows for column in ("formula", "name in code"))


@each_kind
def test_the_page_tells_every_goal(name: str) -> None:
    kind = kind_called(name)
    text = section(page(kind).read_text(encoding="utf-8"), "Goals")
    told = {each for table in tables(text) for row in table for each in names_in_code(row["goal"])}
    assert {goal.name for goal in kind.goals(example(kind))} <= told
    declared = getattr(kind.part("schema"), "GoalName", None)
    if declared is not None:
        assert told == {goal.value for goal in declared}


@each_kind
def test_the_examples_of_the_page_are_valid(name: str) -> None:
    kind = kind_called(name)
    blocks = fenced(page(kind).read_text(encoding="utf-8"), "json")
    assert blocks
    for block in blocks:
        content = json.loads(block)
        assert is_a(kind.problem, content) or is_a(kind.plan, content), block[:200]


def is_a(document: type[Document], content: Any) -> bool:
    try:
        document.model_validate(content)
    except ValidationError:
        return False
    return True


# ---------------------------------------------------------------- commands in pages

PAGES = [path for path in (ROOT / "README.md", *(page(kind_called(name)) for name in KINDS)) if path.exists()]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_in_pages_are_commands(path: Path) -> None:
    program = typer.main.get_command(app)
    found = commands(path.read_text(encoding="utf-8"))
    assert found
    for words in found:
        command, rest = program, words
        context = None
        while hasattr(command, "resolve_command"):
            context = command.make_context(context.info_name if context else "quartermaster", list(rest), parent=context)
            rest = [*context._protected_args, *context.args]  # noqa: SLF001  (Click offers no public way to parse without running)
            _, command, rest = command.resolve_command(context, rest)
        command.make_context(command.name, list(rest), parent=context)


@each_kind
def test_the_commands_of_the_page_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the problem that the page shows, or on the example where it shows none."""
    kind = kind_called(name)
    text = page(kind).read_text(encoding="utf-8")
    shown = next((block for block in fenced(text, "json") if is_a(kind.problem, json.loads(block))), None)
    monkeypatch.chdir(tmp_path)
    Path("problem.json").write_text(shown or example(kind).model_dump_json(), encoding="utf-8")
    ran = 0
    for words in commands(text):
        if words[:2] == ["solve", name] and "problem.json" in words:
            with pytest.raises(SystemExit) as stop:
                main([*words, "--time-limit", "10", "--out", "plan.json"])
            assert not stop.value.code
            ran += 1
    assert ran
    for command in ("verify", "explain"):
        with pytest.raises(SystemExit) as stop:
            main([command, name, "problem.json", "plan.json"])
        assert not stop.value.code

"""What children do for studies: reading one, and saying what its answers prove together.

Payloads and answers are plain, as in ``service.tasks``.
"""

from __future__ import annotations

import hashlib
import io
import json
from typing import TYPE_CHECKING, Any

from models.catalogue import kinds
from models.contract import ContradictionError, Warned
from models.garbage import collection_paused
from optimizer.result import finite
from optimizer.study.executors.engine import Asked
from optimizer.study.executors.order import neighbourly
from optimizer.study.questions.asks import most_solves
from optimizer.study.questions.beforehand import check_asks
from optimizer.study.rows import Change, Scenario, scenario_key
from optimizer.study.run import Table, limits_of
from optimizer.study.scenarios.expansion import expanded_and_warned
from optimizer.study.schema import Base, Study
from optimizer.study.schema import read as read_document
from optimizer.study.store import base_hash, product_version
from optimizer.study.store import canonical as canonical_base
from service.documents.complaints import InvalidError, below
from service.documents.json_text import strictly_loaded
from service.documents.problems import canonical, problem_id, told
from service.documents.reading import validated
from service.documents.study import names_checked
from service.runs import derived
from service.studies.served import row_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence

    from models.contract import Kind
    from models.vocabulary import Document

    Send = Callable[[dict[str, Any]], None]
    Answers = Sequence[Mapping[str, Any]]

# ---------------------------------------------------------------- reading a study


def read_study(payload: dict[str, Any], _send: Send, _cancel: threading.Event) -> dict[str, Any]:
    """A study in a request: {data, base, most, most_solves, longest_s}.

    ``base`` is the body of the problem that it names, None where not known yet. Says {"needs": the id of that problem}, {"errors"}, or
    {study, name, title, kind, base: {body, warnings}, scenarios, count, questions, asks, given, warnings}: ``study`` is the document with
    its base by id, ``scenarios`` JSON, ``questions`` {key, seed, changes, problem_id} with their key under the limits of the study,
    ``asks`` {key, solves} or None, ``given`` its limits.
    """
    try:
        study = _study(payload["data"])
        if study.base.problem_id is not None and payload["base"] is None:
            return {"needs": study.base.problem_id, "kind": study.kind}
        with collection_paused():
            return _read(_limited(study, payload["longest_s"]), payload["base"], payload["most"], payload["most_solves"])
    except InvalidError as error:
        return {"errors": told(error.findings)}
    except ContradictionError as error:
        return {"errors": told(error.mistakes)}


def _study(data: bytes) -> Study:
    """The document. Raises InvalidError and ContradictionError."""
    study = read_document(strictly_loaded(data))
    if study.base.file is not None:
        detail = "the service reads no files; send the problem as base.problem, or keep it with POST /v1/problems and name its problem_id"
        raise ContradictionError(Warned("/base/file", "base_file", detail))
    if study.base.snapshot is not None:
        detail = "the service reads no cluster for a study; send it as a problem, as `quartermaster study run FILE --server URL` does"
        raise ContradictionError(Warned("/base/snapshot", "base_snapshot", detail))
    if study.kind not in kinds():
        raise ContradictionError(
            Warned("/kind", "unknown_kind", f"there is no kind '{study.kind}'; the kinds are: {', '.join(sorted(kinds()))}")
        )
    return study


def _limited(study: Study, longest_s: float) -> Study:
    """The study with no more time for a scenario than there is for a run, where it does not say how much it wants."""
    limits = study.limits
    if "time_limit_s" in limits.model_fields_set or limits.time_limit_s <= longest_s:
        return study
    return study.model_copy(update={"limits": limits.model_copy(update={"time_limit_s": longest_s})})


def _read(study: Study, body: bytes | None, most: int, solves: int) -> dict[str, Any]:
    kind = kinds()[study.kind]
    base = _base(kind, study, body)
    names_checked(study, kind, base)
    scenarios, warnings = expanded_and_warned(study, base)
    if len(scenarios) > most:
        detail = (
            f"the study has {len(scenarios):,} scenarios, and one may have {most:,} here; take fewer values or samples, or ask in parts"
        )
        raise ContradictionError(Warned("/axes", "too_many_scenarios", detail))
    check_asks(study, base)
    asks = _asks(study, solves)
    kept = canonical(kind, base)
    name = problem_id(kind.name, kept["body"])
    document = study.model_copy(update={"base": Base(problem_id=name)})
    questions, numbers = _questions(study, scenarios, base_hash(kind.name, canonical_base(base)), name)
    rows = [
        _scenario_object(scenario) | {"question": number, "problem": questions[number]["problem_id"]}
        for scenario, number in zip(scenarios, numbers, strict=True)
    ]
    return {
        "study": document.model_dump_json(exclude_unset=True).encode(),
        "name": study.name,
        "title": study.title,
        "kind": kind.name,
        "base": kept,
        "scenarios": json.dumps(rows, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(),
        "count": len(scenarios),
        "questions": questions,
        "asks": asks,
        "given": study.limits.model_dump(),
        "warnings": told(warnings),
    }


def _asks(study: Study, most: int) -> dict[str, Any] | None:
    """What its asks are, in one word, and how many solves they may take. Raises ContradictionError for too many."""
    if not study.asks:
        return None
    solves = [most_solves(study, ask) for ask in study.asks]
    if sum(solves) > most:
        worst = solves.index(max(solves))
        detail = (
            f"the asks may take {sum(solves):,} solves, {max(solves):,} of them this one, and {most:,} are allowed here;"
            " take fewer points or values, a coarser tolerance, or ask in parts"
        )
        raise ContradictionError(Warned(f"/asks/{worst}", "too_many_solves", detail))
    told = study.model_dump(mode="json", exclude_defaults=True, include={"axes", "asks", "limits", "seed"})
    return {"key": hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest(), "solves": sum(solves)}


def _base(kind: Kind, study: Study, body: bytes | None) -> Document:
    if study.base.problem is not None:
        with below("/base/problem"):
            found: Document = validated(kind.problem, study.base.problem)
            return found
    made: Document = kind.problem.model_validate_json(body or b"")
    return made


def _questions(study: Study, scenarios: Sequence[Scenario], base: str, name: str) -> tuple[list[dict[str, Any]], list[int]]:
    """The different questions, each near the one before as far as can be, and of each scenario the number of its own.

    Runs are taken in this order, and a child starts from the last answer it gave.
    """
    keys = [scenario_key(base, one.changes, limits_of(study.limits, one.seed), product_version()) for one in scenarios]
    different = {key: Asked(key, one.changes, one.seed) for key, one in zip(keys, scenarios, strict=True)}
    walk = neighbourly(list(different.values()))
    questions = []
    for asked in walk:
        changes = derived.written(asked.changes) if asked.changes else None
        named = name if changes is None else derived.derived_id(name, changes)
        questions.append({"key": asked.key, "seed": asked.seed, "changes": changes, "problem_id": named})
    numbers = {asked.key: number for number, asked in enumerate(walk)}
    return questions, [numbers[key] for key in keys]


def _scenario_object(scenario: Scenario) -> dict[str, Any]:
    """All but the changes, which its run's problem has."""
    return {
        "id": scenario.id,
        "values": dict(scenario.values),
        "numbers": dict(scenario.numbers),
        "replicate": scenario.replicate,
        "seed": scenario.seed,
        "spend_usd": scenario.spend_usd,
        "is_baseline": scenario.is_baseline,
    }


# ---------------------------------------------------------------- the table


def table_of(payload: Mapping[str, Any]) -> tuple[Table, list[dict[str, Any]]]:
    """The table of {study, scenarios, answers}, and of each scenario its answer as ``service.runs.studies.answers_of`` tells it."""
    study = Study.model_validate_json(payload["study"])
    base = study.base.problem_id or ""
    told_scenarios = json.loads(payload["scenarios"])
    by_number = {answer["number"]: answer for answer in payload["answers"]}
    rows = {number: row_of(answer) for number, answer in by_number.items()}
    mine = [by_number[one.pop("question")] for one in told_scenarios]
    scenarios = tuple(_scenario(one, base) for one in told_scenarios)
    keys = tuple(answer["key"] for answer in mine)
    found = tuple(rows[answer["number"]] for answer in mine)
    reused = sum(bool(answer.get("cached")) for answer in by_number.values())
    solved = sum(row is not None for row in rows.values()) - reused
    seconds = sum(row.seconds for row in rows.values() if row is not None)
    return Table(study, scenarios, keys, found, reused, solved, seconds), mine


def _scenario(told_scenario: dict[str, Any], base: str) -> Scenario:
    """The scenario with a stand-in for its changes: what compares scenarios need only know which have the same."""
    problem = told_scenario.pop("problem")
    changes = () if problem == base else (Change("set", "", problem),)
    return Scenario(**told_scenario, changes=changes)


# ---------------------------------------------------------------- what it says


def conclude(payload: dict[str, Any], _send: Send, _cancel: threading.Event) -> dict[str, Any]:
    """What the answers of a study prove together: {"body"}, JSON of {recommendation, best, certain, gates, standing, paired, counts}."""
    from optimizer.study.conclusions.gates import overall
    from service.studies.conclusions import conclusions

    table, _ = table_of(payload)
    found = conclusions(table)
    said = {
        "goal": found.goal or None,
        "recommendation": found.advice.paragraph,
        "best": found.advice.best,
        "certain": found.advice.certain,
        "next_steps": list(found.advice.next_steps),
        "gates": [one.as_json() for one in found.gates],
        "standing": overall(found.gates).value if found.gates else None,
        "paired": [one.as_json() for one in found.paired],
        "answered": sum(row is not None and row.answered for row in table.rows),
        "failed": table.failed,
    }
    return {"body": json.dumps(said, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()}


def show(payload: dict[str, Any], _send: Send, _cancel: threading.Event) -> dict[str, Any]:
    """The table or the report: {study, scenarios, answers, asks, as}; ``as`` is json, csv, parquet, report or charts; {"body"}."""
    table, answers = table_of(payload)
    return {"body": _SHOWN[payload["as"]](table, answers, payload["asks"])}


def _json(table: Table, answers: Answers, asks: Answers) -> bytes:
    from service.studies.conclusions import conclusions

    found = conclusions(table)
    rows = []
    for scenario, row, answer in zip(table.scenarios, table.rows, answers, strict=True):
        difference = found.differences.get(scenario.id)
        rows.append(
            {
                "scenario": scenario.id,
                "label": scenario.label,
                "baseline": scenario.is_baseline,
                "replicate": scenario.replicate,
                "values": dict(scenario.values),
                "spend_usd": finite(scenario.spend_usd),
                "run": answer["run"],
                "state": answer["state"],
                "row": None if row is None else row.as_json(),
                "difference": None if difference is None else difference.as_json(),
            }
        )
    told = {"goal": found.goal or None, "missing": table.missing, "rows": rows, "asks": list(asks)}
    return json.dumps(told, ensure_ascii=False, allow_nan=False).encode()


def _csv(table: Table, _answers: object, _asks: object) -> bytes:
    from service.studies.frame import frame

    return frame(table).write_csv().encode()


def _parquet(table: Table, _answers: object, _asks: object) -> bytes:
    from service.studies.frame import frame

    found = io.BytesIO()
    frame(table).write_parquet(found)
    return found.getvalue()


def _report(table: Table, answers: Answers, asks: Answers) -> bytes:
    from service.report.study import render_study

    runs = {answer["key"]: answer["run"] for answer in answers}
    return render_study(table, asks, plan_at=lambda row: f"/v1/runs/{runs[row.key]}/plan" if row.key in runs else "").encode()


def _charts(table: Table, _answers: object, _asks: object) -> bytes:
    from service.studies.charts import specifications

    return json.dumps({"charts": specifications(table)}, ensure_ascii=False, allow_nan=False).encode()


_SHOWN: dict[str, Callable[[Table, Answers, Answers], bytes]] = {
    "json": _json,
    "csv": _csv,
    "parquet": _parquet,
    "report": _report,
    "charts": _charts,
}


def compare(payload: dict[str, Any], _send: Send, _cancel: threading.Event) -> dict[str, Any]:
    """The certified difference of two scenarios: {study, scenarios, answers, a, b, goal}; as ``Difference.as_json``, or {"errors"}."""
    from optimizer.study.conclusions.differences import difference
    from optimizer.study.rows import Answered

    table, _ = table_of(payload)
    found: list[Answered] = []
    mistakes: list[Warned] = []
    for side in ("a", "b"):
        pairs = zip(table.scenarios, table.rows, strict=True)
        known = [(scenario, row) for scenario, row in pairs if payload[side] in (scenario.id, scenario.label)]
        if not known:
            mistakes.append(
                Warned(f"/query/{side}", "unknown_scenario", f"there is no scenario '{payload[side][:100]}'; /table lists them")
            )
            continue
        scenario, row = known[0]
        if row is None:
            mistakes.append(Warned(f"/query/{side}", "not_finished", f"scenario '{scenario.id}' is not answered yet; ask again later"))
            continue
        found.append(Answered(scenario, row))
    if mistakes:
        return {"errors": told(mistakes)}
    names = list(dict.fromkeys(name for one in found for name in [*(goal.name for goal in one.row.goals), *one.row.metrics, "spend_usd"]))
    name = payload["goal"] or names[0]
    if name not in names:
        wrong = Warned("/query/goal", "unknown_metric", f"there is no goal or metric '{name[:100]}'; there are: {', '.join(names[:20])}")
        return {"errors": told([wrong])}
    return {"difference": difference(found[0], found[1], name).as_json()}

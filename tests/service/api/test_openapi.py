"""The OpenAPI document: complete, true, and every example in it works; then requests that nobody would think of."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from models.catalogue import kinds
from tests.service.api.house import HERE, House

METHODS = {"get", "post"}
PLACES = {"run_id": "run", "problem_id": "problem", "kind": "kind"}
NO_PLAN_IN_THE_EXAMPLE = {"get_conflict"}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, found in document["paths"].items():
        for method, operation in found.items():
            yield method, path, operation


@pytest.fixture
def document(house: House) -> dict[str, Any]:
    found: dict[str, Any] = house.get("/openapi.json").json()
    return found


def test_every_operation_is_named_described_and_exemplified(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names) > 15
    for method, path, operation in operations(document):
        told = f"{method} {path}"
        assert method in METHODS
        assert operation["summary"], told
        assert operation["description"], told
        assert operation["tags"], told
        good = [content["content"] for status, content in operation["responses"].items() if status.startswith("2") and status != "204"]
        assert good, told
        assert all("example" in form for content in good for form in content.values()), told
        for status, content in operation["responses"].items():
            if status.startswith("4"):
                assert list(content["content"]) == ["application/problem+json"], told
                assert content["content"]["application/problem+json"]["example"]["status"] == int(status)
        if "requestBody" in operation:
            for form in operation["requestBody"]["content"].values():
                assert "example" in form or form["examples"], told


def test_every_failure_is_told(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        told = {int(status) for status in operation["responses"]}
        if path in {"/healthz", "/readyz"}:
            continue
        assert told >= {400, 401, 403, 429, 431, 500, 503}, path
        body = "requestBody" in operation
        assert {408, 413, 415} <= told if body else not {408, 415} & told, path
        assert (406 in told) == path.endswith("/events")
        if "{" in path or (method == "post" and path == "/v1/runs"):
            assert told & {404, 409}, path


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    text = json.dumps(without_examples(document))
    for name in set(re.findall(r'"\$ref": "#/components/schemas/([^"]+)"', text)):
        assert name in document["components"]["schemas"], name
    assert not re.search(r'"\$ref": "(?!#/components/schemas/)', text)


def without_examples(found: Any) -> Any:
    """Examples hold schemas of their own."""
    if isinstance(found, dict):
        return {name: without_examples(value) for name, value in found.items() if name not in {"example", "examples"}}
    return [without_examples(value) for value in found] if isinstance(found, list) else found


def test_every_example_is_of_its_schema(document: dict[str, Any]) -> None:
    """Of requests and of responses."""
    compared = 0
    for method, path, operation in operations(document):
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for form in (form for body in bodies for kind, form in body.get("content", {}).items() if kind.endswith("json")):
            schema = form.get("schema", {}) | {"components": document["components"]}
            for example in [
                *([form["example"]] if "example" in form else []),
                *(one["value"] for one in form.get("examples", {}).values()),
            ]:
                problems = [error.message for error in jsonschema_rs.Draft202012Validator(schema).iter_errors(example)]
                assert not problems, f"{method} {path}: {problems}"
                compared += 1
    assert compared > 50


def test_every_example_works(working: House, document: dict[str, Any]) -> None:
    """Sent to the service one by one: each is answered as the document says."""
    run = working.post("/v1/runs", json_example(document, "/v1/runs"), Prefer="wait=60").json()
    assert run["state"] == "succeeded", run
    study = working.post("/v1/studies", json_example(document, "/v1/studies"), Prefer="wait=60").json()
    assert study["state"] == "finished", study
    there = {
        "run_id": run["id"],
        "problem_id": run["problem_id"],
        "study_id": study["id"],
        "kind": run["kind"],
        "view": next(iter(kinds()[run["kind"]].views), "none"),
    }
    sent = 0
    for method, path, operation in operations(document):
        url = path.format(**there)
        query = {one["name"]: (one.get("examples") or one["schema"].get("examples") or [None])[0] for one in queries(operation)}
        for content, headers in requests(operation):
            found = working.ask(
                method.upper(), url, params={name: value for name, value in query.items() if value is not None}, **content, headers=headers
            )
            missing = operation["operationId"] in NO_PLAN_IN_THE_EXAMPLE or url.endswith("/views/none")
            wanted = 404 if missing else found.status_code
            assert found.status_code == wanted, f"{method} {path}: {found.text[:500]}"
            assert wanted == 404 or found.status_code < 300, f"{method} {path}: {found.text[:500]}"
            assert str(found.status_code) in operation["responses"]
            sent += 1
    assert sent > 20


def json_example(document: dict[str, Any], path: str) -> dict[str, Any]:
    found: dict[str, Any] = next(iter(document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"].values()))[
        "value"
    ]
    return found


def queries(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (one for one in operation.get("parameters", []) if one["in"] == "query")


def requests(operation: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """Every example of a request: the arguments that hold the body, and the headers."""
    headers = {one["name"]: one["example"] for one in operation.get("parameters", []) if one["in"] == "header" and "example" in one}
    headers.pop("Idempotency-Key", None)  # one key for all examples would be a conflict
    if "requestBody" not in operation:
        yield {}, headers
    for kind, form in operation.get("requestBody", {}).get("content", {}).items():
        if kind == "multipart/form-data":
            fields = dict(form["example"])
            files = {"file": ("model", fields.pop("file").encode()), **{name: (None, text) for name, text in fields.items()}}
            yield {"files": files}, headers
            continue
        for example in form["examples"].values():
            yield {"content": json.dumps(example["value"]).encode()}, headers | {"Content-Type": kind}


# ---------------------------------------------------------------- requests that nobody would think of

EXAMPLES = 7
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def test_requests_that_nobody_would_think_of(house: House, document: dict[str, Any]) -> None:
    """schemathesis, both with what the document allows and with what it forbids: no 5xx, and no answer that it does not tell of."""
    run = house.run()["id"]
    house.end()
    del document["paths"]["/metrics"]  # its text is the library's own
    config = schemathesis.config.SchemathesisConfig.from_dict({"headers": {"Host": "127.0.0.1:8080"}})
    schema = schemathesis.openapi.from_dict(document, config=config)
    asked: dict[str, int] = {}

    for result in schema.get_all_operations():
        operation = result.ok()  # type: ignore[union-attr]
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            _try_out(house, operation, mode, run, asked)
    assert len(asked) > 15
    assert sum(asked.values()) > 150


def _try_out(house: House, operation: Any, mode: GenerationMode, run: str, asked: dict[str, int]) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Case[Any]) -> None:
        if mode is GenerationMode.POSITIVE and "run_id" in case.path_parameters:
            case.path_parameters["run_id"] = run
        asked[operation.label] = asked.get(operation.label, 0) + 1
        response = case.call(base_url=HERE, session=None, app=house.app)
        case.validate_response(response, checks=CHECKS)

    with contextlib.suppress(Unsatisfiable):  # nothing can be sent wrongly to an endpoint that takes nothing
        ask()


def test_the_web_process_loads_no_solver() -> None:
    """Nor Pyomo: not when it starts, reads a problem, or describes itself."""
    script = """
import sys, tempfile
from models.catalogue import kinds
from service.app import create_app
from service.children import ChildPool
from service.documents import read_problem
from service.runs.bulletin import Bulletin
from service.telemetry import Telemetry
from service.runs.database import Database
from service.settings import Settings
with tempfile.TemporaryDirectory() as folder:
    database = Database(f"sqlite:///{folder}/quartermaster.db")
    app = create_app(Settings(), database, ChildPool(0), Bulletin(), None, Telemetry())
    assert app.openapi()["paths"]
    for kind in kinds().values():
        assert "body" in read_problem(kind, kind.part("schema").example().model_dump_json().encode())
    database.close()
heavy = {"altair", "highspy", "ortools", "polars", "pyomo", "ray", "scipy", "torch"}
print(*sorted({name.partition(".")[0] for name in sys.modules} & heavy))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr

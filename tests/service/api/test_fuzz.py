"""Whatever bytes arrive: findings or a problem, never an exception that nobody expects."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalogue import kinds
from optimizer.merge_patch import merged
from service.api.requests import REQUESTS, take_apart
from service.documents import read_problem
from service.documents.complaints import InvalidError
from service.documents.problems import patched
from service.errors import Finding
from tests.service.api.house import example

QUICK = settings(max_examples=150, deadline=None, derandomize=True, database=None)
SEEDS = {name: json.dumps(example(name)).encode() for name in sorted(kinds())}
odd: list[Any] = [0, -1, 1, 0.5, 1e300, 10**30, True, None, "", "x", [], {}, [[]], "\u0000"]
values = st.recursive(
    st.sampled_from(odd), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=8
)


def check(found: dict[str, Any]) -> None:
    if "errors" in found:
        assert found["errors"]
        for one in found["errors"]:
            assert set(one) == {"pointer", "code", "detail"}
            assert one["pointer"] == "" or one["pointer"].startswith("/")
            assert one["code"].replace("_", "").isalnum()
            assert one["detail"]
    else:
        assert json.loads(found["body"])


@st.composite
def mutated(draw: st.DrawFn, name: str) -> bytes:
    """The kind's example with a few bytes changed, removed or added."""
    data = bytearray(SEEDS[name])
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data) - 1))
        data[start : start + draw(st.integers(0, 6))] = draw(
            st.binary(max_size=6) | st.sampled_from([b"null", b"-1", b"[]", b"{}", b'"', b"1e999", b"NaN"])
        )
    return bytes(data)


@st.composite
def replaced(draw: st.DrawFn, name: str) -> Any:
    """The kind's example with one value, anywhere, replaced."""
    whole = json.loads(SEEDS[name])
    spot: Any = whole
    while True:
        keys = list(spot) if isinstance(spot, dict) else list(range(len(spot)))
        key = draw(st.sampled_from(keys))
        if isinstance(spot[key], dict | list) and spot[key] and draw(st.booleans()):
            spot = spot[key]
            continue
        spot[key] = draw(values)
        return whole


@given(st.data())
@QUICK
def test_any_bytes(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(SEEDS)))
    check(read_problem(kinds()[name], data.draw(st.binary(max_size=64) | mutated(name))))


@given(st.data())
@QUICK
def test_any_value_anywhere(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(SEEDS)))
    check(read_problem(kinds()[name], json.dumps(data.draw(replaced(name))).encode()))


@given(st.data())
@QUICK
def test_any_patch(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(SEEDS)))
    patch = data.draw(values | replaced(name))
    check(patched(kinds()[name], SEEDS[name], json.dumps(patch).encode()))
    whole = merged(json.loads(SEEDS[name]), patch)
    assert merged(whole, patch) == whole, "a merge patch applied again changes nothing"


@given(st.sampled_from(sorted(REQUESTS)), st.binary(max_size=64) | values.map(lambda value: json.dumps(value).encode()))
@QUICK
def test_any_request(what: str, data: bytes) -> None:
    findings: tuple[Finding, ...] = ()
    found: dict[str, Any] = {}
    try:
        found = take_apart(what, data)
    except InvalidError as error:
        findings = error.findings
    assert bool(findings) != bool(found)
    assert set(found) <= {"fields", "body", "warnings", "program"}

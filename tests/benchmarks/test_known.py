import json
from typing import Any

import pytest

from benchmarks.placement import OPENB
from benchmarks.suite import KNOWN, known, suite

DOCUMENT: dict[str, Any] = json.loads(KNOWN.read_text(encoding="utf-8"))
STATUSES = {"published", "measured", "proved"}
ENTRY = {"kind", "instance", "quantity", "unit", "sense", "lower_bound", "upper_bound", "values"}


def test_the_document_has_its_parts() -> None:
    assert set(DOCUMENT) == {"schema_version", "about", "sources", "instances"}
    assert DOCUMENT["schema_version"] == 1
    for source in DOCUMENT["sources"].values():
        assert set(source) == {"text", "licence"}
        assert len(source["text"]) > 40


@pytest.mark.parametrize("entry", DOCUMENT["instances"], ids=lambda entry: entry["instance"])
def test_an_entry_is_complete_and_sourced(entry: dict[str, Any]) -> None:
    assert set(entry) == ENTRY
    assert entry["sense"] in {"maximise", "minimise"}
    assert suite(entry["kind"]).instance(entry["instance"]).name == entry["instance"]
    for bound in filter(None, (entry["lower_bound"], entry["upper_bound"])):
        assert set(bound) == {"value", "status", "source"}
        assert bound["status"] in STATUSES
        assert bound["source"] in DOCUMENT["sources"]
    assert entry["values"]
    for value in entry["values"]:
        assert (
            {"rule", "value", "runs", "status", "source"}
            <= set(value)
            <= {"rule", "value", "lowest", "highest", "runs", "status", "source"}
        )
        assert value["status"] in STATUSES
        assert value["source"] in DOCUMENT["sources"]
        assert value.get("lowest", value["value"]) <= value["value"] <= value.get("highest", value["value"])


def test_bounds_lie_in_order() -> None:
    for entry in DOCUMENT["instances"]:
        lower, upper = entry["lower_bound"], entry["upper_bound"]
        assert lower is None or upper is None or lower["value"] <= upper["value"]


def test_every_source_is_used() -> None:
    used = {
        part["source"] for entry in DOCUMENT["instances"] for part in (*entry["values"], entry["lower_bound"], entry["upper_bound"]) if part
    }
    assert used == set(DOCUMENT["sources"])


def test_an_instance_is_found_by_kind_and_name() -> None:
    entry = known("placement", "openb-default")
    assert entry is not None
    assert {value["rule"]: value["value"] for value in entry["values"]}["FGD"] == 95.23
    assert known("placement", "preempt-200") is None


def test_the_data_says_where_it_comes_from() -> None:
    text = (OPENB / "SOURCE.md").read_text(encoding="utf-8")
    for word in ("repository", "commit", "licence", "Apache License 2.0", "date obtained", "changes made"):
        assert word in text

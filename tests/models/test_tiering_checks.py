"""What is refused, with its place, code and cure; and what is only odd."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from models.contract import ContradictionError
from models.tiering.checks import MAX_ERRORS, warnings
from models.tiering.examples import examples
from models.tiering.schema import Copies, Problem, Serving

TIERS: list[dict[str, Any]] = [
    {"id": "ssd", "capacity_gib": 100, "failure_domain": "hall", "site": "n"},
    {"id": "hdd", "capacity_gib": None, "failure_domain": "hall", "site": "n", "region": "eu", "protections": ["encrypted"]},
    {"id": "far", "capacity_gib": None, "site": "s"},
]


def made(**parts: Any) -> Problem:
    return Problem.model_validate({"tiers": TIERS, "objects": [{"id": "a", "size_gib": 10}]} | parts)


def one(**fields: Any) -> list[dict[str, Any]]:
    return [{"id": "a", "size_gib": 10} | fields]


MISTAKES: list[tuple[dict[str, Any], str, str]] = [
    ({"tiers": [TIERS[0], TIERS[0]]}, "/tiers/1/id", "duplicate_id"),
    ({"objects": one() + one()}, "/objects/1/id", "duplicate_id"),
    ({"tiers": [TIERS[0] | {"capacity_gib": 1e-6}]}, "/tiers/0/capacity_gib", "too_small"),
    ({"tiers": [TIERS[0] | {"write_gbps": 1e-9}]}, "/tiers/0/write_gbps", "too_small"),
    ({"site_links": [{"source": "n", "target": "s", "gbps": 1e-4}]}, "/site_links/0/gbps", "too_small"),
    ({"migration": {"gib": 1e-5}}, "/migration/gib", "too_small"),
    ({"budget_usd": 1e-5}, "/budget_usd", "too_small"),
    ({"objects": [], "object_table": {"id": ["a", "b", "a"], "size_gib": [1, 1, 1]}}, "/object_table/id/2", "duplicate_id"),
    ({"object_table": {"size_gib": [1]}}, "/object_table", "two_lists"),
    ({"objects": [], "object_table": {"size_gib": [1, 2], "read_gbps": [1]}}, "/object_table/read_gbps", "wrong_length"),
    ({"objects": [], "object_table": {"size_gib": [1, 2], "current_tier": [None, "tape"]}}, "/object_table/current_tier/1", "unknown_tier"),
    ({"objects": one(current=[{"tier": "tape"}])}, "/objects/0/current/0/tier", "unknown_tier"),
    ({"objects": one(current=[{"tier": "ssd"}, {"tier": "ssd"}])}, "/objects/0/current/1/tier", "duplicate_copy"),
    ({"objects": one(current=[{"tier": "ssd", "compressed": True}])}, "/objects/0/current/0/compressed", "share_missing"),
    ({"objects": one(replicas=2, copies_max=1)}, "/objects/0/copies_max", "too_few_copies"),
    ({"objects": one(replicas=3)}, "/objects/0/replicas", "too_few_domains"),
    ({"objects": one(replicas=2, regions=["eu"])}, "/objects/0/replicas", "too_few_domains"),
    ({"objects": [], "object_table": {"size_gib": [1, 1], "replicas": [1, 3]}}, "/object_table/replicas/1", "too_few_domains"),
    ({"readers": [{"id": "r", "site": "n", "reads": [{"object": "b"}]}]}, "/readers/0/reads/0/object", "unknown_object"),
    ({"readers": [{"id": "r", "site": "n", "reads": [{"object": "a"}, {"object": "a"}]}]}, "/readers/0/reads/1/object", "duplicate_read"),
    ({"readers": [{"id": "r", "site": "n", "reads": [{"object": "a"}]}] * 2}, "/readers/1/id", "duplicate_id"),
    ({"site_links": [{"source": "n", "target": "n"}]}, "/site_links/0", "loop"),
    ({"site_links": [{"source": "n", "target": "s"}] * 2}, "/site_links/1", "duplicate_link"),
    ({"goals": ["cost", "cost"]}, "/goals/1", "duplicate_goal"),
    ({"objects": one(size_gib=1e12), "tiers": [TIERS[0] | {"usd_per_gib_month": 1e9}]}, "/tiers", "too_large"),
]


@pytest.mark.parametrize(("parts", "pointer", "code"), MISTAKES, ids=[f"{code}{pointer}" for _, pointer, code in MISTAKES])
def test_mistakes_are_refused_at_their_place(parts: dict[str, Any], pointer: str, code: str) -> None:
    with pytest.raises(ValidationError) as refused:
        made(**parts)
    error = refused.value.errors()[0]["ctx"]["error"]
    assert isinstance(error, ContradictionError)
    assert (pointer, code) in [(mistake.pointer, mistake.code) for mistake in error.mistakes]
    assert all(mistake.detail and not mistake.detail.endswith(".") for mistake in error.mistakes)


def test_too_few_domains_names_object_and_domains() -> None:
    with pytest.raises(ValidationError, match=r"object 'a' wants 3 replicas .* are in 2: hall, far"):
        made(objects=one(replicas=3))


def test_a_domain_without_name_is_no_domain_with_that_name() -> None:
    """A tier that fails alone and one that fails with something of the first one's name are in two domains."""
    tiers = [{"id": "x", "capacity_gib": 1}, {"id": "y", "capacity_gib": 1, "failure_domain": "x"}]
    assert made(tiers=tiers, objects=one(replicas=2, size_gib=1)).objects[0].replicas == 2


def test_only_the_first_mistakes_are_told() -> None:
    with pytest.raises(ValidationError) as refused:
        made(objects=one() * 50)
    assert len(refused.value.errors()[0]["ctx"]["error"].mistakes) == MAX_ERRORS


@pytest.mark.parametrize("number", [-1, float("nan"), float("inf")])
def test_negative_and_infinite_quantities_are_refused(number: float) -> None:
    with pytest.raises(ValidationError):
        made(tiers=[{"id": "ssd", "capacity_gib": number}])


def test_columns_of_a_plan_are_equally_long() -> None:
    with pytest.raises(ValidationError, match="equally long"):
        Copies(object=("a",), tier=())
    with pytest.raises(ValidationError, match="equally long"):
        Serving(reader=("r",), object=("a",), tier=("t",))


ODD: list[tuple[dict[str, Any], str]] = [
    ({"tiers": [TIERS[1], {"id": "none", "capacity_gib": 0}]}, "no_capacity"),
    ({"tiers": [{"id": "t", "capacity_gib": None, "read_gbps": 1, "stream_gbps": 2}]}, "fast_stream"),
    ({"budget_usd": 0}, "no_budget"),
    ({"objects": one(regions=["us"])}, "no_tier"),
    ({"objects": one(regions=["us"])}, "unknown_region"),
    ({"objects": one(protections=["sealed"])}, "unknown_protection"),
    ({"tiers": [TIERS[0]], "objects": one(size_gib=200)}, "too_large_for_tiers"),
    ({"tiers": [TIERS[0]], "objects": one(size_gib=200)}, "too_little_capacity"),
    ({"tiers": [TIERS[0] | {"read_gbps": 1}], "objects": one(read_gbps=2)}, "too_little_read"),
    ({"tiers": [TIERS[0] | {"write_gbps": 1}], "objects": one(write_gbps=2)}, "too_little_write"),
    ({"tiers": TIERS[:2], "readers": [{"id": "r", "site": "x", "reads": [{"object": "a"}]}]}, "out_of_reach"),
    ({"site_links": [{"source": "x", "target": "n"}]}, "unused_link"),
]


@pytest.mark.parametrize(("parts", "code"), ODD, ids=[code for _, code in ODD])
def test_what_is_odd_is_warned_of(parts: dict[str, Any], code: str) -> None:
    assert code in [warned.code for warned in warnings(made(**parts))]


@pytest.mark.parametrize("name", examples())
def test_examples_are_not_odd(name: str) -> None:
    assert warnings(examples()[name]) == ()


def test_no_objects_are_fine() -> None:
    assert warnings(made(objects=[])) == ()
    assert warnings(made(objects=[], object_table={"size_gib": []})) == ()

"""Bags, things, and which thing is in which bag."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from random import Random
from typing import Any, Literal, Self

from pydantic import Field

from models.vocabulary import Count, Document, Id, PositiveCount, Quantity


class Rule(StrEnum):
    bag_capacity = "bag_capacity"
    packed_once = "packed_once"
    must_pack = "must_pack"


class GoalName(StrEnum):
    worth = "worth"
    weight = "weight"


class Bag(Document):
    id: Id
    capacity_g: Count


class Thing(Document):
    id: Id
    weight_g: PositiveCount
    worth_usd: Quantity
    must_pack: bool = False


class Problem(Document):
    """``wide`` makes the engine take the road for large instances, whatever the size."""

    schema_version: Literal[1] = 1
    bags: tuple[Bag, ...] = Field(min_length=1)
    things: tuple[Thing, ...]
    goals: tuple[GoalName, ...] = (GoalName.worth, GoalName.weight)
    wide: bool = False

    def ordered_goals(self) -> tuple[GoalName, ...]:
        return self.goals

    def __reduce__(self) -> tuple[Callable[[dict[str, Any]], Self], tuple[dict[str, Any]]]:
        """Pickled as its contents. Only the child process unpickles problems, and learns of this kind by that."""
        return type(self).arrive, (self.model_dump(),)

    @classmethod
    def arrive(cls, contents: dict[str, Any]) -> Self:
        """A problem that came from another process: there, nobody else would have told the catalogue of this kind."""
        from models.catalogue import kinds
        from tests.optimizer.toy_kind import KIND

        kinds()[KIND.name] = KIND
        return cls.model_validate(contents)


class Packed(Document):
    thing: Id
    bag: Id


class Plan(Document):
    schema_version: Literal[1] = 1
    packed: tuple[Packed, ...] = ()


def example() -> Problem:
    """Worth 13 at most: b and d in the large bag, c in the small one; first come, first served gives 11."""
    things = (("a", 6, 7.0), ("b", 5, 5.0), ("c", 4, 4.0), ("d", 4, 4.0))
    return Problem(
        bags=(Bag(id="large", capacity_g=9), Bag(id="small", capacity_g=4)),
        things=tuple(Thing(id=name, weight_g=weight, worth_usd=worth) for name, weight, worth in things),
    )


def hard(bags: int, things: int, seed: int = 0, **fields: Any) -> Problem:
    """Strongly correlated worths, which branch and bound likes least."""
    rng = Random(seed)
    weights = [rng.randint(200, 999) for _ in range(things)]
    capacity = sum(weights) // (2 * bags)
    return Problem(
        bags=tuple(Bag(id=f"bag{place}", capacity_g=capacity + rng.randint(-20, 20)) for place in range(bags)),
        things=tuple(
            Thing(id=f"thing{place}", weight_g=weight, worth_usd=weight + 100.0 + rng.randint(0, 3)) for place, weight in enumerate(weights)
        ),
        **fields,
    )

"""Chains of problems of any kind: random numbers of the document are changed, now and then an item of a list is left out."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.vocabulary import Document

Place = tuple[Any, str | int]  # a container and where in it
FACTORS = (0.0, 0.25, 0.5, 0.9, 1.1, 2.0)
TRIES = 40


def chain(base: Document, seed: int, length: int) -> Iterator[Document]:
    """The base, then ``length`` variants of it or of each other; all of them are valid documents."""
    rng = random.Random(seed)
    problem = base
    yield problem
    for _ in range(length):
        problem = base if rng.random() < 0.2 else problem
        for _ in range(TRIES):
            told = problem.model_dump(mode="json")
            for _ in range(rng.randint(1, 3)):
                _change(rng, told)
            try:
                problem = type(base).model_validate(told)
                break
            except (ValidationError, ValueError):
                continue
        yield problem


def _change(rng: random.Random, told: Any) -> None:
    numbers, lists = _places(told)
    if lists and rng.random() < 0.15:
        items = rng.choice(lists)
        items.pop(rng.randrange(len(items)))
    elif numbers:
        holder, at = rng.choice(numbers)
        factor = rng.choice(FACTORS)
        holder[at] = round(holder[at] * factor) if isinstance(holder[at], int) else holder[at] * factor


def _places(told: Any) -> tuple[list[Place], list[list[Any]]]:
    """Where numbers stand, and the lists of objects."""
    numbers: list[Place] = []
    lists: list[list[Any]] = []
    stack = [told]
    while stack:
        part = stack.pop()
        pairs = part.items() if isinstance(part, dict) else enumerate(part)
        if isinstance(part, list) and len(part) > 1 and all(isinstance(one, dict) for one in part):
            lists.append(part)
        for at, value in pairs:
            if isinstance(value, dict | list):
                stack.append(value)
            elif isinstance(value, int | float) and not isinstance(value, bool) and at != "schema_version":
                numbers.append((part, at))
    return numbers, lists

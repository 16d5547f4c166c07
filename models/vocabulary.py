"""Nouns and unit types that every kind shares.

A unit is part of a field's name (``_s``, ``_gib``, ``_gbps``, ``_usd``, ``_kw``); the types here only hold the range.
``Document`` is the frozen, closed Pydantic model that every problem, plan and part of one derives from.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Id = Annotated[str, Field(min_length=1, max_length=253, description="A name that is unique among its kind of thing.")]
LARGEST_QUANTITY = 1e12  # beyond it doubles are not exact to 1e-6 and solvers refuse products of two
LARGEST_COUNT = 10**9

Quantity = Annotated[float, Field(ge=0, le=LARGEST_QUANTITY, allow_inf_nan=False)]
PositiveQuantity = Annotated[float, Field(gt=0, le=LARGEST_QUANTITY, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=LARGEST_COUNT, strict=True)]
PositiveCount = Annotated[int, Field(ge=1, le=LARGEST_COUNT, strict=True)]


class Document(BaseModel):
    """A frozen model that refuses unknown fields, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="null")


class Level(StrEnum):
    """How far apart two nodes are: the levels of the topology path, widest first; ``node`` is the node itself."""

    site = "site"
    row = "row"
    rack = "rack"
    nvlink_domain = "nvlink_domain"
    node = "node"


class Topology(Document):
    """Where a node stands. A level left out is not part of the path; names need be unique only inside the level above."""

    site: str | None = Field(default=None, description="Building or region.")
    row: str | None = Field(default=None, description="Row of racks in the site.")
    rack: str | None = Field(default=None, description="Rack in the row.")
    nvlink_domain: str | None = Field(default=None, description="Group of nodes (or one node) whose GPUs share a fast interconnect.")

    def domain(self, level: Level) -> tuple[str, ...] | None:
        """The path down to ``level`` as a tuple of names, or None when this node names none at that level."""
        if getattr(self, level.value, None) is None:
            return None
        path: list[str] = []
        for step in _STEPS:
            path.append(getattr(self, step) or "")
            if step == level.value:
                break
        return tuple(path)


_STEPS = ("site", "row", "rack", "nvlink_domain")

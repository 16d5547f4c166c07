"""What a search is given. Apart from the search, so that whoever only hands it over loads no solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optimizer.limits import Limits


@dataclass(frozen=True, slots=True)
class Task:
    """The kind's name, the problem, what the search may use, and the best plan known."""

    kind: str
    problem: Any
    limits: Limits
    plan: Any = None

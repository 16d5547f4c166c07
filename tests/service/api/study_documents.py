"""Study documents for the tests of the service: a small program whose optimum is known in closed form."""

from __future__ import annotations

from typing import Any

from service.documents.problems import as_object
from tests.optimizer.study.small import UPPER, base


def program() -> dict[str, Any]:
    """Maximise x with x <= 50 by a row and 1 <= x <= 100 by its bounds."""
    return as_object(base())


def axis(most: int = 4, **fields: Any) -> dict[str, Any]:
    """The row's side from 1 to ``most``: so is the optimum."""
    return {"name": "most", "values": list(range(1, most + 1)), "edits": [{"op": "set", "at": UPPER, "to": "$value"}]} | fields


def document(most: int = 4, **fields: Any) -> dict[str, Any]:
    given = {"name": "small", "kind": "program", "base": {"problem": program()}, "axes": [axis(most)], "limits": {"time_limit_s": 20}}
    return given | fields

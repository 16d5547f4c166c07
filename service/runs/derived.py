"""Problems that are kept as changes of another: hundreds of scenarios of a large problem take little more room than the problem.

The changes are a JSON list of [op, pointer, value], those of ``optimizer.study.rows.Change``. The id of such a problem follows from its
parent and its changes, so it is another than that of the same problem sent whole.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optimizer.study.rows import Change


def written(changes: Iterable[Change]) -> bytes:
    """Changes as they are kept. Raises ValueError for a number that JSON cannot say."""
    told = [[one.op, one.pointer, one.value] for one in changes]
    return json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def read(changes: bytes) -> tuple[Change, ...]:
    """What ``written`` wrote."""
    from optimizer.study.rows import Change

    return tuple(Change(*one) for one in json.loads(changes))


def derived_id(parent: str, changes: bytes) -> str:
    """The id of a problem that is kept as changes."""
    digest = hashlib.sha256(f"{parent}\n".encode())
    digest.update(changes)
    return f"prob_{digest.hexdigest()[:32]}"


def whole(parent: bytes, changes: bytes) -> bytes:
    """The changed problem as JSON, not validated. Raises ContradictionError for a place that the parent does not have."""
    from optimizer.study.scenarios.changes import edited

    return json.dumps(edited(json.loads(parent), read(changes)), ensure_ascii=False, separators=(",", ":")).encode()

"""The order in which scenarios are solved: each near the one before, because a solver starts from its last answer.

A walk from each question to the nearest that is left, in the sum over the places that change of how far the values are apart: numbers
as a share of their spread over all questions, everything else 0 when equal and 1 when not. The table keeps the order of the study.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optimizer.study.executors.engine import Asked

MOST_CELLS = 4_000_000  # questions times places
MOST_STEPS = 2_000_000_000  # questions squared times places: beyond either, seconds of walking, the order of the study stays


def neighbourly(work: Sequence[Asked]) -> list[Asked]:
    """``work`` along the walk that begins with its first question. The same questions in the same order give the same walk."""
    places: dict[tuple[str, str], dict[int, Any]] = defaultdict(dict)
    for row, asked in enumerate(work):
        for change in asked.changes:
            places[change.op, change.pointer][row] = change.value
    cells = len(work) * len(places)
    if len(work) <= 2 or cells > MOST_CELLS or cells * len(work) > MOST_STEPS:  # noqa: PLR2004  (two questions are neighbours)
        return list(work)
    numbers = [_scaled(told, len(work)) for told in places.values() if _is_numeric(told)]
    words = [_coded(told, len(work)) for told in places.values() if not _is_numeric(told)]
    return [work[row] for row in _walk(_columns(numbers, len(work)), _columns(words, len(work)))]


def _is_numeric(told: dict[int, Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in told.values())


def _scaled(told: dict[int, float], rows: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The numbers from 0 to 1; what does not change the place is in the middle, where the base problem mostly is."""
    values = np.fromiter(map(float, told.values()), dtype=float, count=len(told)) / 2  # the spread of any two doubles is one again
    spread = float(np.ptp(values))
    column = np.full(rows, 0.5, dtype=np.float32)
    column[list(told)] = (values - values.min()) / spread if spread > 0 else 1.0
    return column


def _coded(told: dict[int, Any], rows: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """A number for each different value, 0 where the place is not changed."""
    codes: dict[str, int] = {}
    column = np.zeros(rows, dtype=np.int32)
    for row, value in told.items():
        column[row] = codes.setdefault(json.dumps(value, sort_keys=True), len(codes) + 1)
    return column


def _columns(columns: list[Any], rows: int) -> np.ndarray[Any, Any]:
    return np.stack(columns, axis=1) if columns else np.zeros((rows, 0), dtype=np.float32)


def _walk(numbers: np.ndarray[Any, Any], words: np.ndarray[Any, Any]) -> list[int]:
    left = np.arange(1, len(numbers))
    path = [0]
    while len(left):
        here = path[-1]
        apart = np.abs(numbers[left] - numbers[here]).sum(axis=1) + (words[left] != words[here]).sum(axis=1)
        nearest = int(apart.argmin())
        path.append(int(left[nearest]))
        left = np.delete(left, nearest)
    return path

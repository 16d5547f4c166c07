"""Rows as JSON, and what becomes of numbers that JSON does not have."""

from __future__ import annotations

import json
import math

import pytest

from optimizer.study.conclusions.intervals import State, known
from optimizer.study.rows import Row
from tests.optimizer.study.tables import INF, certificate, row


@pytest.mark.parametrize("sense", ["maximise", "minimise"])
def test_a_row_comes_back_as_it_was_and_endless_numbers_too(sense: str) -> None:
    sign = 1.0 if sense == "maximise" else -1.0
    for objective, bound in ((1.0, 2.0 * sign), (1.0, sign * INF), (-sign * INF, 0.0)):
        given = row(certificate(objective, bound, sense=sense), metrics={"power": 3.0})
        found = Row.from_json(json.loads(json.dumps(given.as_json(), allow_nan=False)))
        assert found == given
        assert (known(found, "value").state is State.bounded) == math.isfinite(objective)

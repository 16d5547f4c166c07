"""Stands in for ``service.tasks`` in child processes: the run's seed says how the child is to behave."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from service import tasks

Send = Callable[[dict[str, Any]], None]
FINE, DEAF, DEAF_WITH_A_PLAN, CRASHING_WITH_A_PLAN, CRASHING, GROWING, FAILING, PATIENT, DEAF_AND_REFUTED, WRONG = range(10)
conclude = tasks.conclude
ready = tasks.ready


def solve(payload: dict[str, Any], send: Send, cancel: threading.Event) -> dict[str, Any]:
    """Behave as the seed says."""
    seed = payload["limits"]["seed"]
    if seed == FINE:
        return tasks.solve(payload, send, cancel)
    send({"type": "read", "seconds": 0.0})
    if seed in (DEAF_WITH_A_PLAN, CRASHING_WITH_A_PLAN, PATIENT, WRONG):
        _find(payload, send)
    if seed == DEAF_AND_REFUTED:
        send(
            {"type": "refuted", "conflict": {"status": "proved", "rules": [{"rule": "node_gpus", "ids": ["n1"]}], "repairs": ["add 1 GPU"]}}
        )
    if seed in (CRASHING, CRASHING_WITH_A_PLAN):
        os.abort()
    if seed == FAILING:
        raise ArithmeticError("this task fails")
    if seed == GROWING:
        blocks = [np.ones(8 << 20, dtype=np.uint8) for _ in range(200)]
        time.sleep(60 + len(blocks))
    if seed == PATIENT:
        cancel.wait(60)
        return _answer_of(payload, "cancelled")
    if seed == WRONG:
        return {"figures": _figures("no_plan", "crash") | {"failure": "the plan breaks 1 rule(s)"}, "parts": {}}
    time.sleep(60)
    raise AssertionError


def _find(payload: dict[str, Any], send: Send) -> None:
    """Find the best plan of the small problem and say so."""
    found: list[dict[str, Any]] = []
    tasks.solve(payload | {"limits": payload["limits"] | {"seed": 0}}, found.append, threading.Event())
    for message in found:
        if message["type"] in ("incumbent", "bound"):
            send(message)


def _figures(outcome: str, stop_reason: str) -> dict[str, Any]:
    known = {"objective": None, "bound": None, "gap": None, "verified": False, "message": "", "failure": None}
    return known | {"outcome": outcome, "stop_reason": stop_reason}


def _answer_of(payload: dict[str, Any], stop_reason: str) -> dict[str, Any]:
    answered = tasks.solve(payload | {"limits": payload["limits"] | {"seed": 0}}, lambda _: None, threading.Event())
    answered["figures"]["stop_reason"] = stop_reason
    return answered

"""What a child does for the asks of a study of the service: answers them one after another, and tells each solve as it is done."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from models.catalogue import kind as kind_named
from models.garbage import collection_paused
from optimizer.study.executors.in_process import InProcess
from optimizer.study.questions.answering import AskingStoppedError
from optimizer.study.questions.asks import answered
from optimizer.study.rows import Row
from optimizer.study.run import Answerer
from optimizer.study.schema import Study
from optimizer.study.store import Memory
from service.studies.near import Near
from service.studies.served import row_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from optimizer.study.executors.engine import Done

    Send = Callable[[dict[str, Any]], None]

CANCELLED = "cancelled"


def answer(payload: dict[str, Any], send: Send, cancel: threading.Event) -> dict[str, Any]:
    """{kind, study, problem, answers, rows, done}: how many asks are left open as {"left"}.

    ``answers`` are those of the scenarios, ``rows`` what was solved for the asks before (JSON by key), ``done`` the numbers of asks that
    are answered. Sends {"type": "read"} when all is read, {"type": "asking", number, count, text}, {"type": "row", key, body} for each
    solve, {"type": "ask", number, body, whole} for each answer; one that a cancel cut short is not ``whole``.
    """
    with collection_paused():
        study = Study.model_validate_json(payload["study"])
        near = Near.to(kind_named(payload["kind"]), payload["problem"])
        near.solver = None  # the asks have their own: two would take the memory of two
        base = near.base
        kept = Kept(payload, send)
    send({"type": "read"})
    left = [number for number in range(len(study.asks)) if number not in payload["done"]]
    with Answerer(base, study.limits, kept, InProcess(), cancel=cancel, plans=False) as answerer:
        while left and not cancel.is_set():
            ask = study.asks[left[0]]
            send({"type": "asking", "number": left[0], "count": len(study.asks), "text": ask.ask})
            try:
                (found,) = answered(study.model_copy(update={"asks": (ask,)}), base, answerer, cancel=cancel)
            except AskingStoppedError:
                break
            whole = not cancel.is_set()
            body = json.dumps(found.as_json(), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
            if whole or found.answer is not None:
                send({"type": "ask", "number": left[0], "body": body, "whole": whole})
            if whole:
                left.pop(0)
    return {"left": len(left)}


class Kept(Memory):
    """The rows of a study's runs and of its asks; each new one is told at once."""

    def __init__(self, payload: dict[str, Any], send: Send) -> None:
        super().__init__()
        self._send = send
        told = (row_of(one) for one in payload["answers"] if one["state"] != CANCELLED)
        self._rows = {row.key: row for row in told if row is not None}
        self._rows |= {key: Row.from_json(json.loads(body)) for key, body in payload["rows"].items()}

    def row(self, key: str) -> Row | None:
        """The row of this key, if it is known."""
        return self._rows.get(key)

    def put(self, done: Done) -> None:
        """Keep an answer, and tell it."""
        self._rows[done.row.key] = done.row
        body = json.dumps(done.row.as_json(), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        self._send({"type": "row", "key": done.row.key, "body": body})

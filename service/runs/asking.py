"""The work on what a study asks besides its scenarios: sweeps, trade-offs and targets, each of which chooses its next solve by the last.

It is one run of the queue, so that its lease, its deadline, its events and its cancellation are those of any run. What a child solves is
written down as it comes: whoever takes the run over goes on from there.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import structlog

from service.runs import studies
from service.runs.assignment import Assignment, sentence
from service.runs.records import Answer, Note
from service.runs.states import CancelMode, State

if TYPE_CHECKING:
    from service.runs.records import AsksMaterial

TASK = "service.studies.asks_task:answer"
KEPT = "what was solved is kept, and the same study sent again goes on from there"
WHY = {
    "deadline": f"the time for the asks ran out; {KEPT}",
    "cancelled": f"cancelled; {KEPT}",
    "memory": "the asks took more memory than they may use",
    "crash": "the asking process was lost",
}
log = structlog.get_logger(__name__)


class AsksAssignment(Assignment):
    """As ``Assignment``, of a run that answers asks."""

    _asks: AsksMaterial
    _done: dict[int, bytes]  # answers by the number of their ask
    _cut: set[int]  # which of them were cut short

    # ------------------------------------------------------------ what the child gets and says

    def _read(self) -> None:
        run = self.claim.run
        self._asks = self._database.read(lambda connection: studies.asks_material(connection, run))
        self._done, self._cut = dict(self._asks.done), set()

    def _task(self, _warm_start: bytes | None) -> tuple[str, dict[str, Any]]:
        asks = self._asks
        payload: dict[str, Any] = {"kind": self.claim.run.kind, "study": asks.document, "problem": asks.problem}
        return TASK, payload | {"answers": asks.answers, "rows": dict(asks.rows), "done": sorted(self._done)}

    def _heard(self, told: dict[str, Any]) -> None:
        now = time.time()
        match told["type"]:
            case "read":
                note = Note("state", {"state": State.solving}, now, state=State.solving)
            case "asking":
                note = Note("message", {"text": f"ask {told['number'] + 1} of {told['count']}: {told['text']}"}, now)
            case "row":
                self._asks.rows[told["key"]] = told["body"]
                text = f"{len(self._asks.rows):,} {'scenario' if len(self._asks.rows) == 1 else 'scenarios'} solved for the asks"
                note = Note("message", {"text": text}, now, asked=(told["key"], told["body"]))
            case _:  # an answer
                number = told["number"]
                self._done[number] = told["body"]
                kept = (f"{studies.ASK}{number}", told["body"]) if told["whole"] else None
                if kept is None:
                    self._cut.add(number)
                how = "is answered" if kept is not None else "was cut short"
                note = Note("message", {"text": f"ask {number + 1} {how}"}, now, asked=kept)
        with self._lock:
            self._notes.append(note)
        self._scribe()

    # ------------------------------------------------------------ answers

    def _answer(self, value: dict[str, Any]) -> Answer:
        asked = self._ending != "no" or self.claim.run.cancel_mode is not None
        return self._told("gap" if not value["left"] else "cancelled" if asked else "deadline", None)

    def _concluded(self, stop_reason: str, failure: str | None) -> Answer:
        mode = self.claim.run.cancel_mode
        return self._told("cancelled" if mode is not None and (failure is None or mode is CancelMode.discard) else stop_reason, failure)

    def _discarded(self) -> Answer:
        """There is no plan to discard: what is solved is true, and spares the next run of the same asks the time."""
        return self._told("cancelled", None)

    def _told(self, stop_reason: str, failure: str | None) -> Answer:
        """The answer of the run: those of its asks, and why the others have none."""
        why = sentence(failure) if failure is not None else WHY.get(stop_reason, "")
        told = studies.asks_told(self._asks.document, self._done, why, goes_on=stop_reason in ("deadline", "cancelled"), cut=self._cut)
        state = {"gap": State.succeeded, "cancelled": State.cancelled}.get(stop_reason, State.failed)
        answered = sum(one["answer"] is not None for one in told)
        return Answer(
            state,
            None,
            stop_reason,
            seconds=self._seconds(),
            message=f"{answered} of {len(told)} asks of {self._asks.study_id} are answered",
            failure=failure,
            parts={"asks": json.dumps({"asks": told}, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()},
        )

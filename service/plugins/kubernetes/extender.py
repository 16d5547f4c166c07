"""What the scheduler extender answers: from the plan in force, by one look-up, and never from a solve.

In ``shadow`` every node passes and none is scored. In ``advise`` every node passes and the planned one scores 10. In ``enforce``
(strict) a pod that opted in passes on its planned node only, and nowhere while the plan lets it wait. A plan that is late or
gone, and patience that has run out, let every node pass: the cluster then schedules as it would without an extender.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from service.plugins.kubernetes import extender_wire as wire
from service.plugins.kubernetes.extender_seats import entry
from service.plugins.modes import Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.plugins.kubernetes.extender_seats import Seating, Told

OPT_IN = (
    "quartermaster.dev/plan"  # the label "true" opts a pod in on a cluster without scheduling gates; where there are gates, the gate does
)
PLANNED_SCORE = 10  # MaxExtenderPriority of kube-scheduler
PATIENCE_S = 60.0
MOST_WAITING = 100_000  # pods whose first refusal is remembered; beyond it the oldest are forgotten, which only makes them wait anew
OURS = "Quartermaster: "
NOT_YET = f"{OURS}it waits for the first plan that knows it"


@dataclass(frozen=True, slots=True)
class Answer:
    """The body, the status, and one word for the metric. ``problem`` is what was wrong with the question, for the log."""

    body: bytes
    outcome: str
    status: int = 200
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What holds for one pod: every node (``all``), one (``seat``), or none (``denied``) and why."""

    outcome: str
    node: str | None = None
    why: str = ""


def opted_in(pod: Mapping[str, Any], namespaces: frozenset[str] = frozenset()) -> bool:
    """Whether a pod, as the API gives it, asks to be placed by the plan: by its label, in one of these namespaces (none: in any)."""
    labels = pod["metadata"].get("labels")
    served = not namespaces or pod["metadata"].get("namespace") in namespaces
    return served and isinstance(labels, dict) and labels.get(OPT_IN) == "true"


class Extender:
    """The four verbs. One thread asks; ``seating`` may be replaced by another thread at any time."""

    def __init__(
        self,
        mode: Mode,
        clock: Callable[[], float],
        *,
        patience_s: float = PATIENCE_S,
        opts_in: Callable[[Mapping[str, Any]], bool] = opted_in,
        binder: Callable[[str, str, str, str], None] | None = None,
    ) -> None:
        self.mode = mode
        self.seating: Seating | None = None
        self._clock = clock
        self._patience_s = patience_s
        self._opts_in = opts_in
        self._binder = binder
        self._first_denied: OrderedDict[str, float] = OrderedDict()

    # ------------------------------------------------------------ the verbs

    def filter(self, body: bytes) -> Answer:
        """Which of the nodes the pod may take. A body that is not kube-scheduler's is answered with an ``Error``."""
        try:
            asked = wire.read_question(body)
            verdict = self.verdict(asked)
            if verdict.node is not None:
                return Answer(wire.passes_one(asked, verdict.node), verdict.outcome)
            if verdict.outcome == "denied":
                return Answer(wire.passes_none(asked, verdict.why), verdict.outcome)
            return Answer(wire.passes_all(asked), verdict.outcome)
        except wire.WireError as error:
            return Answer(wire.error_json(f"filter: {error}"), "malformed", problem=str(error))
        except orjson.JSONEncodeError as error:
            return Answer(wire.error_json("filter: the body is nested too deeply"), "malformed", problem=str(error))

    def prioritize(self, body: bytes) -> Answer:
        """Scores from 0 to 10; nodes that are left out have 0. A bad body gets status 400: no ``Error`` is read here."""
        try:
            asked = wire.read_question(body)
        except wire.WireError as error:
            return Answer(wire.error_json(f"prioritize: {error}"), "malformed", 400, str(error))
        seating, told = self._told(asked.key, asked.uid)
        if self.mode is Mode.shadow or seating is None or told is None:
            return Answer(b"[]", "none")
        planned = told.node if told.node is not None and asked.has(told.node) else None
        entries = seating.entries.get(told.fits)
        found = [one for one in map(entries.get, asked.node_names()) if one] if entries else []
        if planned is not None:
            if entries and planned in entries:
                found.remove(entries[planned])
            found.append(entry(planned, PLANNED_SCORE))
        return Answer(f"[{','.join(found)}]".encode(), "scored" if found else "none")

    def preempt(self, body: bytes) -> Answer:
        """Which evictions may go ahead for the pod: all as they came, or none for a pod that the plan places or lets wait (strict)."""
        try:
            pod, victims = wire.read_victims(body)
            key, uid = wire.identity(pod)
        except wire.WireError as error:
            return Answer(wire.error_json(f"preempt: {error}"), "malformed", 400, str(error))
        if self.mode is Mode.enforce and self._is_planned(key, uid, pod):
            return Answer(wire.EMPTY, "kept")
        return Answer(wire.victims_json(victims), "given")

    def bind(self, body: bytes) -> Answer:
        """Bind a pod where kube-scheduler decided, only if this extender was given the means; in strict mode only on its planned node."""
        try:
            asked = wire.read_object(body)
            name, namespace, uid, node = (_text(asked, field) for field in ("PodName", "PodNamespace", "PodUID", "Node"))
        except wire.WireError as error:
            return Answer(wire.error_json(f"bind: {error}"), "malformed", problem=str(error))
        if self._binder is None:
            why = "this extender does not bind; take bindVerb out of its configuration"
            return Answer(wire.error_json(why), "refused", problem=why)
        _, told = self._told(f"{namespace}/{name}", uid)
        if self.mode is Mode.enforce and told is not None and not told.free and told.node != node:
            why = f"{namespace}/{name} is planned on {told.node}, not on {node}" if told.node else f"{namespace}/{name} waits: {told.why}"
            return Answer(wire.error_json(why), "refused", problem=why)
        try:
            self._binder(namespace, name, uid, node)
        except Exception as error:  # noqa: BLE001  (whatever the client raises is kube-scheduler's to know, and it tries again)
            return Answer(wire.error_json(f"{namespace}/{name} was not bound: {error}"), "refused", problem=str(error))
        return Answer(wire.error_json(""), "bound")

    # ------------------------------------------------------------ what the plan says

    def verdict(self, asked: wire.Asked) -> Verdict:
        """What holds for the pod of a filter question now."""
        return self._strictly(asked) if self.mode is Mode.enforce else Verdict("all")

    def _strictly(self, asked: wire.Asked) -> Verdict:
        seating, now, pod = self.seating, self._clock(), asked.uid or asked.key
        if seating is not None and seating.expired(now):
            return Verdict("stale")
        told = seating.find(asked.key, asked.uid) if seating is not None else None
        if told is None:
            return self._patiently(pod, now, NOT_YET) if self._opts_in(asked.pod) else Verdict("all")
        if told.node is not None and not asked.has(told.node):
            return self._patiently(pod, now, f"{OURS}it is planned on {told.node}, which cannot take it now; the next plan places it anew")
        self._first_denied.pop(pod, None)  # the plan knows it: patience begins anew if it is ever forgotten
        if told.node is not None:
            return Verdict("seat", told.node)
        return Verdict("all") if told.free else Verdict("denied", why=OURS + (told.why or "it waits for its plan"))

    def _patiently(self, pod: str, now: float, why: str) -> Verdict:
        """Refused, but not longer than patience lasts."""
        return Verdict("denied", why=why) if self._is_patient(pod, now) else Verdict("all")

    def _is_patient(self, pod: str, now: float) -> bool:
        """Whether a pod that the plan cannot place may still be refused: for so long since it was refused first."""
        first = self._first_denied.setdefault(pod, now)
        if len(self._first_denied) > MOST_WAITING:
            self._first_denied.popitem(last=False)
        return 0 <= now - first < self._patience_s

    def _told(self, key: str, uid: str) -> tuple[Seating | None, Told | None]:
        seating = self.seating
        if seating is None or seating.expired(self._clock()):
            return None, None
        return seating, seating.find(key, uid)

    def _is_planned(self, key: str, uid: str, pod: Mapping[str, Any]) -> bool:
        """Whether a pod is the plan's to place: then it waits for its plan, and evicting others for it would be needless."""
        seating, now = self.seating, self._clock()
        if seating is not None and seating.expired(now):
            return False
        told = seating.find(key, uid) if seating is not None else None
        if told is not None and (told.free or told.node is None):
            return not told.free
        first = self._first_denied.get(uid or key)
        out_of_patience = first is not None and not 0 <= now - first < self._patience_s
        return (told is not None or self._opts_in(pod)) and not out_of_patience


def _text(asked: Mapping[str, Any], field: str) -> str:
    value = asked.get(field.lower())
    if not isinstance(value, str):
        raise wire.WireError(f"{field} is not there, or is not a text")
    return value

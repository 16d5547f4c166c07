"""What the scheduler extender answers: from the plan in force, by one look-up, and never from a solve.

In ``shadow`` every node passes and none is scored. In ``advise`` every node passes and the planned one scores 10. In ``enforce``
(strict) a pod that opted in passes on its planned node only, and nowhere while the plan lets it wait. A plan that is late or
gone, and patience that has run out, let every node pass: the cluster then schedules as it would without an extender.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from service.plugins.kubernetes import extender_wire as wire
from service.plugins.kubernetes.extender_refusals import Refusals
from service.plugins.modes import Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.plugins.kubernetes.extender_seats import Seating, Told

OPT_IN = (
    "quartermaster.dev/plan"  # the label "true" opts a pod in on a cluster without scheduling gates; where there are gates, the gate does
)
PLANNED_SCORE = 10  # MaxExtenderPriority of kube-scheduler
PATIENCE_S = 60.0
OURS = "Quartermaster: "
NOT_YET = f"{OURS}no plan has a place for it yet; an event of its job's pods says why"  # true for as long as nobody tries it again


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
    """The four verbs. One thread asks; ``seating`` may be replaced by another thread at any time.

    ``clock`` is the wall clock that plans are dated by, ``monotonic`` the one that patience is timed by.
    """

    def __init__(
        self,
        mode: Mode,
        clock: Callable[[], float],
        *,
        patience_s: float = PATIENCE_S,
        opts_in: Callable[[Mapping[str, Any]], bool] = opted_in,
        binder: Callable[[str, str, str, str], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.mode = mode
        self.seating: Seating | None = None
        self._clock = clock
        self._opts_in = opts_in
        self._binder = binder
        self._refusals = Refusals(monotonic, patience_s)

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
        """10 for the planned node; nodes that are left out have 0. A bad body gets status 400: no ``Error`` is read here."""
        try:
            asked = wire.read_question(body)
        except wire.WireError as error:
            return Answer(wire.error_json(f"prioritize: {error}"), "malformed", 400, str(error))
        seating, told = self._told(asked.key, asked.uid)
        if self.mode is Mode.shadow or seating is None or told is None:
            return Answer(b"[]", "none")
        if told.node is None or not asked.has(told.node):
            return Answer(b"[]", "none")
        return Answer(orjson.dumps([{"Host": told.node, "Score": PLANNED_SCORE}]), "scored")

    def preempt(self, body: bytes) -> Answer:
        """Which evictions may go ahead for the pod: all as they came, or none for a pod that the plan places or lets wait (strict)."""
        try:
            pod, victims = wire.read_victims(body)
            key, uid = wire.identity(pod)
        except wire.WireError as error:
            return Answer(wire.error_json(f"preempt: {error}"), "malformed", 400, str(error))
        if self.mode is Mode.enforce and self._spares_others(key, uid, pod):
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
        """What holds for the pod of a filter question now. In strict mode a refusal is remembered until the attempt is over."""
        if self.mode is not Mode.enforce:
            return Verdict("all")
        found = self._strictly(asked)
        self._refusals.answered(asked.uid or asked.key, refused=found.outcome == "denied")
        return found

    def _strictly(self, asked: wire.Asked) -> Verdict:
        seating, pod = self.seating, asked.uid or asked.key
        if not self._opts_in(asked.pod):
            return Verdict("all")  # even where another pod of its gang did opt in
        if seating is not None and seating.expired(self._clock()):
            return Verdict("stale")
        told = seating.find(asked.key, asked.uid) if seating is not None else None
        if told is None:
            return self._patiently(pod, NOT_YET)
        if told.node is not None and not asked.has(told.node):
            return self._patiently(pod, f"{OURS}it is planned on {told.node}, which cannot take it now; the next plan places it anew")
        self._refusals.placed(pod)
        if told.node is not None:
            return Verdict("seat", told.node)
        return Verdict("all") if told.free else Verdict("denied", why=OURS + (told.why or "it waits for its plan"))

    def _patiently(self, pod: str, why: str) -> Verdict:
        """Refused, but not longer than patience lasts."""
        return Verdict("denied", why=why) if self._refusals.bearable(pod) else Verdict("all")

    def _told(self, key: str, uid: str) -> tuple[Seating | None, Told | None]:
        seating = self.seating
        if seating is None or seating.expired(self._clock()):
            return None, None
        return seating, seating.find(key, uid)

    def _spares_others(self, key: str, uid: str, pod: Mapping[str, Any]) -> bool:
        """Whether nobody may be evicted for a pod, because it only waits for its plan.

        A pod that filter refused in this attempt is one, whatever has happened in between: a plan that landed or ran out,
        patience that ended, or a pod that was given up. kube-scheduler has not looked yet whether it fits without an eviction.
        """
        seating, name = self.seating, uid or key
        if self._refusals.in_this_attempt(name):
            return True
        if not self._opts_in(pod) or (seating is not None and seating.expired(self._clock())):
            return False
        told = seating.find(key, uid) if seating is not None else None
        if told is not None and told.node is None:
            return not told.free
        return self._refusals.bearable(name)  # where no node has room filter is never asked: patience begins here


def _text(asked: Mapping[str, Any], field: str) -> str:
    value = asked.get(field.lower())
    if not isinstance(value, str):
        raise wire.WireError(f"{field} is not there, or is not a text")
    return value

"""Sentences for people: events on pods and on the Jobs that own them."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2s
from typing import TYPE_CHECKING

import structlog

from service.plugins.kubernetes.connection import ApiRefusedError
from service.plugins.kubernetes.quantities import moment
from service.plugins.scheduler import SchedulerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.plugins.kubernetes.connection import Connection
    from service.plugins.kubernetes.fields import Object
    from service.plugins.kubernetes.pods import Pod

LONGEST_SENTENCE = 1024  # bytes of an event's message, by the API's own rule
LONGEST_NAME = 220
REMEMBERED = 20_000  # pods whose last sentence is known
EXISTS = 409
REPORTER = "quartermaster.dev/plan"

log = structlog.get_logger(__name__)


class Telling:
    """Writes events. The same sentence on the same pod is written once; failures are logged, never raised."""

    def __init__(self, connection: Connection, clock: Callable[[], float]) -> None:
        self._connection, self._clock = connection, clock
        self._last: OrderedDict[tuple[str, str], str] = OrderedDict()

    def tell(self, pod: Pod, reason: str, sentence: str, *, warning: bool = False) -> None:
        """Leave a sentence on the pod, and on the Job that owns it. ``reason`` is one word in camel case."""
        told = _cut(sentence)
        self._write(("Pod", "v1", pod.name, pod.uid), pod, reason, told, warning=warning)
        if pod.owner is not None and pod.owner.kind == "Job":
            self._write(("Job", "batch/v1", pod.owner.name, pod.owner.uid), pod, reason, told, warning=warning)

    def _write(self, about: tuple[str, str, str, str], pod: Pod, reason: str, told: str, *, warning: bool) -> None:
        key = (about[3], reason)
        if self._last.get(key) == told:
            return
        try:
            self._connection.post(
                f"/api/v1/namespaces/{pod.namespace}/events", _event(about, pod.namespace, reason, told, self._clock(), warning)
            )
        except ApiRefusedError as error:
            if error.status != EXISTS:  # it was told already, by us before a restart
                log.warning("kubernetes_event_refused", pod=pod.key, detail=str(error))
                return
        except SchedulerError as error:
            log.warning("kubernetes_event_lost", pod=pod.key, detail=str(error))
            return
        self._last[key] = told
        self._last.move_to_end(key)
        while len(self._last) > REMEMBERED:
            self._last.popitem(last=False)


def _event(about: tuple[str, str, str, str], namespace: str, reason: str, told: str, now: float, warning: bool) -> Object:  # noqa: FBT001
    kind, version, name, uid = about
    digest = blake2s(f"{uid} {reason} {told}".encode(), digest_size=8).hexdigest()
    at = moment(now)[:19] + "Z"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{name[:LONGEST_NAME].rstrip('.-')}.{digest}", "namespace": namespace},
        "involvedObject": {"kind": kind, "apiVersion": version, "name": name, "namespace": namespace, "uid": uid},
        "reason": reason,
        "message": told,
        "type": "Warning" if warning else "Normal",
        "source": {"component": "quartermaster"},
        "reportingComponent": REPORTER,
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }


def _cut(sentence: str) -> str:
    """The sentence, its end left away where it is longer than an event may be."""
    data = sentence.encode()
    return sentence if len(data) <= LONGEST_SENTENCE else data[: LONGEST_SENTENCE - 4].decode(errors="ignore") + " ..."

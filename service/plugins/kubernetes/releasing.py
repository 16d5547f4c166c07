"""How pods are released: one at once, a gang whole or not at all, and what was begun is brought to its end.

The API changes one pod at a time, and a gate that is gone cannot come back. So a gang is released in steps of which only the
last cannot be undone: every patch is rehearsed on the server (a dry run, which checks preconditions, rules and admission);
nodes are nominated where the pin is soft; the first pod is released, and carries the seats of all others in an annotation; the
others follow. Before the first, any refusal leaves the gang held as it was. After it there is no way back, and every other pod
is released: to its seat, or without one if its pin is refused, now, or in a later round by whoever reads the annotation.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from service.plugins.kubernetes.connection import ApiAwayError, ApiRefusedError
from service.plugins.kubernetes.jobs import RELEASED
from service.plugins.kubernetes.pods import bare_pod, read_pod
from service.plugins.kubernetes.releases import Release, nominate, nominated_by_another, pod_path, ungate, withdraw
from service.plugins.kubernetes.watching import NOT_FOUND, pause

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from service.plugins.kubernetes.connection import Connection
    from service.plugins.kubernetes.fields import Object
    from service.plugins.kubernetes.pods import Pod
    from service.plugins.kubernetes.releases import Operation

AT_ONCE = 8  # requests under way for one gang
LONGEST_PAUSE_S = 1.0
PATIENCE_S = 3.0  # with a busy server, before the first pod of a gang is released


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of one pod, or of a gang: ``lasting`` tells of a refusal that the same request will meet again.

    ``released``: someone else released it. ``begun``: the gang is being released, and pods of it are still held.
    """

    outcome: Literal["done", "refused", "gone", "released", "begun"]
    detail: str = ""
    lasting: bool = False
    passing: bool = False  # refused or not answered, and the same request may be answered a little later


class Releasing:
    """Releases pods. ``observe`` is told each pod as the server has it afterwards."""

    def __init__(
        self,
        connection: Connection,
        gate: str,
        observe: Callable[[Object], None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection, self._gate, self._observe = connection, gate, observe
        self._monotonic, self._sleep = monotonic, sleep
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="release")

    def now(self) -> float:
        """The time by the clock that deadlines are told in."""
        return self._monotonic()

    def close(self) -> None:
        """Wait for what is under way, and end."""
        self._pool.shutdown()

    def together(self, releases: Sequence[Release], deadline: float) -> Ended:
        """Release the pods of a gang (or one pod), all or none; ``deadline`` is by the monotonic clock."""
        patience = min(deadline, self._monotonic() + PATIENCE_S)
        ended = self._rehearsed(releases, patience) if len(releases) > 1 else Ended("done")
        if ended.outcome != "done":
            return ended
        nominated, ended = self._nominated(releases, patience)
        if ended.outcome == "done":
            ended = self._first(nominated, patience)
        if ended.outcome != "done":
            self._withdraw(nominated)
            return ended
        return self.finish(nominated[1:], deadline)

    def finish(self, releases: Sequence[Release], deadline: float) -> Ended:
        """Release pods of a gang of which others are released already: none may stay behind."""
        answers = list(self._pool.map(lambda one: self._surely(one, deadline), releases))
        owed = [one.detail for one in answers if one.outcome == "begun"]
        unpinned = [one.detail for one in answers if one.outcome == "done" and one.detail]
        if owed:
            lasting = all(one.lasting for one in answers if one.outcome == "begun")
            return Ended("begun", f"{len(owed)} pods are still to be released: {owed[0]}", lasting)
        return Ended("done", f"{len(unpinned)} pods were released without a pin: {unpinned[0]}" if unpinned else "")

    def freed(self, releases: Sequence[Release], deadline: float) -> tuple[str, ...]:
        """Release pods of any number of gangs, each for itself; the ``namespace/name`` of those that are not held any more."""
        answers = self._pool.map(lambda one: self._surely(one, deadline), releases)
        return tuple(one.pod.key for one, ended in zip(releases, answers, strict=True) if ended.outcome == "done")

    # ------------------------------------------------------------ the steps

    def _rehearsed(self, releases: Sequence[Release], deadline: float) -> Ended:
        def rehearse(release: Release) -> Ended:
            return self._patiently(release.pod, ungate(release, self._gate), deadline, dry_run=True)[1]

        answers = list(self._pool.map(rehearse, releases))
        return next((one for one in answers if one.outcome != "done"), Ended("done"))

    def _nominated(self, releases: Sequence[Release], deadline: float) -> tuple[list[Release], Ended]:
        """Each with its pod as it is after its node was nominated; the first refusal, if any."""
        answers = list(self._pool.map(lambda one: self._nominate(one, deadline), releases))
        found = [one.now(pod) for one, (pod, _) in zip(releases, answers, strict=True)]
        return found, next((ended for _, ended in answers if ended.outcome != "done"), Ended("done"))

    def _nominate(self, release: Release, deadline: float) -> tuple[Pod, Ended]:
        if not release.nominated or release.pod.nominated_node == release.node or nominated_by_another(release.pod):
            return release.pod, Ended("done")
        pod, ended = self._patiently(release.pod, nominate(release), deadline, status=True)
        ours = ended.outcome == "refused" and not ended.lasting and pod.nominated_node == release.node
        return pod, Ended("done") if ours else ended  # the answer to an earlier try was lost

    def _first(self, releases: Sequence[Release], deadline: float) -> Ended:
        """The step after which there is no way back."""
        first = releases[0]
        seats = {one.pod.uid: one.node for one in releases} if len(releases) > 1 else None
        pod, ended = self._patiently(first.pod, ungate(first, self._gate, seats), deadline)
        if ended.passing:
            standing, pod = self._standing(first.pod)
            ended = Ended("released") if standing == "released" else ended
        ours = ended.outcome == "released" and RELEASED in pod.annotations  # the answer to an earlier try was lost
        return Ended("done") if ours else ended

    def _withdraw(self, releases: Sequence[Release]) -> None:
        """Take nominations back, as far as possible: one that stays is only a wish, and the next plan's pod has it already."""
        for one in releases:
            if one.nominated and one.pod.nominated_node == one.node and not nominated_by_another(one.pod):
                self._once(one.pod, withdraw(one.pod), status=True)

    def _surely(self, release: Release, deadline: float) -> Ended:
        """Release one pod, whatever it takes until the deadline: with its pin, or without it where that is refused."""
        here, told, failures = release, "", 0
        while True:
            pod, ended = self._once(here.pod, ungate(here, self._gate))
            if ended.outcome != "refused":
                return Ended("done", told)
            changed, here = pod.resource_version != here.pod.resource_version, here.now(pod)
            if ended.lasting:
                if not here.node:
                    return Ended("begun", ended.detail, lasting=True)
                told, here = ended.detail, here.unpinned()
            failures += 1
            wait_s = 0.0 if changed or ended.lasting else min(pause(failures), LONGEST_PAUSE_S)
            if self._monotonic() + wait_s >= deadline:
                return Ended("begun", ended.detail)
            self._sleep(wait_s)

    # ------------------------------------------------------------ single requests

    def _patiently(
        self, pod: Pod, operations: list[Operation], deadline: float, *, status: bool = False, dry_run: bool = False
    ) -> tuple[Pod, Ended]:
        """One patch, tried again while the server is only busy or away: its preconditions keep it from being done twice."""
        failures = 0
        while True:
            found, ended = self._once(pod, operations, status=status, dry_run=dry_run)
            failures += 1
            wait_s = min(pause(failures - 1), LONGEST_PAUSE_S)
            if not ended.passing or self._monotonic() + wait_s >= deadline:
                return found, ended
            self._sleep(wait_s)

    def _once(self, pod: Pod, operations: list[Operation], *, status: bool = False, dry_run: bool = False) -> tuple[Pod, Ended]:
        """One patch, and the pod as it is afterwards as far as the server tells."""
        try:
            manifest = self._connection.patch(pod_path(pod, status=status), operations, dry_run=dry_run)
            if dry_run:
                return pod, Ended("done")
            self._observe(manifest)
            return _read(manifest), Ended("done")
        except ApiRefusedError as error:
            if error.passing:
                return pod, Ended("refused", f"{pod.key}: {error}", passing=True)
            return self._why(pod, error)
        except (ApiAwayError, ValueError) as error:
            return pod, Ended("refused", f"{pod.key}: {error}", passing=True)

    def _why(self, pod: Pod, error: ApiRefusedError) -> tuple[Pod, Ended]:
        """Whether the pod changed in between, or the same request will be refused again."""
        standing, found = self._standing(pod)
        if standing == "gone":
            return pod, Ended("gone", f"the pod {pod.key} is no more")
        if standing == "released":
            return found, Ended("released", f"the pod {pod.key} is not held any more")
        if found.resource_version != pod.resource_version:
            return found, Ended("refused", f"the pod {pod.key} has changed")
        return found, Ended("refused", f"{pod.key}: {error}", lasting=standing == "held")

    def _standing(self, pod: Pod) -> tuple[Literal["held", "released", "gone", "unknown"], Pod]:
        """How the server has it now, and the pod as it has it."""
        try:
            manifest = self._connection.get(pod_path(pod))
            self._observe(manifest)
            found = _read(manifest)
        except ApiRefusedError as error:
            return ("gone" if error.status == NOT_FOUND else "unknown"), pod
        except (ApiAwayError, ValueError):
            return "unknown", pod
        if found.uid != pod.uid or found.deleting or found.terminal:
            return "gone", found
        return ("held" if found.held_by(self._gate) else "released"), found


def _read(manifest: Object) -> Pod:
    """The pod, without its demands where those cannot be read. Raises ValueError when it is no pod at all."""
    try:
        return read_pod(manifest)
    except ValueError:
        found = bare_pod(manifest)
        if found is None:
            raise
        return found

"""How full the queue is, and how much each tenant keeps, without asking the database for every request."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from service.errors import TooMany, Unavailable
from service.runs import queries
from service.runs.tables import problems

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy import Connection

    from service.runs.records import StoredProblem
    from service.settings import Settings

    Read = Callable[[Callable[..., Any]], Awaitable[Any]]

MIB = 2**20
FRESH_S = 0.5
FRESH_BYTES_S = 5.0
SHARE_READING = 0.05  # of the time, at most, to add up what a tenant keeps
RETRY_S = 5.0
RETRY_BYTES_S = 60.0  # room comes only when runs are forgotten


class QueueGauge:
    """Queued runs by tenant: as the database had them at most half a second ago, and what was accepted here since."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._known: dict[str, int] = {}
        self._since: Counter[str] = Counter()
        self._read_at = -1e9
        self._reading = False

    async def refuse_when_full(
        self, tenant: str, read: Callable[[Callable[..., dict[str, int]]], Awaitable[dict[str, int]]], runs: int = 1
    ) -> None:
        """Raises Unavailable when the queue has no room for so many runs, TooMany when the tenant's share of it has none."""
        if self._clock() - self._read_at >= FRESH_S and not self._reading:
            self._reading = True
            before = self._since
            self._since = Counter()
            try:
                self._known = await read(queries.queued_by_tenant)
                self._read_at = self._clock()
            except BaseException:
                self._since += before
                raise
            finally:
                self._reading = False
        if self.queued() + runs > self._settings.queue_limit:
            raise Unavailable(_full(self.queued(), runs, "wait", "later"), code="queue_full", retry_after_s=RETRY_S)
        waiting = self._known.get(tenant, 0) + self._since[tenant]
        if waiting + runs > self._settings.tenant_queue_limit:
            detail = _full(waiting, runs, "of this tenant wait already", "when some have ended")
            raise TooMany(detail, code="tenant_queue_full", retry_after_s=RETRY_S)

    def queued(self) -> int:
        """How many runs wait, of all tenants."""
        return sum(self._known.values()) + self._since.total()

    def accepted(self, tenant: str, runs: int = 1) -> None:
        """So many more runs of the tenant wait."""
        self._since[tenant] += runs


def _full(waiting: int, runs: int, where: str, when: str) -> str:
    if runs == 1:
        return f"{'the queue is full: ' if where == 'wait' else ''}{waiting:,} runs {where}; ask again {when}"
    return f"{waiting:,} runs {where}, and there is no room for {runs:,} more; ask again {when}, or for a smaller study"


@dataclass(slots=True)
class _Kept:
    """What a tenant keeps in bytes: as it was read, and since; when it is to be read again."""

    read: int = 0
    since: int = 0
    until: float = -1e9


class ProblemGauge:
    """Bytes of the problems of each tenant, as the database had them some seconds ago, and what was kept here since."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = settings.tenant_problem_mib * MIB if settings.tenant_problem_mib is not None else None
        self._clock = clock
        self._tenants: dict[str, _Kept] = {}

    async def refuse_when_full(self, tenant: str, problem: StoredProblem, read: Read, more: int = 0) -> None:
        """Raises TooMany when the tenant has no room for this problem and ``more`` bytes; one that is kept already needs none."""
        if self._most is None:
            return
        kept = self._tenants.setdefault(tenant, _Kept())
        began = self._clock()
        if began >= kept.until:
            kept.until = began + FRESH_BYTES_S  # who comes meanwhile goes by what was known
            before, kept.since = kept.since, 0
            try:
                kept.read = await read(lambda connection: _bytes_of(connection, tenant))
            except BaseException:
                kept.since, kept.until = kept.since + before, began
                raise
            now = self._clock()
            kept.until = now + max(FRESH_BYTES_S, (now - began) / SHARE_READING)
        if kept.read + kept.since + len(problem.body) + more <= self._most:
            return
        has_room = kept.read + kept.since + more <= self._most or not more
        if has_room and await read(lambda connection: bool(queries.problem_summary(connection, tenant, [problem.id]))):
            return
        detail = (
            f"this tenant keeps {(kept.read + kept.since) / MIB:.1f} MiB of problems and may keep {self._most // MIB:,} MiB; "
            "ask the operator for more, or to keep runs for a shorter time"
        )
        raise TooMany(detail, code="problem_quota", retry_after_s=RETRY_BYTES_S)

    def accepted(self, tenant: str, problem: StoredProblem, more: int = 0) -> None:
        """The tenant keeps one more problem, and ``more`` bytes."""
        if self._most is not None:
            self._tenants.setdefault(tenant, _Kept()).since += len(problem.body) + more


def _bytes_of(connection: Connection, tenant: str) -> int:
    total = select(func.coalesce(func.sum(problems.c.bytes), 0)).where(problems.c.tenant == tenant)
    return int(connection.execute(total).scalar_one())

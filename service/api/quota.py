"""How full the queue is, without asking the database for every request."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from service.errors import TooMany, Unavailable
from service.runs import queries

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from service.settings import Settings

FRESH_S = 0.5
RETRY_S = 5.0


class QueueGauge:
    """Queued runs by tenant: as the database had them at most half a second ago, and what was accepted here since."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._known: dict[str, int] = {}
        self._since: Counter[str] = Counter()
        self._read_at = -1e9
        self._reading = False

    async def refuse_when_full(self, tenant: str, read: Callable[[Callable[..., dict[str, int]]], Awaitable[dict[str, int]]]) -> None:
        """Raises Unavailable when the queue is full, TooMany when the tenant's share of it is."""
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
        if self.queued() >= self._settings.queue_limit:
            raise Unavailable(
                f"the queue is full ({self._settings.queue_limit:,} runs wait); ask again later", code="queue_full", retry_after_s=RETRY_S
            )
        if self._known.get(tenant, 0) + self._since[tenant] >= self._settings.tenant_queue_limit:
            detail = f"{self._settings.tenant_queue_limit:,} runs of this tenant wait already; ask again when some have ended"
            raise TooMany(detail, code="tenant_queue_full", retry_after_s=RETRY_S)

    def queued(self) -> int:
        """How many runs wait, of all tenants."""
        return sum(self._known.values()) + self._since.total()

    def accepted(self, tenant: str) -> None:
        """One more run of the tenant waits."""
        self._since[tenant] += 1

"""The orders in force, for whoever answers a scheduler's questions from another thread: an extender, a prioritiser."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from service.plugins.orders import Orders

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.plugins.orders import Order, Wait


class InForce:
    """Holds the latest orders. Thread-safe; a reader gets one whole set of orders, never half of two."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: Orders | None = None

    def publish(self, orders: Orders) -> bool:
        """Put ``orders`` in force, unless those in force are of the same or a later version; whether they are."""
        with self._lock:
            if self._orders is not None and self._orders.version >= orders.version:
                return False
            self._orders = orders
            return True

    def explain(self, version: int, waits: Mapping[str, Wait]) -> None:
        """Say more of why jobs wait, if the orders of that version are still in force: sentences are made after the commits."""
        with self._lock:
            if self._orders is not None and self._orders.version == version:
                self._orders = replace(self._orders, waits={**self._orders.waits, **waits})

    def withdraw(self) -> None:
        """Nothing is in force any more; versions still only grow."""
        with self._lock:
            if self._orders is not None:
                self._orders = Orders(self._orders.version, self._orders.made_at, 0.0)

    @property
    def latest(self) -> Orders | None:
        """The orders that were published last, expired or not."""
        return self._orders

    @property
    def version(self) -> int:
        """The version of the latest orders; 0 before the first."""
        orders = self._orders
        return orders.version if orders is not None else 0

    def current(self, now: float) -> Orders | None:
        """The orders in force at ``now`` (the follower's wall clock); None when there are none, or they have expired."""
        orders = self._orders
        return None if orders is None or orders.expired(now) else orders

    def order(self, job: str, now: float) -> Order | None:
        """What is ordered for a job at ``now``, if anything is."""
        orders = self.current(now)
        return orders.orders.get(job) if orders is not None else None

    def wait(self, job: str, now: float) -> Wait | None:
        """Why a job waits at ``now``, if the orders say so."""
        orders = self.current(now)
        return orders.waits.get(job) if orders is not None else None

"""What the adapter counts, beside the metrics of the core: how the watches fare, and what was repaired."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from service.plugins.kubernetes.gates import Gates

NAME = "quartermaster_kubernetes"


class AdapterMetrics(Collector):
    """Reads the adapter's own counts when it is asked."""

    def __init__(self, gates: Gates) -> None:
        self._gates = gates

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        watchers = self._gates.cache.watching.watchers
        lists = CounterMetricFamily(
            f"{NAME}_lists", "Times a kind was listed: at the start, and when a watch could not go on.", labels=["kind"]
        )
        breaks = CounterMetricFamily(f"{NAME}_watch_breaks", "Watches that broke off.", labels=["kind"])
        malformed = CounterMetricFamily(f"{NAME}_malformed_objects", "Objects of watches that could not be kept.", labels=["kind"])
        silent = GaugeMetricFamily(f"{NAME}_silent_seconds", "Since the server was lost; 0 while it is heard.", labels=["kind"])
        for kind, one in watchers.items():
            lists.add_metric([kind], one.relists)
            breaks.add_metric([kind], one.breaks)
            malformed.add_metric([kind], one.malformed)
            silent.add_metric([kind], one.silent_s())
        yield from (lists, breaks, malformed, silent)
        yield CounterMetricFamily(f"{NAME}_gangs_completed", "Gangs found half released, and completed.", self._gates.completed)
        yield CounterMetricFamily(
            f"{NAME}_unreadable_released", "Held pods that could not be read, and were released.", self._gates.unreadable
        )
        yield GaugeMetricFamily(
            f"{NAME}_left_alone", "Gangs left alone for a while, as the server refuses them.", self._gates.rests.count()
        )
        yield CounterMetricFamily(f"{NAME}_releases_refused", "Releases that the server refused for good.", self._gates.releases_refused)
        yield CounterMetricFamily(f"{NAME}_pins_given_up", "Jobs released without a pin, which was refused.", self._gates.given_up)

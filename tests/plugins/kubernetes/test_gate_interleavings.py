"""Anything may happen between any two requests: no gang is ever split for good, and nothing is pinned that was not planned so."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from service.plugins.kubernetes.gates import Gates
from service.plugins.kubernetes.nodes import ReadingOptions
from tests.plugins.kubernetes.conftest import order_for
from tests.plugins.kubernetes.direct import Direct, DirectCache, quietly
from tests.plugins.kubernetes.kube_scheduler import KubeScheduler
from tests.plugins.kubernetes.manifests_made import gang, job, node, pod
from tests.plugins.kubernetes.stub_store import StatusError, Store
from tests.plugins.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["quiet"]

HOST = "kubernetes.io/hostname"
SIZE = 4
CASES = 250  # of each of four settings: 1,000 in all


class Inline:
    """Stands in for a pool of threads: one after another, so that a seed is one case."""

    @staticmethod
    def map(function: Callable[[Any], Any], things: Iterable[Any]) -> Iterator[Any]:
        return iter([function(one) for one in things])

    @staticmethod
    def shutdown() -> None:
        pass


class World:
    """A gang of four and a pod, with someone who interferes and a server that fails, all by one seed."""

    def __init__(self, seed: int, *, hard: bool, failing: bool) -> None:
        self.rng = random.Random(seed)
        self.store = Store()
        self.failing, self.interfering, self.now = failing, False, 0.0
        for index in range(3):
            self.store.create("nodes", node(f"n{index}"))
        self.store.create("jobs", job("big", SIZE), "team")
        for one in gang("big", SIZE, gpus=2):
            self.store.create("pods", one, "team")
        self.store.create("pods", pod("alone", gpus=8), "team")
        self.cache = DirectCache(self.store)
        self.gates = Gates(
            Direct(self.store, self.before),
            self.cache,  # type: ignore[arg-type]  # what is asked of a cache, and no more
            ReadingOptions(hard=hard),
            mends=True,
            limit_s=3.0,
            monotonic=lambda: self.now,
            sleep=self.sleep,
        )
        self.gates._releasing._pool = self.gates._pool = Inline()  # type: ignore[assignment]  # noqa: SLF001

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def before(self, _method: str, _path: str) -> Any:
        self.now += 0.01
        if self.interfering and self.rng.random() < 0.12:
            self.interfere()
        if self.interfering and self.failing and self.rng.random() < 0.25:
            return self.rng.choice(["away", "lost", StatusError(503, "Unavailable", "no"), StatusError(429, "TooManyRequests", "later")])
        return None

    def interfere(self) -> None:
        store, rng = self.store, self.rng
        name = f"big-{rng.randrange(SIZE)}"
        what = rng.choice(["delete", "recreate", "ungate", "label", "drain", "not_ready", "end", "resize"])
        merge = "application/merge-patch+json"
        if what in {"delete", "recreate"}:
            quietly(lambda: store.end("pods", "team", name))
        if what == "recreate":
            again = next(one for one in gang("big", SIZE, gpus=2) if one["metadata"]["name"] == name)
            quietly(lambda: store.create("pods", again, "team"))
        if what == "ungate":
            quietly(lambda: store.patch("pods", "team", name, merge, {"spec": {"schedulingGates": None}}))
        if what == "label":
            quietly(lambda: store.patch("pods", "team", name, merge, {"metadata": {"labels": {"a": str(rng.random())[:6]}}}))
        if what == "drain":
            quietly(lambda: store.patch("nodes", "", f"n{rng.randrange(3)}", merge, {"spec": {"unschedulable": True}}))
        if what == "not_ready":
            down = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
            quietly(lambda: store.patch("nodes", "", f"n{rng.randrange(3)}", merge, down, sub="status"))
        if what == "end":
            quietly(lambda: store.end("pods", "team", "alone"))
        if what == "resize":  # the Job is deleted and made anew, larger
            for index in range(SIZE):
                quietly(partial(store.end, "pods", "team", f"big-{index}"))
            store.put("jobs", job("big", SIZE + 1))
            for one in gang("big", SIZE + 1, gpus=2):
                quietly(partial(store.create, "pods", one, "team"))

    def released(self) -> dict[str, bool]:
        """Of the gang's pods, whether the gate is gone."""
        return {
            one["metadata"]["name"]: not one["spec"].get("schedulingGates")
            for one in self.store.all("pods")
            if one["metadata"]["name"] != "alone"
        }

    def some_left(self, uids: set[str]) -> bool:
        """Whether a pod of the gang that was planned is still there: else the gang is another one."""
        return any(one["metadata"]["uid"] in uids and one["metadata"]["name"] != "alone" for one in self.store.all("pods"))


@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize("hard", [False, True])
def test_no_interleaving_splits_a_gang_or_pins_what_was_not_planned(hard: bool, failing: bool) -> None:
    outcomes: dict[str, int] = {}
    split = 0
    for seed in range(CASES):
        world = World(seed, hard=hard, failing=failing)
        try:
            seen = world.gates.snapshot()
            uids = {one["metadata"]["uid"] for one in world.store.all("pods")}
            orders = [order_for(seen, "team/job/big", "n0", "n0", "n1", "n1"), order_for(seen, "team/pod/alone", "n2")]
            if world.rng.random() < 0.5:
                world.cache.freeze()  # what the adapter knows at the commit is what it was before
            world.interfering = True
            world.interfere()
            (big, alone) = world.gates.commit(orders)
            world.interfering = False
            world.cache.thaw()
            split += len(set(world.released().values())) == 2
            _check_pins(world, uids)
            for answer in (big, alone):
                outcomes[answer.outcome] = outcomes.get(answer.outcome, 0) + 1
            for _ in range(3):
                world.now += 30.0
                world.gates.snapshot()
            states = set(world.released().values())
            assert len(states) <= 1, (seed, world.released())
            if big.outcome == "done" and world.some_left(uids):
                assert states == {True}, (seed, big)
            _everything_starts(world)
        finally:
            world.gates.close()
    assert outcomes["done"] > CASES / 10
    assert outcomes["refused"] > CASES / 10
    assert split > 0  # so that the repair is really tried


def _check_pins(world: World, uids: set[str]) -> None:
    """A pin is on a pod that was planned, and on the node that was planned for it."""
    planned = {"big-0": "n0", "big-1": "n0", "big-2": "n1", "big-3": "n1", "alone": "n2"}
    for one in world.store.all("pods"):
        name, pin = one["metadata"]["name"], (one["spec"].get("nodeSelector") or {}).get(HOST) or one["status"].get("nominatedNodeName")
        if pin is not None:
            assert one["metadata"]["uid"] in uids
            assert planned[name] == pin


def _everything_starts(world: World) -> None:
    """Once nodes are there again and what is held is freed, every pod runs, and no node has more than it can hold."""
    for index in range(3):
        world.store.put("nodes", node(f"n{index}"))
    world.store.put("nodes", node("more", gpus=8))
    seen = world.gates.snapshot()
    held = [one.id for one in seen.jobs if one.held]
    assert set(world.gates.free(held)) == set(held)
    scheduler = KubeScheduler(world.store)
    scheduler.step()
    assert not scheduler.overfull
    assert all(one["spec"].get("nodeName") for one in world.store.all("pods"))

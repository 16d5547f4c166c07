"""What an optimiser answers is believed only as far as it can be checked here."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from models.placement.heuristic import heuristic
from models.placement.schema import JobPlacement, Plan, Problem, WorkerPlace
from models.placement.verify import verify
from optimizer.limits import Limits
from service.children import ChildPool
from service.client import Client
from service.plugins import planner
from service.plugins.optimisers import LocalOptimiser, ServerOptimiser
from service.plugins.orders import Order, Orders, Seat, Wait
from service.plugins.planner import Answer, NoPlanError
from service.plugins.problem import Asked, problem
from tests.plugins.optimisers import Broken, Greedy
from tests.plugins.pretend import Machine, Pretend, job

LIMITS = Limits(time_limit_s=2.0)


def asked(*jobs: Any, machines: int = 3) -> Asked:
    pretend = Pretend([Machine(f"n{place}", 4) for place in range(machines)])
    for one in jobs or (job("a", 4), job("b", 2, 2), job("c", 1)):
        pretend.submit(one)
    return problem(pretend.snapshot(), held_only=True)


def best(found: Problem) -> Plan:
    plan = heuristic(found)
    assert plan is not None
    return plan


def plan_of(**seats: list[tuple[str, tuple[int, ...]]]) -> str:
    placements = [
        JobPlacement(job=name, workers=tuple(WorkerPlace(node=node, gpus=gpus) for node, gpus in places)) for name, places in seats.items()
    ]
    return Plan(placements=tuple(placements)).model_dump_json()


def trouble_of(answer: Answer | Exception | Callable[[Problem], Answer]) -> str:
    with pytest.raises(NoPlanError) as caught:
        planner.planned(asked(), Broken(answer), LIMITS)
    assert caught.value.trouble in planner.TROUBLES
    return caught.value.trouble


def right(found: Problem) -> Answer:
    plan = best(found)
    return Answer(plan.model_dump_json(), verify(found, plan).objectives["placed_value"])


def test_a_right_answer_is_taken() -> None:
    made = asked()
    found = planner.planned(made, Broken(right), LIMITS)
    assert made.problem is not None
    assert verify(made.problem, found.plan).ok
    assert set(found.placements) == {"a", "b", "c"}
    assert (found.goal, found.bound, found.gap) == ("placed_value", None, None)


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (Answer(b""), "rubbish"),
        (Answer(b"\xff\xfe"), "rubbish"),
        (Answer("null"), "rubbish"),
        (Answer("[" * 100_000), "rubbish"),
        (Answer('{"placements": [{"job": "a"}]}'), "rubbish"),
        (Answer('{"placements": [], "more": 1}'), "rubbish"),
        (Answer(plan_of(z=[("n0", (0,))])), "infeasible"),
        (Answer(plan_of(a=[("elsewhere", (0, 1, 2, 3))])), "infeasible"),
        (Answer(plan_of(a=[("n0", (0, 1, 2, 7))])), "infeasible"),
        (Answer(plan_of(a=[("n0", (0, 1, 2, 3))], c=[("n0", (0,))])), "infeasible"),
        (Answer(plan_of(b=[("n0", (0, 1))])), "infeasible"),
        (Answer(plan_of()), "poor"),
        (Answer(plan_of(c=[("n0", (0,))])), "poor"),
        (NoPlanError("late", "too late"), "late"),
        (RuntimeError("boom"), "fault"),
        (MemoryError(), "fault"),
    ],
)
def test_a_wrong_answer_is_no_plan(answer: Answer | Exception, trouble: str) -> None:
    assert trouble_of(answer) == trouble


@pytest.mark.parametrize(
    ("field", "value", "trouble"),
    [
        ("objective", 1e9, "wrong_objective"),
        ("objective", float("nan"), "rubbish"),
        ("objective", "9", "rubbish"),
        ("bound", 0.5, "wrong_bound"),
        ("bound", float("nan"), "rubbish"),
        ("bound", float("inf"), "rubbish"),
        ("bound", [1], "rubbish"),
        ("bound", True, "rubbish"),
    ],
)
def test_a_right_plan_with_wrong_figures_is_no_plan(field: str, value: Any, trouble: str) -> None:
    figures: dict[str, Any] = {field: value}
    assert trouble_of(lambda found: replace(right(found), **figures)) == trouble


@pytest.mark.parametrize("told", [b"{", b"[]", b'{"explanations": [1]}', b'{"explanations": [{"subject": "a"}]}', b'{"explanations": 3}'])
def test_wrong_explanations_cost_only_the_explanations(told: bytes) -> None:
    found = planner.planned(asked(), Broken(lambda one: replace(right(one), explanations=told)), LIMITS)
    assert found.reasons == ()


def test_a_plan_of_another_cluster_is_refused() -> None:
    other = asked(job("a", 4), machines=9)
    assert other.problem is not None
    plan = json.loads(best(other.problem).model_dump_json())
    plan["placements"][0]["workers"][0]["node"] = "n8"
    assert trouble_of(Answer(json.dumps(plan))) == "infeasible"


def test_what_a_solve_within_its_gap_has_left_out_is_filled_in() -> None:
    """A plan within a gap of a thousandth may leave a job of the lowest of several priorities out that there is room for."""
    made = asked(job("a", 4, priority=7), job("b", 2, 2, priority=7), job("c", 1))
    assert made.problem is not None

    def within_the_gap(found: Problem) -> Answer:
        plan = best(found)
        short = plan.model_copy(update={"placements": tuple(one for one in plan.placements if one.job != "c")})
        objective = verify(found, short).objectives["placed_value"]
        return Answer(short.model_dump_json(), objective, verify(found, plan).objectives["placed_value"])

    found = planner.planned(made, Broken(within_the_gap), LIMITS)
    assert set(found.placements) == {"a", "b", "c"}
    assert found.gap == 0
    assert verify(made.problem, found.plan).ok

    def beyond(found: Problem) -> Answer:
        answer = within_the_gap(found)
        return replace(answer, bound=answer.objective)

    found = planner.planned(made, Broken(beyond), LIMITS)
    assert found.gap == 0  # what claims to be the best is not looked at twice


# ---------------------------------------------------------------- orders


def in_force(made: Asked, **nodes: str) -> Orders:
    found = {
        name: Order(name, made.jobs[name].identity, (Seat(node, tuple(range(int(made.jobs[name].gpus_per_worker)))),), {node: f"{node}#0"})
        for name, node in nodes.items()
    }
    return Orders(7, made.snapshot.taken_at, 60.0, found)


def test_orders_in_force_are_kept_when_the_new_plan_is_no_better() -> None:
    made = asked(job("a", 4), job("c", 4))
    optimiser = Greedy()
    found = planner.planned(made, optimiser, LIMITS, in_force(made, a="n2", c="n1"))
    assert optimiser.starts[0] is not None
    assert {name: placement.workers[0].node for name, placement in found.placements.items()} == {"a": "n2", "c": "n1"}
    assert found.kept


def test_orders_in_force_give_way_to_a_better_plan() -> None:
    """The small job was ordered onto one node and another has come; only without it there is room for the whole gang."""
    made = asked(job("c", 1), job("gang", 4, 3))
    found = planner.planned(made, Greedy(), LIMITS, in_force(made, c="n0"))
    assert set(found.placements) == {"gang"}
    assert not found.kept


def test_orders_for_another_identity_or_node_are_not_started_from() -> None:
    made = asked(job("a", 4))
    orders = in_force(made, a="n2")
    changed = replace(orders, orders={"a": replace(orders.orders["a"], identity="another")})
    assert planner.started_from(made, changed) is None
    gone = replace(orders, orders={"a": replace(orders.orders["a"], seats=(Seat("gone", (0, 1, 2, 3)),))})
    assert planner.started_from(made, gone) is None


def test_orders_say_where_and_why() -> None:
    made = asked(job("a", 4), job("big", 4, 4), job("huge", 99))
    found = planner.planned(made, Greedy(), LIMITS)
    orders = planner.orders(
        made, replace(found, bound=found.objective, gap=0.0), 3, 50.0, 10.0, {"big": Wait("big", "x", "waiting for nodes")}
    )
    assert orders.orders["a"].node_versions == {orders.orders["a"].nodes[0]: f"{orders.orders['a'].nodes[0]}#0"}
    assert orders.orders["a"].why.startswith("starts on n")
    assert set(orders.waits) == {"big", "huge"}
    assert "largest node has 4" in orders.waits["huge"].why
    assert (orders.version, orders.made_at, orders.ttl_s) == (3, 50.0, 10.0)


# ---------------------------------------------------------------- a child process


@pytest.fixture(scope="module")
def local() -> Iterator[LocalOptimiser]:
    optimiser = LocalOptimiser(ChildPool(idle=1))
    yield optimiser
    optimiser.close()


def test_a_child_solves_with_a_bound_and_explanations(local: LocalOptimiser) -> None:
    made = asked(job("a", 4, priority=9), job("b", 2, 2, priority=9), job("big", 4, 3))
    found = planner.planned(made, local, Limits(time_limit_s=20.0))
    assert found.gap is not None
    assert found.gap <= 1e-3
    assert set(found.placements) == {"a", "b"}
    assert any(reason.subject == "big" and reason.code == "why_not" for reason in found.reasons)


def outcome(made: Asked, optimiser: LocalOptimiser, time_limit_s: float) -> str:
    try:
        planner.planned(made, optimiser, Limits(time_limit_s=time_limit_s))
    except NoPlanError as error:
        return error.trouble
    return "planned"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_child_that_is_killed_or_frozen_costs_a_plan_and_no_more(local: LocalOptimiser, number: signal.Signals) -> None:
    made = asked()
    pids = local.pids()
    os.kill(pids[0], number)  # the only one, and it waits
    assert outcome(made, local, 0.5) in ("planned", "late", "gone")  # a dead one is noticed and replaced at once
    assert planner.planned(made, local, Limits(time_limit_s=20.0)).placements
    assert pids[0] not in local.pids()


def test_a_child_that_is_killed_while_it_solves(local: LocalOptimiser) -> None:
    made = asked()
    local.solve(made.problem, LIMITS) if made.problem is not None else None
    pid = local.pids()[0]
    killer = threading.Timer(0.0, lambda: os.kill(pid, signal.SIGKILL))
    killer.start()
    assert outcome(made, local, 5.0) in ("planned", "late", "gone")
    killer.join()
    assert planner.planned(made, local, Limits(time_limit_s=20.0)).placements


# ---------------------------------------------------------------- a service


def service(answer: Callable[[httpx.Request], httpx.Response]) -> ServerOptimiser:
    return ServerOptimiser(Client("http://quartermaster.test", patience_s=0.0, transport=httpx.MockTransport(answer)))


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (httpx.Response(503, json={}), "gone"),
        (httpx.Response(500, text="oops"), "gone"),
        (httpx.Response(200, text="<html>hello"), "rubbish"),
        (httpx.Response(200, json={"id": 7}), "rubbish"),
        (httpx.Response(401, json={}), "rubbish"),
    ],
)
def test_a_service_that_answers_rubbish_is_no_plan(answer: httpx.Response, trouble: str) -> None:
    with pytest.raises(NoPlanError) as caught:
        planner.planned(asked(), service(lambda _: answer), LIMITS)
    assert caught.value.trouble == trouble


def test_a_service_that_is_away_is_no_plan() -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(NoPlanError) as caught:
        planner.planned(asked(), service(away), LIMITS)
    assert caught.value.trouble == "gone"

"""Why a job waits: each rule's sentence on a crafted cluster, and every claim held against brute force."""

from __future__ import annotations

import time
from itertools import combinations
from typing import Any

import pytest

from models.contract import Reason
from models.placement import explain as explaining
from models.placement.explain import alike, explain, repair_text, rule_units, subjects
from models.placement.explain_displace import displaced
from models.placement.explain_holders import Displaceable
from models.placement.explain_relax import Change, changes
from models.placement.explain_rest import Layout, Rest
from models.placement.explain_room import Room
from models.placement.heuristic import heuristic
from models.placement.schema import GoalName, Job, JobPlacement, Plan, Problem, Rule, Use, WorkerPlace
from models.placement.verify import verify
from models.vocabulary import Topology
from tests.models.placement_problems import job, node, plan, problem, tiny_problem
from tests.oracles.placement import _Cluster, _spots

RULES = {rule.value for rule in Rule} | {goal.value for goal in GoalName}


def told(one: Problem, done: Plan | None = None, subject: str | None = "j", code: str = "why_not") -> dict[str, Reason]:
    """The reasons of one code by rule."""
    return {reason.rule: reason for reason in explain(one, done or Plan(), subject) if reason.code == code}


# ---------------------------------------------------------------- each rule's sentence


def test_no_accepted_model() -> None:
    one = problem([node("n1"), node("n2")], [job("j", model_speeds={"v100": 1.0})])
    reason = told(one)["accepted_model"]
    assert reason.text == "0 of 2 nodes have an accepted model (v100)."
    assert reason.status == "proved"
    assert "Accepting the GPU model h100" in told(one, code="would_place")["accepted_model"].text


def test_free_gpus() -> None:
    one = problem([node("n1"), node("n2", 4)], [job("a", 2), job("b", 3), job("j", 2)])
    reason = told(one, plan(a="n1:0,1", b="n2:0,1,2"))["node_gpus"]
    expected = "None of the 2 nodes it may use has 2 free GPUs (the most is 1 GPU, on node n2), with the rest of the plan as it is."
    assert (reason.text, reason.status) == (expected, "proved")
    assert told(one, plan(a="n1:0,1", b="n2:0,1,2"), code="would_place")["node_gpus"].text == "1 more free GPU on node n2 would place it."


def test_free_gpus_without_free_cores() -> None:
    nodes = [node("n1", 8), node("n2", 8), node("n3", 1)]
    one = problem(nodes, [job("a", 0, cpu_cores=6), job("b", 0, cpu_cores=4), job("j", 8, cpu_cores=5)])
    done = plan(a="n1", b="n2")
    reason = told(one, done)["node_cpu"]
    assert reason.text.startswith("None of the 2 nodes it may use with 8 free GPUs has 5 free CPU cores (the most is 4 cores, on node n2)")
    assert told(one, done, code="would_place")["node_cpu"].text == "1 more free CPU core on node n2 would place it."


def test_memory_and_memory_of_gpus() -> None:
    one = problem([node("n1", gpu_memory_gib=16)], [job("a", 0, memory_gib=60), job("j", memory_gib=8)])
    assert "8 GiB of free memory" in told(one, plan(a="n1"))["node_memory"].text
    assert told(one, plan(a="n1"), code="would_place")["node_memory"].text == "4 more GiB of free memory on node n1 would place it."
    small = problem([node("n1", gpu_memory_gib=16)], [job("j", gpu_memory_gib=20)])
    reason = told(small)["gpu_memory"]
    assert "has GPUs of 20 GiB (the most is 16 GiB, on node n1), even with nothing else in the cluster" in reason.text
    assert told(small, code="would_place")["gpu_memory"].text == "4 GiB more memory on each GPU of node n1 would place it."


def test_shares() -> None:
    one = problem([node("n1")], [job("a", 0.6), job("b", 0.7), job("j", 0.5)])
    done = plan(a="n1:0", b="n1:1")
    reason = told(one, done)["gpu_share"]
    assert "None of the 1 node it may use has a free share of 0.5 on one GPU (the most is 0.4 GPUs, on node n1)" in reason.text
    assert told(one, done, code="displaces")["placed_value"].ids in {("a",), ("b",)}


def test_quota() -> None:
    one = problem([node("n1", 16)], [job("a", 4, tenant="t"), job("j", 8, tenant="t")], tenants=[{"id": "t", "quota_gpus": 10}])
    reason = told(one, plan(a="n1:0,1,2,3"))["tenant_quota"]
    assert reason.text == "Tenant t has 6 of its 10 quota GPUs left, and the job needs 8, with the rest of the plan as it is."
    assert told(one, plan(a="n1:0,1,2,3"), code="would_place")["tenant_quota"].text == "Raising tenant t's quota by 2 GPUs would place it."
    alone = problem([node("n1", 16)], [job("j", 8, tenant="t")], tenants=[{"id": "t", "quota_gpus": 4}])
    assert told(alone)["tenant_quota"].text.endswith("even with nothing else in the cluster.")


def test_a_gang() -> None:
    one = problem([node("n1", 4), node("n2", 4)], [job("a", 3), job("j", 1, workers=8)])
    reason = told(one, plan(a="n1:0,1,2"))["node_gpus"]
    assert reason.text.startswith("On the 2 nodes it may use, only 5 of its 8 workers find 1 free GPU ")
    relaxed = told(one, plan(a="n1:0,1,2"), code="would_place")
    assert relaxed["gang"].text == "With 5 workers instead of 8 it would fit."
    assert relaxed["node_gpus"].text.startswith("3 more free GPUs ")


def test_colocation_and_spread() -> None:
    racks = [node(f"n{at}", 3, topology=Topology(rack=f"r{at // 2}")) for at in range(4)]
    one = problem(racks, [job("j", workers=8, colocate={"level": "rack"})])
    assert told(one)["colocation"].text == "The best rack has room for 6 of its 8 workers, even with nothing else in the cluster."
    assert "more than one rack" in told(one, code="would_place")["colocation"].text
    apart = problem(racks, [job("j", workers=8, spread={"level": "node", "max_workers": 1})])
    assert told(apart)["spread"].text.startswith("With at most 1 worker in one node there is room for 4 of its 8 workers")
    assert told(apart, code="would_place")["spread"].text.startswith("Allowing 2 instead of 1 of its workers in one node")
    nowhere = problem([node("n1")], [job("j", workers=2, colocate={"level": "rack"})])
    assert told(nowhere)["colocation"].text.startswith("0 of 1 node name a rack")


def test_anti_affinity_drains_reservations_labels() -> None:
    one = problem([node("n1")], [job("a"), job("j", anti_affinity={"jobs": ("a",)})])
    reason = told(one, plan(a="n1:0"))["anti_affinity"]
    assert reason.ids == ("j", "a")
    assert "are in no domain with a job that it must keep away from (a)" in reason.text
    assert told(one, plan(a="n1:0"), code="would_place")["anti_affinity"].text == "Letting it share a node with a would place it."
    assert told(one, plan(a="n1:0"), code="displaces")["placed_value"].ids == ("a",)
    drained = problem([node("n1", state="drained"), node("n2", state="cordoned")], [job("j")])
    assert told(drained)["drained"].text == "0 of 2 nodes are ready: the others are drained or cordoned."
    assert told(drained, code="would_place")["drained"].ids in {("n1",), ("n2",)}
    reserved = problem([node("n1", reserved_for="t")], [job("j")])
    assert told(reserved)["reserved"].ids == ("n1",)
    labelled = problem([node("n1", labels={"disk": "sata"})], [job("j", node_selector={"disk": "nvme"})])
    assert told(labelled)["node_selector"].text == "0 of 1 node carry the labels disk=nvme."


def test_the_power_cap() -> None:
    one = problem([node("n1", power_kw=2.0), node("n2", power_kw=3.0)], [job("a", 2), job("j")], power_cap_kw=3.5)
    done = plan(a="n1:0,1")
    reason = told(one, done)["power_cap"]
    assert reason.text.startswith("The power cap leaves 1.5 kW")
    assert told(one, done, code="would_place")["power_cap"].text == "Raising the power cap by 1.5 kW would place it."


def test_a_job_that_would_fit_is_told_honestly() -> None:
    reason = told(problem([node("n1")], [job("j")]))["placed_value"]
    assert (reason.status, reason.ids) == ("heuristic", ("n1",))
    assert "the search has simply left it out" in reason.text
    worthless = told(problem([node("n1")], [job("j", 0, priority=0)]))["placed_value"]
    assert "no goal of the problem gains" in worthless.text
    later = told(problem([node("n1")], [job("j")], goals=["nodes_powered", "placed_value"]))["nodes_powered"]
    assert "may worsen nodes_powered" in later.text


def test_running_jobs_are_not_displaced_when_they_stay() -> None:
    one = problem([node("n1", 1)], [job("a", runs="n1:0"), job("j", priority=9)])
    assert told(one, plan(a="n1:0"), code="displaces") == {}
    repack = problem([node("n1", 1)], [job("a", runs="n1:0"), job("j", priority=9)], use="repack", max_evictions=1)
    assert told(repack, plan(a="n1:0"), code="displaces")["placed_value"].ids == ("a",)


# ---------------------------------------------------------------- the whole plan


def test_the_whole_plan() -> None:
    tenants = [{"id": "t", "quota_gpus": 2}]
    jobs = [job("a", 2, tenant="t"), *(job(f"j{at}", 1, tenant="t") for at in range(3)), job("k", 2, cpu_cores=6), job("m", 1, cpu_cores=1)]
    one = problem([node("n1", 4, cpu_cores=6), node("n2", 2, state="drained")], jobs, tenants=tenants)
    reasons = explain(one, plan(a="n1:0,1", k="n1:2,3"))
    by_code = {code: [reason for reason in reasons if reason.code == code] for code in ("summary", "binding", "why_not")}
    assert by_code["summary"][0].text == "The plan places 2 of 6 jobs on 4 of 4 GPUs (100.0%)."
    assert {reason.rule for reason in by_code["binding"]} == {"node_gpus", "tenant_quota", "drained"}
    assert {reason.subject for reason in by_code["why_not"]} == {"j0", "m"}
    assert by_code["why_not"][0].text.endswith("And 2 alike.")
    assert alike(one, plan(a="n1:0,1", k="n1:2,3")) == (("j0", "j1", "j2"), ("m",))


def test_stranded_gpus() -> None:
    one = problem([node("n1", 4, cpu_cores=4), node("n2", 1)], [job("a", 2, cpu_cores=4), job("b"), job("j", cpu_cores=2)])
    (reason,) = [one for one in explain(one, plan(a="n1:0,1", b="n2:0")) if one.code == "binding"]
    assert reason.text == "2 GPUs are idle: 2 of them on nodes with fewer free CPU cores than any waiting worker needs."
    assert (reason.rule, reason.ids) == ("node_cpu", ("n1",))


def test_idle_gpus_that_a_large_worker_can_have_are_not_called_too_small() -> None:
    """Two whole GPUs of n1 are within reach of a worker of two, the single one of n2 is not."""
    one = problem([node("n1", 2), node("n2", 1)], [job("j", 2, tenant="t")], tenants=[{"id": "t", "quota_gpus": 1}])
    (text,) = [reason.text for reason in explain(one, plan()) if reason.code == "binding" and reason.rule == "gpu_share"]
    assert text.startswith("3 GPUs are idle: 1 of them on GPUs that are shared, or on nodes with fewer whole GPUs free than")


def test_budgets_moves_and_evictions() -> None:
    jobs = [job("a", runs="n1:0"), job("b", runs="n2:0"), job("big", 2), job("c", runs="n3:0")]
    nodes = [node("n1"), node("n2"), node("n3", 1, state="drained"), node("n4", 1)]
    one = problem(nodes, jobs, use="repack", max_moves=1, max_evictions=1)
    done = plan(("c",), ("a",), b="n2:0", c="n4:0", big="n1:0,1")
    assert verify(one, done).ok
    reasons = {(reason.code, reason.rule): reason for reason in explain(one, done)}
    assert reasons["evicted", "evictable"].text == "Evicted from n1: its GPUs are now used by big."
    assert reasons["moved", "drained"].text == "Moved from n3 to n4: node n3 refuses it (drained)."
    assert ("binding", "move_budget") in reasons
    assert ("binding", "eviction_budget") in reasons
    assert {reason.code for reason in explain(one, done, "a")} >= {"evicted", "why_not"}


def test_a_preemption_explains_only_what_it_decides() -> None:
    jobs = [job("a", runs="n1:0", priority=1), job("vip", priority=5), job("w"), job("x")]
    one = problem([node("n1", 1)], jobs, use="preempt", preempt_for="vip")
    reasons = explain(one, plan((), ("a",), vip="n1:0"))
    (waits,) = [reason for reason in reasons if reason.code == "why_not"]
    assert waits.text == "This preemption is for vip alone: the plan does not decide about it. And 1 alike."
    assert any(reason.code == "evicted" and reason.ids == ("vip",) for reason in reasons)


def test_a_wrong_plan_and_an_unknown_subject() -> None:
    one = problem([node("n1", 1)], [job("a"), job("b")])
    (reason,) = explain(one, plan(a="n1:0", b="n1:0"))
    assert (reason.code, reason.rule) == ("summary", "node_gpus")
    for wrong in (plan(a="n9:0"), plan(z="n1:0"), plan(a="n1:1"), plan(a="n1:7")):
        (reason,) = explain(one, wrong)
        assert "The plan breaks rules" in reason.text
    with pytest.raises(KeyError, match="'zebra' is no job, node or tenant"):
        explain(one, Plan(), "zebra")


@pytest.mark.parametrize("use", list(Use))
def test_every_subject_can_be_explained_in_declared_words(use: Use) -> None:
    for seed in range(60):
        one = tiny_problem(seed, use)
        done = heuristic(one, 0, 1.0)
        if done is None:
            continue
        known = {each.id for each in one.nodes} | {each.id for each in one.jobs} | {each.id for each in one.tenants}
        for subject in (None, *subjects(one, done)):
            for reason in explain(one, done, subject):
                assert reason.rule in RULES
                assert set(reason.ids) <= known, reason
                assert reason.subject in known | {""}
                assert reason.status in {"proved", "heuristic"}


# ---------------------------------------------------------------- held against brute force


def additions(one: Problem, done: Plan, waiting: Job) -> Plan | None:
    """A right plan that adds the job to ``done``, by trying every place."""
    cluster = _Cluster(one.nodes)
    sizes = {each.id: each.gpus_per_worker for each in one.jobs}
    for placement in done.placements:
        cluster.use(tuple((worker.node, worker.gpus) for worker in placement.workers), sizes[placement.job])
    for count in range(waiting.workers_min or waiting.workers, waiting.workers + 1):
        for spots in _spots(waiting, count, 0, cluster):
            workers = tuple(WorkerPlace(node=name, gpus=gpus) for name, gpus in spots)
            wider = done.model_copy(update={"placements": (*done.placements, JobPlacement(job=waiting.id, workers=workers))})
            if verify(one, wider).ok:
                return wider
    return None


def left_out(one: Problem, done: Plan) -> list[Job]:
    placed = {placement.job for placement in done.placements}
    return [each for each in one.jobs if each.running is None and each.id not in placed]


def some_plans(one: Problem) -> list[Plan]:
    """The heuristic's plan, and the same with one new job less each: the job then fits."""
    done = heuristic(one, 0, 1.0)
    if done is None:
        return []
    running = {each.id for each in one.jobs if each.running is not None}
    new = [placement for placement in done.placements if placement.job not in running]
    fewer = [done.model_copy(update={"placements": tuple(each for each in done.placements if each is not gone)}) for gone in new]
    return [done, *fewer]


def cases(use: Use, seeds: range) -> list[tuple[Problem, Plan, Job, Room]]:
    found = []
    for seed in seeds:
        one = tiny_problem(seed, use)
        for done in some_plans(one):
            layout = Layout(one)
            rest = Rest(layout, done)
            found += [(one, done, each, Room.of(rest, layout.job_at[each.id])) for each in left_out(one, done)]
    return found


@pytest.mark.parametrize("use", [Use.place, Use.repack])
def test_no_room_is_never_contradicted_and_room_is_real(use: Use) -> None:
    refused = fitting = 0
    for one, done, waiting, room in cases(use, range(250)):
        possible = additions(one, done, waiting) is not None
        reasons = [reason for reason in explain(one, done, waiting.id) if reason.code == "why_not"]
        if room.impossible:
            refused += 1
            assert not possible, (waiting, reasons)
            assert reasons[0].rule in {rule.value for rule in Rule}
            assert {reason.status for reason in reasons} == {"proved"}
        elif room.fits is not None:
            fitting += 1
            assert possible, (waiting, reasons)
            assert "It would fit" in reasons[0].text
        else:
            assert reasons[0].status == "heuristic"
        if "even with nothing else" in reasons[0].text:
            everyone_gone = Problem.model_validate(
                one.model_dump() | {"jobs": [each | {"running": None} for each in one.model_dump()["jobs"]]}
            )
            assert additions(everyone_gone, Plan(), waiting) is None
    assert refused > 100
    assert fitting > 100


_FIELDS = {Rule.node_cpu: "cpu_cores", Rule.node_memory: "memory_gib", Rule.node_gpus: "gpus", Rule.gpu_share: "gpus"}
_FIELDS[Rule.gpu_memory] = "gpu_memory_gib"
_DROPPED: dict[Rule, dict[str, Any]] = {
    Rule.colocation: {"colocate": None},
    Rule.node_selector: {"node_selector": {}},
    Rule.drained: {"state": "ready"},
    Rule.reserved: {"reserved_for": None},
}


def applied(one: Problem, waiting: Job, change: Change) -> Problem:
    """The problem with the change made."""
    whole = one.model_dump()
    nodes, jobs = {each["id"]: each for each in whole["nodes"]}, {each["id"]: each for each in whole["jobs"]}
    mine, rule = jobs[waiting.id], change.rule
    if rule in _FIELDS:
        for name, more in zip(change.ids, change.amounts, strict=True):
            nodes[name][_FIELDS[rule]] += int(more) if _FIELDS[rule] == "gpus" else more
    elif rule in (Rule.drained, Rule.reserved):
        for name in change.ids:
            nodes[name] |= _DROPPED[rule]
    elif rule is Rule.anti_affinity:
        at_peace(jobs, waiting.id, change.ids)
    elif rule is Rule.accepted_model:
        mine["model_speeds"][change.model] = 1.0
    elif rule is Rule.gang:
        mine["workers_min"] = int(change.amounts[0])
    elif rule is Rule.spread:
        mine["spread"]["max_workers"] = int(change.amounts[0])
    elif rule is Rule.power_cap:
        whole["power_cap_kw"] += change.amounts[0]
    else:
        mine |= _DROPPED.get(rule, {})
    for tenant in whole["tenants"]:
        if tenant["id"] == waiting.tenant and tenant["quota_gpus"] is not None:
            tenant["quota_gpus"] += change.quota + (change.amounts[0] if rule is Rule.tenant_quota else 0.0)
    return Problem.model_validate(whole)


def at_peace(jobs: dict[str, dict[str, Any]], name: str, others: tuple[str, ...]) -> None:
    """No anti-affinity between the job and the others any more."""
    for each in jobs.values():
        if each["anti_affinity"] is not None:
            enemies = set(others) if each["id"] == name else {name} if each["id"] in others else set()
            kept = tuple(other for other in each["anti_affinity"]["jobs"] if other not in enemies)
            each["anti_affinity"] = each["anti_affinity"] | {"jobs": kept} if kept else None


@pytest.mark.parametrize("use", [Use.place, Use.repack])
def test_what_would_place_a_job_does(use: Use) -> None:
    seen = set()
    for one, done, waiting, room in cases(use, range(300)):
        for change in changes(room) if room.fits is None else ():
            wider = applied(one, waiting, change)
            changed_job = next(each for each in wider.jobs if each.id == waiting.id)
            assert additions(wider, done, changed_job) is not None, (waiting, change)
            seen.add(change.rule)
    assert seen >= {Rule.node_cpu, Rule.node_gpus, Rule.gpu_share, Rule.tenant_quota, Rule.gang, Rule.drained, Rule.reserved}


def test_no_smaller_addition_places_a_job_of_one_worker() -> None:
    """By a little less of the same resource on any one node it does not fit: the addition told is the smallest."""
    checked = 0
    for one, done, waiting, room in cases(Use.place, range(700)):
        if waiting.workers > 1 or room.fits is not None:
            continue
        for change in changes(room):
            if change.rule not in (Rule.node_cpu, Rule.node_memory) or change.quota:
                continue
            for each in one.nodes:
                less = Change(change.rule, (each.id,), (change.amounts[0] - 0.01,), "")
                checked += 1
                assert additions(applied(one, waiting, less), done, waiting) is None
    assert checked > 20


@pytest.mark.parametrize("use", [Use.place, Use.repack])
def test_whoever_is_displaced_makes_room_and_the_cheapest_are_the_cheapest(use: Use) -> None:
    proved = found = 0
    for one, done, waiting, room in cases(use, range(350)):
        others = Displaceable.of(room.rest, len(done.evicted))
        answer = displaced(room, others)
        if answer is None:
            continue
        found += 1
        assert additions(one, without(one, done, answer.places), waiting) is not None
        if answer.cheapest:
            proved += 1
            able = sorted({int(place) for place in others.job})
            for count in range(len(able) + 1):
                for places in combinations(able, count):
                    if others.total(places) < answer.worth - 1e-9 and others.within_budget(places):
                        assert additions(one, without(one, done, places), waiting) is None, (waiting, places, answer)
    assert found > 50
    assert proved > 20


def without(one: Problem, done: Plan, places: tuple[int, ...]) -> Plan:
    """The plan without some jobs; those that run are evicted."""
    gone = {one.jobs[place].id for place in places}
    evicted = tuple(each.id for each in one.jobs if each.running is not None and (each.id in gone or each.id in done.evicted))
    kept = tuple(each for each in done.placements if each.job not in gone)
    return done.model_copy(update={"placements": kept, "evicted": evicted, "moved": tuple(name for name in done.moved if name not in gone)})


def test_a_gang_displaces_few() -> None:
    nodes = [node(f"n{at}", 2, topology=Topology(rack=f"r{at // 2}")) for at in range(4)]
    small = [job(f"s{at}", 2, value=1.0 + at) for at in range(4)]
    one = problem(nodes, [*small, job("j", 2, workers=2, colocate={"level": "rack"})])
    done = plan(**{f"s{at}": f"n{at}:0,1" for at in range(4)})
    assert told(one, done, code="displaces")["placed_value"].ids == ("s0", "s1")


# ---------------------------------------------------------------- size


def test_a_large_plan_is_explained_at_once() -> None:
    sizes = [(gpus, cores, tenant) for gpus in (1, 2, 4, 8) for cores in range(1, 40) for tenant in ("t1", "t2")]
    nodes = [node(f"n{at}", 8, cpu_cores=64, memory_gib=512) for at in range(1000)]
    jobs = [job(f"j{at}", sizes[at % 312][0], cpu_cores=sizes[at % 312][1], tenant=sizes[at % 312][2]) for at in range(20_000)]
    one = problem(nodes, jobs)
    done = heuristic(one, 0, 20.0)
    assert done is not None
    begun = time.monotonic()
    reasons = explain(one, done)
    assert time.monotonic() - begun < 10.0  # well below 1 s on an idle machine
    assert sum(reason.code == "why_not" for reason in reasons) <= 2 * explaining.MOST_GROUPS
    groups = alike(one, done)
    assert sum(len(group) for group in groups) == len(left_out(one, done))
    if len(groups) > explaining.MOST_GROUPS:
        assert "further waiting jobs" in reasons[-1].text


# ---------------------------------------------------------------- repairs in words


def test_repairs_in_words() -> None:
    assert repair_text("node_gpus", ("n3",), 2.0) == "node n3: 2 GPUs short"
    assert repair_text("gpu_memory", ("n3", "1"), 4.0) == "GPU 1 of node n3: 4 GiB of memory short"
    assert repair_text("tenant_quota", ("a",), 4.0) == "quota of tenant a: 4 GPUs short"
    assert repair_text("evictable", ("j9",), 1.0) == "job j9 would have to be evicted, which it must not be"
    assert repair_text("drained", ("j9", "n1"), 1.0).startswith("running job j9 would have to leave node n1")
    assert repair_text("power_cap", (), 0.5) == "power cap: 0.5 kW short"
    assert repair_text("anti_affinity", ("a", "b", "r1"), 1.0) == "jobs a and b would have to share r1"
    assert set(rule_units()) == {rule.value for rule in Rule}
    for rule in Rule:
        for ids in ((), ("a",), ("a", "b"), ("a", "b", "c")):
            assert "{" not in repair_text(rule.value, ids, 1.0)

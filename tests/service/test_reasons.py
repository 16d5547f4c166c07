"""How reasons are put together for the command line and the report."""

from models.catalogue import kind
from models.contract import Reason
from models.placement.schema import Job
from optimizer.result import Conflict, Outcome
from service.reasons import causes
from service.report import render
from service.wording import by_rule, few, words
from tests.service.small_cluster import cluster, plan, planless, solved


def reason(subject: str, rule: str = "node_gpus", *, code: str = "why_not") -> Reason:
    return Reason(subject, code, rule, (), f"{subject} finds no place", "proved")


def test_those_alike_share_the_reasons_of_the_first() -> None:
    told = [reason("a"), reason("a", "tenant_quota"), reason("d", "tenant_quota"), reason("", code="summary"), reason("x", code="moved")]
    first, second, last = causes(told, [("a", "b", "c"), ("d",), ("e", "f")], others=["a", "b", "g"])
    assert (first.rule, first.status, first.size) == ("node_gpus", "proved", 3)
    assert [one.rule for one in first.members[0].reasons] == ["node_gpus", "tenant_quota"]
    assert (second.rule, second.size) == ("tenant_quota", 1)
    assert (last.rule, [member.ids for member in last.members]) == ("", [("e", "f"), ("g",)])


def test_without_a_hook_each_id_stands_for_itself() -> None:
    (cause,) = causes([reason("a"), reason("b")])
    assert [member.ids for member in cause.members] == [("a",), ("b",)]
    assert causes([]) == ()


def test_the_report_counts_those_alike() -> None:
    problem = cluster()
    more = tuple(Job(id=f"late-{number}", tenant="team-0", gpus_per_worker=8, cpu_cores=8, memory_gib=16) for number in range(30))
    problem = problem.model_copy(update={"jobs": (*problem.jobs, *more)})
    assert kind("placement").alike(problem, plan())[0] == ("late", *(job.id for job in more))
    page = render(problem, solved(problem, plan()))
    assert '<span class="amount">31</span>' in page
    assert "and 30 alike" in page
    assert "not explained one by one" not in page


def test_a_conflict_is_told_rule_by_rule() -> None:
    members = (*(("node_gpus", (f"n{number}",)) for number in range(50)), ("anti_affinity", ("a", "b")), ("power_cap", ()))
    assert [(rule, len(names)) for rule, names in by_rule(members)] == [("node_gpus", 50), ("anti_affinity", 1), ("power_cap", 0)]
    page = render(cluster(), planless(Outcome.infeasible, conflict=Conflict(members, ("node n1: 2 GPUs short",), "proved")))
    assert page.count("<strong>node GPUs</strong>") == 1
    assert "n0, n1" in page
    assert "and 10 more" in page


def test_names_and_words() -> None:
    assert words("allocated_gpus") == "allocated GPUs"
    assert words("power_cap") == "power cap"
    assert few(["a", "b"]) == "a, b"
    assert few([str(number) for number in range(14)], 2) == "0, 1 and 12 more"

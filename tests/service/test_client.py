"""Both clients against a real service: server, database, workers and children."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.placement.schema import Plan
from models.vocabulary import Document
from optimizer.study.schema import Study
from service.client import AsyncClient, Client, Conflict, Forbidden, Invalid, NotFound, ProgramFile, RunView, Unauthorized
from service.documents.problems import as_object
from service.keys import create_key
from service.runs.states import State
from tests.service.api.study_documents import document
from tests.service.live import Live, impossible, live, stubborn, warm_pool
from tests.service.small_cluster import cluster

MPS = b"NAME one\nROWS\n N cost\n L most\nCOLUMNS\n x cost -1 most 1\nRHS\n rhs most 4\nENDATA\n"
LP = b"maximize\n cost: x\nsubject to\n most: x <= 4\nend\n"
LIMITS = {"time_limit_s": 30.0, "seed": 3}
SOON_S = 30.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with warm_pool() as pool, live(tmp_path_factory.mktemp("service"), pool) as made:
        yield made


@pytest.fixture
def client(service: Live) -> Iterator[Client]:
    with Client(service.url) as made:
        yield made


def begun(client: Client, run: RunView) -> None:
    """Wait until the run has a plan."""
    for event in client.events(run.id):
        if event.type == "incumbent":
            return
        assert not event.is_last


def test_from_a_problem_to_all_that_is_known_of_its_plan(client: Client) -> None:
    run = client.solve("placement", cluster(), limits=LIMITS, priority=2)
    assert (run.state, run.outcome, run.verified, run.cached, run.priority) == (State.succeeded, "optimal", True, False, 2)
    assert (run.limits.time_limit_s, run.limits.seed) == (30.0, 3)
    assert run.objective == run.bound == pytest.approx(16.8)
    assert run.created_at <= (run.started_at or run.created_at) <= (run.finished_at or run.created_at)
    assert {place.job for place in Plan.model_validate(client.plan(run.id)).placements} >= {"gang", "late"}
    certificate = client.certificate(run.id)
    assert certificate.verified
    assert certificate.goals[0].name == "allocated_gpus"
    assert client.explanations(run.id)[0].code == "summary"
    assert [reason.subject for reason in client.explanations(run.id, "late")] == ["late"]
    assert client.sensitivity(run.id)["run"] == run.id
    metrics = client.metrics(run.id)
    assert metrics.metrics["allocated_gpus"] == pytest.approx(16.8)
    assert {"heuristic", "verify"} <= set(metrics.seconds_by_phase)
    trace = client.trace(run.id)
    assert (trace[-1].incumbent, trace[-1].gap) == (run.objective, run.gap)
    assert "node_gpus" in client.model_mps(run.id)
    with pytest.raises(NotFound, match="its views are: sharing"):
        client.view(run.id, "loads")
    assert "succeeded" in client.log(run.id)
    events = list(client.events(run.id))
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert (events[0].state, events[-1].state, events[-1].outcome) == (State.queued, State.succeeded, "optimal")
    assert {"incumbent", "bound"} <= {event.type for event in events}
    assert list(client.events(run.id, after=len(events) - 1)) == events[-1:]
    assert list(client.events(run.id, after=len(events))) == []
    assert client.run(run.id) == client.wait(run.id)


def test_a_study_from_its_document_to_its_table(client: Client) -> None:
    study = client.study(document(3), priority=-20)
    ended = study.wait()
    assert ended.conclusions is not None
    assert (ended.state, ended.ended, ended.scenarios, ended.runs, ended.priority) == ("finished", True, 4, 4, -20)
    assert (ended.conclusions.best, ended.conclusions.answered) == ("baseline", 4)
    table = study.table()
    assert [line.row.goals[0].objective for line in table.rows if line.row] == pytest.approx([50.0, 1.0, 2.0, 3.0])
    assert client.run(table.rows[1].run).objective == pytest.approx(1.0)
    assert study.table_file("csv").startswith(b"scenario,")
    assert study.table_file("parquet")[:4] == b"PAR1"
    assert study.report().lower().startswith("<!doctype html>")
    assert "tornado" in study.charts()
    assert study.difference("most=1", "most=2")["finding"] == "better"
    assert study.difference("most=1", "most=2", "spend_usd")["name"] == "spend_usd"
    assert client.study_named(study.id).show() == study.show() == study.cancel() == ended
    assert study.id in [one.id for one in client.studies(page=1)]
    typed = Study.model_validate(document(3))
    assert client.study(typed, idempotency_key="typed").id == client.study(typed, idempotency_key="typed").id
    with pytest.raises(Invalid, match="reads no files"):
        client.study(document(base={"file": "base.json"}))
    with pytest.raises(NotFound):
        client.study_named("study_" + 24 * "0").show()


def test_a_study_that_is_waited_for_in_vain_and_cancelled(client: Client) -> None:
    body = document(1, kind="program", base={"problem": as_object(stubborn())}, axes=[], replicates=6, limits={"time_limit_s": 60})
    study = client.study(body)
    assert study.wait(timeout_s=1).state == "running"
    assert study.table().missing == 6
    study.cancel("discard")
    assert study.wait().state == "cancelled"


def test_a_study_may_be_awaited(service: Live) -> None:
    async def ask() -> None:
        async with AsyncClient(service.url) as client:
            study = await client.study(document(2, seed=5))
            ended = await study.wait()
            assert (ended.state, (await study.table()).missing) == ("finished", 0)
            assert study.id in [one.id async for one in client.studies()]
            assert (await study.difference("baseline", "most=1"))["finding"] == "worse"
            assert (await study.table_file("parquet"))[:4] == b"PAR1"
            assert await study.report()
            assert await study.charts()
            assert (await study.show()) == (await study.cancel()) == ended

    asyncio.run(ask())


def test_the_same_question_is_answered_at_once_unless_it_is_to_be_solved(client: Client) -> None:
    first = client.solve("placement", cluster(), limits=LIMITS)
    again = client.solve("placement", cluster(), limits=LIMITS)
    assert again.cached
    assert again.id != first.id
    assert not client.solve("placement", cluster(), limits=LIMITS, cache=False).cached
    started = client.solve("placement", cluster(), limits=LIMITS, warm_start_run=first.id)
    assert (started.warm_start_run, started.outcome) == (first.id, "optimal")


def test_one_key_makes_one_run(client: Client) -> None:
    first = client.submit("placement", cluster(), idempotency_key="one")
    assert client.submit("placement", cluster(), idempotency_key="one").id == first.id
    with pytest.raises(Conflict):
        client.submit("placement", cluster(), idempotency_key="one", priority=5)


def test_a_problem_without_a_plan_says_why(client: Client) -> None:
    run = client.solve("program", impossible(), limits=LIMITS)
    assert (run.outcome, run.has_plan, run.ended) == ("infeasible", False, True)
    conflict = client.conflict(run.id)
    assert "row" in {entry.rule for entry in conflict.rules}
    with pytest.raises(NotFound) as refused:
        client.plan(run.id)
    assert refused.value.code == "no_plan"


def test_problems_are_kept_changed_and_solved_by_their_ids(client: Client) -> None:
    kept = client.add_problem("placement", cluster())
    assert client.add_problem("placement", cluster()).id == kept.id
    assert (kept.kind, kept.parent) == ("placement", None)
    assert type(cluster()).model_validate(client.problem(kept.id).problem) == cluster()
    child = client.patch_problem(kept.id, {"jobs": []})
    assert child.parent == kept.id
    run = client.solve(problem_id=child.id, limits=LIMITS)
    assert (run.problem_id, run.kind, run.objective) == (child.id, "placement", 0.0)
    validity = client.validate("placement", cluster())
    assert (validity.valid, validity.problem_id, validity.errors) == (True, kept.id, ())
    wrong = client.validate("placement", {"nodes": [{"id": "n0", "gpus": -1}]})
    assert not wrong.valid
    assert "/nodes/0/gpus" in {error.pointer for error in wrong.errors}
    with pytest.raises(Invalid) as refused:
        client.solve("placement", {"nodes": "many"})
    assert refused.value.errors[0].pointer == "/problem/nodes"


@pytest.mark.parametrize("file", [ProgramFile(MPS, "mps"), ProgramFile(LP, "lp")], ids=["mps", "lp"])
def test_programs_are_taken_as_files(client: Client, tmp_path: Path, file: ProgramFile) -> None:
    path = tmp_path / f"one.{file.format}.gz"
    path.write_bytes(file.packed)
    run = client.solve("program", ProgramFile.read(path), limits=LIMITS)
    assert (run.kind, run.outcome, abs(run.objective or 0.0)) == ("program", "optimal", 4.0)
    assert client.plan(run.id)["values"] == [4.0]
    assert client.add_problem("program", file).id == client.validate("program", file).problem_id == run.problem_id
    assert not client.validate("program", ProgramFile(b"lorem ipsum", file.format)).valid


def test_kinds(client: Client) -> None:
    assert {"placement", "program"} <= {kind.kind for kind in client.kinds()}
    shown = client.kind("placement")
    assert "jobs" in shown.schemas.problem["properties"]
    assert shown.page.startswith("# ")
    assert list(shown.examples) == ["place", "repack", "preempt"]
    assert shown.examples["place"] == shown.example
    for one in shown.examples.values():
        assert client.validate("placement", one.problem).valid
    with pytest.raises(NotFound, match="no kind"):
        client.kind("nothing")


@pytest.mark.parametrize(("mode", "has_plan"), [("keep_best", True), ("discard", False)])
def test_a_run_is_cancelled_with_or_without_its_plan(client: Client, mode: str, has_plan: bool) -> None:
    run = client.submit("program", stubborn(), limits={"time_limit_s": 60.0}, cache=False)
    begun(client, run)
    with pytest.raises(Conflict) as early:
        client.plan(run.id)
    assert early.value.code == "not_finished"
    client.cancel(run.id, mode)
    ended = client.wait(run.id, SOON_S)
    assert (ended.state, ended.stop_reason, ended.has_plan) == (State.cancelled, "cancelled", has_plan)
    assert client.cancel(run.id).state is State.cancelled


def test_a_wait_that_is_too_short_returns_the_run_as_it_is(client: Client) -> None:
    run = client.solve("program", stubborn(), limits={"time_limit_s": 60.0}, timeout_s=1.0, cache=False)
    assert not run.ended
    assert not client.wait(run.id, 0.0).ended
    client.cancel(run.id, "discard")


def test_runs_are_listed_by_page_state_and_kind(client: Client) -> None:
    ids = [client.solve("placement", cluster(), limits=LIMITS).id for _ in range(3)]
    listed = client.runs(kind="placement", state="succeeded", page=2)
    assert [next(listed).id for _ in range(3)] == ids[::-1]
    assert {run.kind for run in client.runs(kind="program")} <= {"program"}
    with pytest.raises(ValueError, match="State"):
        next(client.runs(state="asleep"))


def test_the_awaited_client_does_many_things_at_once(service: Live) -> None:
    async def many() -> tuple[list[RunView], list[int]]:
        async with AsyncClient(service.url) as client:
            solves = [client.solve("placement", cluster(tenants=1 + place % 3), limits={"seed": place}) for place in range(8)]
            runs = await asyncio.gather(*solves)
            numbers = [event.number async for event in client.events(runs[0].id)]
            assert [run.id async for run in client.runs(page=3)][:1]
            assert (await client.certificate(runs[0].id)).verified
            with pytest.raises(NotFound):
                await client.run("run_" + "0" * 24)
            return runs, numbers

    runs, numbers = asyncio.run(many())
    assert {run.outcome for run in runs} == {"optimal"}
    assert len({run.id for run in runs}) == 8
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_restart_of_the_service_is_not_noticed(tmp_path: Path) -> None:
    with warm_pool(1) as pool, live(tmp_path, pool, slots=1, drain_s=0.1) as service, Client(service.url) as client:
        run = client.submit("program", stubborn(), limits={"time_limit_s": 4.0})
        numbers: list[int] = []
        ended: list[RunView] = []
        followers = [
            threading.Thread(target=lambda: numbers.extend(event.number for event in client.events(run.id))),
            threading.Thread(target=lambda: ended.append(client.wait(run.id))),
        ]
        for follower in followers:
            follower.start()
        begun(client, run)
        service.stop()
        time.sleep(0.3)
        service.start()
        for follower in followers:
            follower.join(60)
            assert not follower.is_alive()
    assert [(one.ended, one.has_plan, one.attempt) for one in ended] == [(True, True, 2)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_keys_and_their_scopes(tmp_path: Path) -> None:
    with warm_pool(1) as pool, live(tmp_path, pool, require_keys=True) as service:
        problem: Document = cluster()
        with Client(service.url) as nobody, pytest.raises(Unauthorized) as refused:
            nobody.kinds()
        assert refused.value.code == "key_required"
        text = service.database.write(lambda connection: create_key(connection, "team", ["read"]))
        with Client(service.url, text) as reader:
            assert reader.kinds()
            with pytest.raises(Forbidden):
                reader.solve("placement", problem)

"""``--server`` and ``quartermaster runs``: what is printed, written and exited with is what it would be without a service."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.cli import remote
from service.client import Client, blocking, exchange
from service.runs.states import State
from tests.service.live import Live, impossible, live, stubborn, warm_pool
from tests.service.scripted import ID, URL, Script, event, events, found, html, problem
from tests.service.small_cluster import cluster
from tests.service.test_cli import JSON_KEYS, loads_strictly, run

CASES = {
    "optimal": ("placement", cluster(), 0),
    "infeasible": ("program", impossible(), 3),
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with warm_pool() as pool, live(tmp_path_factory.mktemp("service"), pool) as made:
        yield made


@pytest.fixture
def client(service: Live) -> Iterator[Client]:
    with Client(service.url) as made:
        yield made


@pytest.fixture
def problem_file(tmp_path: Path) -> Path:
    path = tmp_path / "problem.json"
    path.write_text(cluster().model_dump_json(), encoding="utf-8")
    return path


def without_times(text: str) -> list[str]:
    """The lines of what is printed, but for the length of times."""
    lines = [re.sub(r"\d+\.\d\d s\b", "T s", line) for line in text.splitlines()]
    return [re.sub(r"\d+\.\d\d\b", "T", line) if line.startswith("Seconds") else line for line in lines]


# ---------------------------------------------------------------- the same as here


@pytest.mark.parametrize("case", CASES)
def test_tables_files_and_codes_are_the_same(
    service: Live, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    monkeypatch.setattr("service.cli.output.SHORTEST_S", 0.0)  # every phase is told, however quick it was
    kind, content, code = CASES[case]
    path, out, report = tmp_path / "problem.json", tmp_path / "plan.json", tmp_path / "report.html"
    path.write_text(content.model_dump_json(), encoding="utf-8")
    told = []
    for more in ((), ("--server", service.url)):
        assert run("solve", kind, path, "--time-limit", 20, "--seed", 1, "--out", out, "--report", report, *more) == code
        written = out.read_text(encoding="utf-8") if out.exists() else ""
        told.append((without_times(capsys.readouterr().out), written))
        assert report.read_text(encoding="utf-8").startswith("<!doctype html>")
        out.unlink(missing_ok=True)
    here, there = told
    assert here == there
    assert [line for line in here[0] if line.startswith("Seconds   ")]
    assert bool(here[1]) == (code == 0)


def test_a_cached_answer_has_the_times_and_the_chart_of_the_first(
    service: Live, client: Client, problem_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told, pages = [], []
    for name in ("first.html", "second.html"):
        at = ("--seed", 99, "--report", tmp_path / name, "--server", service.url)
        assert run("solve", "placement", problem_file, *at) == 0
        told.append(capsys.readouterr().out.replace(name, ""))
        pages.append((tmp_path / name).read_text(encoding="utf-8"))
    assert next(client.runs()).cached
    assert told[0] == told[1]
    assert pages[0] == pages[1]
    assert '<svg class="chart"' in pages[0]


@pytest.mark.parametrize("case", CASES)
def test_json_is_the_same(service: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    kind, content, code = CASES[case]
    path = tmp_path / "problem.json"
    path.write_text(content.model_dump_json(), encoding="utf-8")
    told, errors = [], []
    for more in ((), ("--server", service.url)):
        assert run("solve", kind, path, "--json", "--time-limit", 20, *more) == code
        shown = capsys.readouterr()
        errors.append(shown.err)
        told.append(loads_strictly(shown.out))
        assert list(told[-1]) == JSON_KEYS
        assert told[-1].pop("seconds") >= 0
    assert told[0] == told[1]
    assert errors[1].startswith("quartermaster: run_")
    assert re.sub(r"quartermaster: run_[0-9a-f]{24} on http://\S+\n", "", errors[1]) == errors[0]


def test_kinds_schemas_and_examples_are_the_same(
    service: Live, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    named = [("example", kind, name) for kind, name in (("placement", "repack"), ("placement", "preempt"), ("program", "mip"))]
    usual = [(command, kind) for command in ("schema", "example") for kind in ("placement", "program")]
    for command in (("kinds",), *usual, *named):
        assert run(*command) == 0
        here = capsys.readouterr().out
        with monkeypatch.context() as environment:
            environment.setenv("QUARTERMASTER_SERVER", service.url)
            assert run(*command) == 0
        assert capsys.readouterr().out == here
    for more in ((), ("--server", service.url)):
        assert run("example", "program", "nlp", *more) == 2
        assert "no example called 'nlp'; its examples are: lp, mip" in capsys.readouterr().err
    assert run("schema", "nothing", "--server", service.url) == 2
    assert "no kind 'nothing'" in capsys.readouterr().err


def test_verify_and_explain_take_a_run_for_its_plan(
    service: Live, client: Client, problem_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    solved = client.solve("placement", cluster(), limits={"time_limit_s": 20.0})
    at = ("--server", service.url)
    assert run("verify", "placement", problem_file, solved.id, *at) == 0
    assert "keeps every rule" in capsys.readouterr().out
    plan = tmp_path / "plan.json"
    assert run("runs", "plan", solved.id, "--out", plan, *at) == 0
    for more in ((), ("--subject", "late")):
        assert run("explain", "placement", problem_file, solved.id, *more, *at) == 0
        there = capsys.readouterr().out
        assert run("explain", "placement", problem_file, plan, *more, *at) == 0
        assert capsys.readouterr().out == there.removeprefix(f"plan: {plan}\n")
    assert run("explain", "placement", problem_file, solved.id, "--subject", "lat", *at) == 2
    assert "did you mean 'late'" in capsys.readouterr().err
    assert run("explain", "placement", problem_file, solved.id) == 2
    assert "is a run of a service" in capsys.readouterr().err
    other = tmp_path / "other.json"
    other.write_text(cluster(tenants=2).model_dump_json(), encoding="utf-8")
    assert run("verify", "placement", other, solved.id, *at) == 2
    assert "a run of another problem" in capsys.readouterr().err


def test_a_warm_start_is_the_run_that_has_the_plan(
    service: Live, client: Client, problem_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = client.solve("placement", cluster(), limits={"time_limit_s": 20.0})
    at = ("--server", service.url)
    assert run("solve", "placement", problem_file, "--warm-start", first.id, "--report", tmp_path / "r.html", *at) == 0
    newest = next(client.runs())
    assert newest.warm_start_run == first.id
    assert run("solve", "placement", problem_file, "--warm-start", problem_file, *at) == 2
    assert "give the run's id" in capsys.readouterr().err
    assert run("solve", "placement", problem_file, "--warm-start", first.id) == 2
    assert "--server" in capsys.readouterr().err


def test_the_service_chooses_what_is_not_asked_for(
    service: Live, client: Client, problem_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("solve", "placement", problem_file, "--gap", 0.25, "--server", service.url) == 0
    newest = next(client.runs())
    assert (newest.limits.gap, newest.limits.threads, newest.limits.time_limit_s) == (0.25, 1, 60.0)
    assert run("solve", "placement", problem_file, "--threads", 64, "--server", service.url) == 2
    assert "--threads: must be at most 2 here, not 64" in capsys.readouterr().err


def test_the_progress_bar_is_fed_by_events(
    service: Live, monkeypatch: pytest.MonkeyPatch, problem_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    assert run("solve", "placement", problem_file, "--seed", 77, "--server", service.url) == 0
    assert "incumbent 16.8" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)


# ---------------------------------------------------------------- Ctrl-C


def interrupt_once_begun(client: Client, done: list[str]) -> None:
    """Ctrl-C, once the newest run has a plan."""
    for _ in range(1_000):
        newest = next(client.runs(kind="program", state=State.solving), None)
        if newest is not None and newest.objective is not None:
            done.append(newest.id)
            os.kill(os.getpid(), signal.SIGINT)
            return
        threading.Event().wait(0.02)


def test_ctrl_c_cancels_the_run_and_keeps_its_plan(
    service: Live, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "problem.json", tmp_path / "plan.json"
    path.write_text(stubborn().model_dump_json(), encoding="utf-8")
    ids: list[str] = []
    helper = threading.Thread(target=interrupt_once_begun, args=(client, ids))
    helper.start()
    assert run("solve", "program", path, "--time-limit", 60, "--json", "--out", out, "--server", service.url) == 0
    helper.join()
    shown = capsys.readouterr()
    assert loads_strictly(shown.out)["stop_reason"] == "cancelled"
    assert "the best plan so far is kept" in shown.err
    assert client.run(ids[0]).state is State.cancelled
    assert json.loads(out.read_text(encoding="utf-8")) == client.plan(ids[0])


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Script]]:
    """Has the command line talk to a script; what it leaves behind when it is interrupted has ended when the test has."""

    def install(*answers: Any) -> Script:
        script = Script(*answers)
        monkeypatch.setattr("service.client.Client", partial(Client, transport=script))
        return script

    yield install
    for thread in threading.enumerate():
        if thread.name == "canceller":
            thread.join()


def test_a_second_ctrl_c_discards_the_run(scripted: Callable[..., Script], problem_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_: httpx.Request) -> httpx.Response:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not reached")

    def service(request: httpx.Request) -> httpx.Response:
        return interrupted(request) if request.url.path.endswith("/events") else found("solving")

    script = scripted(service)
    assert run("solve", "placement", problem_file, "--server", URL) == 130
    assert f"/v1/runs/{ID}:cancel?mode=discard" in {str(request.url).removeprefix(URL) for request in script.requests}
    assert "stopped at once" in capsys.readouterr().err


def test_a_service_that_is_lost_does_not_lose_the_run(
    scripted: Callable[..., Script], monkeypatch: pytest.MonkeyPatch, problem_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(blocking, "sleep", lambda _: None)
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr(exchange, "monotonic", lambda: next(clock))
    script = scripted(found("solving"), httpx.ConnectError("[Errno 111] Connection refused"))
    assert run("solve", "placement", problem_file, "--server", URL) == 2
    shown = capsys.readouterr()
    assert f"{ID} may go on without us" in shown.err
    assert f"{URL} cannot be reached" in shown.err
    assert len(script.requests) > 1


def test_a_plan_that_breaks_rules_is_not_handed_out(
    scripted: Callable[..., Script], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "problem.json", tmp_path / "plan.json"
    path.write_text(impossible().model_dump_json(), encoding="utf-8")

    def service(request: httpx.Request) -> httpx.Response:
        match request.url.path.rpartition("/")[2]:
            case "events":
                return events(event(1, "succeeded"))
            case "plan":
                return httpx.Response(200, json={"schema_version": 1, "values": [1.0]})
            case "metrics" | "trace":
                return problem(404, "no_such_path")  # a service of an older version
            case _:
                return found(kind="program")

    scripted(service)
    assert run("solve", "program", path, "--out", out, "--server", URL) == 1
    shown = capsys.readouterr()
    assert f"the plan of {ID} breaks 1 rules" in shown.err
    assert "No plan was found" in shown.out
    assert not out.exists()


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (problem(401, "key_required"), 2, [URL, "set QUARTERMASTER_API_KEY"]),
        (problem(403), 2, [URL, "detail of a_code"]),
        (problem(422), 2, ["--gap: must be less than 1"]),
        (problem(503, retry_after="999"), 4, [URL, "detail of a_code"]),
        (problem(429, retry_after="999"), 4, [URL, "detail of a_code"]),
        (problem(500), 1, [URL, "request abc"]),
        (html(200), 2, ["--server", "a page of HTML ('Sign in')"]),
    ],
)
def test_failures_are_told_in_a_line(
    scripted: Callable[..., Script],
    problem_file: Path,
    capsys: pytest.CaptureFixture[str],
    answer: httpx.Response,
    code: int,
    words: list[str],
) -> None:
    scripted(answer)
    assert run("solve", "placement", problem_file, "--server", URL) == code
    shown = capsys.readouterr()
    assert not shown.out
    assert "Traceback" not in shown.err
    assert not [word for word in words if word not in shown.err], shown.err


def test_a_service_that_is_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(exchange, "NEVER_ANSWERED_S", 0.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        assert run("kinds", "--server", url) == 2
    assert f"--server: {url} cannot be reached (connection refused)" in capsys.readouterr().err


def test_what_is_no_address_and_no_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("kinds", "--server", "localhost:8080") == 2
    assert "--server: 'localhost:8080' is not the address of a service" in capsys.readouterr().err
    monkeypatch.setenv(remote.KEY_VARIABLE, "qm_ s3cret")
    assert run("kinds", "--server", URL) == 2
    shown = capsys.readouterr().err
    assert f"{remote.KEY_VARIABLE}: the API key is not" in shown
    assert "s3cret" not in shown
    assert run("runs", "list") == 2
    assert "QUARTERMASTER_SERVER" in capsys.readouterr().err
    assert run("runs", "show", "yesterday", "--server", URL) == 2


def test_the_key_of_the_environment_is_sent(
    scripted: Callable[..., Script], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(remote.KEY_VARIABLE, "qm_a_b")
    script = scripted(httpx.Response(200, json={"kinds": [{"kind": "flow", "summary": "Where traffic goes."}]}))
    assert run("kinds", "--server", URL) == 0
    assert script.requests[0].headers["authorization"] == "Bearer qm_a_b"
    assert capsys.readouterr().out.split() == ["flow", "Where", "traffic", "goes."]


# ---------------------------------------------------------------- runs


def test_runs_are_listed_shown_followed_and_cancelled(service: Live, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    at = ("--server", service.url)
    solved = client.solve("placement", cluster(), limits={"time_limit_s": 20.0, "seed": 5})
    assert run("runs", "list", "--limit", 1, *at) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 2
    for words in (solved.id, "placement", "succeeded", "optimal", "16.8"):
        assert words in shown
    assert run("runs", "list", "--json", "--kind", "placement", "--state", "succeeded", *at) == 0
    assert loads_strictly(capsys.readouterr().out)[0]["id"] == solved.id

    assert run("runs", "show", solved.id, *at) == 0
    shown = capsys.readouterr().out
    for words in (solved.problem_id, "time_limit_s 20", "Certificate: checked independently", "16.8"):
        assert words in shown
    assert run("runs", "show", solved.id, "--json", *at) == 0
    assert loads_strictly(capsys.readouterr().out)["outcome"] == "optimal"
    assert run("runs", "plan", solved.id, *at) == 0
    assert loads_strictly(capsys.readouterr().out) == client.plan(solved.id)

    assert run("runs", "events", solved.id, *at) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[-1] == "queued"
    assert "outcome=optimal" in lines[-1]
    assert run("runs", "events", solved.id, "--after", len(lines) - 1, "--json", *at) == 0
    assert loads_strictly(capsys.readouterr().out)["state"] == "succeeded"

    begun = client.submit("program", stubborn(), limits={"time_limit_s": 60.0}, cache=False)
    assert run("runs", "show", begun.id, *at) == 0
    assert "Certificate" not in capsys.readouterr().out
    assert run("runs", "cancel", begun.id, "--discard", *at) == 0
    assert client.wait(begun.id, 30.0).state is State.cancelled
    assert run("runs", "plan", begun.id, *at) == 2
    assert "has no plan" in capsys.readouterr().err

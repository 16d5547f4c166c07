"""Bad input: one clear message that names the place and the cure, exit code 2, no traceback, nothing written."""

import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optimizer.result import Result
from service.cli import files
from tests.service.small_cluster import cluster, fixed, install, plan, solved
from tests.service.test_cli import run

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture(autouse=True)
def no_solve(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Result:
        raise AssertionError("bad input reached the engine")

    install(monkeypatch, refuse)


def message_for(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What is told of a bad problem, after checking that nothing else happened."""
    before = set(tmp_path.iterdir())
    code = run("solve", "placement", path, "--out", tmp_path / "plan.json", "--report", tmp_path / "report.html")
    shown = capsys.readouterr()
    assert code == 2
    assert "Traceback" not in shown.err
    assert not shown.out
    assert set(tmp_path.iterdir()) == before
    assert len(shown.err.splitlines()) <= 4
    assert str(path) in shown.err
    return shown.err


def job(place: int, **changes: object) -> Edit:
    return lambda document: document["jobs"][place].update(changes)


def node(place: int, **changes: object) -> Edit:
    return lambda document: document["nodes"][place].update(changes)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (job(3, gpu_per_worker=2), ["/jobs/3/gpu_per_worker", "job 'late'", "did you mean 'gpus_per_worker'?"]),
        (job(3, colour="red"), ["/jobs/3/colour", "not a field of a job", "the fields are id,"]),
        (job(1, gpus_per_worker=-0.5), ["/jobs/1/gpus_per_worker", "job 'half'", "at least 0", "-0.5"]),
        (job(1, memory_gib=float("nan")), ["/jobs/1/memory_gib", "job 'half'", "finite", "NaN", "leave the field out"]),
        (node(2, gpus=10**9), ["/nodes/2/gpus", "node 'n2'", "at most 1024"]),
        (node(2, cpu_cores=1e300), ["/nodes/2/cpu_cores", "node 'n2'", "at most"]),
        (job(1, priority=10**30), ["/jobs/1/priority", "job 'half'", "at most"]),
        (job(1, priority=10**9, value=1e9), ["/jobs/1/value", "job 'half'", "smaller values"]),
        (node(2, cpu_cores=float("inf")), ["/nodes/2/cpu_cores", "node 'n2'", "finite", "infinity"]),
        (job(1, id="gang"), ["/jobs/1/id", "'gang'", "own id"]),
        (node(1, id="n0"), ["/nodes/1/id", "'n0'", "own id"]),
        (job(2, running={"workers": [{"node": "n9", "gpus": [0]}]}), ["/jobs/2/running/workers/0/node", "no node 'n9'"]),
        (job(0, anti_affinity={"jobs": ["nobody"]}), ["/jobs/0/anti_affinity/jobs/0", "no job 'nobody'"]),
        (job(0, workers=4), ["/jobs/0/workers", "job 'gang'", "32 GPUs", "whole cluster"]),
        (node(2, gpus=0), ["/nodes/2/gpus", "0 GPUs", "give it 1 or more"]),
        (node(2, gpus="4"), ["/nodes/2/gpus", "whole number", "without quotes"]),
        (job(0, id=7), ["/jobs/0/id", "must be text", "quotes"]),
        (job(0, tenant=""), ["/jobs/0/tenant", "at least one character"]),
        (lambda document: document["jobs"][0].pop("gpus_per_worker"), ["/jobs/0/gpus_per_worker", "is missing; add it"]),
        (lambda document: document.update(nodes=[]), ["/nodes", "at least 1 item"]),
        (lambda document: document.update(nodes={}), ["/nodes", "must be a list"]),
        (lambda document: document.update(use="replace"), ["/use", "'place'", "did you mean"]),
        (lambda document: document["jobs"].insert(0, 5), ["/jobs/0", "must be an object", "not 5"]),
        (lambda document: document.update(jobs=[1] * 9), ["/jobs/0", "and 6 more such mistakes"]),
    ],
)
def test_a_wrong_value(edit: Edit, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(cluster().model_dump_json(exclude_none=True))
    edit(document)
    path = tmp_path / "problem.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    told = message_for(path, tmp_path, capsys)
    assert not [word for word in words if word not in told], told


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.json", b'{"nodes": [\n  {"id": "n0",}\n]}', ["line 2, column", "not JSON"]),
        ("p.json", b'{"nodes": [', ["line 1, column", "EOF"]),
        ("p.json", b"", ["is empty"]),
        ("p.json", b"   \n ", ["is empty"]),
        ("p.json", b"hello", ["line 1", "'{'"]),
        ("p.json", b"[1, 2]", ["one JSON object"]),
        ("p.json", gzip.compress(b"{}"), ["gzip", "decompress"]),
        ("p.json", b"\x00\x01\x02{", ["binary"]),
        ("p.json", b'{"a": "\xff\xfe"}', ["UTF-8"]),
        ("p.json", '{"nodes": []}'.encode("utf-16"), ["UTF-16"]),
        ("p.json", b'{"nodes": [{"id": "n0", "cpu_cores": 1, "memory_gib": 1}], "jobs": [], "jobs": []}', ["'jobs'", "twice"]),
        ("p.json", b"{" + b'"a":{' * 5000, ["not JSON"]),
        ("p.yaml", b"nodes: [\n  - {id: n0\n", ["line", "column", "not YAML"]),
        ("p.yaml", b"nodes: []\nnodes: []\n", ["line 2", "'nodes'", "twice"]),
        ("p.yaml", b"- 1\n- 2\n", ["must be an object"]),
        ("p.yaml", b"nodes: " + 50_000 * b"[", ["line 1", "nested"]),
        ("p.yaml", 50_000 * b"- ", ["line 1", "nested"]),
        ("p.yaml", b"nodes:\n- {id: n0, cpu_cores: .nan, memory_gib: 1}\n", ["/nodes/0/cpu_cores", "node 'n0'", "NaN"]),
        ("p.txt", b"lorem ipsum", ["must be an object"]),
    ],
)
def test_broken_text(name: str, content: bytes, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    told = message_for(path, tmp_path, capsys)
    assert not [word for word in words if word not in told], told


def test_a_list_with_one_wrong_item_is_not_too_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "problem.json"
    path.write_text('{"nodes": [{"id": "n0", "memory_gib": 1}], "jobs": []}', encoding="utf-8")
    told = message_for(path, tmp_path, capsys)
    assert "/nodes/0/cpu_cores (node 'n0'): is missing" in told
    assert "too short" not in told
    assert len(told.splitlines()) == 1


def test_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "problem.json").write_text("{}", encoding="utf-8")
    assert "did you mean" in message_for(tmp_path / "problems.json", tmp_path, capsys)
    assert "no such file" in message_for(tmp_path / "else" / "where.json", tmp_path, capsys)
    assert "is a folder" in message_for(tmp_path, tmp_path, capsys)


@pytest.mark.parametrize(
    ("name", "piece"),
    [
        ("zeros.json", b"\x00"),
        ("noise.json", os.urandom(4096)),
        ("letters.json", b"lorem ipsum "),
        ("letters.txt", b"lorem ipsum "),
        ("letters.yaml", b"- lorem ipsum\n"),
        ("objects.json", b'{"a": 1}, '),
        ("open.json", b'{"a":'),
        ("spaces.json", b"    "),
    ],
)
def test_200_mb_of_nonsense_is_refused_quickly(name: str, piece: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    block = piece * (2**20 // len(piece))
    with path.open("wb") as stream:
        for _ in range(200):
            stream.write(block)
    started = time.monotonic()
    message_for(path, tmp_path, capsys)
    assert time.monotonic() - started < 5
    path.unlink()


def test_millions_of_mistakes_are_not_collected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "problem.json"
    path.write_bytes(b'{"nodes": [' + b"1," * 3_000_000 + b"1]}")
    started = time.monotonic()
    assert "/nodes/0" in message_for(path, tmp_path, capsys)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("start", "words"),
    [(b'{"x": [', "/x: is not a field of a problem"), (b'{"jobs": [', "/jobs/0/gpus_per_worker: is missing")],
)
def test_much_of_the_wrong_thing_is_judged_by_its_start(start: bytes, words: str, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "problem.json"
    path.write_bytes(start + b'{"a": 1}, ' * 10_000_000 + b"{}]}")
    started = time.monotonic()
    assert words in message_for(path, tmp_path, capsys)
    assert time.monotonic() - started < 3
    path.unlink()


def test_the_place_is_right_in_a_large_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(cluster().model_dump_json(exclude_none=True))
    document["jobs"] = [{"id": f"j{place}", "gpus_per_worker": 1, "node_selector": {"zone": "x" * 100}} for place in range(9_000)]
    document["jobs"][7_777]["gpus_per_worker"] = -1
    path = tmp_path / "problem.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert path.stat().st_size > 2**20
    told = message_for(path, tmp_path, capsys)
    assert "/jobs/7777/gpus_per_worker (job 'j7777')" in told


def test_a_file_over_the_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(files, "LARGEST_FILE_BYTES", 2**20)
    path = tmp_path / "problem.json"
    path.write_bytes(b'{"nodes": [' + b" " * 2**20 + b"]}")
    assert "larger than 1 MiB" in message_for(path, tmp_path, capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["solve", "placment", "x.json"], ["no kind called 'placment'", "did you mean 'placement'?"]),
        (["solve", "placement", "{problem}", "--time-limit", "0"], ["--time-limit"]),
        (["solve", "placement", "{problem}", "--time-limit", "nan"], ["--time-limit"]),
        (["solve", "placement", "{problem}", "--gap", "7"], ["gap"]),
        (["solve", "placement", "{problem}", "--threads", "0"], ["threads"]),
        (["solve", "placement", "{problem}", "--out", "{folder}/none/plan.json"], ["--out", "no folder"]),
        (["solve", "placement", "{problem}", "--out", "{folder}"], ["--out", "is a folder"]),
        (["solve", "placement", "{problem}", "--report", "{problem}"], ["--report", "would overwrite"]),
        (["solve", "placement", "{problem}", "--out", "{folder}/a", "--report", "{folder}/a"], ["--report", "would overwrite"]),
        (["solve", "placement", "-", "--warm-start", "-"], ["standard input cannot be both"]),
        (["verify", "placement", "-", "-"], ["standard input cannot be both"]),
        (["solve", "placement", "{problem}", "--warm-start", "{problem}"], ["/use", "not a field of a plan"]),
        (["verify", "placement", "{problem}", "{problem}"], ["not a field of a plan"]),
        (["schema", "nothing"], ["no kind called 'nothing'"]),
    ],
)
def test_wrong_arguments(arguments: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problem = tmp_path / "problem.json"
    problem.write_text(cluster().model_dump_json(), encoding="utf-8")
    code = run(*(argument.format(problem=problem, folder=tmp_path) for argument in arguments))
    shown = capsys.readouterr()
    assert code == 2
    assert not shown.out
    assert "Traceback" not in shown.err
    assert not [word for word in words if word not in shown.err], shown.err
    assert list(tmp_path.iterdir()) == [problem]


def test_a_full_disk_leaves_no_half_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    install(monkeypatch, fixed(solved(cluster(), plan())))
    problem, out = tmp_path / "problem.json", tmp_path / "plan.json"
    problem.write_text(cluster().model_dump_json(), encoding="utf-8")
    out.write_text("the old plan", encoding="utf-8")
    monkeypatch.setattr(os, "fsync", full)
    assert run("solve", "placement", problem, "--out", out) == 2
    assert "no space left" in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == "the old plan"
    assert set(tmp_path.iterdir()) == {problem, out}

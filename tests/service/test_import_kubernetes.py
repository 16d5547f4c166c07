"""``import kubernetes`` on a synthetic cluster (``clusters/make_kubernetes.py``), from JSON, YAML and several files."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.placement.schema import Job, Problem
from models.placement.verify import verify
from service.cli import main
from service.cli.errors import Exit
from service.importers.kubernetes import fetched, latest_time, read_kubernetes
from service.plugins.kubernetes.connection import ApiAwayError, ApiRefusedError
from service.plugins.simulation.situation import as_they_run
from service.plugins.simulation.taken import taken
from tests.service.clusters.make_kubernetes import TAKEN, cluster

CLUSTER = Path(__file__).parent / "clusters" / "kubernetes" / "nodes-and-pods.json"
NOON = datetime.fromisoformat(TAKEN).timestamp()


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    return int(exit_info.value.code or 0)


def imported(tmp_path: Path, *files: str | Path, jobs: str = "all") -> Problem:
    out = tmp_path / "problem.json"
    assert run("import", "kubernetes", *map(str, files), "--jobs", jobs, "--out", str(out)) == Exit.plan
    return Problem.model_validate_json(out.read_text())


def job(problem: Problem, name: str) -> Job:
    return next(one for one in problem.jobs if one.id.endswith(f"/{name}"))


def test_the_saved_file_is_what_its_maker_makes() -> None:
    assert json.loads(CLUSTER.read_text()) == cluster()


def test_gpus_in_use_are_what_the_pods_ask_for(tmp_path: Path) -> None:
    problem = imported(tmp_path, CLUSTER)
    asked: dict[str, int] = {}
    for item in cluster()["items"]:
        if item["kind"] == "Pod" and "nodeName" in item["spec"]:
            gpus = int(item["spec"]["containers"][0]["resources"]["requests"].get("nvidia.com/gpu", 0))
            asked[item["spec"]["nodeName"]] = asked.get(item["spec"]["nodeName"], 0) + gpus
    held = dict.fromkeys((node.id for node in problem.nodes), 0)
    for one in problem.jobs:
        for worker in one.running.workers if one.running is not None else ():
            held[worker.node] += len(worker.gpus)
    assert held == {node.id: asked.get(node.id, 0) for node in problem.nodes}
    assert sum(held.values()) == 34
    assert verify(problem, as_they_run(problem.jobs)).ok


def test_nodes_have_what_is_allocatable_less_what_other_pods_take(tmp_path: Path) -> None:
    nodes = {node.id: node for node in imported(tmp_path, CLUSTER).nodes}
    assert (nodes["gpu-0"].cpu_cores, nodes["gpu-6"].cpu_cores) == (95.0, 35.0)  # 60 cores of a pod without GPUs
    assert (nodes["gpu-5"].state, nodes["gpu-7"].state, nodes["gpu-1"].state) == ("cordoned", "drained", "ready")
    assert (nodes["gpu-0"].gpu_model, nodes["gpu-0"].gpu_memory_gib) == ("NVIDIA-H100-80GB-HBM3", 80.0)
    assert (nodes["gpu-3"].topology.site, nodes["gpu-3"].topology.rack) == ("north", "r2")


def test_gangs_priorities_and_ends(tmp_path: Path) -> None:
    problem = imported(tmp_path, CLUSTER)
    assert (job(problem, "train").workers, job(problem, "next").workers, job(problem, "next").running) == (2, 2, None)
    order = [job(problem, name).priority for name in ("notebook", "small", "tune", "next", "train")]
    assert order == sorted(set(order))
    assert not job(problem, "train").running.evictable  # type: ignore[union-attr]  # (nobody would make its pods anew)
    assert job(problem, "tune").running.evictable  # type: ignore[union-attr]
    situation = taken(read_kubernetes([CLUSTER])).situation()
    assert situation.now == NOON
    assert situation.ends[job(problem, "train").id] == NOON + 3 * 3600  # 4 h from 11:00
    assert job(problem, "notebook").id not in situation.ends


def test_only_gated_pods_have_opted_in(tmp_path: Path) -> None:
    problem = imported(tmp_path, CLUSTER, jobs="opted-in")
    assert [one.id for one in problem.jobs if one.running is None] == ["team/podgroup/next"]


def test_yaml_and_several_files_say_the_same(tmp_path: Path) -> None:
    items = cluster()["items"]
    nodes = {"apiVersion": "v1", "kind": "NodeList", "items": [{k: v for k, v in one.items() if k != "kind"} for one in items[:8]]}
    (tmp_path / "nodes.yaml").write_text(yaml.safe_dump(nodes))
    (tmp_path / "pods.yml").write_text(yaml.safe_dump({"kind": "List", "items": items[8:]}))
    assert imported(tmp_path, tmp_path / "nodes.yaml", tmp_path / "pods.yml") == imported(tmp_path, CLUSTER)


def test_without_pods_there_is_still_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "nodes.json").write_text(json.dumps({"kind": "List", "items": cluster()["items"][:8]}))
    problem = imported(tmp_path, tmp_path / "nodes.json")
    assert (len(problem.nodes), problem.jobs) == (8, ())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ('{"items": [', "line 1"),
        ("items: [1, 2", "is neither JSON nor YAML"),
        ("just words", "holds no object of the API"),
        ('{"items": {"a": 1}}', "/items: there is no list of objects"),
        ('{"items": [1]}', "/items/0: is no object"),
        ('{"kind": "List", "items": []}', "lists no node"),
        ('{"kind": "List", "items": [{"kind": "Pod"}]}', "lists no node"),
        ('{"kind": "List", "items": [{"kind": "Node", "metadata": {"name": 7}}]}', "nothing can be planned with this snapshot"),
    ],
)
def test_a_broken_file_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, told: str) -> None:
    path = tmp_path / "cluster.json"
    path.write_text(text)
    assert run("import", "kubernetes", str(path), "--out", str(tmp_path / "p.json")) == Exit.bad_input
    said = capsys.readouterr().err
    assert str(path) in said
    assert told in said
    assert "Traceback" not in said
    assert not (tmp_path / "p.json").exists()


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("import", "kubernetes", str(tmp_path / "none.json"), "--out", str(tmp_path / "p.json")) == Exit.bad_input
    assert "none.json: cannot be read" in capsys.readouterr().err


def test_a_broken_pod_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = [*cluster()["items"], {"kind": "Pod", "metadata": {"name": "odd"}, "spec": {"containers": "none"}}]
    (tmp_path / "c.json").write_text(json.dumps({"items": items}))
    imported(tmp_path, tmp_path / "c.json")
    assert "quartermaster: warning: " in capsys.readouterr().err


def test_times_are_those_of_events_that_have_happened() -> None:
    pod: dict[str, Any] = {"metadata": {"creationTimestamp": "2026-03-02T12:00:05Z"}, "status": {"startTime": "nonsense", "conditions": 7}}
    assert latest_time([pod]) == datetime(2026, 3, 2, 12, 0, 5, tzinfo=UTC).timestamp()
    assert latest_time([{}]) == 0.0


class Served:
    """Stands in for a connection: lists in pages of three, and refuses what it does not have."""

    def __init__(self, refuses: tuple[int, str] = (404, "/apis/")) -> None:
        self.refuses = refuses

    def get(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        status, prefix = self.refuses
        if path.startswith(prefix):
            raise ApiRefusedError(status, "NotFound", "no such thing")
        kind = {"nodes": "Node", "pods": "Pod"}.get(path.rsplit("/", 1)[1], "none")
        items = [{k: v for k, v in one.items() if k != "kind"} for one in cluster()["items"] if one["kind"] == kind]
        start = int(query.get("continue", "0"))
        more = {"continue": str(start + 3)} if start + 3 < len(items) else {}
        return {"kind": f"{kind}List", "metadata": more, "items": items[start : start + 3]}


def test_a_live_cluster_is_read_page_by_page() -> None:
    live: Any = Served()
    found = fetched(live, NOON)
    assert (len(found.nodes), found.taken_at) == (8, NOON)
    assert {node.id for node in found.nodes} == {node.id for node in read_kubernetes([CLUSTER]).nodes}
    with pytest.raises(ApiRefusedError):
        fetched(Served((403, "/api/v1/pods")), NOON)  # type: ignore[arg-type]
    with pytest.raises(ApiRefusedError):
        fetched(Served((500, "/apis/batch")), NOON)  # type: ignore[arg-type]


def test_no_way_to_a_live_cluster_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from service.plugins.kubernetes.connection import Connection

    def away(*_: object, **__: object) -> Connection:
        raise ApiAwayError("the API server at https://none does not answer")

    monkeypatch.setattr(Connection, "opened", away)
    assert run("import", "kubernetes", "live", "--out", str(tmp_path / "p.json")) == Exit.bad_input
    assert "kubernetes: live: the API server at https://none does not answer" in capsys.readouterr().err

"""``import slurm`` on outputs recorded from a real Slurm 22.05.8: what the problem says is what Slurm itself says."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from models.placement.schema import Job, Problem
from models.placement.verify import verify
from optimizer.limits import Limits
from optimizer.solve import solve
from service.cli import main
from service.cli.errors import Exit
from service.importers.slurm import read_slurm
from service.plugins.simulation.situation import as_they_run
from service.plugins.simulation.taken import taken

CLUSTER = Path(__file__).parent / "clusters" / "slurm"
HOUR = 3600


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    return int(exit_info.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(CLUSTER, tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def problem(tmp_path: Path) -> Problem:
    assert run("import", "slurm", str(CLUSTER), "--out", str(tmp_path / "p.json")) == Exit.plan
    return Problem.model_validate_json((tmp_path / "p.json").read_text())


def jobs(problem: Problem) -> dict[str, Job]:
    """By the names that their user gave them; tasks of an array by their ids."""
    seen = {job.id: job.display.partition(" ")[0] for job in read_slurm(CLUSTER).jobs}
    return {(job.id if "_" in job.id else seen[job.id]): job for job in problem.jobs}


def test_gpus_and_those_in_use_are_what_scontrol_says_of_each_node(problem: Problem) -> None:
    """``gres_used.txt`` has of ``scontrol show node -d``: node, Gres, GresUsed with the indices."""
    nodes = {node.id: node for node in problem.nodes}
    used: dict[str, set[int]] = {name: set() for name in nodes}
    for job in problem.jobs:
        for worker in job.running.workers if job.running is not None else ():
            assert not used[worker.node].intersection(worker.gpus)
            used[worker.node].update(worker.gpus)
    lines = (CLUSTER / "gres_used.txt").read_text().splitlines()
    assert len(lines) == len(nodes) == 8
    for line in lines:
        name, has, holds = line.split()
        _, model, count = has.split(":")
        assert (nodes[name].gpu_model, nodes[name].gpus) == (model, int(count))
        found = re.search(r"IDX:([\d,-]+)", holds)
        indices: set[int] = set()
        for part in found[1].split(",") if found is not None else ():
            low, _, high = part.partition("-")
            indices.update(range(int(low), int(high or low) + 1))
        assert used[name] == indices


def test_states_sizes_and_places_of_nodes(problem: Problem) -> None:
    states = {node.id: node.state for node in problem.nodes}
    assert states == {f"gpu{k}": "ready" for k in (1, 2, 3, 4, 5, 7)} | {"gpu6": "cordoned", "gpu8": "drained"}
    assert {(node.cpu_cores, node.memory_gib) for node in problem.nodes} == {(64.0, 500.0)}
    assert [node.topology.rack for node in problem.nodes] == ["r1"] * 3 + ["r2"] * 3 + ["r3"] * 2


def test_jobs_ask_for_what_was_submitted(problem: Problem) -> None:
    found = jobs(problem)
    train, waits = found["train"], found["next"]
    assert (train.workers, train.gpus_per_worker, train.cpu_cores, train.memory_gib) == (2, 8, 8, 64)
    assert list(train.model_speeds) == ["h100"]  # of a running job too: it may be asked to move
    assert not found["tune"].model_speeds
    assert (waits.workers, waits.running) == (2, None)
    partition = {node.id for node in problem.nodes if all(node.labels.get(k) == v for k, v in waits.node_selector.items())}
    assert partition == {f"gpu{k}" for k in range(1, 7)}
    assert {name for name in found if "_" in name} == {f"{found_array(found)}_{task}" for task in (1, 2)}
    assert "held" not in found  # a person holds it


def found_array(found: dict[str, Job]) -> str:
    return next(name.partition("_")[0] for name in found if "_" in name)


def test_priorities_keep_their_order_and_requeue_says_who_may_be_stopped(problem: Problem) -> None:
    found = jobs(problem)
    order = [found[name].priority for name in ("train", "tune", "batch-a", "notebook", "batch-b", "batch-c", "next", "ours")]
    assert order == sorted(order, reverse=True)
    assert len(set(order)) == len(order)
    evictable = {name: job.running.evictable for name, job in found.items() if job.running is not None}
    assert [name for name, may in evictable.items() if not may] == ["notebook"]


def test_ends_are_starts_plus_time_limits() -> None:
    snapshot = read_slurm(CLUSTER)
    situation = taken(snapshot).situation()
    started = {job.id: job.started_at for job in snapshot.jobs}
    names = {name.partition(" ")[0]: job for job, name in situation.names.items()}
    hours = {"train": 4, "tune": 2, "batch-a": 3, "batch-b": 6, "batch-c": 1}
    assert {name: situation.ends[names[name]] - (started[names[name]] or 0) for name in hours} == {k: v * HOUR for k, v in hours.items()}
    assert names["notebook"] not in situation.ends


def test_jobs_of_one_name_are_told_apart() -> None:
    names = taken(read_slurm(CLUSTER)).situation().names
    tasks = sorted(name for job, name in names.items() if "_" in job)
    assert tasks == ["array (19) (19_1)", "array (19) (19_2)"]
    assert len(set(names.values())) == len(names)


def test_only_jobs_that_opted_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("import", "slurm", str(CLUSTER), "--jobs", "opted-in", "--out", str(tmp_path / "p.json")) == Exit.plan
    problem = Problem.model_validate_json((tmp_path / "p.json").read_text())
    assert [job.workers for job in problem.jobs if job.running is None] == [4]
    assert capsys.readouterr().out.endswith(
        "8 nodes with 64 GPUs, 30 of them not in use (8 on drained nodes); 6 running and 1 waiting jobs\n"
    )


def test_the_problem_is_right_as_it_runs_and_solves(problem: Problem) -> None:
    assert verify(problem, as_they_run(problem.jobs)).ok
    result = solve(problem, Limits(time_limit_s=5), isolate=False)
    assert result.plan is not None
    placed = {placement.job for placement in result.plan.placements}  # type: ignore[attr-defined]
    assert placed == {job.id for job in problem.jobs if job.running is not None}  # 6 GPUs of two free h100 nodes: none


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("squeue.json", None, "there is no such file"),
        ("squeue.json", '{"jobs": [', "is no JSON"),
        ("squeue.json", "[]", "no object"),
        ("squeue.json", "{}", "/jobs: there is no list of jobs"),
        ("sinfo.json", '{"nodes": []}', "/nodes: no node is listed"),
        ("sinfo.json", '{"nodes": [{"name": "x", "gres": "gpu:h100:8", "st', "is no JSON"),
    ],
)
def test_a_broken_folder_is_one_clear_error(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, text: str | None, told: str
) -> None:
    (folder / file).unlink()
    if text is not None:
        (folder / file).write_text(text)
    assert run("import", "slurm", str(folder), "--out", str(tmp_path / "p.json")) == Exit.bad_input
    said = capsys.readouterr().err
    assert said.startswith("quartermaster: ")
    assert file in said
    assert told in said
    assert "Traceback" not in said
    assert not (tmp_path / "p.json").exists()


def test_no_folder_and_no_slurm(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("import", "slurm", str(tmp_path / "none"), "--out", str(tmp_path / "p.json")) == Exit.bad_input
    assert "there is no such folder" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run("import", "slurm", "live", "--out", str(tmp_path / "p.json")) == Exit.bad_input
    assert "slurm: live: there is no scontrol on the PATH" in capsys.readouterr().err


def test_a_file_in_place_of_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("import", "slurm", str(CLUSTER / "squeue.json"), "--out", str(tmp_path / "p.json")) == Exit.bad_input
    assert "squeue.json: is a file; give the folder that it lies in" in capsys.readouterr().err


def test_odd_jobs_are_warnings(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = json.loads((folder / "squeue.json").read_text())
    waiting = next(job for job in raw["jobs"] if job["name"] == "next" and job["job_state"] == "PENDING")
    raw["jobs"] += [{**waiting, "job_id": 900, "node_count": 999, "max_nodes": 999}, "not a job", {}]
    (folder / "squeue.json").write_text(json.dumps(raw))
    assert run("import", "slurm", str(folder), "--out", str(tmp_path / "p.json")) == Exit.plan
    assert "warning: job next (900) is left out: it needs 7992 GPUs and the whole cluster has 64" in capsys.readouterr().err


def test_a_time_that_is_told_counts(folder: Path) -> None:
    assert read_slurm(folder, 17.0).taken_at == 17.0
    assert read_slurm(folder).taken_at == json.loads((folder / "snapshot.json").read_text())["taken_at"]

"""``quartermaster simulate``: what it prints, writes and refuses; the page's commands run."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from models.placement.schema import Job, Node, Plan, Problem, Running, WorkerPlace
from models.placement.verify import verify
from optimizer.result import Result
from optimizer.solve import solve
from service.cli import main
from service.cli.errors import Exit
from service.plugins.simulation import rooms
from service.plugins.simulation.sentences import duration, listed, many, moment, spans, where
from tests.conformance.documents import ROOT, fenced

CLUSTERS = Path(__file__).parent / "clusters"
SLURM, KUBERNETES = CLUSTERS / "slurm", CLUSTERS / "kubernetes" / "nodes-and-pods.json"
PAGE = ROOT / "service" / "plugins" / "simulation" / "README.md"
BIG = "gpus=16,per-node=8,model=H100,priority=600"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    return int(exit_info.value.code or 0)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run("simulate", *arguments, "--json") == Exit.plan
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    found["answers"] = {one["question"]: one for one in found["answers"]}
    return found


@pytest.fixture
def problem(tmp_path: Path) -> Path:
    """Two nodes of 8 GPUs: one full, one with 4 GPUs held."""
    nodes = tuple(Node(id=name, gpu_model="h100", gpus=8, cpu_cores=64, memory_gib=512) for name in ("a", "b"))
    jobs = tuple(
        Job(id=f"on-{node}", gpus_per_worker=gpus, running=Running(workers=(WorkerPlace(node=node, gpus=tuple(range(gpus))),), move_cost=5))
        for node, gpus in (("a", 8), ("b", 4))
    )
    path = tmp_path / "problem.json"
    path.write_text(Problem(nodes=nodes, jobs=jobs).model_dump_json())
    return path


# ---------------------------------------------------------------- answers


def test_a_gang_on_the_kubernetes_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """16 GPUs on two H100 nodes: the gang ``train`` ends at 15:00; three moves, or two evictions, make room before."""
    out = tmp_path / "plans"
    assert run("simulate", "--kubernetes", str(KUBERNETES), "--job", BIG, "--out", str(out)) == Exit.plan
    printed = capsys.readouterr().out
    assert printed.startswith("what-if does not start now: 2 workers of 8 GPUs each, on NVIDIA-H100-80GB-HBM3.\n")
    assert "2026-03-02 15:00 UTC" in printed
    assert "when team/train has ended" in printed
    found = told(capsys, "--kubernetes", str(KUBERNETES), "--job", BIG)["answers"]
    assert [found[name]["status"] for name in ("now", "later", "moves", "evictions")] == ["proved"] * 4
    assert (found["moves"]["amount"], found["moves"]["bound"]) == (3, 3)
    assert sorted(found["evictions"]["evicted"]) == ["team/pod/batch-b", "team/pod/tune"]
    for name in ("later", "moves", "evictions"):
        problem = Problem.model_validate_json((out / f"{name}.problem.json").read_text())
        assert verify(problem, Plan.model_validate_json((out / f"{name}.plan.json").read_text())).ok
        assert run("verify", "placement", str(out / f"{name}.problem.json"), str(out / f"{name}.plan.json")) == Exit.plan


def test_slurm_priorities_are_those_that_people_know(capsys: pytest.CaptureFixture[str]) -> None:
    """The lowest evictable job of two h100 nodes has 4,294,901,746; jobs of up to that priority cannot be evicted by an equal one."""
    found = told(capsys, "--slurm", str(SLURM), "--job", "gpus=8,per-node=8,model=h100,priority=4294901747")["answers"]
    assert found["evictions"]["evicted"] == ["15"]  # batch-b, of 4,294,901,746, alone on gpu5
    low = told(capsys, "--slurm", str(SLURM), "--job", "gpus=8,per-node=8,model=h100,priority=5")["answers"]
    assert low["evictions"]["possible"] is False
    assert "With priority 4294901751 it would take 1 eviction." in low["evictions"]["text"]


def test_a_job_that_starts_in_its_turn(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "--slurm", str(SLURM), "--job", "gpus=4,minutes=30")
    assert found["starts_now"]
    assert list(found["answers"]) == ["now", "in_turn", "delay"]
    assert found["assumed"] == ["priority 4294901742, the least of those that wait (priority= says another)"]
    assert len(found["answers"]["now"]["workers"][0]["gpus"]) == 4


def test_at_a_later_time(capsys: pytest.CaptureFixture[str]) -> None:
    place = ("--kubernetes", str(KUBERNETES), "--job", "gpus=16,per-node=8,model=H100,priority=9999")  # before all that wait
    for time in ("+3h", "+180m", "2026-03-02T15:00:00Z", "2026-03-02T16:00:00+01:00", "1772463600"):
        assert told(capsys, *place, "--at", time)["answers"]["now"]["possible"] is True


def test_a_problem_with_ends(problem: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ends.json").write_text(json.dumps({"on-b": "2026-03-01T10:00:00Z", "on-a": 1772359200 + 60}))
    place = ("--problem", str(problem), "--job", "gpus=8,priority=2")
    unknown = told(capsys, *place)["answers"]["later"]
    assert unknown["possible"] is None
    found = told(capsys, *place, "--ends", str(tmp_path / "ends.json"), "--taken-at", "2026-03-01T09:00:00Z")["answers"]
    assert found["later"]["starts_at"] == 1772359200
    assert (found["evictions"]["amount"], found["moves"]["possible"]) == (1, False)


def test_a_job_from_a_file(problem: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "job.yaml").write_text("id: mine\nworkers: 2\ngpus_per_worker: 2\nspread: {max_workers: 2}\n")
    found = told(capsys, "--problem", str(problem), "--job", str(tmp_path / "job.yaml"))
    assert found["job"]["id"] == "mine"
    assert [worker["node"] for worker in found["answers"]["now"]["workers"]] == ["b", "b"]


def test_moves_are_counted_whatever_they_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = tuple(Node(id=name, gpu_model="h100", gpus=8, cpu_cores=64, memory_gib=512) for name in ("a", "b"))
    runs = tuple(
        Job(id=node, gpus_per_worker=2, running=Running(workers=(WorkerPlace(node=node, gpus=(0, 1)),), move_cost=7)) for node in ("a", "b")
    )
    (tmp_path / "p.json").write_text(Problem(nodes=nodes, jobs=runs).model_dump_json())
    moves = told(capsys, "--problem", str(tmp_path / "p.json"), "--job", "gpus=8")["answers"]["moves"]
    assert (moves["amount"], moves["bound"], len(moves["moved"])) == (1, 1, 1)


def test_a_larger_problem_is_searched_in_a_process_of_its_own(
    problem: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    isolated = []

    def noted(*given: Any, **options: Any) -> Result:
        isolated.append(options["isolate"])
        return solve(*given, **options)

    monkeypatch.setattr(rooms, "solve", noted)
    monkeypatch.setattr(rooms, "SMALL", 0)
    assert told(capsys, "--problem", str(problem), "--job", "gpus=4")["starts_now"]
    assert isolated == [True]


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("gpu=8", "there is no key 'gpu'; did you mean 'gpus'?"),
        ("colour=red", "there is no key 'colour'; there are gpus"),
        ("gpus", "write key=value"),
        ("gpus=", "write key=value"),
        (",", "is empty"),
        ("gpus=8,gpus=8", "'gpus' stands twice"),
        ("gpus=many", "must be a number of 0 or more"),
        ("gpus=-1", "must be a number of 0 or more"),
        ("gpus=nan", "must be a number of 0 or more"),
        ("gpus=4,priority=1.5", "must be a whole number"),
        ("gpus=4,priority=high", "must be a whole number (on the scheduler's own scale"),
        ("gpus=4,minutes=1h", "time limit in minutes, such as 90"),
        ("gpus=4,per-node=0", "per-node=0: a job of 4 GPUs needs more than none"),
        ("gpus=4,workers=0", "workers=0: a job of 4 GPUs needs more than none"),
        ("gpus=10,per-node=4", "cannot be cut into equal whole workers of 4"),
        ("gpus=8,per-node=4,gpus-per-worker=4", "give one of them"),
        ("gpus=8,workers=3,gpus-per-worker=4", "is not workers=3 times"),
        ("priority=3", "say how many GPUs"),
        ("gpus=8,model=b200", "no node has such GPUs; there are h100"),
        ("gpus=8,rack=together", "no node names its rack"),
        ("gpus=8,rack=r1", "must be together"),
        ("gpus=12", "no node has so many; say how many each worker has"),
        ("gpus=1,name=on-a", "there is a job of that id"),
        ("gpus=32,per-node=8", "32 GPUs together, and the whole cluster has 16"),
        ("gpus=32,per-node=16", "the largest node has 8"),
        ("gpus=1,cpus=1e15", "less than or equal to"),
        ("none.yaml", "there is no such file"),
    ],
)
def test_a_job_that_makes_no_sense_is_one_clear_error(problem: Path, capsys: pytest.CaptureFixture[str], spec: str, said: str) -> None:
    assert run("simulate", "--problem", str(problem), "--job", spec) == Exit.bad_input
    error = capsys.readouterr().err
    assert error.count("quartermaster: ") == 1
    assert said in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "give exactly one of --slurm, --kubernetes and --problem"),
        (("--slurm", str(SLURM), "--kubernetes", str(KUBERNETES)), "give exactly one of"),
        (("--slurm", "/none"), "there is no such folder"),
        (("--kubernetes", "/none.json"), "cannot be read"),
        (("--slurm", str(SLURM), "--ends", "x.json"), "a snapshot tells itself"),
        (("--slurm", str(SLURM), "--at", "soon"), "is no time"),
        (("--slurm", str(SLURM), "--at", "+3w"), "is no span of time"),
        (("--slurm", str(SLURM), "--at", "2001-01-01"), "lies before the snapshot"),
        (("--slurm", str(SLURM), "--time-limit", "0"), "time-limit must be a positive number"),
        (("--slurm", str(SLURM), "--taken-at", "noon"), "is no time"),
        (("--slurm", str(SLURM), "--out", "/none/here"), "--out /none/here: cannot be made"),
    ],
)
def test_options_that_make_no_sense(capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str) -> None:
    assert run("simulate", *options, "--job", "gpus=1") == Exit.bad_input
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1"),
        ("{}\n{}", "line 2"),
        ('{"nobody": 5}', "/nobody: no running job has that id"),
        ('{"on-a": "later"}', "is no time"),
        ('{"on-a": 1, "on-a": 2}', "stands twice"),
    ],
)
def test_ends_that_make_no_sense(problem: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str) -> None:
    (tmp_path / "ends.json").write_text(text)
    assert run("simulate", "--problem", str(problem), "--job", "gpus=1", "--ends", str(tmp_path / "ends.json")) == Exit.bad_input
    assert said in capsys.readouterr().err


# ---------------------------------------------------------------- words, and the page


def test_words() -> None:
    assert [duration(one) for one in (0, 59, 60, 3599, 7800, 90000, 345600)] == [
        "0 s",
        "59 s",
        "1 min",
        "1 h",
        "2 h 10 min",
        "1 d 1 h",
        "4 d",
    ]
    assert spans([3, 0, 1, 6]) == "0-1, 3, 6"
    assert where([WorkerPlace(node="n", gpus=(2,))]) == "node n (GPU 2)"
    assert where([WorkerPlace(node="n"), WorkerPlace(node="m")]) == "2 nodes (n and m)"
    assert listed([f"{k}" for k in range(9)]) == "0, 1, 2, 3, 4, 5 and 3 more"
    assert (listed(["a", "b", "c"]), listed([])) == ("a, b and c", "")
    assert (many(0, "job"), many(1, "job"), many(2000, "job")) == ("no job", "1 job", "2,000 jobs")
    assert moment(0.0, None) == "at 1970-01-01 00:00 UTC"
    assert moment(0.0, 0.0).endswith("at any moment")


def test_the_commands_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One after another, in a folder with the two saved clusters."""
    shutil.copytree(SLURM, tmp_path / "slurm")
    shutil.copy(KUBERNETES, tmp_path / "cluster.json")
    monkeypatch.chdir(tmp_path)
    (study,) = fenced(PAGE.read_text(encoding="utf-8"), "yaml")
    Path("now.yaml").write_text(study, encoding="utf-8")
    ran = 0
    for block in fenced(PAGE.read_text(encoding="utf-8"), "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["quartermaster"] and "live" not in words and words[1:3] != ["slurm", "snapshot"]:
                assert run(*words[1:]) == Exit.plan, (words, capsys.readouterr().err)
                ran += 1
    assert ran >= 11
    printed = capsys.readouterr().out
    for shown in fenced(PAGE.read_text(encoding="utf-8"), "text"):
        assert " ".join(shown.split()) in " ".join(printed.split())

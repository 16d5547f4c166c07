"""The importer of Alibaba's GPU trace: small files for the rules, the bundled trace for the counts."""

import json
from pathlib import Path

import pytest

from models.placement.schema import GoalName, Problem
from service.importers.openb import ImportFileError, import_openb
from tests.service.test_cli import run

OPENB = Path(__file__).resolve().parents[2] / "benchmarks" / "data" / "openb"
NODES = "sn,cpu_milli,memory_mib,gpu,model\nn0,64000,262144,2,P100\nn1,32500,131072,0,\n"
PODS = (
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
    "a,12000,16384,1,1000,\nb,6000,12288,1,460,V100M16|P100|P100\nc,500,512,0,0,\nd,1,1,2,1000,\n"
)


def imported(tmp_path: Path, nodes: str = NODES, pods: str = PODS, arrivals: str | None = None) -> Problem:
    paths = [tmp_path / name for name in ("nodes.csv", "pods.csv", "arrivals.csv")]
    for path, text in zip(paths, (nodes, pods, arrivals or ""), strict=True):
        path.write_text(text, encoding="utf-8")
    return import_openb(paths[0], paths[1], paths[2] if arrivals is not None else None)


def test_nodes(tmp_path: Path) -> None:
    first, second = imported(tmp_path).nodes
    assert (first.id, first.gpu_model, first.gpus, first.cpu_cores, first.memory_gib) == ("n0", "P100", 2, 64.0, 256.0)
    assert (second.gpu_model, second.gpus, second.cpu_cores) == (None, 0, 32.5)
    assert first.gpu_memory_gib is None
    assert first.topology.rack is None


def test_pods(tmp_path: Path) -> None:
    problem = imported(tmp_path)
    assert [job.gpus_per_worker for job in problem.jobs] == [1.0, 0.46, 0.0, 2.0]
    assert [list(job.model_speeds) for job in problem.jobs] == [[], ["V100M16", "P100"], [], []]
    assert (problem.jobs[1].cpu_cores, problem.jobs[1].memory_gib) == (6.0, 12.0)
    assert {(job.priority, job.value, job.workers) for job in problem.jobs} == {(1, 1.0, 1)}
    assert problem.goals == (GoalName.allocated_gpus, GoalName.placed_value)


def test_arrivals_repeat_in_their_order(tmp_path: Path) -> None:
    problem = imported(tmp_path, arrivals="order,name\n0,b\n1,a\n2,b\n3,b\n")
    assert [job.id for job in problem.jobs] == ["b", "a", "b#2", "b#3"]
    assert problem.jobs[3].gpus_per_worker == 0.46


def test_pods_without_models(tmp_path: Path) -> None:
    assert imported(tmp_path, pods="name,cpu_milli,memory_mib,num_gpu,gpu_milli\na,1,1,1,10\n").jobs[0].gpus_per_worker == 0.01


@pytest.mark.parametrize(
    ("part", "text", "words"),
    [
        ("nodes", "sn,cpu_milli\nn0,1\n", ["nodes.csv: line 1", "no column 'memory_mib'"]),
        ("nodes", NODES.replace("32500", "-1"), ["nodes.csv: line 3, column 'cpu_milli'", "not '-1'"]),
        ("nodes", NODES.replace("64000", "nan"), ["line 2, column 'cpu_milli'", "not 'nan'"]),
        ("nodes", NODES + "n0,1,1,1,P100\n", ["line 4, column 'sn'", "named twice"]),
        ("nodes", NODES.replace(",2,P100", ",2,"), ["line 2, column 'model'", "name the model"]),
        ("nodes", NODES.replace(",2,P100", ",0,P100"), ["line 2, column 'gpu'", "0 GPUs"]),
        ("nodes", NODES + "n3,1,1\n", ["line 4", "as many fields"]),
        ("nodes", NODES + "n3,1,1,1,P100,9\n", ["line 4", "as many fields"]),
        ("nodes", "sn,cpu_milli,memory_mib,gpu,model\n", ["lists no node"]),
        ("nodes", "", ["line 1", "no column"]),
        ("pods", PODS.replace(",1,460", ",1,1460"), ["pods.csv: line 3, column 'gpu_milli'", "1 to 1000"]),
        ("pods", PODS.replace(",1,460", ",1,0"), ["line 3, column 'gpu_milli'", "1 to 1000"]),
        ("pods", PODS.replace(",2,1000", ",2,500"), ["line 5, column 'gpu_milli'", "must be 1000"]),
        ("pods", PODS + "a,1,1,0,0,\n", ["line 6, column 'name'", "named twice"]),
        ("pods", PODS + ",1,1,0,0,\n", ["line 6, column 'name'", "is empty"]),
        ("pods", PODS.replace(",2,1000", ",16,1000"), ["job 'd'", "largest node has 2"]),
        ("arrivals", "order,name\n0,z\n", ["arrivals.csv: line 2, column 'name'", "no pod 'z'"]),
    ],
)
def test_a_wrong_file(part: str, text: str, words: list[str], tmp_path: Path) -> None:
    texts: dict[str, str] = {part: text}
    with pytest.raises(ImportFileError) as error:
        imported(tmp_path, **texts)
    assert not [word for word in words if word not in str(error.value)], str(error.value)


def test_the_bundled_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "openb.json"
    names = ("openb_node_list_gpu_node.csv", "openb_pod_list_default.csv", "arrivals_default.csv")
    nodes, pods, arrivals = (OPENB / name for name in names)
    assert run("import", "openb", "--nodes", nodes, "--pods", pods, "--arrivals", arrivals, "--out", out) == 0
    assert "1,213 nodes with 6,212 GPUs, 8,313 jobs" in capsys.readouterr().out
    assert Problem.model_validate_json(out.read_bytes()) == import_openb(nodes, pods, arrivals)
    assert json.loads(out.read_text(encoding="utf-8"))["schema_version"] == 1
    assert len(import_openb(nodes, pods).jobs) == 8152


def test_a_missing_file_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("import", "openb", "--nodes", tmp_path / "x.csv", "--pods", tmp_path / "y.csv", "--out", tmp_path / "o.json") == 2
    assert "x.csv: cannot be read (no such file" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

"""Traces and clusters from files: what they become, and what is said of those that cannot be read."""

import gzip
import json
from pathlib import Path

import pytest

from models.placement.examples import place
from models.placement.online.state import MILLI
from service.replay.cluster_file import read_cluster
from service.replay.jobs import ReplayError
from service.replay.outages import given
from service.replay.traces import Reading, read_trace

DATA = Path(__file__).resolve().parents[3] / "benchmarks" / "data"
OPENB_NODES = DATA / "openb" / "openb_node_list_gpu_node.csv"
SPEEDS = DATA / "gavel" / "simulation_throughputs.json.gz"
PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,creation_time,deletion_time,scheduled_time\n"


def reading(nodes: str = "4xV100:4", **more: object) -> Reading:
    return Reading(read_cluster(nodes), **more)  # type: ignore[arg-type]


def test_openb_has_every_pod_that_ran() -> None:
    trace = read_trace("openb", str(DATA / "openb" / "openb_pod_list_default.csv"), reading(str(OPENB_NODES)))
    assert len(trace.jobs) == 8152 - 897
    assert trace.notes == ("897 pods never ran and are left out",)
    first = trace.jobs[0]
    assert (first.arrival_s, first.duration_s, first.request.gpus, first.request.share_milli) == (0.0, 12_537_496.0, 1, MILLI)
    assert all(a.arrival_s <= b.arrival_s for a, b in zip(trace.jobs, trace.jobs[1:], strict=False))
    assert {job.request.share_milli for job in trace.jobs} > {460, MILLI}


def test_gavel_durations_depend_on_the_gpu() -> None:
    trace = read_trace("gavel", str(DATA / "gavel" / "max_min_fairness.trace"), reading("4xv100:4,4xk80:4", throughputs=SPEEDS))
    assert len(trace.jobs) == 96
    job = trace.jobs[0]
    speeds = json.loads(gzip.decompress(SPEEDS.read_bytes()))
    fast = speeds["v100"]["('ResNet-18 (batch size 128)', 4)"]["null"]
    slow = speeds["k80"]["('ResNet-18 (batch size 128)', 4)"]["null"]
    assert job.duration_s == pytest.approx(925_982 / fast)
    assert job.speeds == {"v100": 1.0, "k80": pytest.approx(slow / fast)}
    assert (job.request.workers, job.request.gpus) == (1, 4)


def test_gangs_are_split_as_the_nodes_are_large() -> None:
    assert reading("4xV100:4").split(8) == (2, 4)
    assert reading("4xV100:8").split(8) == (1, 8)
    assert reading("4xV100:4").split(6) == (2, 3)
    assert reading("4xV100:4").split(7) == (7, 1)
    assert reading("4xV100:4").split(0) == (1, 0)


def test_philly_csv_and_json(tmp_path: Path) -> None:
    table = tmp_path / "jobs.csv"
    table.write_text("job_id,submit_s,gpus,duration_s,workers\nb,50,8,100,\na,20,4,60,4\n", encoding="utf-8")
    trace = read_trace("philly", str(table), reading())
    assert [(job.request.id, job.arrival_s, job.request.workers, job.request.gpus) for job in trace.jobs] == [
        ("a", 0, 4, 1),
        ("b", 30, 2, 4),
    ]
    machine = {"ip": "m1", "gpus": ["gpu0", "gpu1"]}
    attempts = [
        {"start_time": "2017-10-09 07:02:00", "end_time": "2017-10-09 07:03:00", "detail": [machine, machine]},
        {"start_time": "2017-10-09 08:00:00", "end_time": "2017-10-09 08:00:30", "detail": [machine]},
    ]
    log = [
        {"jobid": "x", "submitted_time": "2017-10-09 07:00:00", "attempts": attempts},
        {"jobid": "never", "submitted_time": "2017-10-09 07:00:00", "attempts": []},
    ]
    path = tmp_path / "log.json"
    path.write_text(json.dumps(log), encoding="utf-8")
    trace = read_trace("philly", str(path), reading())
    assert [(job.request.id, job.duration_s, job.gpus) for job in trace.jobs] == [("x", 90.0, 4.0)]
    assert trace.notes == ("1 jobs never ran, or have no end, and are left out",)


def test_synthetic_is_the_same_each_time_and_has_its_load_over_the_day() -> None:
    one, two = (read_trace("synthetic", "500", reading("20xV100:8")) for _ in range(2))
    assert one == two
    assert len(one.jobs) == 500
    assert max(job.gpus for job in one.jobs) >= 32


def test_clusters_from_files_and_words(tmp_path: Path) -> None:
    assert read_cluster(str(OPENB_NODES)).total_milli() == 6212 * MILLI
    words = read_cluster("2xV100:4, 1xP100:2")
    assert [(node.id, node.model, node.gpus) for node in words.nodes] == [
        ("V100-0", "V100", 4),
        ("V100-1", "V100", 4),
        ("P100-2", "P100", 2),
    ]
    path = tmp_path / "problem.json"
    path.write_text(place().model_dump_json(), encoding="utf-8")
    cluster = read_cluster(str(path))
    assert {node.id for node in cluster.nodes} <= {node.id for node in place().nodes}


@pytest.mark.parametrize(
    ("form", "content", "said"),
    [
        ("openb", PODS, "has no job that can be replayed"),
        ("openb", "", "there is no column 'name'"),
        ("openb", PODS.replace("name", "pod"), "there is no column 'name'"),
        ("openb", PODS + "a,1,1,1,1000,,-5,10,0\n", "line 2, column 'creation_time': must be a number from 0"),
        ("openb", PODS + "a,1,1,1,1000,,0,10,10\n", "must be later than scheduled_time"),
        ("openb", PODS + "a,1,1,2,500,,0,10,0\n", "column 'gpu_milli'"),
        ("openb", PODS + "a,1,1,1,1000,,0,10,0\na,1,1,1,1000,,0,10,0\n", "named twice"),
        ("openb", PODS + "a,1,1,8,1000,,0,10,0\n", "job 'a' .* never fits, even on the empty cluster"),
        ("openb", PODS + "a,1,1,1,1000,H100,0,10,0\n", "GPUs of H100.* never fits"),
        ("openb", PODS + "a,1\n", "has not as many fields"),
        ("philly", "job_id,submit_s,gpus,duration_s\na,0,1,0\n", "must be more than 0"),
        ("philly", "job_id,submit_s,gpus,duration_s,workers\na,0,4,9,3\n", "cannot be shared evenly"),
        ("philly", "job_id,submit_s,gpus,duration_s\na,inf,1,5\n", "'submit_s': must be a number"),
        ("gavel", "x\ty\n", "give the speeds with --throughputs"),
    ],
)
def test_traces_that_cannot_be_replayed(tmp_path: Path, form: str, content: str, said: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ReplayError, match=said):
        read_trace(form, str(path), reading())


def test_jobs_that_never_fit_are_left_out_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(PODS + "big,1,1,8,1000,,0,10,0\nsmall,1,1,1,1000,,5,10,6\n", encoding="utf-8")
    trace = read_trace("openb", str(path), reading(), skip_never_fits=True)
    assert [(job.request.id, job.arrival_s) for job in trace.jobs] == [("small", 0.0)]
    assert "1 jobs never fit and are left out (big)" in trace.notes[-1]
    path.write_text(PODS + "big,1,1,8,1000,,0,10,0\n", encoding="utf-8")
    with pytest.raises(ReplayError, match="none of its jobs fits"):
        read_trace("openb", str(path), reading(), skip_never_fits=True)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere", "is not NODESxMODEL:GPUS"),
        ("2xV100:0", "a node has 1 to"),
        ("nowhere.csv", "cannot be read"),
        ("nowhere.json", "cannot be read"),
    ],
)
def test_clusters_that_cannot_be_read(source: str, said: str) -> None:
    with pytest.raises(ReplayError, match=said):
        read_cluster(source)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("node,down_s\n", "no column 'up_s'"),
        ("node,down_s,up_s\nx,1,2\n", "there is no node 'x'"),
        ("node,down_s,up_s\nV100-0,3,2\n", "must be later than down_s"),
        ("node,down_s,up_s\nV100-0,1,5\nV100-0,4,8\n", "overlap at 4 s"),
    ],
)
def test_outages_that_cannot_be_read(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "outages.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ReplayError, match=said):
        given(path, read_cluster("1xV100:4").index)

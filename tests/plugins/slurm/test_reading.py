"""What Slurm prints as a snapshot: outputs of a real 22.05, saved under data/, and variants of them."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.placement.schema import JobPlacement, Plan
from models.placement.verify import verify
from service.plugins.cluster import SeenJob, SeenWorker
from service.plugins.problem import problem
from service.plugins.slurm.files import SlurmFiles, SlurmFilesError, load, parsed, save
from service.plugins.slurm.reading import OptIn, Read, read, snapshot
from service.plugins.slurm.topology import topologies
from tests.plugins.slurm.newer import newer

MIXED = Path(__file__).parent / "data" / "mixed"
NAMES: dict[str, str] = json.loads((MIXED / "names.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def files() -> SlurmFiles:
    return load(MIXED)


@pytest.fixture(scope="module")
def found(files: SlurmFiles) -> Read:
    return read(files)


def job(found: Read, name: str) -> SeenJob:
    seen = found.snapshot.job(NAMES.get(name, name))
    assert seen is not None, name
    return seen


def edited(files: SlurmFiles, name: str, **fields: Any) -> SlurmFiles:
    """The files with fields of one job changed."""
    jobs = copy.deepcopy(dict(files.jobs))
    for record in jobs["jobs"]:
        if record["name"] == name:
            record.update(fields)
    return dataclasses.replace(files, jobs=jobs)


def node_edited(files: SlurmFiles, name: str, **fields: Any) -> SlurmFiles:
    nodes = copy.deepcopy(dict(files.nodes))
    for record in nodes["nodes"]:
        if record["name"] == name:
            record.update(fields)
    return dataclasses.replace(files, nodes=nodes)


# ---------------------------------------------------------------- nodes


def test_nodes(found: Read) -> None:
    nodes = {node.id: node for node in found.snapshot.nodes}
    assert list(nodes) == [f"gpu{at}" for at in range(1, 7)]
    first = nodes["gpu1"]
    assert (first.gpu_model, first.gpus, first.cpu_cores, first.memory_gib) == ("h100", 4, 8.0, 62.5)
    assert first.labels == {"h100": "true", "r1": "true"}
    assert (first.topology.site, first.topology.row, first.topology.rack) == ("site", "row1", "r1")
    assert {node.id: node.state for node in found.snapshot.nodes if node.state != "ready"} == {"gpu6": "cordoned"}


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"state": "idle", "state_flags": []}, "ready"),
        ({"state": "mixed", "state_flags": ["PLANNED"]}, "ready"),
        ({"state": "idle", "state_flags": ["DRAIN"], "alloc_cpus": 0}, "drained"),
        ({"state": "mixed", "state_flags": ["DRAIN"]}, "cordoned"),
        ({"state": "down", "state_flags": []}, "drained"),
        ({"state": "idle", "state_flags": ["NOT_RESPONDING"]}, "drained"),
        ({"state": ["IDLE", "MAINTENANCE", "RESERVED"], "alloc_cpus": 0}, "drained"),
        ({"state": "allocated", "state_flags": ["REBOOT_REQUESTED"]}, "cordoned"),
        ({"state": ["IDLE", "CLOUD", "POWERED_DOWN"]}, "ready"),
        ({"state": "unknown", "state_flags": []}, "drained"),
        ({"state": "idle*", "state_flags": []}, "ready"),
        ({"state": "", "state_flags": []}, "drained"),
    ],
)
def test_states_of_nodes(files: SlurmFiles, fields: dict[str, Any], state: str) -> None:
    node = snapshot(node_edited(files, "gpu5", **fields)).node("gpu5")
    assert node is not None
    assert node.state == state


def test_a_version_changes_with_what_a_plan_rests_on_and_with_nothing_else(files: SlurmFiles) -> None:
    def version(**fields: Any) -> str:
        node = snapshot(node_edited(files, "gpu5", **fields)).node("gpu5")
        assert node is not None
        return node.version

    same = version()
    assert same == version(cpu_load=99, free_memory=1, alloc_cpus=3, gres_used="gpu:h100:4(IDX:0-3)", last_busy=1, state="allocated")
    others = [
        version(state_flags=["DRAIN"]),
        version(real_memory=32000),
        version(cpus=4),
        version(gres="gpu:h100:3"),
        version(gres="gpu:b200:4"),
        version(active_features="h100"),
        version(boot_time=1),
        version(partitions=["gpu"]),
    ]
    assert len({same, *others}) == len(others) + 1


def test_gpus_of_several_types_and_shares_of_gpus_are_told(files: SlurmFiles) -> None:
    mixed = snapshot(node_edited(files, "gpu5", gres="gpu:a100:2,gpu:h100:2"))
    node = mixed.node("gpu5")
    assert node is not None
    assert (node.gpus, node.gpu_model) == (4, "a100+h100")
    assert any("several types" in warning for warning in mixed.warnings)
    shared = snapshot(node_edited(files, "gpu5", gres_used="gpu:h100:1(IDX:0),shard:h100:3(3/8,0/8,0/8,0/8)"))
    node = shared.node("gpu5")
    assert node is not None
    assert node.state == "cordoned"
    assert any("shares of GPUs" in warning for warning in shared.warnings)


def test_blocks_are_nvlink_domains() -> None:
    places, warnings = topologies(
        "BlockName=b1 BlockIndex=0 Nodes=n[1-2] BlockSize=2\nBlockName=b2 BlockIndex=1 Nodes=n3 BlockSize=2\nNodes=x[\n"
    )
    assert {name: place.nvlink_domain for name, place in places.items()} == {"n1": "b1", "n2": "b1", "n3": "b2"}
    assert not warnings
    assert topologies("SwitchName=s Level=0 Nodes=n[1\n")[1]


# ---------------------------------------------------------------- jobs


def test_running_jobs_have_the_gpus_that_slurm_gave_them(found: Read) -> None:
    assert job(found, "gang").running == (SeenWorker("gpu1", (0, 1, 2, 3)), SeenWorker("gpu2", (0, 1, 2, 3)))
    assert (job(found, "gang").cpu_cores, job(found, "gang").memory_gib) == (2.0, 1.0)
    assert job(found, "exclusive").cpu_cores == 8.0
    assert job(found, f"{NAMES['array']}_2").running == (SeenWorker("gpu5", (1,)),)
    started, ends = job(found, "gang").started_at, job(found, "gang").ends_at
    assert started is not None
    assert ends == started + 3600
    assert job(found, "task").ends_at is None, "a job without a time limit ends some time"


def test_a_job_that_slurm_dealt_unevenly_is_one_for_each_size(found: Read) -> None:
    first, second = job(found, "uneven"), job(found, f"{NAMES['uneven']}@2")
    assert (first.gpus_per_worker, first.running) == (4.0, (SeenWorker("gpu3", (0, 1, 2, 3)),))
    assert (second.gpus_per_worker, second.running) == (2.0, (SeenWorker("gpu4", (0, 1)),))


@pytest.mark.parametrize(
    ("name", "nodes", "gpus", "cores", "gib"),
    [
        ("held", 2, 2, 1, 2.0),
        ("total_whole", 2, 4, 1, 100 / 1024),
        ("per_cpu", 1, 1, 4, 8.0),
        ("per_gpu", 1, 2, 4, 6.0),
        ("per_task", 2, 4, 2, 200 / 1024),
        ("whole", 1, 4, 8, 62.5),
    ],
)
def test_what_waiting_jobs_ask_of_each_node(found: Read, name: str, nodes: int, gpus: int, cores: float, gib: float) -> None:
    seen = job(found, name)
    assert (seen.workers, seen.gpus_per_worker, seen.cpu_cores) == (nodes, gpus, cores)
    assert seen.memory_gib == pytest.approx(gib)
    assert seen.opted_in
    assert seen.held
    assert seen.one_worker_per_node


@pytest.mark.parametrize(
    ("told", "seconds"), [(30, 1800.0), ({"set": True, "infinite": False, "number": 5}, 300.0), (None, None), (525_600, None), (0, None)]
)
def test_a_waiting_job_tells_how_long_it_may_run(files: SlurmFiles, told: object, seconds: float | None) -> None:
    (waiting,) = [one["name"] for one in files.jobs["jobs"] if one["job_state"] == "PENDING" and one["name"] in NAMES][:1]
    assert job(read(edited(files, waiting, time_limit=told)), waiting).time_limit_s == seconds


def test_constraints_exclusions_and_types_are_kept(found: Read) -> None:
    seen = job(found, "held")
    assert sorted(seen.nodes_allowed or ()) == ["gpu2", "gpu3", "gpu4"]
    assert seen.gpu_models == ("h100",)


def test_an_array_is_its_tasks(found: Read) -> None:
    names = {seen.id for seen in found.snapshot.jobs if seen.id.startswith(f"{NAMES['held_array']}_")}
    assert names == {f"{NAMES['held_array']}_{task}" for task in (3, 5, 6)} == found.of_array


def test_what_no_plan_can_say_is_left_to_slurm_with_a_reason(found: Read) -> None:
    left = {
        name: found.left_to_slurm[NAMES.get(name, name)]
        for name in ("limited_array", "range", "total", "named", "depends", "later", "brackets")
    }
    assert "limits how many" in left["limited_array"]
    assert "-N 1" in left["range"]
    assert "--gpus-per-node" in left["total"]
    assert "-w" in left["named"]
    assert set(found.left_to_slurm) == found.held, "all of them were held by job_submit.lua"
    assert not {seen.id for seen in found.snapshot.jobs} & found.held
    assert any("heterogeneous" in reason for reason in found.left_to_slurm.values())


def test_what_a_person_holds_is_nobody_elses(found: Read) -> None:
    assert found.snapshot.job(NAMES["by_admin"]) is None
    assert found.snapshot.job(NAMES["by_user"]) is None, "it did not opt in"
    assert not {NAMES["by_admin"], NAMES["by_user"]} & (found.held | set(found.left_to_slurm))


def test_a_released_job_carries_its_pin(found: Read) -> None:
    seen = job(found, "pinned")
    assert seen.pinned == ("gpu1",)
    assert not seen.held
    assert found.pins == {seen.id: ("gpu1",)}


def test_a_hold_after_we_let_go_is_the_users(files: SlurmFiles) -> None:
    for mark in ("quartermaster placed: x", "quartermaster freed: x"):
        again = edited(files, "held", admin_comment=mark)
        assert read(again).snapshot.job(NAMES["held"]) is None
    interrupted = read(edited(files, "held", admin_comment='"quartermaster pins: x"', required_nodes="gpu[2-3]"))
    seen = interrupted.snapshot.job(NAMES["held"])
    assert seen is not None
    assert seen.held
    assert interrupted.pins[seen.id] == ("gpu2", "gpu3")


def test_jobs_opt_in_by_partition_or_word(files: SlurmFiles) -> None:
    assert OptIn().holds({"comment": "exp 7, quartermaster"})
    assert not OptIn().holds({"comment": "quartermasters"})
    assert OptIn(frozenset({"a", "b"}), "").holds({"partition": "c,b", "comment": ""})
    assert not OptIn(frozenset(), "").holds({"partition": "c", "comment": ""})
    seen = read(files, OptIn(frozenset({"plan"}), "")).snapshot.job(NAMES["other"])
    assert seen is not None
    assert seen.opted_in


def test_an_identity_is_another_one_with_whatever_is_asked_for_and_not_with_our_pins(files: SlurmFiles) -> None:
    def identity(**fields: Any) -> str:
        seen = read(edited(files, "held", **fields)).snapshot.job(NAMES["held"])
        assert seen is not None, fields
        return seen.identity

    same = identity()
    assert same == identity(admin_comment="quartermaster pins: x", required_nodes="gpu[2-3]")
    assert same == identity(priority=77, state_reason="Priority", eligible_time=5, time_limit=5, comment="quartermaster urgent")
    others = [
        identity(submit_time=1),
        identity(restart_cnt=1),
        identity(node_count=3, max_nodes=3),
        identity(tres_per_node="gres:gpu:h100:3"),
        identity(cpus=9),
        identity(memory_per_node=4096),
        identity(excluded_nodes=""),
        identity(features="h100"),
        identity(partition="plan"),
        identity(tasks=4),
    ]
    assert len({same, *others}) == len(others) + 1


def test_switches_ask_for_one_rack(files: SlurmFiles) -> None:
    seen = read(edited(files, "held", required_switches=1)).snapshot.job(NAMES["held"])
    assert seen is not None
    assert seen.together == "rack"
    assert "switches" in read(edited(files, "held", required_switches=2)).left_to_slurm[NAMES["held"]]


# ---------------------------------------------------------------- all of it


def test_newer_versions_tell_the_same(files: SlurmFiles, found: Read) -> None:
    again = read(newer(files))
    assert without_identities(again) == without_identities(found)


def without_identities(found: Read) -> Read:
    """Versions spell what a job asks for differently, which its identity may show."""
    jobs = tuple(dataclasses.replace(seen, identity="") for seen in found.snapshot.jobs)
    return dataclasses.replace(found, snapshot=dataclasses.replace(found.snapshot, jobs=jobs))


def test_the_problem_has_the_gpus_that_slurm_says_are_free(files: SlurmFiles, found: Read) -> None:
    asked = problem(found.snapshot)
    assert asked.problem is not None
    stays = tuple(JobPlacement(job=one.id, workers=one.running.workers) for one in asked.problem.jobs if one.running is not None)
    assert verify(asked.problem, Plan(placements=stays)).ok
    used = {node["name"]: node["gres_used"] for node in files.nodes["nodes"]}
    for machine in asked.occupied.machines.values():
        taken = machine.shares.count(0.0)
        assert used[machine.node.id].startswith(f"gpu:h100:{taken}")
    assert not asked.occupied.aside


def test_what_is_in_use_beyond_the_jobs_stays_in_use(files: SlurmFiles) -> None:
    fewer = dataclasses.replace(files, jobs={"jobs": [one for one in files.jobs["jobs"] if one["name"] != "gang"]})
    fillers = {seen.id: seen for seen in snapshot(fewer).jobs if seen.id.startswith("(in use)")}
    assert set(fillers) == {"(in use) gpu1", "(in use) gpu2"}
    assert fillers["(in use) gpu1"].running == (SeenWorker("gpu1", (0, 1, 2, 3)),)
    assert (fillers["(in use) gpu1"].cpu_cores, fillers["(in use) gpu1"].memory_gib) == (2.0, 1.0)


def test_folders_are_read_as_they_were_saved(files: SlurmFiles, tmp_path: Path) -> None:
    save(files, tmp_path / "new")
    assert load(tmp_path / "new") == files


def test_a_folder_that_is_no_snapshot_is_told(tmp_path: Path) -> None:
    with pytest.raises(SlurmFilesError, match="no such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(SlurmFilesError, match=r"squeue\.json: there is no such file"):
        load(tmp_path)
    (tmp_path / "squeue.json").write_text("JOBID PARTITION")
    with pytest.raises(SlurmFilesError, match="--json"):
        load(tmp_path)
    with pytest.raises(SlurmFilesError, match="no object"):
        parsed("[]", "squeue")


def test_sinfo_of_newer_versions_is_told() -> None:
    seen = snapshot(SlurmFiles({"jobs": []}, {"sinfo": [{"nodes": {"nodes": ["gpu1"]}}]}))
    assert not seen.nodes
    assert "scontrol show nodes --json" in seen.warnings[0]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 10**10)
    | st.text(max_size=8)
    | st.sampled_from(["gpu[1-2]", "gpu:h100:2(IDX:0-1)", "PENDING", "[x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["set", "infinite", "number", "a"]), inner, max_size=3),
    max_leaves=4,
)


def test_gpus_of_a_job_that_are_told_in_another_form_are_taken_for_not_told() -> None:
    files = load(MIXED)
    jobs = copy.deepcopy(dict(files.jobs))
    for record in jobs["jobs"]:
        record["gres_detail"] = {"a": None}
    assert len(read(dataclasses.replace(files, jobs=jobs)).snapshot.jobs) > 0


@settings(max_examples=100)
@given(data=st.data())
def test_nothing_in_an_output_makes_reading_raise(data: st.DataObject) -> None:
    files = load(MIXED)
    jobs, nodes = copy.deepcopy(dict(files.jobs)), copy.deepcopy(dict(files.nodes))
    for record in data.draw(st.lists(st.sampled_from(jobs["jobs"]), max_size=3)):
        for name in data.draw(st.lists(st.sampled_from(sorted(record)), min_size=1, max_size=4)):
            record[name] = data.draw(JSON)
    record = data.draw(st.sampled_from(nodes["nodes"]))
    for name in data.draw(st.lists(st.sampled_from(sorted(record)), max_size=3)):
        record[name] = data.draw(JSON)
    found = read(dataclasses.replace(files, jobs=jobs, nodes=nodes))
    names = {node.id for node in found.snapshot.nodes}
    assert len({job.id for job in found.snapshot.jobs}) == len(found.snapshot.jobs)
    assert all(worker.node in names for job in found.snapshot.jobs for worker in job.running)
    asked = problem(found.snapshot)
    if asked.problem is not None:
        stays = tuple(JobPlacement(job=one.id, workers=one.running.workers) for one in asked.problem.jobs if one.running is not None)
        assert verify(asked.problem, Plan(placements=stays)).ok

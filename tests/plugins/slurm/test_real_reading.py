"""What a real Slurm prints, takes and refuses: the facts that the adapter rests on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.plugins.daemons import free_ports
from benchmarks.plugins.slurm import GANG, OURS, SINGLE, held, pending
from benchmarks.plugins.slurm_cluster import RealSlurm, allocated
from models.placement.schema import JobPlacement, Plan
from models.placement.verify import verify
from service.plugins.cluster import Snapshot
from service.plugins.orders import Order, Seat
from service.plugins.problem import problem
from service.plugins.scheduler import SchedulerError
from service.plugins.slurm.adapter import SlurmScheduler, Ways
from service.plugins.slurm.changes import Change
from service.plugins.slurm.commands import Commands
from service.plugins.slurm.notation import gres
from service.plugins.slurm.reading import read, snapshot
from service.plugins.slurm.release import freer
from service.plugins.slurm.rest import Rest


@pytest.fixture
def commands(slurm: RealSlurm) -> Iterator[Commands]:
    found = Commands(slurm.environment)
    yield found
    found.close()


def runs(slurm: RealSlurm, *names: str) -> None:
    assert slurm.until(lambda: all(slurm.job(name).get("job_state") == "RUNNING" for name in names), 15)


def test_scontrol_tells_line_by_line_what_it_refuses(slurm: RealSlurm, commands: Commands) -> None:
    name = slurm.submit(*SINGLE)
    changes = [
        Change(name, pin=("gpu3",), comment='it waits, "so to say"; $(rm) `x` \\ end'),
        Change("999999", hold=False),
        Change(name, pin=("nowhere",)),
        Change(name, priority=7),
        Change(name, hold=False),
        Change(name, priority=7),
    ]
    told = commands.tell(changes)
    assert [one.ok for one in told] == [True, False, False, False, True, True]
    assert told[1].gone
    assert "node name" in told[2].detail
    assert "held state" in told[3].detail, "22.05 takes a priority only after the release"
    runs(slurm, name)
    assert (slurm.job(name)["nodes"], slurm.job(name)["priority"]) == ("gpu3", 7)
    assert "it waits, so to say ; $(rm) x end" in slurm.job(name)["admin_comment"]
    assert commands.scontrol.starts == 1


def test_free_gpus_are_those_that_slurm_says(slurm: RealSlurm, commands: Commands) -> None:
    started = [
        slurm.submit("--nodes=2", "--gpus-per-node=5"),
        slurm.submit("--gpus=3"),
        slurm.submit("--nodes=2", "--ntasks=2", "--gpus=9"),
        slurm.submit("--exclusive", "--gpus-per-node=1"),
        slurm.submit("--array=1-3", "--gpus-per-node=1"),
    ]
    runs(slurm, *started)
    slurm.submit(*GANG)
    files = commands.read()
    found = snapshot(files)
    asked = problem(found)
    assert asked.problem is not None
    stays = tuple(JobPlacement(job=one.id, workers=one.running.workers) for one in asked.problem.jobs if one.running is not None)
    assert verify(asked.problem, Plan(placements=stays)).ok
    taken: set[tuple[str, int]] = set()
    for one in stays:
        taken |= {(worker.node, gpu) for worker in one.workers for gpu in worker.gpus}
    assert taken == set(allocated(slurm.jobs()))
    for node in files.nodes["nodes"]:
        used = {index for one in gres(node["gres_used"]) for index in one.at or ()}
        assert used == {gpu for name, gpu in taken if name == node["name"]}
        assert len(used) == asked.occupied.machines[node["name"]].shares.count(0.0)
    assert not [job.id for job in found.jobs if job.id.startswith("(in use)")]


def order(found: Snapshot, name: str, *nodes: str) -> Order:
    job = found.job(name)
    assert job is not None
    versions = {node.id: node.version for node in found.nodes}
    return Order(name, job.identity, tuple(Seat(node) for node in nodes), {node: versions[node] for node in nodes}, "test")


def test_tasks_of_an_array_are_pinned_one_by_one(slurm: RealSlurm, commands: Commands) -> None:
    array, scheduler = slurm.submit(OURS, "--array=1-4", "--gpus-per-node=2"), SlurmScheduler(commands, Ways(enforce=True))
    found = scheduler.snapshot()
    done = scheduler.commit([order(found, f"{array}_2", "gpu6"), order(found, f"{array}_4", "gpu7")])
    assert [one.outcome for one in done] == ["done", "done"]
    assert slurm.until(lambda: slurm.run("squeue", "-h", "-t", "R", "-o", "%i").split() != [] and f"{array}_4" not in pending(slurm), 15)
    found = scheduler.snapshot()
    where = {job.id: [worker.node for worker in job.running] for job in found.jobs}
    assert where == {f"{array}_1": [], f"{array}_2": ["gpu6"], f"{array}_3": [], f"{array}_4": ["gpu7"]}
    assert set(scheduler.free([f"{array}_1", f"{array}_3"])) == {f"{array}_1", f"{array}_3"}
    assert slurm.until(lambda: not pending(slurm), 15)


def test_a_drained_node_between_pin_and_release(slurm: RealSlurm, commands: Commands) -> None:
    name, scheduler = slurm.submit(*GANG), SlurmScheduler(commands, Ways(enforce=True))
    planned = order(scheduler.snapshot(), name, "gpu1", "gpu2")
    slurm.run("scontrol", "update", "nodename=gpu2", "state=drain", "reason=test")
    assert [(one.outcome, "gpu2" in one.detail) for one in scheduler.commit([planned])] == [("refused", True)]
    assert slurm.job(name)["required_nodes"] == ""
    assert name in held(slurm)


def test_what_no_plan_can_say_starts_without_one(slurm: RealSlurm, commands: Commands) -> None:
    names = [
        slurm.submit(OURS, "--nodes=1-2", "--gpus-per-node=1"),
        slurm.submit(OURS, "--nodelist=gpu4", "--gpus-per-node=1"),
        slurm.submit(OURS, "--array=1-2%2", "--gpus-per-node=1"),
    ]
    het = slurm.run(
        "sbatch", "--parsable", "--output=/dev/null", OURS, "--gpus-per-node=1", ":", "--gpus-per-node=2", "--wrap=sleep 60"
    ).strip()
    left = read(commands.read()).left_to_slurm
    assert set(left) == {*names, het}
    SlurmScheduler(commands, Ways(enforce=True)).snapshot()
    assert slurm.until(lambda: not pending(slurm), 15), slurm.run("squeue", "-o", "%i %T %r")
    assert slurm.job(names[1])["nodes"] == "gpu4"
    assert slurm.job(het)["job_state"] == "RUNNING"


def test_without_job_submit_new_jobs_are_held_as_soon_as_they_are_seen(slurm: RealSlurm, commands: Commands) -> None:
    """They opted in by a partition, which the job_submit plugin of this cluster does not know."""
    from service.plugins.slurm.reading import OptIn

    blocker = slurm.submit("--nodes=8", "--gpus-per-node=8")
    runs(slurm, blocker)
    names = [slurm.submit("--partition=plan", "--gpus-per-node=1"), slurm.submit("--partition=plan", "--array=1-2", "--gpus-per-node=1")]
    assert not held(slurm)
    scheduler = SlurmScheduler(commands, Ways(OptIn(frozenset({"plan"}), ""), enforce=True))
    seen = {job.id for job in scheduler.snapshot().jobs if job.held}
    assert seen == {names[0], f"{names[1]}_1", f"{names[1]}_2"}
    slurm.run("scancel", blocker)
    assert set(freer({"partitions": ["plan"], "environment": slurm.environment})()) == seen
    assert slurm.until(lambda: not pending(slurm), 15)


def test_a_users_or_an_administrators_hold_is_theirs(slurm: RealSlurm, commands: Commands) -> None:
    by_admin, released, foreign = slurm.submit(*SINGLE), slurm.submit(*SINGLE), slurm.submit("--hold", "--gpus-per-node=1")
    scheduler = SlurmScheduler(commands, Ways(enforce=True))
    slurm.run("scontrol", "hold", by_admin)
    slurm.run("scontrol", "update", "nodename=gpu[1-8]", "state=drain", "reason=test")
    scheduler.free([released])
    slurm.run("scontrol", "uhold", released)
    assert scheduler.free_all() == ()
    assert held(slurm) == {by_admin, released, foreign}


def test_job_submit_holds_whoever_opted_in_and_nobody_else(slurm: RealSlurm) -> None:
    words = ["quartermaster", "exp7,quartermaster", "quartermasters", ""]
    names = [slurm.submit(f"--comment={word}", "--gpus-per-node=1") for word in words]
    assert held(slurm) == set(names[:2])
    assert slurm.job(names[0])["state_reason"] == "JobHeldUser"
    assert slurm.job(names[0])["admin_comment"].startswith("quartermaster holds")


def test_job_submit_holds_the_jobs_of_its_partitions(slurm: RealSlurm) -> None:
    script = slurm.folder / "job_submit.lua"
    before = script.read_text()
    assert "local PARTITIONS = {}" in before
    try:
        slurm.run("scontrol", "update", "nodename=gpu[1-8]", "state=drain", "reason=test")
        rewrite(script, before.replace("local PARTITIONS = {}", "local PARTITIONS = { gpu = true }"))
        by_default, named, several, other = (
            slurm.submit("--gpus-per-node=1", *options) for options in ((), ("-p", "gpu"), ("-p", "plan,gpu"), ("-p", "plan"))
        )
        assert held(slurm) == {by_default, named, several}
        assert other in pending(slurm)
    finally:
        rewrite(script, before)
    assert slurm.submit("--gpus-per-node=1") not in held(slurm)


def rewrite(script: Path, text: str) -> None:
    """Slurm reads it anew when its time of change is another one, in whole seconds."""
    changed = script.stat().st_mtime
    script.write_text(text)
    os.utime(script, (changed + 5, changed + 5))


# ---------------------------------------------------------------- slurmrestd


@pytest.fixture
def rest(slurm: RealSlurm) -> Rest:
    program = shutil.which("slurmrestd", path=slurm.environment["PATH"])
    if program is None:
        pytest.skip("no slurmrestd on the PATH: install slurmrestd")
    if not list(Path("/usr/lib").glob("*/slurm-wlm/auth_jwt.so")):
        pytest.skip("no auth/jwt plugin: install slurm-wlm-jwt-plugin")
    url = f"127.0.0.1:{free_ports(1)[0]}"
    # Without slurmdbd, the plugins that ask it keep slurmrestd from starting: of 22.05 the others are named.
    plugins = ("-s", "openapi/v0.0.38") if Commands(slurm.environment).version() == (22, 5) else ()
    slurm.start(
        *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),  # slurmrestd refuses to run as root
        *(program, "-f", str(slurm.folder / "slurm.conf"), "-a", "rest_auth/jwt", *plugins, url),
        environment={**slurm.environment, "SLURM_JWT": "daemon"},
    )
    token = slurm.run("scontrol", "token", "lifespan=600")
    found = Rest(f"http://{url}", token, user="root")

    def serves() -> bool:
        try:
            return bool(found.version())
        except SchedulerError:
            return False

    assert slurm.until(serves, 10), "slurmrestd did not come up"
    return found


def test_slurmrestd_tells_the_same_as_the_commands(slurm: RealSlurm, commands: Commands, rest: Rest) -> None:
    runs(slurm, slurm.submit("--nodes=2", "--gpus-per-node=3"))
    slurm.submit(*GANG)
    by_rest, by_commands = read(rest.read()), read(commands.read())
    assert by_rest.snapshot.jobs == by_commands.snapshot.jobs
    assert [node.version for node in by_rest.snapshot.nodes] == [node.version for node in by_commands.snapshot.nodes]


def test_slurmrestd_of_22_05_lets_go_and_cannot_pin(slurm: RealSlurm, rest: Rest) -> None:
    if rest.version() != "v0.0.38":
        pytest.skip(f"this slurmrestd speaks {rest.version()}, which can pin")
    name = slurm.submit(*SINGLE)
    with pytest.raises(SchedulerError, match="cannot pin"):
        rest.must_pin()
    assert rest.tell([Change(name, pin=("gpu2",))])[0].ok is False
    assert rest.tell([Change("999999", hold=False)])[0].gone
    assert name in held(slurm)
    assert SlurmScheduler(rest, Ways(enforce=True)).free_all() == (name,)
    runs(slurm, name)
    assert os.environ.get("SLURM_JWT") is None

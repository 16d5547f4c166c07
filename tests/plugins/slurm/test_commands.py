"""The scontrol that lives long, against a program that behaves as it does and misbehaves when told to."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.plugins.scheduler import SchedulerError
from service.plugins.slurm.changes import Change, Told
from service.plugins.slurm.commands import Commands, Scontrol

PRETENDS = f"""#!{sys.executable} -S
import os, sys, time
sys.stderr.write("scontrol: error: Ignoring obsolete FastSchedule=1 option. Please remove from your configuration.\\n")
for line in sys.stdin:
    first, _, rest = line.strip().partition(" ")
    print("scontrol: " + line, end="", flush=True)
    if first == "release" and rest == "13":
        os._exit(1)
    elif first == "release" and rest == "14":
        time.sleep(600)
    elif first == "release" and rest == "15":
        sys.stderr.write("Invalid job id specified for job 15\\nslurm_suspend error: Invalid job id specified\\n")
    elif first == "release" and rest == "17":
        sys.stderr.write("scontrol: warning: this option will go\\nscontrol: debug:  auth plugin loaded\\n")
    elif first == "release" and rest == "16":
        sys.stderr.write("scontrol: error: " + "x" * 100_000 + "\\n")
    elif first not in ("release", "update", "uhold"):
        sys.stderr.write(f"invalid keyword: {{first}}\\n")
    sys.stderr.flush()
"""
PROGRAMS = {
    "sinfo": 'echo \'{"nodes": [{"name": "gpu1", "state": "idle"}]}\'',
    "squeue": "echo '{\"jobs\": []}'",
}


@pytest.fixture
def path(tmp_path: Path) -> dict[str, str]:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(PRETENDS)
    scontrol.chmod(0o755)
    for name, body in PROGRAMS.items():
        program(tmp_path, name, body)
    return {"PATH": f"{tmp_path}:/usr/bin:/bin"}


def program(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def scontrol(path: dict[str, str]) -> Iterator[Scontrol]:
    found = Scontrol(path, timeout_s=1.5)
    yield found
    found.close()


def test_each_line_has_its_own_answer(scontrol: Scontrol) -> None:
    told = scontrol.run(["release 1", "release 15", "update jobid=2 ReqNodeList=gpu1", "bogus", "release 3"])
    assert [one.ok for one in told] == [True, False, True, False, True]
    assert told[1].gone
    assert not told[3].gone
    assert "bogus" in told[3].detail
    assert scontrol.run([f"release {at}" for at in range(100, 700)]) == (Told(ok=True),) * 600
    assert scontrol.starts == 1


def test_what_it_says_at_its_start_and_warnings_are_no_refusals(scontrol: Scontrol) -> None:
    assert scontrol.run(["release 1", "release 17", "release 15"])[:2] == (Told(ok=True), Told(ok=True))


def test_what_users_set_for_themselves_does_not_decide_what_is_seen(
    path: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUEUE_PARTITION", "other")
    monkeypatch.setenv("SLURM_TIME_FORMAT", "relative")
    program(tmp_path, "squeue", "env")
    seen = Commands(path).glance().decode()
    assert "SQUEUE_PARTITION" not in seen
    assert "SLURM_TIME_FORMAT" not in seen
    assert "SLURM_BITSTR_LEN=0" in seen


def test_a_long_complaint_and_long_lines_do_not_block(scontrol: Scontrol) -> None:
    told = scontrol.run(["release 16"] * 20 + ["update jobid=1 AdminComment=" + "y" * 200_000])
    assert [one.ok for one in told] == [False] * 20 + [True]
    assert max(len(one.detail) for one in told) <= 500


def test_a_scontrol_that_dies_leaves_the_rest_unknown_and_is_started_anew(scontrol: Scontrol) -> None:
    told = scontrol.run(["release 1", "release 13", "release 2"])
    assert [one.ok for one in told] == [True, None, None]
    assert scontrol.run(["release 2"]) == (Told(ok=True),)
    assert scontrol.starts == 2


def test_a_scontrol_that_is_killed_between_calls_is_started_anew(scontrol: Scontrol) -> None:
    scontrol.run(["release 1"])
    assert scontrol.pid is not None
    os.kill(scontrol.pid, signal.SIGKILL)
    scontrol.run(["release 1"])  # it may have died before or during this
    assert scontrol.run(["release 2"]) == (Told(ok=True),)


def test_a_scontrol_that_freezes_is_ended_after_its_time_limit(scontrol: Scontrol) -> None:
    assert [one.ok for one in scontrol.run(["release 1", "release 14", "release 2"])] == [True, None, None]
    assert scontrol.pid is None
    assert scontrol.run(["release 2"]) == (Told(ok=True),)


def test_two_lines_in_one_are_refused(scontrol: Scontrol) -> None:
    with pytest.raises(ValueError, match="one line"):
        scontrol.run(["release 1\nrelease 2"])


def test_what_is_not_installed_is_told() -> None:
    with pytest.raises(SchedulerError, match="install Slurm's client commands"):
        Scontrol({"PATH": "/nowhere"}).run(["release 1"])
    with pytest.raises(SchedulerError, match="no scontrol on the PATH"):
        Commands({"PATH": "/nowhere"}).version()


def test_the_cluster_is_read_by_what_its_version_has(path: dict[str, str], tmp_path: Path) -> None:
    program(tmp_path, "scontrol", 'case "$*" in --version) echo "slurm-wlm 22.05.8";; "show topology") exit 1;; *) exit 3;; esac')
    commands = Commands(path, wall=lambda: 7.0)
    files = commands.read()
    assert (files.nodes["nodes"][0]["name"], files.topology, files.taken_at) == ("gpu1", "", 7.0)
    program(
        tmp_path,
        "scontrol",
        'case "$*" in --version) echo "slurm 24.05.1";; "show topology") echo "SwitchName=s Level=0 Nodes=gpu2";; '
        '"show nodes --json") echo \'{"nodes": [{"name": "gpu2"}]}\';; esac',
    )
    files = Commands(path).read()
    assert (files.nodes["nodes"][0]["name"], files.topology.split()[0]) == ("gpu2", "SwitchName=s")


@pytest.mark.parametrize(
    ("body", "message"),
    [("sleep 60", "has not answered within"), ("echo no >&2; exit 1", "failed: no"), ("echo JOBID", "is no JSON")],
)
def test_a_command_that_does_not_work_is_told(path: dict[str, str], tmp_path: Path, body: str, message: str) -> None:
    program(tmp_path, "scontrol", 'echo "slurm-wlm 22.05.8"')
    program(tmp_path, "squeue", body)
    with pytest.raises(SchedulerError, match=message):
        Commands(path, timeout_s=0.5).read()


def test_changes_go_through_one_scontrol(path: dict[str, str]) -> None:
    commands = Commands(path, timeout_s=1.5)
    try:
        assert commands.tell(()) == ()
        assert [one.ok for one in commands.tell([Change("1", pin=("gpu1",)), Change("15", hold=False)])] == [True, False]
    finally:
        commands.close()

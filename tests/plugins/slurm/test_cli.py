"""The commands ``slurm ...``, against programs that print what a real Slurm printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.cli.errors import BadInputError
from service.cli.shadow_report import ShadowReport
from service.plugins.follower import Round
from service.plugins.gains import Gains, Missed
from service.plugins.heartbeat import Heart
from service.plugins.orders import Wait
from service.plugins.slurm import running
from service.plugins.slurm.files import load
from service.plugins.slurm.reading import OptIn

MIXED = Path(__file__).parent / "data" / "mixed"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH whose squeue, sinfo and scontrol print the saved outputs, and note whatever else they are told."""
    folder = tmp_path / "bin"
    folder.mkdir()
    bodies = {
        "squeue": f'case "$*" in --json) cat {MIXED}/squeue.json;; *) echo 1;; esac',
        "sinfo": f'case "$*" in --json) cat {MIXED}/sinfo.json;; *) echo 1;; esac',
        "scontrol": f'case "$*" in --version) echo "slurm-wlm 22.05.8";; "show topology") cat {MIXED}/topology.txt;; '
        f'*) echo "told $*" >> {tmp_path}/told; cat >> {tmp_path}/told;; esac',
    }
    for name, body in bodies.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    return tmp_path


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["slurm", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_snapshot_is_saved_for_the_importer(programs: Path) -> None:
    told = run("snapshot", "--out", str(programs / "new"))
    assert "6 nodes with 24 GPUs, 7 jobs run" in told
    assert load(programs / "new").jobs == load(MIXED).jobs
    with pytest.raises(BadInputError, match="cannot be written"):
        run("snapshot", "--out", str(programs / "bin" / "squeue"))


@pytest.mark.usefixtures("programs")
def test_status_tells_what_is_free_held_and_left() -> None:
    told = run("status")
    assert told.splitlines()[0] == "2 of 24 GPUs free on 6 nodes; not ready: gpu6"
    assert "left to Slurm, and held: a follower or the watchdog lets it go; its user names the nodes (-w)" in told
    assert not [line for line in told.splitlines() if "note: left to Slurm" in line], "each is told once"
    assert "`quartermaster slurm release` lets them all go now" in told.splitlines()[-1]
    assert "released, about to start on gpu1" in told
    assert "has left no sign of life here" in told
    (running.state_folder()).mkdir(parents=True)
    Heart(running.state_folder() / running.STAMP).beat()
    found = json.loads(run("status", "--json"))
    assert found["last_good_round_s_ago"] < 60
    assert {one["why"] for one in found["held"]} >= {"until its plan is made"}
    assert found["pinned"] == {"24": ["gpu1"]}
    Heart(running.state_folder() / running.STAMP).beat(ended=True)
    assert "has ended" in run("status")


def test_release_lets_everything_go_at_once(programs: Path) -> None:
    """The scontrol of this test never answers: each job's fate is looked up, and they are held still."""
    assert "nothing was held" in run("release", "--timeout", "1") or (programs / "told").exists()
    lines = (programs / "told").read_text().splitlines()
    assert [line for line in lines if line.startswith("release ")]
    assert not [line for line in lines if line.startswith("uhold")]


class Told:
    """A round of shadow mode."""

    def __init__(self, gains: Gains | None, *told: Wait) -> None:
        self.gains, self.told = gains, told


def test_shadow_tells_where_once_and_what_it_came_to(capsys: pytest.CaptureFixture[str]) -> None:
    def gains(at: float, *nodes: str) -> Gains:
        jobs = tuple(Missed(str(index), f"train ({index})", 4.0, 1, (node,), at) for index, node in enumerate(nodes))
        return Gains(at, jobs, 4.0 * len(jobs), 0.1, None, at / 3600, f"sentence at {at:g}")

    report = ShadowReport("`quartermaster slurm run --mode enforce`")
    for at, nodes in [(0.0, ()), (10.0, ("gpu1",)), (20.0, ("gpu1",)), (7200.0, ("gpu2", "gpu3"))]:
        report.note(cast("Round", Told(gains(at, *nodes), *([Wait("9", "", "waiting for 8 GPUs")] if at == 10.0 else []))))
    report.note(cast("Round", Told(None)))
    report.end()
    assert capsys.readouterr().out.splitlines() == [
        "sentence at 0",
        "sentence at 10",
        "  train (0): 4 GPUs on gpu1",
        "  `quartermaster slurm run --mode enforce` would start them there; nothing was changed.",
        "  9: waiting for 8 GPUs",
        "sentence at 7200",
        "  train (0): 4 GPUs on gpu2",
        "  train (1): 4 GPUs on gpu3",
        "In 2.0 h, 2 jobs waited beside enough room at one time or another; 2 GPU hours were idle meanwhile that the plan would have used.",
    ]
    ShadowReport("`quartermaster slurm run --mode enforce`").end()
    assert not capsys.readouterr().out


def test_shadow_reports_what_would_start_and_tells_slurm_nothing(programs: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "QUARTERMASTER_PLUGIN_TIME_LIMIT_S": "10"}
    done = subprocess.run(
        [sys.executable, "-m", "service.cli", "slurm", "run", "--rounds", "1"],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "would start" in done.stdout, done.stderr
    assert not (programs / "told").exists()
    assert not running.state_folder().exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--mode", "advise"), "--mode advise"),
        (("run", "--comment", ""), "no job could opt in"),
        (("run", "--url", "http://localhost:1"), "SLURM_JWT"),
        (("run", "--url", "gopher://x"), "no address of a slurmrestd"),
        (("watchdog", "--limit", "1"), "watchdog_s is 1"),
        (("run", "--time-limit", "-1"), "TIME_LIMIT_S"),
    ],
)
def test_what_makes_no_sense_is_told(programs: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str) -> None:
    monkeypatch.delenv("SLURM_JWT", raising=False)
    with pytest.raises(BadInputError, match=message):
        run(*arguments)
    assert not (programs / "told").exists()


def test_the_mode_may_come_from_the_settings(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERMASTER_PLUGIN_MODE", "advise")
    with pytest.raises(BadInputError, match="Slurm asks nobody for advice"):
        run("run")
    assert not (programs / "told").exists()


def test_without_slurm_the_cure_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInputError, match="install Slurm's client commands"):
        run("status")


def test_the_state_folder_is_the_services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/quartermaster:/other")
    assert running.state_folder() == Path("/var/lib/quartermaster")
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/x/state")
    assert running.state_folder() == Path("/home/x/state/quartermaster")
    monkeypatch.delenv("XDG_STATE_HOME")
    assert running.state_folder().parts[-3:] == (".local", "state", "quartermaster")


def test_the_watchdog_is_configured_with_who_opted_in() -> None:
    from service.plugins.slurm.adapter import Ways

    config = running.config_of(Ways(OptIn(frozenset({"b", "a"}), "word")), {"SLURM_CONF": "x"}, 3.0)
    assert json.loads(json.dumps(config)) == {
        "partitions": ["a", "b"],
        "comment": "word",
        "environment": {"SLURM_CONF": "x"},
        "timeout_s": 3.0,
    }

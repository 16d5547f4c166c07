"""A cluster as the base of a study: read once, then kept; and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from models.placement.schema import Problem
from optimizer.study.schema import Base, Snapshot
from service.cli import main
from service.cli.errors import Exit
from service.plugins.slurm.commands import Commands
from service.plugins.slurm.files import load
from service.studies.notebook import run_file

CLUSTERS = Path(__file__).parent / "clusters"
STUDY = """
name: now
kind: placement
base: {snapshot: %s}
axes: [{name: more, values: [2], edits: [{op: copies, of: "/nodes/0", count: $value, id: "new-{n}"}]}]
limits: {time_limit_s: 5}
"""


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    return int(exit_info.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a study, its cluster beside it."""
    shutil.copytree(CLUSTERS / "slurm", tmp_path / "slurm")
    shutil.copy(CLUSTERS / "kubernetes" / "nodes-and-pods.json", tmp_path / "cluster.json")
    (tmp_path / "study.yaml").write_text(STUDY % "{slurm: slurm}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def base(folder: Path) -> Problem:
    return Problem.model_validate_json((folder / "base.json").read_text())


def test_the_cluster_is_read_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("study", "run", "study.yaml", "--out", "out", "--engine", "here") == Exit.plan
    first = base(folder / "out")
    assert len(first.nodes) == 8
    jobs = json.loads((folder / "slurm" / "squeue.json").read_text())
    jobs["jobs"] = [job for job in jobs["jobs"] if job["name"] != "train"]  # the cluster has changed since
    (folder / "slurm" / "squeue.json").write_text(json.dumps(jobs))
    capsys.readouterr()
    assert run("study", "run", "study.yaml", "--out", "out", "--engine", "here", "--json") == Exit.plan
    assert json.loads(capsys.readouterr().out)["solved"] == 0
    assert base(folder / "out") == first
    shutil.rmtree(folder / "slurm")
    (folder / "study.yaml").write_text((STUDY % "{slurm: slurm}").replace("[2]", "[2, 3]"))
    assert run("study", "run", "study.yaml", "--out", "out", "--engine", "here", "--json") == Exit.plan
    assert json.loads(capsys.readouterr().out)["solved"] == 1
    assert base(folder / "out") == first


def test_a_new_folder_reads_anew(folder: Path) -> None:
    assert run("study", "run", "study.yaml", "--engine", "here") == Exit.plan
    held = {job.id for job in base(folder / "now.study").jobs}
    jobs = json.loads((folder / "slurm" / "squeue.json").read_text())
    jobs["jobs"] = [job for job in jobs["jobs"] if job["name"] != "ours"]
    (folder / "slurm" / "squeue.json").write_text(json.dumps(jobs))
    assert run("study", "run", "study.yaml", "--out", "anew", "--engine", "here") == Exit.plan
    assert len(held - {job.id for job in base(folder / "anew").jobs}) == 1


def test_another_source_does_not_fit_the_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("study", "run", "study.yaml", "--out", "out", "--engine", "here") == Exit.plan
    (folder / "study.yaml").write_text(STUDY % "{kubernetes: cluster.json, jobs: opted-in}")
    assert run("study", "run", "study.yaml", "--out", "out", "--engine", "here") == Exit.bad_input
    assert "another base problem" in capsys.readouterr().err
    assert run("study", "run", "study.yaml", "--out", "other", "--engine", "here") == Exit.plan
    assert [job.id for job in base(folder / "other").jobs if job.running is None] == ["team/podgroup/next"]


def test_live_asks_the_commands_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def read(_: Commands) -> object:
        asked.append(1)
        return load(CLUSTERS / "slurm")

    monkeypatch.setattr(Commands, "read", read)
    (folder / "study.yaml").write_text(STUDY % "{slurm: live}")
    for _ in range(2):
        assert run("study", "run", "study.yaml", "--out", "out", "--engine", "here") == Exit.plan
    assert len(asked) == 1


def test_a_notebook_reads_it_once_too(folder: Path) -> None:
    first = run_file("study.yaml", "out", workers=0)
    shutil.rmtree(folder / "slurm")
    again = run_file("study.yaml", "out", workers=0)
    assert (first.solved, again.solved, again.reused) == (2, 0, 2)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("{}", "exactly one of slurm and kubernetes"),
        ("{slurm: a, kubernetes: b}", "exactly one of slurm and kubernetes"),
        ("{slurm: none}", "/base/snapshot: "),
        ("{kubernetes: study.yaml}", "/base/snapshot: "),
        ("{slurm: slurm, jobs: some}", "/base/snapshot/jobs"),
        ("{slum: slurm}", "did you mean 'slurm'?"),
    ],
)
def test_what_is_no_snapshot_is_one_clear_error(folder: Path, capsys: pytest.CaptureFixture[str], told: str, said: str) -> None:
    (folder / "study.yaml").write_text(STUDY % told)
    assert run("study", "run", "study.yaml", "--engine", "here") == Exit.bad_input
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not (folder / "now.study").exists()


def test_only_placement_has_clusters(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "study.yaml").write_text((STUDY % "{slurm: slurm}").replace("kind: placement", "kind: flow"))
    assert run("study", "run", "study.yaml", "--engine", "here") == Exit.bad_input
    assert "/base/snapshot: a cluster is a problem of the kind placement, not flow" in capsys.readouterr().err


def test_a_damaged_folder_is_not_mixed_with_a_new_cluster(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("study", "run", "study.yaml", "--out", "out", "--engine", "here") == Exit.plan
    (folder / "out" / "base.json").write_text("{}")
    assert run("study", "run", "study.yaml", "--out", "out", "--engine", "here") == Exit.bad_input
    assert "base.json was changed since the study ran" in capsys.readouterr().err


def test_a_base_has_one_source() -> None:
    assert Base(snapshot=Snapshot(slurm="live")).snapshot == Snapshot(slurm="live", jobs="all")
    with pytest.raises(ValueError, match="exactly one of file, problem_id, problem and snapshot"):
        Base(snapshot=Snapshot(slurm="live"), file="x.json")


def test_the_service_reads_no_cluster() -> None:
    import threading

    from service.api.studies_tasks import read_study

    data = json.dumps({"name": "now", "kind": "placement", "base": {"snapshot": {"slurm": "live"}}}).encode()
    found = read_study({"data": data, "base": None, "most": 9}, lambda _: None, threading.Event())
    assert [error["pointer"] for error in found["errors"]] == ["/base/snapshot"]

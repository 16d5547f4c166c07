"""The command ``kubernetes``."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.cli.errors import BadInputError
from service.cli.kubernetes import reading_options
from tests.plugins.kubernetes.conftest import Cluster
from tests.plugins.kubernetes.manifests_made import GATE, pod
from tests.plugins.kubernetes.stub_store import StatusError


def test_snapshot_writes_a_list(cluster: Cluster) -> None:
    cluster.add_nodes(2)
    cluster.add_gang("big", 2)
    cluster.stub.store.create("pods", pod("runs", gated=False, nodeName="n0"), "team")
    out = cluster.folder / "cluster.json"
    done = CliRunner().invoke(
        app, ["kubernetes", "snapshot", "--out", str(out), "--kubeconfig", str(cluster.stub.kubeconfig(cluster.folder))]
    )
    assert done.exit_code == 0, done.output
    assert "2 nodes with 16 GPUs, 1 jobs run, 1 wait" in done.output
    assert {one["kind"] for one in json.loads(out.read_text())["items"]} == {"Node", "Pod", "Job"}


def test_release_takes_our_gate_from_all_pods_of_a_namespace(cluster: Cluster) -> None:
    for name, names in (("ours", [GATE]), ("both", ["other/gate", GATE])):
        cluster.stub.store.create("pods", pod(name, schedulingGates=[{"name": one} for one in names]), "team")
    there = ["kubernetes", "release", "--kubeconfig", str(cluster.stub.kubeconfig(cluster.folder))]
    assert "0 pods released" in CliRunner().invoke(app, [*there, "--namespace", "elsewhere"]).output
    assert "2 pods released" in CliRunner().invoke(app, there).output
    assert {name: one["spec"]["schedulingGates"] for name, one in cluster.pods().items()} == {"ours": [], "both": [{"name": "other/gate"}]}
    cluster.stub.fault = lambda _method, _path: StatusError(403, "Forbidden", "no pods for you")
    assert "no pods for you" in str(CliRunner().invoke(app, there).exception)


def test_what_cannot_be_reached_or_written_is_told(cluster: Cluster) -> None:
    for arguments, words in (
        (["snapshot", "--out", "x", "--kubeconfig", str(cluster.folder / "none")], "--kubeconfig"),
        (
            ["snapshot", "--out", str(cluster.folder / "no" / "x"), "--kubeconfig", str(cluster.stub.kubeconfig(cluster.folder))],
            "give another file",
        ),
        (["run", "--kubeconfig", str(cluster.folder / "none")], "--kubeconfig"),
        (["run", "--topology-label", "planet=earth"], "LEVEL=LABEL"),
    ):
        done = CliRunner().invoke(app, ["kubernetes", *arguments])
        assert isinstance(done.exception, BadInputError)
        assert words in str(done.exception)
    cluster.stub.end()
    done = CliRunner().invoke(app, ["kubernetes", "snapshot", "--out", "x", "--kubeconfig", str(cluster.stub.kubeconfig(cluster.folder))])
    assert "does not answer" in str(done.exception)


def test_shadow_tells_what_would_start_where_and_what_it_came_to(cluster: Cluster) -> None:
    cluster.add_nodes(1)
    cluster.stub.store.create("pods", pod("alone", gated=False), "team")
    there = ["--kubeconfig", str(cluster.stub.kubeconfig(cluster.folder)), "--stamp", str(cluster.folder / "stamp"), "--rounds", "1"]
    done = CliRunner().invoke(app, ["kubernetes", "run", *there])
    assert done.exit_code == 0, done.output
    assert "team/alone: 1 GPUs on n0" in done.output
    assert (
        "`quartermaster kubernetes run --mode enforce`, and the gate quartermaster.dev/plan in their pod templates, would start them there"
        in done.output
    )
    assert "1 jobs waited beside enough room" in done.output
    assert {method for method, _ in cluster.stub.asked} == {"GET"}


def test_options_of_reading() -> None:
    found = reading_options(["a", "b"], "my/gate", ["amd.com/gpu"], ["rack=my/rack"], hard=True)
    assert (found.gate, found.gpu_resources, found.namespaces, found.hard) == ("my/gate", ("amd.com/gpu",), frozenset("ab"), True)
    assert found.topology_labels["rack"][0] == "my/rack"
    with pytest.raises(BadInputError):
        reading_options(None, "g", None, ["rack="], hard=False)

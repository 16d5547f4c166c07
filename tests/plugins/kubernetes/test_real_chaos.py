"""Everything at once, at random, on a real control plane: nothing that ran is touched, nothing is given twice, nothing waits for ever."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
import yaml

from benchmarks.plugins.daemons import end_family, until
from benchmarks.plugins.kubernetes import BRISK, TEAM, following, gated, gpu_job, node_of, over_allocated, planned_node, ready, submit
from benchmarks.plugins.kubernetes_cluster import RealKubernetes
from service.plugins.kubernetes import running
from service.plugins.kubernetes.cache import Cache
from service.plugins.kubernetes.jobs import RELEASED
from service.plugins.kubernetes.trimming import trimmed
from tests.plugins.kubernetes.chaos import ACCOUNT, THROTTLE, Chaos, Witness, witnessed
from tests.plugins.kubernetes.conftest import skip_without_programs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.plugins.kubernetes_cluster import Manifest
    from service.plugins.follower import Round

MANIFESTS = Path(running.__file__).parent / "manifests" / "base"
USER = "system:serviceaccount:" + ":".join(ACCOUNT)
MAY = {("patch", "pods", ""), ("patch", "pods", "status"), ("create", "events", "")}
FAULTS = {"critical", "error", "exception"}


@dataclass
class Found:
    """What a run came to."""

    steps: Counter[str] = field(default_factory=Counter)
    rounds: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    lines: Counter[str] = field(default_factory=Counter)
    longest_part_s: float = 0.0


@contextlib.contextmanager
def control_plane(folder: Path, *flags: str) -> Iterator[tuple[RealKubernetes, Path, Path]]:
    """A real one that forgets old versions within seconds; the plugin's own account, and the log of what that writes."""
    policy, log = folder / "policy.yaml", folder / "audit.log"
    rules = [{"level": "RequestResponse", "users": [USER], "verbs": ["delete"]}, {"level": "Metadata", "users": [USER]}, {"level": "None"}]
    asked = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived", "ResponseStarted"], "rules": rules}
    policy.write_text(yaml.safe_dump(asked))
    audit = (f"--audit-policy-file={policy}", f"--audit-log-path={log}")
    busy = ("--max-requests-inflight=40", "--max-mutating-requests-inflight=20", "--etcd-compaction-interval=2s")
    with RealKubernetes(api_flags=(*audit, *busy, *flags)) as kubernetes:
        kubernetes.add_namespace(ACCOUNT[0])
        ready(kubernetes, 0)
        for name in ("service-account", "rbac"):
            for one in yaml.safe_load_all((MANIFESTS / f"{name}.yaml").read_text()):
                if one["kind"] == "ServiceAccount":
                    kubernetes.add(f"/api/v1/namespaces/{ACCOUNT[0]}/serviceaccounts", one)
                else:
                    kubernetes.add(f"/apis/rbac.authorization.k8s.io/v1/{one['kind'].lower()}s", one)
        for value, name in enumerate(("low", "middle", "high")):
            one = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value}
            kubernetes.add("/apis/scheduling.k8s.io/v1/priorityclasses", one)
        spec = {"minAvailable": 2, "selector": {"matchLabels": {"budget": "y"}}}
        budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "budget"}, "spec": spec}
        kubernetes.add(f"/apis/policy/v1/namespaces/{TEAM}/poddisruptionbudgets", budget)
        for shares in (0, 1):
            limited = {"nominalConcurrencyShares": shares, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"}}
            level: Manifest = {"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration"}
            level |= {"metadata": {"name": f"{THROTTLE}-{shares}"}, "spec": {"type": "Limited", "limited": limited}}
            kubernetes.add("/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations", level)
        yield kubernetes, kubernetes.account(*ACCOUNT), log


def chaos(kubernetes: RealKubernetes, account: Path, audit: Path, seed: int, seconds: float, patch: pytest.MonkeyPatch) -> Found:
    """One run; everything that must hold is asserted."""
    found, witness, rounds = Found(), Witness(), list[list["Round"]]()
    hard, replaces = bool(seed // 2 % 2), seed % 4 == 3
    patch.setattr(running, "Gates", witnessed(witness, replaces=replaces))
    if replaces:
        may_delete(kubernetes)
    patch.setattr(running, "Cache", partial(Cache, watch_s=3.0))
    nodes = 4 + seed % 5
    ready(kubernetes, nodes)
    options: dict[str, Any] = {"hard": hard, "kubeconfig": account, "reserve_s": 4.0, "fallback_s": 20.0 if seed % 3 else 3.0}
    audit.touch()
    begun = audit.stat().st_size
    with structlog.testing.capture_logs() as lines, contextlib.ExitStack() as stack:
        rounds.append(stack.enter_context(following(kubernetes, **options)))
        another = contextlib.ExitStack()
        stack.callback(another.close)

        def change() -> None:
            if len(rounds) % 2 == 0:  # the second follower is there
                another.close()
                rounds.append([])
            else:
                rounds.append(another.enter_context(following(kubernetes, **options)))

        driver = Chaos(kubernetes, seed, nodes, change)
        driver.run(seconds)
        if not driver.broken:
            driver.settle(150.0)
            if not driver.broken and not until(lambda: not differing(kubernetes, witness), 20.0):
                driver.broken += differing(kubernetes, witness)
    found.steps, found.longest_part_s, found.outcomes = driver.steps, driver.longest_part_s, witness.outcomes
    for one in (one for each in rounds for one in each):
        found.rounds[one.ended] += 1
        found.troubles[one.trouble or ""] += 1
        found.refusals.update(each.reason.value for each in one.refused)
    found.lines = Counter(line["event"] for line in lines)
    forbidden = written(audit, begun, found.answers)
    faults = [line for line in lines if line["log_level"] in FAULTS or line.get("reason") == "fault"]
    assert not driver.broken, (seed, driver.broken, found)
    assert not witness.wrong, (seed, witness.wrong)
    assert not faults, (seed, faults)
    assert not forbidden, (seed, forbidden)
    assert sum(found.outcomes.values()), found
    return found


def may_delete(kubernetes: RealKubernetes) -> None:
    """The right that ``--replace`` needs."""
    role = {"kind": "ClusterRole", "name": "replacing", "apiGroup": "rbac.authorization.k8s.io"}
    named = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "replacing"}}
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["delete"]}]
    subjects = [{"kind": "ServiceAccount", "namespace": ACCOUNT[0], "name": ACCOUNT[1]}]
    kubernetes.add("/apis/rbac.authorization.k8s.io/v1/clusterroles", named | {"kind": "ClusterRole", "rules": rules})
    binding = {"kind": "ClusterRoleBinding", "roleRef": role, "subjects": subjects}
    kubernetes.add("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", named | binding)


def differing(kubernetes: RealKubernetes, witness: Witness) -> list[str]:
    """What the first follower keeps of nodes, pods and Jobs that is not what the server has."""
    found = []
    for kind, watcher in witness.opened[0].cache.watching.watchers.items():
        if kind not in {"Node", "Pod", "Job"}:
            continue
        kept = {versioned(one) for one in watcher.objects() or ()}
        there = {versioned(trimmed(one)) for one in kubernetes.admin.get(watcher.resource.path)["items"]}
        found += [f"{kind} {one}" for one in kept ^ there]
    return found


def versioned(manifest: Any) -> tuple[str, str]:
    return manifest["metadata"]["name"], manifest["metadata"]["resourceVersion"]


def written(audit: Path, begun: int, answers: Counter[int]) -> list[str]:
    """Requests of the plugin that change something it must not change, such as a pod that is on a node; all answers are counted."""
    forbidden = []
    with audit.open() as log:
        log.seek(begun)
        for line in log:
            one = json.loads(line)
            answers[one.get("responseStatus", {}).get("code", 0)] += 1
            about = one.get("objectRef", {})
            asked = (one["verb"], about.get("resource", ""), about.get("subresource", ""))
            held = asked == ("delete", "pods", "") and not (one.get("responseObject") or {}).get("spec", {}).get("nodeName")
            if asked[0] not in {"get", "list", "watch"} and asked not in MAY and not held:
                forbidden.append(f"{asked} {about.get('name')}")
    return forbidden


@pytest.fixture
def patched() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture
def plane(tmp_path: Path) -> Callable[..., contextlib.AbstractContextManager[tuple[RealKubernetes, Path, Path]]]:
    skip_without_programs()
    return partial(control_plane, tmp_path)


def test_whatever_happens_at_random(plane: Any, patched: pytest.MonkeyPatch) -> None:
    with plane() as (kubernetes, account, audit):
        assert chaos(kubernetes, account, audit, 1, 20.0, patched).outcomes["done"]


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 10))
def test_whatever_happens_at_random_for_long(plane: Any, patched: pytest.MonkeyPatch, seed: int) -> None:
    with plane(f"--watch-cache={str(seed % 2 == 0).lower()}") as (kubernetes, account, audit):
        assert chaos(kubernetes, account, audit, seed, 60.0, patched).outcomes["done"]


@contextlib.contextmanager
def killed_in_between(kubernetes: RealKubernetes, account: Path, gang: str, watchdog_s: float) -> Iterator[int]:
    """A process that follows is killed while it releases a gang of 32; so many of its pods are still held then."""
    with tempfile.TemporaryDirectory() as state:
        settings = BRISK | {"watchdog_s": watchdog_s}
        environment = {**os.environ, **{f"QUARTERMASTER_PLUGIN_{name.upper()}": str(value) for name, value in settings.items()}}
        stamp = Path(state) / "stamp"
        command = [sys.executable, "-m", "service.cli", "kubernetes", "run", "--mode", "enforce", "--watchdog"]
        with (Path(state) / "log").open("wb") as output:
            way = ["--kubeconfig", str(account), "--stamp", str(stamp)]
            process = subprocess.Popen([*command, *way], env=environment, stdout=output, stderr=output, start_new_session=True)
        try:
            assert until(stamp.exists, 60), (Path(state) / "log").read_text()
            path = f"/api/v1/namespaces/{TEAM}/pods"
            since = kubernetes.admin.get(path)["metadata"]["resourceVersion"]
            submit(kubernetes, [gpu_job(gang, 32, 1)])
            with kubernetes.admin.stream(path, {"watch": "true", "resourceVersion": since}, 30.0) as events:
                for event in events:
                    if RELEASED in event["object"]["metadata"].get("annotations", {}):
                        os.kill(process.pid, signal.SIGKILL)
                        break
            process.wait()
            yield sum(map(gated, kubernetes.pods(TEAM)))
        finally:
            end_family(process, state)


@pytest.mark.parametrize("rescuer", ["watchdog", "follower"])
def test_a_gang_is_completed_when_the_plugin_is_killed_between_its_patches(plane: Any, rescuer: str) -> None:
    with plane() as (kubernetes, account, _):
        ready(kubernetes, 4)
        were_held: list[int] = []
        while not any(were_held) and len(were_held) < 5:
            kubernetes.clear_pods()
            with killed_in_between(kubernetes, account, f"gang-{len(were_held)}", 4.0 if rescuer == "watchdog" else 60.0) as held:
                were_held.append(held)
                other = following(kubernetes, kubeconfig=account, watchdog_s=60.0) if rescuer == "follower" else contextlib.nullcontext()
                with other:
                    assert until(lambda: all(map(node_of, kubernetes.pods(TEAM))), 60), were_held
            pods = kubernetes.pods(TEAM)
            assert len(pods) == 32
            assert not over_allocated(kubernetes)
            if rescuer == "follower":  # on the seats that the first pod of the gang carries
                assert [node_of(pod) for pod in pods] == [planned_node(pod) for pod in pods]
        assert any(were_held), "never in between"

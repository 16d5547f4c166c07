"""The manifests on a real API server: each object is taken, the pod is admitted, and its account may do all that the plugin does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner

from benchmarks.plugins.daemons import until
from benchmarks.plugins.kubernetes import GANG, SINGLE, TEAM, following, gated, gpu_job, jobs_of, node_of, planned_node, ready, submit
from service.cli import app
from service.cli.errors import BadInputError
from service.plugins.kubernetes import connection
from service.plugins.kubernetes.cache import Cache
from service.plugins.kubernetes.connection import ApiRefusedError, Connection
from service.plugins.kubernetes.extender_running import PLANNED, CacheReader
from service.plugins.kubernetes.extender_seats import Told
from service.plugins.kubernetes.nodes import ReadingOptions
from service.plugins.orders import Wait
from service.plugins.scheduler import SchedulerError
from tests.plugins.kubernetes.api import Api

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.plugins.kubernetes_cluster import RealKubernetes

FOLDER = Path(__file__).resolve().parents[3] / "service" / "plugins" / "kubernetes" / "manifests"
SYSTEM, ACCOUNT = "quartermaster-system", "quartermaster"
OVERLAYS = ("gates", "extender")
COLLECTIONS = {
    "Namespace": "/api/v1/namespaces",
    "ServiceAccount": f"/api/v1/namespaces/{SYSTEM}/serviceaccounts",
    "Service": f"/api/v1/namespaces/{SYSTEM}/services",
    "ConfigMap": f"/api/v1/namespaces/{SYSTEM}/configmaps",
    "Deployment": f"/apis/apps/v1/namespaces/{SYSTEM}/deployments",
    "Job": f"/apis/batch/v1/namespaces/{SYSTEM}/jobs",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
}
OLDEST_KUBECTL = (1, 27)
ROLES = COLLECTIONS["ClusterRole"]


@cache
def kubectl() -> str:
    """A kubectl that is as new as scheduling gates."""
    found = shutil.which("kubectl")
    if found is None:
        pytest.skip("kubectl is not installed")
    told = subprocess.run([found, "version", "--client", "--output=json"], capture_output=True, text=True, timeout=60, check=False).stdout
    version = re.search(r'"gitVersion": "v(\d+)\.(\d+)', told)
    if version is None or (int(version[1]), int(version[2])) < OLDEST_KUBECTL:
        pytest.skip("kubectl is older than 1.27")
    return found


def rendered(overlay: str) -> list[dict[str, Any]]:
    """All objects of an overlay."""
    done = subprocess.run(
        [kubectl(), "kustomize", str(FOLDER / "overlays" / overlay)], capture_output=True, text=True, timeout=60, check=True
    )
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def based() -> list[dict[str, Any]]:
    """The objects of the base, with the namespace that kustomize gives them."""
    found = [
        one
        for path in sorted((FOLDER / "base").glob("*.yaml"))
        for one in yaml.safe_load_all(path.read_text())
        if one["kind"] in COLLECTIONS
    ]
    for one in found:
        if SYSTEM in COLLECTIONS[one["kind"]]:
            one["metadata"]["namespace"] = SYSTEM
    return sorted(found, key=lambda one: list(COLLECTIONS).index(one["kind"]))


def remove(kubernetes: RealKubernetes) -> None:
    """Nothing of any overlay is left."""
    for kind in ("Deployment", "ClusterRoleBinding", "ClusterRole", "Namespace"):
        name = SYSTEM if kind == "Namespace" else ACCOUNT
        if kubernetes.found(f"{COLLECTIONS[kind]}/{name}") is not None:
            kubernetes.admin.delete(f"{COLLECTIONS[kind]}/{name}", {"propagationPolicy": "Foreground"})
    kubernetes.clear_pods()
    assert until(lambda: kubernetes.found(f"{COLLECTIONS['Namespace']}/{SYSTEM}") is None, 60.0)


@pytest.fixture
def kubernetes(real_kubernetes: RealKubernetes) -> Iterator[RealKubernetes]:
    """Four nodes of eight GPUs, and nothing on them; nothing of the manifests."""
    ready(real_kubernetes, 4)
    yield real_kubernetes
    remove(real_kubernetes)
    real_kubernetes.clear()


# ---------------------------------------------------------------- objects


def test_every_object_of_the_base_is_taken_strictly_and_without_a_warning(kubernetes: RealKubernetes) -> None:
    api = Api(kubernetes.kubeconfig, SYSTEM)
    try:
        for one in based():
            answer = api.answer("POST", COLLECTIONS[one["kind"]], one, fieldValidation="Strict")
            assert (answer.status_code, answer.headers.get("Warning")) == (201, None), answer.text
        for path in sorted((FOLDER / "examples").glob("*.yaml")):
            example = yaml.safe_load(path.read_text())
            answer = api.answer("POST", "/apis/batch/v1/namespaces/default/jobs", example, fieldValidation="Strict", dryRun="All")
            assert (answer.status_code, answer.headers.get("Warning")) == (201, None), answer.text
        misspelt = based()[-1] | {"spek": {}}
        assert api.answer("PUT", f"{COLLECTIONS[misspelt['kind']]}/{ACCOUNT}", misspelt, fieldValidation="Strict").status_code == 400
        admitted(kubernetes, api)
    finally:
        api.close()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_applied_and_its_pod_is_admitted(kubernetes: RealKubernetes, overlay: str) -> None:
    command = [
        kubectl(),
        "apply",
        "--kubeconfig",
        str(kubernetes.kubeconfig),
        "--validate=strict",
        "-k",
        str(FOLDER / "overlays" / overlay),
    ]
    for word in ("created", "unchanged"):  # a second time nothing is left to do: the server changed none of our fields
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert {line.rsplit(" ", 1)[1] for line in done.stdout.splitlines()} == {word}
    api = Api(kubernetes.kubeconfig, SYSTEM)
    try:
        admitted(kubernetes, api)
    finally:
        api.close()


def admitted(kubernetes: RealKubernetes, api: Api) -> None:
    """The Deployment makes its pod, and one more of its template is taken without a warning; one that is not as restricted is not."""
    assert until(lambda: kubernetes.pods(SYSTEM)), kubernetes.admin.get(f"/api/v1/namespaces/{SYSTEM}/events")
    deployment = kubernetes.admin.get(f"{COLLECTIONS['Deployment']}/{ACCOUNT}")
    template = json.loads(json.dumps(deployment["spec"]["template"]))
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"] | {"name": "once-more"}, "spec": template["spec"]}
    asked = {"fieldValidation": "Strict", "dryRun": "All"}
    answer = api.answer("POST", f"/api/v1/namespaces/{SYSTEM}/pods", pod, **asked)
    assert (answer.status_code, answer.headers.get("Warning")) == (201, None), answer.text
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    assert api.answer("POST", f"/api/v1/namespaces/{SYSTEM}/pods", pod, **asked).status_code == 403


# ---------------------------------------------------------------- rights


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> list[ApiRefusedError]:
    """What the server refused anybody since the test began."""
    found: list[ApiRefusedError] = []
    before = connection._refusal  # noqa: SLF001  (through it goes whatever is no success)

    def noted(response: Any) -> ApiRefusedError:
        found.append(before(response))
        return found[-1]

    monkeypatch.setattr(connection, "_refusal", noted)
    return found


def forbidden(refusals: list[ApiRefusedError]) -> list[str]:
    return [str(one) for one in refusals if one.status == 403]


def account(kubernetes: RealKubernetes, rules: list[dict[str, Any]] | None = None) -> Path:
    """A kubeconfig of the plugin's account; with other rules, if any are given."""
    for one in based():
        if one["kind"] == "ClusterRole" and rules is not None:
            one["rules"] = rules
        if one["kind"] not in {"Deployment", "Service"}:
            kubernetes.add(COLLECTIONS[one["kind"]], one)
    found = kubernetes.account(SYSTEM, ACCOUNT)

    def counts() -> bool:  # rules count as soon as the server has heard of its own write
        asked = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": TEAM}}
        held = Connection.opened(found).post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", asked)["status"]["resourceRules"]
        return any("pods" in rule["resources"] for rule in held)

    assert until(counts, 30.0)
    return found


def rules_without(*dropped: str) -> list[dict[str, Any]]:
    """The rules of the base without some resources; ``resource:verb`` drops one verb."""
    (role,) = (one for one in based() if one["kind"] == "ClusterRole")
    found = []
    for rule in role["rules"]:
        kept = [resource for resource in rule["resources"] if resource not in dropped]
        verbs = [verb for verb in rule["verbs"] if not any(f"{resource}:{verb}" in dropped for resource in kept)]
        if kept and verbs:
            found.append(rule | {"resources": kept, "verbs": verbs})
    return found


def reasons(kubernetes: RealKubernetes) -> dict[str, str]:
    """A message of each reason of our events."""
    found = kubernetes.admin.get(f"/api/v1/namespaces/{TEAM}/events")["items"]
    return {one["reason"]: one["message"] for one in found if (one.get("source") or {}).get("component") == "quartermaster"}


def all_run(kubernetes: RealKubernetes, count: int) -> bool:
    found = kubernetes.pods(TEAM)
    return len(found) == count and all(node_of(pod) and not gated(pod) for pod in found)


def clear_events(kubernetes: RealKubernetes) -> None:
    kubernetes.admin.delete(f"/api/v1/namespaces/{TEAM}/events", {})


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_the_account_may_do_all_that_the_plugin_does(kubernetes: RealKubernetes, refusals: list[ApiRefusedError], hard: bool) -> None:
    clear_events(kubernetes)
    way = account(kubernetes)
    with following(kubernetes, hard=hard, kubeconfig=way):
        submit(kubernetes, [gpu_job(f"gang-{at}", *GANG) for at in range(3)] + [gpu_job("one", *SINGLE), gpu_job("too-large", 5, 8)])
        assert until(lambda: sum(bool(node_of(pod)) for pod in kubernetes.pods(TEAM)) == 7, 60.0)
        assert until(lambda: {"Planned", "WaitingForPlan"} <= reasons(kubernetes).keys(), 60.0)
    assert until(lambda: not any(map(gated, kubernetes.pods(TEAM))))  # a stop releases what is held
    for name, pods in jobs_of(kubernetes.pods(TEAM)).items():
        assert name == "too-large" or [node_of(pod) for pod in pods] == [planned_node(pod) for pod in pods]
    done = CliRunner().invoke(app, ["kubernetes", "release", "--kubeconfig", str(way)])
    assert "0 pods released" in done.output
    assert forbidden(refusals) == []


def test_the_extenders_role_suffices_for_it(kubernetes: RealKubernetes, refusals: list[ApiRefusedError]) -> None:
    (role,) = (one for one in rendered("extender") if one["kind"] == "ClusterRole")
    way = Connection.opened(account(kubernetes, role["rules"]))
    submit(kubernetes, [gpu_job("full", 4, 8, gate=None)])
    assert until(lambda: all_run(kubernetes, 4), 30.0)
    submit(kubernetes, [gpu_job("waits", 4, 8, gate=None, labels={"quartermaster.dev/plan": "true"})])
    assert until(lambda: len(kubernetes.pods(TEAM)) == 8)
    cache = Cache(way)
    try:
        cache.start()
        cache.wait_listed(30.0)
        reader = CacheReader(way, cache, ReadingOptions())
        waiting = next(job for job in reader.snapshot().jobs if job.waits)
        reader.tell([Wait(waiting.id, "", "it waits for four nodes")])
        pod = next(one for one in reader.gangs()[waiting.id].members if not one.node)
        reader.touch(Told(pod.namespace, pod.name, pod.uid, waiting.id), "7")
    finally:
        cache.stop()
    touched = kubernetes.admin.get(f"/api/v1/namespaces/{TEAM}/pods/{pod.name}")
    assert touched["metadata"]["annotations"][PLANNED] == "7"
    assert reasons(kubernetes)["WaitingForPlan"] == "it waits for four nodes"
    assert forbidden(refusals) == []
    with pytest.raises(ApiRefusedError, match="403"):
        way.patch(f"/api/v1/namespaces/{TEAM}/pods/{pod.name}/status", [])


def test_without_the_right_to_nominate_gangs_start_without_a_pin(kubernetes: RealKubernetes) -> None:
    clear_events(kubernetes)
    with following(kubernetes, kubeconfig=account(kubernetes, rules_without("pods/status"))):
        submit(kubernetes, [gpu_job("gang", *GANG), gpu_job("one", *SINGLE)])
        assert until(lambda: all_run(kubernetes, 3), 60.0)
        assert until(lambda: "ReleasedWithoutPlan" in reasons(kubernetes))
    assert "pods/status" in reasons(kubernetes)["ReleasedWithoutPlan"]
    assert not any(map(planned_node, kubernetes.pods(TEAM)))


def test_without_the_right_to_patch_pods_keep_their_gate_and_are_told_why(kubernetes: RealKubernetes) -> None:
    clear_events(kubernetes)
    with following(kubernetes, kubeconfig=account(kubernetes, rules_without("pods:patch"))) as rounds:
        submit(kubernetes, [gpu_job("gang", *GANG)])
        assert until(lambda: "NotReleased" in reasons(kubernetes), 60.0)
        before = len(rounds)
        assert until(lambda: len(rounds) > before + 1)  # the plugin goes on
    assert "forbidden" in reasons(kubernetes)["NotReleased"]
    assert all(map(gated, kubernetes.pods(TEAM)))


OPTIONAL = ("jobs", "jobsets", "podgroups", "priorityclasses", "poddisruptionbudgets", "events")


def test_without_optional_kinds_and_events_gangs_start_all_the_same(kubernetes: RealKubernetes, refusals: list[ApiRefusedError]) -> None:
    with following(kubernetes, kubeconfig=account(kubernetes, rules_without(*OPTIONAL))):
        submit(kubernetes, [gpu_job("gang", *GANG)])
        assert until(lambda: all_run(kubernetes, 2), 60.0)
    assert [node_of(pod) for pod in kubernetes.pods(TEAM)] == [planned_node(pod) for pod in kubernetes.pods(TEAM)]
    told = "\n".join(forbidden(refusals))
    assert all(f'resource "{kind}"' in told for kind in OPTIONAL)


@pytest.mark.parametrize("kind", ["nodes", "pods"])
def test_without_nodes_or_pods_nothing_is_decided_and_the_message_says_so(kubernetes: RealKubernetes, tmp_path: Path, kind: str) -> None:
    way = account(kubernetes, rules_without(kind) if kind == "nodes" else rules_without("pods:list", "pods:watch"))
    cache = Cache(Connection.opened(way))
    try:
        cache.start()
        with pytest.raises(SchedulerError, match=f"listed {kind.capitalize()[:-1]}.* yet; look at its log and at our permissions"):
            cache.wait_listed(5.0)
    finally:
        cache.stop()
    done = CliRunner().invoke(app, ["kubernetes", "snapshot", "--out", str(tmp_path / "x"), "--kubeconfig", str(way)])
    assert isinstance(done.exception, BadInputError)
    assert f'cannot list resource "{kind}"' in str(done.exception)
    with following(kubernetes, kubeconfig=way) as rounds:
        submit(kubernetes, [gpu_job("one", *SINGLE)])
        assert until(lambda: kubernetes.pods(TEAM))
        assert not until(lambda: not all(map(gated, kubernetes.pods(TEAM))), 2.0)
    assert rounds == []


# ---------------------------------------------------------------- what forbids a change


POLICIES, BINDINGS = (f"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic{end}" for end in ("ies", "ybindings"))


def test_a_policy_that_forbids_a_namespace_costs_no_other_one(kubernetes: RealKubernetes) -> None:
    """Its gang keeps its gate and takes no seat; once the policy is gone it starts."""
    clear_events(kubernetes)
    group = "admissionregistration.k8s.io/v1"
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"]}
    locked = {"matchLabels": {"job-name": "locked"}}
    rule = {
        "matchConstraints": {"resourceRules": [pods], "objectSelector": locked},
        "validations": [{"expression": "false", "message": "nobody changes these", "reason": "Forbidden"}],
    }
    kubernetes.add(POLICIES, {"apiVersion": group, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "locked"}, "spec": rule})
    bound = {"policyName": "locked", "validationActions": ["Deny"]}
    kubernetes.add(
        BINDINGS, {"apiVersion": group, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "locked"}, "spec": bound}
    )
    try:
        submit(kubernetes, [gpu_job("locked", 4, 8)])
        assert until(lambda: len(kubernetes.pods(TEAM)) == 4)
        path = f"/api/v1/namespaces/{TEAM}/pods/{kubernetes.pods(TEAM)[0]['metadata']['name']}"
        assert until(lambda: refused(kubernetes, path), 60.0)
        with following(kubernetes, kubeconfig=account(kubernetes)):
            assert until(lambda: "NotReleased" in reasons(kubernetes), 60.0)
            submit(kubernetes, [gpu_job("free", 4, 8)])
            assert until(lambda: sum(bool(node_of(pod)) for pod in kubernetes.pods(TEAM)) == 4, 60.0)
            assert all(gated(pod) for pod in jobs_of(kubernetes.pods(TEAM))["locked"])
        assert "nobody changes these" in reasons(kubernetes)["NotReleased"]
    finally:
        kubernetes.admin.delete(f"{BINDINGS}/locked", {})
        kubernetes.admin.delete(f"{POLICIES}/locked", {})


def refused(kubernetes: RealKubernetes, path: str) -> bool:
    try:
        kubernetes.admin.patch(path, [{"op": "add", "path": "/metadata/labels/x", "value": "y"}], dry_run=True)
    except ApiRefusedError as error:
        return error.status == 403
    return False

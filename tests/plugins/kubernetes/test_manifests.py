"""The manifests are what an API server takes, name each other rightly, and allow exactly the requests that the code makes."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from service.cli import kubernetes, kubernetes_extender
from service.plugins import watchdog
from service.plugins.kubernetes.cache import ALL
from service.plugins.kubernetes.extender import OPT_IN
from service.plugins.kubernetes.nodes import ReadingOptions
from service.plugins.orders import Wait
from service.plugins.settings import PluginSettings
from tests.plugins.kubernetes.conftest import Cluster, order_for

client = pytest.importorskip("kubernetes.client")

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "service" / "plugins" / "kubernetes" / "manifests"
CODE = ROOT / "service" / "plugins" / "kubernetes"
FILES = sorted(FOLDER.rglob("*.yaml"))
OVERLAYS = ("gates", "extender")
PLAIN: dict[str, type | tuple[type, ...]] = {"str": str, "int": int, "bool": bool, "float": (int, float), "object": object, "datetime": str}

# What KubeSchedulerConfiguration may hold here (k8s.io/kube-scheduler/config/v1), with the types that YAML gives.
SCHEDULER = {
    "apiVersion": str,
    "kind": str,
    "leaderElection": dict,
    "clientConnection": dict,
    "percentageOfNodesToScore": int,
    "profiles": list,
    "extenders": list,
}
EXTENDER = {
    "urlPrefix": str,
    "filterVerb": str,
    "prioritizeVerb": str,
    "preemptVerb": str,
    "bindVerb": str,
    "weight": int,
    "enableHTTPS": bool,
    "tlsConfig": dict,
    "httpTimeout": str,
    "nodeCacheCapable": bool,
    "managedResources": list,
    "ignorable": bool,
}


def documents(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one is not None]


def kinds(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in documents(path):
        yield one["kind"], one


# ---------------------------------------------------------------- strict reading by the types of the official client

MODELS = {
    "Namespace": "V1Namespace",
    "ServiceAccount": "V1ServiceAccount",
    "ClusterRole": "V1ClusterRole",
    "ClusterRoleBinding": "V1ClusterRoleBinding",
    "Deployment": "V1Deployment",
    "Service": "V1Service",
    "ConfigMap": "V1ConfigMap",
    "Job": "V1Job",
}


def strictly(value: object, kind: str, path: str) -> None:
    """Complain of a field that the type does not have, of a wrong type, and of what a required field lacks."""
    if value is None:
        raise ValueError(f"{path} is null")
    if listed := re.fullmatch(r"List\[(.+)\]", kind):
        assert isinstance(value, list), f"{path} is not a list"
        for index, item in enumerate(value):
            strictly(item, listed[1], f"{path}[{index}]")
    elif mapped := re.fullmatch(r"Dict\[str, (.+)\]", kind):
        assert isinstance(value, dict), f"{path} is not an object"
        for name, item in value.items():
            strictly(item, mapped[1], f"{path}.{name}")
    elif kind in PLAIN:
        assert isinstance(value, PLAIN[kind]), f"{path} is {value!r}, not of type {kind}"
        assert kind in {"bool", "object"} or not isinstance(value, bool), f"{path} is {value!r}, not of type {kind}"
    else:
        model = getattr(client, kind)
        assert isinstance(value, dict), f"{path} is not an object"
        fields = {model.attribute_map[name]: of for name, of in model.openapi_types.items()}
        unknown = set(value) - set(fields)
        assert not unknown, f"{path} has unknown fields {sorted(unknown)}"
        for name, item in value.items():
            strictly(item, fields[name], f"{path}.{name}")
        model.model_validate(value)  # raises ValueError where a required field lacks


def check(document: Mapping[str, Any]) -> None:
    if document["kind"] == "Kustomization":
        return
    if document["kind"] == "KubeSchedulerConfiguration":
        check_scheduler(document)
        return
    strictly(document, MODELS[document["kind"]], document["kind"])
    versions = {"Deployment": "apps/v1", "Job": "batch/v1", "ClusterRole": "rbac.authorization.k8s.io/v1"}
    versions["ClusterRoleBinding"] = versions["ClusterRole"]
    assert document["apiVersion"] == versions.get(document["kind"], "v1")


def check_scheduler(document: Mapping[str, Any]) -> None:
    assert document["apiVersion"] == "kubescheduler.config.k8s.io/v1"
    for name, value in document.items():
        assert type(value) is SCHEDULER[name], name
    for extender in document["extenders"]:
        for name, value in extender.items():
            assert type(value) is EXTENDER[name], name


@pytest.mark.parametrize("path", [path for path in FILES if path.name != "plugin.yaml"], ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_file_is_of_its_type(path: Path) -> None:
    found = documents(path)
    assert found
    for one in found:
        check(one)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda one: one["spec"]["template"]["spec"].update(schedulinggates=[]), "unknown fields"),
        (lambda one: one["spec"].update(replicas="1"), "not of type int"),
        (lambda one: one["spec"].pop("selector"), "selector"),
        (lambda one: one["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"].update(cpu=1), "not of type str"),
        (lambda one: one["spec"]["template"]["spec"]["containers"][0].pop("name"), "name"),
    ],
)
def test_the_check_complains(spoil: Any, complaint: str) -> None:
    (deployment,) = documents(FOLDER / "base" / "deployment.yaml")
    deployment = json.loads(json.dumps(deployment))
    check(deployment)
    spoil(deployment)
    with pytest.raises((AssertionError, ValueError), match=complaint):
        check(deployment)


# ---------------------------------------------------------------- kustomize


@cache
def kustomized(overlay: str) -> list[dict[str, Any]]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(["kubectl", "kustomize", str(FOLDER / "overlays" / overlay)], capture_output=True, text=True, check=True)
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def the(kind: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    (one,) = (one for one in found if one["kind"] == kind)
    return one


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "kustomization.yaml"], ids=lambda path: path.parent.name)
def test_a_kustomization_names_what_is_there(path: Path) -> None:
    (kustomization,) = documents(path)
    named = [*kustomization.get("resources", []), *(patch["path"] for patch in kustomization.get("patches", []) if "path" in patch)]
    named += [name for one in kustomization.get("configMapGenerator", []) for name in one["files"]]
    assert named
    for name in named:
        there = path.parent / name
        assert (there / "kustomization.yaml").is_file() or there.is_file(), name
    beside = {one.name for one in path.parent.glob("*.yaml")} - {"kustomization.yaml"}
    assert beside == {name for name in named if name.endswith(".yaml")}  # nothing lies there unused


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_makes_objects_that_fit_together(overlay: str) -> None:
    found = kustomized(overlay)
    for one in found:
        check(one)
    deployment, service, account = the("Deployment", found), the("Service", found), the("ServiceAccount", found)
    pod = deployment["spec"]["template"]
    assert pod["spec"]["serviceAccountName"] == account["metadata"]["name"]
    (subject,) = the("ClusterRoleBinding", found)["subjects"]
    assert (subject["name"], subject["namespace"]) == (account["metadata"]["name"], account["metadata"]["namespace"])
    assert the("ClusterRoleBinding", found)["roleRef"]["name"] == the("ClusterRole", found)["metadata"]["name"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    ports = {port["name"]: port["containerPort"] for one in pod["spec"]["containers"] for port in one.get("ports", [])}
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(ports)
    namespace = the("Namespace", found)["metadata"]["name"]
    namespaced = {one["metadata"]["namespace"] for one in found if one["kind"] not in {"Namespace", "ClusterRole", "ClusterRoleBinding"}}
    assert namespaced == {namespace}
    volumes = {one["name"] for one in pod["spec"]["volumes"]}
    assert {mount["name"] for one in pod["spec"]["containers"] for mount in one["volumeMounts"]} <= volumes


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_containers_have_no_rights_that_they_do_not_need(overlay: str) -> None:
    spec = the("Deployment", kustomized(overlay))["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not any(spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC"))
    assert not any("hostPath" in volume for volume in spec["volumes"])
    for one in spec["containers"]:
        context = one["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= set(one["resources"]["requests"])
        assert "memory" in one["resources"]["limits"]
        assert "livenessProbe" in one
        assert "readinessProbe" in one


def test_the_image_is_the_one_of_the_container_file() -> None:
    compose = yaml.safe_load((ROOT / "service" / "container" / "compose.yaml").read_text())
    built = compose["services"]["api"]["image"]
    (deployment,) = documents(FOLDER / "base" / "deployment.yaml")
    (kustomization,) = documents(FOLDER / "base" / "kustomization.yaml")
    containers = deployment["spec"]["template"]["spec"]["containers"]
    assert {one["image"] for one in containers} == {built}
    assert [one["name"] for one in kustomization["images"]] == [built]
    user = re.search(r"--uid (\d+)", (ROOT / "service" / "container" / "Containerfile").read_text())
    assert user is not None
    assert deployment["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == int(user[1])


# ---------------------------------------------------------------- rights

Right = tuple[str, str, str]  # group, resource, verb
READ_AS_ONE_MIGHT = {("", "nodes", "get")}  # whoever may list nodes sees as much


def granted() -> set[Right]:
    (role,) = (one for kind, one in kinds(FOLDER / "base" / "rbac.yaml") if kind == "ClusterRole")
    return rights(role)


def rights(role: dict[str, Any]) -> set[Right]:
    return {right for rule in role["rules"] for right in product(rule["apiGroups"], rule["resources"], rule["verbs"])}


def watched() -> set[Right]:
    found = set()
    for resource in ALL:
        parts = resource.path.strip("/").split("/")
        group = "" if parts[0] == "api" else parts[1]
        found |= {(group, parts[-1], "list"), (group, parts[-1], "watch")}
    return found


# Requests besides lists and watches, by the call in the code that makes each.
CALLS = {
    r"connection\.get\(pod_path\(pod\)\)": ("", "pods", "get"),
    r"connection\.patch\(pod_path\(pod, status=status\)": ("", "pods", "patch"),
    r"connection\.patch\(pod_path\(pod\), touching": ("", "pods", "patch"),
    r"patch\(pod_path\(pod, status=True\)": ("", "pods/status", "patch"),
    r"connection\.post\(\s*f\"/api/v1/namespaces/\{pod\.namespace\}/events\"": ("", "events", "create"),
}


def test_the_rights_are_those_that_the_code_uses() -> None:
    code = "\n".join(path.read_text() for path in CODE.glob("*.py"))
    for call, right in CALLS.items():
        assert re.search(call, code), f"nothing in the code asks for {right} any more"
    assert granted() == watched() | set(CALLS.values()) | READ_AS_ONE_MIGHT


def needed(method: str, path: str) -> Right:
    """The right that a request needs. The stub does not tell a watch from a list; both are granted together."""
    parts = path.partition("?")[0].strip("/").split("/")
    group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
    rest = rest[2:] if rest[0] == "namespaces" and len(rest) > 2 else rest
    verbs = {"GET": "list" if len(rest) == 1 else "get", "PATCH": "patch", "POST": "create", "DELETE": "delete"}
    return group, "/".join([rest[0], *rest[2:]]), verbs[method]


def test_a_recorded_run_asks_for_what_is_granted_and_for_nothing_else(cluster: Cluster) -> None:
    cluster.add_nodes(2)
    cluster.add_gang("train", 2, gpus=8)
    gates = cluster.gates()
    seen = gates.snapshot()
    (name,) = (job.id for job in seen.jobs)
    gates.tell([Wait(name, seen.jobs[0].identity, "it waits for two nodes")])
    assert [one.outcome for one in gates.commit([order_for(seen, name, "n0", "n1")])] == ["done"]
    asked = {needed(method, path) for method, path in cluster.stub.asked}
    assert asked <= granted()
    used = {(group, resource) for group, resource, _ in asked}
    assert used == {(group, resource) for group, resource, _ in granted()}


def test_the_extender_is_granted_less() -> None:
    role = the("ClusterRole", kustomized("extender"))
    assert granted() - rights(role) == {("", "pods/status", "patch"), ("", "pods", "get"), ("", "nodes", "get")}
    assert rights(role) < granted()
    assert rights(the("ClusterRole", kustomized("gates"))) == granted()


def test_nothing_is_granted_that_could_do_harm() -> None:
    for group, resource, verb in granted():
        assert "*" not in {group, resource, verb}
        assert resource not in {"secrets", "pods/binding", "pods/eviction", "pods/exec"}
        writes = {("pods", "patch"), ("pods/status", "patch"), ("events", "create")}
        assert verb in {"get", "list", "watch"} or (resource, verb) in writes


# ---------------------------------------------------------------- what the code reads


def test_the_extender_is_configured_as_it_answers() -> None:
    (configuration,) = documents(FOLDER / "overlays" / "extender" / "scheduler-configuration.yaml")
    (extender,) = configuration["extenders"]
    assert configuration["percentageOfNodesToScore"] == 100
    assert extender["nodeCacheCapable"] is True
    assert extender["ignorable"] is True
    assert extender["httpTimeout"] == "200ms"
    assert extender["managedResources"] == [{"name": "nvidia.com/gpu", "ignoredByScheduler": False}]
    assert [extender[f"{verb}Verb"] for verb in ("filter", "prioritize", "preempt")] == ["filter", "prioritize", "preempt"]
    assert "bindVerb" not in extender  # kube-scheduler binds
    assert extender["weight"] * 10 * 10 > 1_200  # more than the default plugins together: their weights add up to 12, times 100
    (service,) = documents(FOLDER / "base" / "service.yaml")
    (namespace,) = documents(FOLDER / "base" / "namespace.yaml")
    host = f"{service['metadata']['name']}.{namespace['metadata']['name']}.svc:{service['spec']['ports'][0]['port']}"
    assert extender["urlPrefix"] == f"http://{host}"


def test_settings_exist() -> None:
    (deployment,) = documents(FOLDER / "base" / "deployment.yaml")
    names = {entry["name"]: entry["value"] for one in deployment["spec"]["template"]["spec"]["containers"] for entry in one["env"]}
    prefix = "QUARTERMASTER_PLUGIN_"
    fields = {name.removeprefix(prefix).lower(): value for name, value in names.items() if name.startswith(prefix)}
    assert set(fields) <= set(PluginSettings.model_fields)
    settings = PluginSettings(**fields)
    assert settings.mode.value == "shadow"  # nothing is touched by applying a manifest
    assert f"--limit-s={settings.watchdog_s:g}" in watchdog_arguments()


FOLLOWED = "/run/quartermaster/stamp"


def watchdog_arguments() -> list[str]:
    (deployment,) = documents(FOLDER / "base" / "deployment.yaml")
    (dog,) = (one for one in deployment["spec"]["template"]["spec"]["containers"] if one["name"] == "watchdog")
    assert dog["command"] == ["python", "-m", watchdog.__name__]
    return list(dog["args"])


def test_the_watchdog_is_started_with_arguments_that_it_knows() -> None:
    options = {argument.split("=")[0]: argument.partition("=")[2] for argument in watchdog_arguments()}
    source = inspect.getsource(watchdog.main)
    assert all(f'"{option}"' in source for option in options)
    assert callable(watchdog.maker(options["--free"]))
    assert json.loads(options["--config"]) == {}


@pytest.mark.parametrize(("overlay", "command"), [("gates", kubernetes.run), ("extender", kubernetes_extender.extender)])
def test_the_plugin_is_started_with_options_that_it_knows(overlay: str, command: Any) -> None:
    (patch,) = documents(FOLDER / "overlays" / overlay / "plugin.yaml")
    (plugin,) = (one for one in patch["spec"]["template"]["spec"]["containers"] if one["name"] == "plugin")
    group, name, *options = plugin["args"]
    assert (group, name) == ("kubernetes", command.__name__)
    app = typer.Typer()
    app.command(name)(command)
    app.command("other")(lambda: None)
    known = {option for one in typer.main.get_command(app).commands[name].params for option in one.opts}  # type: ignore[attr-defined]
    assert {option.partition("=")[0] for option in options} <= known
    assert f"--stamp={FOLLOWED}" in options
    (deployment,) = documents(FOLDER / "base" / "deployment.yaml")
    assert FOLLOWED in (FOLDER / "base" / "deployment.yaml").read_text()
    mounts = {mount["mountPath"] for one in deployment["spec"]["template"]["spec"]["containers"] for mount in one["volumeMounts"]}
    assert str(Path(FOLLOWED).parent) in mounts


def test_the_examples_opt_in() -> None:
    (gated,) = documents(FOLDER / "examples" / "gated-job.yaml")
    (labelled,) = documents(FOLDER / "examples" / "labelled-job.yaml")
    assert gated["spec"]["template"]["spec"]["schedulingGates"] == [{"name": ReadingOptions().gate}]
    assert labelled["spec"]["template"]["metadata"]["labels"] == {OPT_IN: "true"}
    for job in (gated, labelled):
        assert job["spec"]["parallelism"] == job["spec"]["completions"]  # that makes a gang of it

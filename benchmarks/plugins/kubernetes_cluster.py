"""A real control plane of Kubernetes on this machine: etcd, kube-apiserver, kube-controller-manager and kube-scheduler, on loopback.

The programs are those of a Kubernetes release and of an etcd release, in the folder that ``QUARTERMASTER_TEST_KUBERNETES`` names.
There are no kubelets: nodes are objects, with as many GPUs as their status says, and a thread tells of each bound pod that it runs.
Nothing outside a folder of its own is touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from benchmarks.plugins.daemons import Cluster, Daemons, StartError, free_ports, until
from service.plugins.kubernetes.connection import ApiRefusedError, Connection
from service.plugins.scheduler import SchedulerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VARIABLE = "QUARTERMASTER_TEST_KUBERNETES"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
CONTROLLERS = (
    "serviceaccount-controller",
    "namespace-controller",
    "garbage-collector-controller",
    "job-controller",
    "replicaset-controller",
    "deployment-controller",
    "statefulset-controller",
    "disruption-controller",
)
STARTED_S = 90.0
PODS = "/api/v1/pods"
ENDED = ("Succeeded", "Failed")
Manifest = dict[str, Any]


def programs() -> Path | None:
    """The folder of the programs."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


def why_not() -> str | None:
    """Why no Kubernetes can be started here, or None when it can."""
    folder = programs()
    if folder is None:
        return f"{VARIABLE} names no folder with {', '.join(PROGRAMS)}"
    missing = [name for name in PROGRAMS if not os.access(folder / name, os.X_OK)]
    if missing:
        return f"no {', '.join(missing)} in {folder}"
    return None if shutil.which("openssl") else "no openssl on the PATH: it makes the key that signs tokens"


@dataclass(slots=True)
class RealKubernetes(Cluster):
    """One cluster. ``with RealKubernetes() as kubernetes`` starts and stops it; ``kubeconfig`` is that of its administrator."""

    life_s: int = 900
    extenders: list[Manifest] = field(default_factory=list)  # of KubeSchedulerConfiguration
    api_flags: tuple[str, ...] = ()
    folder: Path = field(init=False)
    kubeconfig: Path = field(init=False)
    admin: Connection = field(init=False)
    scheduler_url: str = field(init=False, default="")  # where kube-scheduler tells its metrics, to anybody
    _daemons: Daemons = field(init=False)
    _etcd: int = field(init=False, default=0)
    _port: int = field(init=False, default=0)
    _running: dict[str, subprocess.Popen[bytes]] = field(init=False, default_factory=dict)
    _kubelets: Kubelets | None = field(init=False, default=None)

    # ------------------------------------------------------------ using

    @property
    def version(self) -> str:
        """What the API server says it is."""
        return str(self.admin.get("/version")["gitVersion"])

    def add_node(self, node: Manifest) -> None:
        """One more node, with the status given."""
        self.admin.post("/api/v1/nodes", node)

    def add_namespace(self, name: str) -> None:
        """A namespace in which pods can be made."""
        self.admin.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        if not until(lambda: self.found(account), STARTED_S):
            raise StartError(f"namespace {name} got no service account\n{self._daemons.logs()}")

    def add(self, path: str, manifest: Manifest) -> Mapping[str, Any]:
        """One more object in the collection at ``path``."""
        return self.admin.post(path, manifest)

    def found(self, path: str) -> Mapping[str, Any] | None:
        """The object, or None when there is none."""
        try:
            return self.admin.get(path)
        except ApiRefusedError as error:
            if error.status == 404:  # there is none
                return None
            raise

    def pods(self, namespace: str | None = None) -> list[Manifest]:
        """All pods, or those of a namespace."""
        path = PODS if namespace is None else f"/api/v1/namespaces/{namespace}/pods"
        found: list[Manifest] = self.admin.get(path)["items"]
        return found

    def restart_scheduler(self, extenders: list[Manifest] | None = None) -> None:
        """Kube-scheduler anew, with other extenders if any are given. Raises StartError."""
        if extenders is not None:
            self.extenders = extenders
        self._daemons.end(self._running["kube-scheduler"])
        self._start_scheduler()

    @contextlib.contextmanager
    def api_server_away(self) -> Iterator[None]:
        """The API server is stopped; at the end another one takes up its state, on the same port."""
        self._daemons.end(self._running["kube-apiserver"])
        try:
            yield
        finally:
            self._start_api_server()

    def clear_pods(self) -> None:
        """No jobs and pods are left."""
        for collection, kind in (("/apis/batch/v1", "jobs"), ("/api/v1", "pods")):
            for one in self.admin.get(f"{collection}/{kind}")["items"]:
                self._remove(f"{collection}/namespaces/{one['metadata']['namespace']}/{kind}/{one['metadata']['name']}")
        if not until(lambda: not self.pods(), 60):
            raise RuntimeError(f"{len(self.pods())} pods do not go away")

    def clear(self) -> None:
        """No jobs, pods and nodes are left."""
        self.clear_pods()
        for one in self.admin.get("/api/v1/nodes")["items"]:
            self._remove(f"/api/v1/nodes/{one['metadata']['name']}")

    def log_of(self, program: str) -> str:
        """What a program has written so far; one that was started anew goes on writing."""
        return max((self.folder / "log").glob(f"*-{program}"), key=lambda path: path.stat().st_mtime).read_text(errors="replace")

    def _remove(self, path: str) -> None:
        with contextlib.suppress(ApiRefusedError):
            self.admin.delete(path, {"gracePeriodSeconds": 0, "propagationPolicy": "Background"})

    # ------------------------------------------------------------ starting and stopping

    def _start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="qm-kubernetes-"))
        (self.folder / "log").mkdir()
        self._daemons, self._running = Daemons(self.folder / "log", self.life_s), {}
        self._etcd, peer, self._port = free_ports(3)
        client, other = f"http://127.0.0.1:{self._etcd}", f"http://127.0.0.1:{peer}"
        subprocess.run(
            [str(shutil.which("openssl")), "genrsa", "-out", str(self.folder / "sa.key"), "2048"], check=True, capture_output=True
        )
        token = os.urandom(16).hex()
        (self.folder / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
        self._launch(
            "etcd",
            *(f"--data-dir={self.folder}/etcd", f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
            *(f"--listen-peer-urls={other}", f"--initial-advertise-peer-urls={other}", f"--initial-cluster=default={other}"),
            "--unsafe-no-fsync",
        )
        self.kubeconfig = self._write_kubeconfig("admin", token)
        self._start_api_server()
        self._launch(
            "kube-controller-manager",
            *self._of_a_client("kube-controller-manager", free_ports(1)[0]),
            *(f"--service-account-private-key-file={self.folder}/sa.key", f"--controllers={','.join(CONTROLLERS)}"),
            *(f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--kube-api-qps=1000", "--kube-api-burst=2000"),
        )
        self._start_scheduler()
        self._kubelets = Kubelets(self.admin)

    def _start_api_server(self) -> None:
        key = self.folder / "sa.key"
        self._launch(
            "kube-apiserver",
            *(f"--etcd-servers=http://127.0.0.1:{self._etcd}", "--bind-address=127.0.0.1", f"--secure-port={self._port}"),
            *(f"--cert-dir={self.folder}/certificates", f"--token-auth-file={self.folder}/tokens.csv", "--authorization-mode=RBAC"),
            *(
                f"--service-account-key-file={key}",
                f"--service-account-signing-key-file={key}",
                "--service-account-issuer=https://test.invalid",
            ),
            *(
                "--service-cluster-ip-range=10.96.0.0/24",
                "--endpoint-reconciler-type=none",
                "--disable-admission-plugins=TaintNodesByCondition",
            ),
            *self.api_flags,
        )
        ready = f"https://127.0.0.1:{self._port}/readyz"
        if not until(self._ready, STARTED_S):
            raise StartError(f"kube-apiserver did not come up at {ready}\n{self._daemons.logs()}")

    def _ready(self) -> bool:
        if not (self.folder / "certificates" / "apiserver.crt").exists():
            return False
        try:
            self.admin = Connection.opened(self.kubeconfig, timeout_s=20.0)
            return bool(self.admin.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-admin"))
        except SchedulerError:
            return False

    def _start_scheduler(self) -> None:
        path = self.folder / "scheduler.yaml"
        wanted = {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "leaderElection": {"leaderElect": False},
            "clientConnection": {"kubeconfig": str(self.kubeconfig), "qps": 1000, "burst": 2000},
            "percentageOfNodesToScore": 100,
            "extenders": self.extenders,
        }
        path.write_text(yaml.safe_dump(wanted))
        port = free_ports(1)[0]
        self.scheduler_url = f"https://127.0.0.1:{port}"
        open_to_all = "--authorization-always-allow-paths=/healthz,/readyz,/livez,/metrics"
        self._launch("kube-scheduler", *self._of_a_client("kube-scheduler", port), open_to_all, f"--config={path}")
        scheduler = self._running["kube-scheduler"]
        until(lambda: scheduler.poll() is not None or _listens(port), STARTED_S)
        if scheduler.poll() is not None or not _listens(port):  # it ends by itself where it does not accept its configuration
            raise StartError(f"kube-scheduler did not come up\n{self._daemons.logs()}")

    def _of_a_client(self, name: str, port: int) -> tuple[str, ...]:
        return (f"--secure-port={port}", "--bind-address=127.0.0.1", f"--cert-dir={self.folder}/{name}")

    def _launch(self, program: str, *flags: str) -> None:
        folder = programs()
        if folder is None:
            raise StartError(str(why_not()))
        self._running[program] = self._daemons.start(str(folder / program), *flags)

    def account(self, namespace: str, name: str) -> Path:
        """A kubeconfig of that service account, as a pod of it would have."""
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        made = self.admin.post(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", request)
        return self._write_kubeconfig(f"{namespace}-{name}", made["status"]["token"])

    def _write_kubeconfig(self, user: str, token: str) -> Path:
        server, certificate = f"https://127.0.0.1:{self._port}", str(self.folder / "certificates" / "apiserver.crt")
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority": certificate}}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
        }
        path = self.folder / f"{user}.yaml"
        path.write_text(yaml.safe_dump(document))
        path.chmod(0o600)
        return path

    def stop(self) -> None:
        """End all, and remove the folder."""
        if self._kubelets is not None:
            self._kubelets.stop()
            self._kubelets = None
        self._daemons.end_all()
        shutil.rmtree(self.folder, ignore_errors=True)


class Kubelets:
    """What kubelets would tell of pods: bound ones run, and those that are being deleted are gone. They never end by themselves."""

    EVERY_S = 0.1

    def __init__(self, admin: Connection) -> None:
        self._admin = admin
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelets", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No more is told."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self.EVERY_S):
            with contextlib.suppress(SchedulerError):
                for pod in self._admin.get(PODS, {"fieldSelector": "spec.nodeName!="})["items"]:
                    with contextlib.suppress(ApiRefusedError):
                        self._tell(pod)

    def _tell(self, pod: Mapping[str, Any]) -> None:
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        if "deletionTimestamp" in meta:
            self._admin.delete(path, {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}})
        elif pod["status"].get("phase") == "Pending":
            still = {"op": "test", "path": "/status/phase", "value": "Pending"}  # it may have been finished since it was listed
            self._admin.patch(f"{path}/status", [still, {"op": "replace", "path": "/status/phase", "value": "Running"}])


def _listens(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def finish(admin: Connection, pod: Mapping[str, Any], phase: str = "Succeeded") -> None:
    """The pod comes to its end."""
    meta = pod["metadata"]
    path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status"
    admin.patch(path, [{"op": "replace", "path": "/status/phase", "value": phase}])

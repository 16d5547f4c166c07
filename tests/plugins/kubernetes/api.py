"""Requests to an API server as anyone would make them: to the stub, or to a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import yaml

if TYPE_CHECKING:
    from pathlib import Path

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"


class Api:
    """By the first user and cluster of a kubeconfig. ``namespace`` is the one whose pods are asked about."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = cluster.get("certificate-authority")
        self.namespace = namespace
        self.kubeconfig = kubeconfig
        self._client = httpx.Client(
            base_url=cluster["server"],
            headers={"Authorization": f"Bearer {user['token']}"},
            verify=_trusting(authority) if authority else True,
            timeout=20.0,
        )

    def close(self) -> None:
        self._client.close()

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json", **query: str) -> tuple[int, Any]:
        """Status and object."""
        answer = self.answer(method, path, body, kind, **query)
        return answer.status_code, answer.json()

    def answer(self, method: str, path: str, body: Any = None, kind: str = "application/json", **query: str) -> httpx.Response:
        """The whole answer."""
        return self._client.request(method, path, json=body, headers={"Content-Type": kind}, params=query)

    def create(self, manifest: dict[str, Any]) -> tuple[int, Any]:
        """Status and object of a new pod, or the refusal."""
        manifest["metadata"]["namespace"] = self.namespace
        return self.ask("POST", f"/api/v1/namespaces/{self.namespace}/pods", manifest)

    def pod(self, name: str) -> Any:
        """A pod as it stands."""
        return self.ask("GET", self._path(name))[1]

    def patch(self, name: str, body: Any, sub: str = "", **query: str) -> tuple[int, str]:
        """Status and message of a JSON patch (a list) or a merge patch of a pod."""
        kind = JSON_PATCH if isinstance(body, list) else MERGE_PATCH
        code, found = self.ask("PATCH", self._path(name) + (f"/{sub}" if sub else ""), body, kind, **query)
        return code, str(found.get("message", ""))

    def bind(self, name: str, node: str) -> tuple[int, str]:
        """Status and message of a raw binding."""
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": node}}
        code, found = self.ask("POST", f"{self._path(name)}/binding", body)
        return code, str(found.get("message", ""))

    def _path(self, name: str) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/{name}"


def _trusting(authority: str) -> Any:
    import ssl

    return ssl.create_default_context(cafile=authority)

"""The stub's rules without HTTP, and with everything that can go wrong at every single request: for thousands of cases."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from service.plugins.kubernetes.connection import JSON_PATCH, ApiAwayError, ApiRefusedError, Connection
from service.plugins.kubernetes.pods import read_pod
from service.plugins.kubernetes.reading import ClusterObjects
from tests.plugins.kubernetes.stub import answered
from tests.plugins.kubernetes.stub_store import Manifest, StatusError, Store

if TYPE_CHECKING:
    from collections.abc import Callable


class Direct(Connection):
    """``before(method, path)`` is called before each request, and may change the store, or return lost, away or a StatusError."""

    def __init__(self, store: Store, before: Callable[[str, str], Any]) -> None:
        self._store, self._before = store, before

    def _call(self, method: str, path: str, query: Any, body: object, headers: dict[str, str]) -> Manifest:
        fault = self._before(method, path)
        if fault == "away":
            raise ApiAwayError("the API server is away")
        try:
            if isinstance(fault, StatusError):
                raise fault
            found = answered(self._store, method, path, dict(query), body, headers.get("Content-Type", ""))
        except StatusError as error:
            raise ApiRefusedError(error.code, error.reason, error.message) from None
        if fault == "lost":
            raise ApiAwayError("the answer is lost")
        return found


class DirectCache:
    """What the adapter is told of the cluster: what it is, or what it was when ``freeze`` was called."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._frozen: ClusterObjects | None = None

    def freeze(self) -> None:
        self._frozen = self.now()

    def thaw(self) -> None:
        self._frozen = None

    def now(self) -> ClusterObjects:
        store = self._store
        return ClusterObjects(nodes=store.all("nodes"), pods=store.all("pods"), jobs=store.all("jobs"), job_sets=(), pod_groups=())

    def objects(self) -> ClusterObjects:
        return self._frozen or self.now()

    def state(self) -> None:
        """Never known to be the same as before."""

    reader = staticmethod(read_pod)

    def observe(self, manifest: Manifest) -> None:
        pass

    def forget(self, living: int) -> None:
        pass

    def stop(self) -> None:
        pass

    def changed(self, timeout_s: float) -> bool:
        del timeout_s
        return True


def quietly(change: Callable[[], object]) -> None:
    """Change the store, if it can be changed so."""
    with suppress(StatusError):
        change()


__all__ = ["JSON_PATCH", "Direct", "DirectCache", "quietly"]

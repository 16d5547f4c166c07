"""The way to the API server: the official client finds it and proves who we are; objects stay the dicts that JSON gives.

Nothing here tries twice: who calls knows whether a second try is safe.
"""

from __future__ import annotations

import json
import socket
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from service.plugins.kubernetes.fields import Object
from service.plugins.scheduler import SchedulerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

CONNECT_S = 3.0
MOST_CONNECTIONS = 32  # that are kept open: a watch of each kind, and the releases of several gangs
JSON_PATCH = "application/json-patch+json"


class ApiRefusedError(SchedulerError):
    """The API server answered, and said no. ``status`` is that of HTTP; ``after_s`` is how long it asks to be left alone."""

    def __init__(self, status: int, reason: str, message: str, after_s: float | None = None) -> None:
        super().__init__(f"the API server refused ({status} {reason}): {message}")
        self.status, self.reason, self.message, self.after_s = status, reason, message, after_s

    @property
    def passing(self) -> bool:
        """Whether the same request may well be answered a little later."""
        return self.status in {408, 429} or self.status >= 500  # noqa: PLR2004  (the families of HTTP)


class ApiAwayError(SchedulerError):
    """The API server gave no whole answer: what was asked may have been done, or not."""


class Connection:
    """Requests to one API server. Thread-safe."""

    def __init__(self, api_client: Any, timeout_s: float = 5.0) -> None:  # noqa: ANN401  (the client has no types)
        self._configuration, self._pools, self._timeout_s = api_client.configuration, api_client.rest_client.pool_manager, timeout_s
        self._host = str(self._configuration.host).rstrip("/")

    @classmethod
    def opened(cls, kubeconfig: Path | None = None, context: str | None = None, timeout_s: float = 5.0) -> Connection:
        """By that file, or by the service account of the pod this runs in, or by the user's own file. Raises SchedulerError."""
        try:
            from kubernetes import client, config
        except ImportError:
            raise SchedulerError("the package 'kubernetes' is not installed: pip install 'quartermaster[kubernetes]'") from None
        untyped: Any = config
        configuration = client.Configuration()
        try:
            if kubeconfig is not None or context is not None:
                untyped.load_kube_config(str(kubeconfig) if kubeconfig else None, context=context, client_configuration=configuration)
            else:
                untyped.load_config(client_configuration=configuration)
        except (config.ConfigException, OSError, TypeError, ValueError) as error:
            raise SchedulerError(f"no way to a Kubernetes API server is configured: {error}; give --kubeconfig FILE") from None
        configuration.connection_pool_maxsize = MOST_CONNECTIONS
        configuration.socket_options = _heard()
        return cls(client.ApiClient(configuration), timeout_s)

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Object:
        """The object or list at ``path``. Raises ApiRefusedError, ApiAwayError."""
        return self._call("GET", path, query or {}, None, {})

    def patch(self, path: str, operations: list[dict[str, Any]], *, dry_run: bool = False) -> Object:
        """The object after a JSON patch; ``dry_run`` checks everything and changes nothing. Raises as ``get``."""
        return self._call("PATCH", path, {"dryRun": "All"} if dry_run else {}, operations, {"Content-Type": JSON_PATCH})

    def post(self, path: str, manifest: Object) -> Object:
        """The object as it was made. Raises as ``get``."""
        return self._call("POST", path, {}, manifest, {"Content-Type": "application/json"})

    def delete(self, path: str, options: Object) -> Object:
        """What the server says of a deletion. Raises as ``get``."""
        return self._call("DELETE", path, {}, options, {"Content-Type": "application/json"})

    def _call(self, method: str, path: str, query: Mapping[str, str], body: object, headers: dict[str, str]) -> Object:
        with self._answer(method, path, query, body, headers, self._timeout_s) as response:
            return _decoded(response.read(decode_content=True))

    @contextmanager
    def stream(self, path: str, query: Mapping[str, str], longest_s: float) -> Iterator[Stream]:
        """A watch: its events, each as it comes. ``longest_s`` is the longest silence. Raises as ``get``."""
        with self._answer("GET", path, query, None, {}, longest_s) as response:
            yield Stream(response)

    @contextmanager
    def _answer(
        self, method: str, path: str, query: Mapping[str, str], body: object, headers: dict[str, str], read_s: float
    ) -> Iterator[Any]:
        import urllib3

        url = f"{self._host}{path}" + (f"?{urlencode(query)}" if query else "")
        told = {"Accept": "application/json", "User-Agent": "quartermaster"} | headers | self._proof()
        try:
            response = self._pools.request(
                method,
                url,
                body=None if body is None else json.dumps(body).encode(),
                headers=told,
                preload_content=False,
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=min(CONNECT_S, read_s), read=read_s),
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiAwayError(f"the API server at {self._host} does not answer: {error}") from None
        try:
            if not 200 <= response.status < 300:  # noqa: PLR2004  (what HTTP calls success)
                raise _refusal(response)
            yield response
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiAwayError(f"the API server at {self._host} broke off its answer: {error}") from None
        finally:
            with suppress(Exception):  # whatever is wrong with a connection that is given up
                response.close()

    def _proof(self) -> dict[str, str]:
        """The headers that say who we are; a token that expires is renewed by the client's own hook."""
        return {
            str(one["key"]): str(one["value"])
            for one in self._configuration.auth_settings().values()
            if one and one.get("in") == "header" and one.get("value")
        }


class Stream:
    """The events of one watch."""

    def __init__(self, response: Any) -> None:  # noqa: ANN401  (urllib3's, through the client)
        self._response = response

    def __iter__(self) -> Iterator[Object]:
        """Each event ``{type, object}``. Raises ApiAwayError for what is no event."""
        held = b""
        for piece in self._response.stream(amt=None, decode_content=True):
            *lines, held = (held + piece).split(b"\n")
            for line in lines:
                if line.strip():
                    yield _decoded(line)

    def stop(self) -> None:
        """End it from another thread: whoever reads is told that it broke off."""
        with suppress(Exception):  # it may have ended by itself
            self._response.connection.sock.shutdown(socket.SHUT_RDWR)


def _heard() -> list[tuple[int, int, int]]:
    """Options by which a connection whose other end is gone without a word breaks within about ten seconds."""
    found = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    if sys.platform == "linux":
        asked = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 3))
        found += [(socket.IPPROTO_TCP, option, value) for option, value in asked]
    return found


def _decoded(text: bytes) -> Object:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ApiAwayError("the API server's answer is not whole: it is no JSON object")
    return found


def _refusal(response: Any) -> ApiRefusedError:  # noqa: ANN401  (as above)
    text = response.read(decode_content=True)[:100_000]
    try:
        status = json.loads(text)
        reason, message = str(status.get("reason", "")), str(status.get("message", ""))
    except (ValueError, AttributeError):
        reason, message = "", text[:200].decode(errors="replace")
    after = response.headers.get("Retry-After", "")
    return ApiRefusedError(response.status, reason, message, float(after) if after.isdigit() else None)

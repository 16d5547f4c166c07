"""One request and its answer, tried again while that is safe and promising: what both clients share.

Nothing here does I/O. An operation is a generator of steps (send this, sleep so long, give this to the caller), and each
client carries the steps out in its own way: one blocks, the other awaits.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import time
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from service.client.errors import BadAnswer, ClientError, TooMany, Unavailable, Unreachable, error_of, seen
from service.client.views import View

if TYPE_CHECKING:
    from collections.abc import Mapping

LATER = (TooMany, Unavailable)  # failures of requests that were not served and may be later
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
NEVER_ANSWERED_S = 2.0  # patience with an address that never answered: more likely a wrong one than one that restarts
PATIENCE_S = 30.0
TIMEOUT_S = 30.0
QUIET_S = 30.0  # a stream says something every 10 s; one that is silent for so long is dead
SQUEEZED_ABOVE = 64 * 1024  # bytes of a body that is worth compressing
OK, NO_CONTENT = 200, 204
monotonic = time.monotonic  # replaced by tests

T = TypeVar("T")
AnyView = TypeVar("AnyView", bound=View)


# ---------------------------------------------------------------- steps


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. Every one may be sent again: those that change something do so once, by their key or their content."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    form: Mapping[str, str] | None = None
    file: tuple[str, bytes] | None = None
    wait_s: float = 0.0  # how long the service may take beyond the usual

    def arguments(self, timeout_s: float) -> dict[str, Any]:
        """As ``httpx.Client.request`` takes them."""
        read_s = max(timeout_s, QUIET_S) if self.headers.get("Accept") == "text/event-stream" else timeout_s + self.wait_s
        return {
            "method": self.method,
            "url": self.path,
            "params": dict(self.params),
            "headers": dict(self.headers),
            "content": self.content,
            "data": self.form,
            "files": {"file": self.file} if self.file is not None else None,
            "timeout": httpx.Timeout(timeout_s, read=read_s),
        }


@dataclass(frozen=True, slots=True)
class Send:
    """Step: the response, its body read."""

    ask: Ask


@dataclass(frozen=True, slots=True)
class Open:
    """Step: the response, its body still to come when the status is 200. It is closed at its end, or by the next step of another kind."""

    ask: Ask


@dataclass(frozen=True, slots=True)
class Chunk:
    """Step: the next bytes of the opened response, None at its end."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Step: wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Emit:
    """Step: give this to the caller, and come back."""

    value: Any


Step = Send | Open | Chunk | Sleep | Emit
Steps = Generator[Step, Any, T]


def resumed(steps: Steps[Any], got: object, error: httpx.HTTPError | None) -> Step:
    """The step after one that brought ``got``, or failed with ``error``; raises StopIteration with the operation's result."""
    return steps.send(got) if error is None else steps.throw(error)


# ---------------------------------------------------------------- the service


class Link:
    """What is known of a service: its address, and whether it has ever answered."""

    def __init__(self, base_url: str, patience_s: float) -> None:
        self.url = _checked(base_url)
        self.patience_s = patience_s
        self.answered = False


def _checked(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        parts, usable = urlsplit(""), False
    if not usable or any(character <= " " for character in base_url):
        raise ValueError(f"{base_url!r} is not the address of a service; give one such as http://127.0.0.1:8080")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the address of a service holds no name and no password; give the API key by itself")
    if parts.query or parts.fragment:
        raise ValueError(f"{base_url!r} has more than an address; leave out what follows the path")
    return base_url.rstrip("/")


LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
KEY = re.compile(r"[\x21-\x7e]+")


def settings_of(link: Link, api_key: str | None) -> dict[str, Any]:
    """Arguments for ``httpx.Client`` and its asynchronous twin. Raises ValueError for a key that is none."""
    if api_key is not None and not KEY.fullmatch(api_key):
        raise ValueError("the API key is not one line of visible ASCII characters; give it as `quartermaster keys create` printed it")
    headers = {"Accept": "application/json", "User-Agent": f"quartermaster/{version('quartermaster')}"}
    if api_key is not None:
        headers["Authorization"] = f"Bearer {api_key}"
    # A proxy that the environment names cannot reach this machine's own services.
    here = urlsplit(link.url).hostname in LOOPBACK
    return {"base_url": link.url, "headers": headers, "mounts": {"http://": None, "https://": None} if here else None}


# ---------------------------------------------------------------- trying again


class Retry:
    """How long to pause after a failure: longer each time, by chance, as the service asks, and not for ever."""

    def __init__(self, link: Link, most_s: float | None = None) -> None:
        self._link = link
        self._most_s = link.patience_s if most_s is None else min(most_s, link.patience_s)
        self._times = 0
        self._since: float | None = None

    def heard(self) -> None:
        """All is well again."""
        self._times, self._since = 0, None

    def pause_s(self, failure: ClientError) -> float:
        """Seconds until the next attempt; raises the failure itself when that is too long to wait for."""
        now = monotonic()
        self._since = now if self._since is None else self._since
        longest = self._most_s if self._link.answered else min(self._most_s, NEVER_ANSWERED_S)
        chance = random.uniform(0.5, 1.0)  # noqa: S311  (so that many clients do not come back at once)
        pause = min(FIRST_PAUSE_S * 2.0**self._times, LONGEST_PAUSE_S) * chance
        if failure.retry_after_s is not None:
            pause = max(pause, failure.retry_after_s * (0.9 + 0.2 * chance))
        if now - self._since + pause > longest:
            raise failure
        self._times = min(self._times + 1, 30)
        return pause


def unreachable(link: Link, error: httpx.TransportError) -> Unreachable:
    """What to say when there is no answer."""
    if isinstance(error, httpx.TimeoutException):
        reason = "it does not answer in time"
    else:
        reason = re.sub(r"^\[Errno -?\d+\] ", "", str(error)).strip().lower() or "the connection was lost"
    return Unreachable(f"{link.url} cannot be reached ({reason[:200]}); check the address, and that `quartermaster serve` runs there")


def exchanged(link: Link, ask: Ask, most_s: float | None = None) -> Steps[httpx.Response]:
    """The response with a status of 200 to 299. ``most_s`` bounds the patience. Raises ClientError."""
    retry = Retry(link, most_s)
    while True:
        failure: ClientError
        try:
            response: httpx.Response = yield Send(ask)
        except httpx.DecodingError:
            raise BadAnswer(f"{link.url} answers with data that are not compressed as it says; is a proxy before it?") from None
        except httpx.TransportError as error:
            failure = unreachable(link, error)
        else:
            link.answered = True
            if response.is_success:
                return response
            failure = error_of(response, link.url)
            if not isinstance(failure, LATER):
                raise failure
            if failure.code == "too_many_waiting":
                ask = replace(ask, headers={name: value for name, value in ask.headers.items() if name != "Prefer"})
        yield Sleep(retry.pause_s(failure))


# ---------------------------------------------------------------- bodies


def squeezed(content: bytes, media_type: str = "application/json") -> tuple[bytes, dict[str, str]]:
    """A body and its headers, compressed when it is large; the same bytes each time, so that it may be sent again."""
    headers = {"Content-Type": media_type}
    if len(content) > SQUEEZED_ABOVE:
        return gzip.compress(content, 1, mtime=0), headers | {"Content-Encoding": "gzip"}
    return content, headers


def viewed(link: Link, view: type[AnyView], response: httpx.Response) -> AnyView:
    """The response's JSON as a view; raises BadAnswer."""
    _require(link, response, "application/json")
    try:
        return view.model_validate_json(response.content)
    except ValidationError as error:
        place = "/".join(str(part) for part in error.errors()[0]["loc"])
        raise _strange(link, response, f"something that this client does not understand{f' (at {place})' if place else ''}") from None


def object_in(link: Link, response: httpx.Response) -> dict[str, Any]:
    """The response's JSON object; raises BadAnswer."""
    _require(link, response, "application/json")
    try:
        found = json.loads(response.content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _strange(link, response, "something that is no JSON object")
    return found


def text_in(link: Link, response: httpx.Response) -> str:
    """The response's plain text; raises BadAnswer."""
    _require(link, response, "text/plain")
    return response.text


def content_in(link: Link, response: httpx.Response, media_type: str) -> bytes:
    """The response's bytes; raises BadAnswer for another media type."""
    _require(link, response, media_type)
    return response.content


def _require(link: Link, response: httpx.Response, media_type: str) -> None:
    if response.headers.get("content-type", "").partition(";")[0].strip().lower() != media_type:
        raise _strange(link, response, seen(response))


def _strange(link: Link, response: httpx.Response, what: str) -> BadAnswer:
    detail = f"{link.url} answers {response.request.url.path} with {what}; is that a Quartermaster service of this version?"
    return BadAnswer(detail, status=response.status_code)

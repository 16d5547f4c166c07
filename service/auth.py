"""Who may ask for what: API keys, scopes, request rates, and what a browser may not do to a service that needs no key."""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from limits import RateLimitItemPerMinute
from limits.strategies import MovingWindowRateLimiter

from service.errors import BadRequest, Forbidden, MissingKey, ServiceError, TooMany
from service.keys import DEFAULT_TENANT, SCOPES, Caller, Keys
from service.moving_windows import MonotonicStorage

if TYPE_CHECKING:
    from service.settings import Settings

__all__ = ["Caller", "Keys", "Rates", "caller", "error_headers", "requires"]

BEARER = "bearer"
CURE = "send 'Authorization: Bearer qm_...' with a key of `quartermaster keys create`"
LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain"})
EVERYTHING = frozenset(SCOPES)


# ---------------------------------------------------------------- rates


@dataclass(frozen=True, slots=True)
class Rate:
    """What is left to one key or address: requests, and seconds until there are more."""

    limit: int
    remaining: int
    reset_s: float


class Rates:
    """At most ``per_minute`` requests of each key (or anonymous address) in any 60 seconds; None: as many as they like.

    Counted in this process: behind several API processes each key has the limit once in each. ``clock`` is monotonic.
    """

    def __init__(self, per_minute: int | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._limit = RateLimitItemPerMinute(per_minute) if per_minute is not None else None
        self._limiter = MovingWindowRateLimiter(MonotonicStorage(clock))

    def take(self, who: str) -> Rate | None:
        """Count one request; what is left, None without a limit. Raises TooMany with the time to wait."""
        if self._limit is None:
            return None
        allowed = self._limiter.hit(self._limit, who)
        stats = self._limiter.get_window_stats(self._limit, who)
        reset_s = max(stats.reset_time - self._clock(), 0.0)
        if not allowed:
            detail = f"more than {self._limit.amount} requests in a minute; wait, or ask the operator for a higher rate"
            raise TooMany(detail, code="rate_limited", retry_after_s=max(math.ceil(reset_s), 1))
        return Rate(self._limit.amount, stats.remaining, reset_s)


def error_headers(error: ServiceError) -> dict[str, str]:
    """The headers that belong to an error: how to authenticate, when to try again."""
    headers = {"WWW-Authenticate": 'Bearer realm="quartermaster"'} if isinstance(error, MissingKey) else {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(math.ceil(error.retry_after_s), 1))
    return headers


# ---------------------------------------------------------------- who asks


async def caller(request: Request) -> Caller:
    """Who asks, counted against their rate.

    Reads ``app.state.settings`` and ``app.state.keys``. Raises MissingKey, Forbidden, BadRequest, TooMany, or Unavailable
    when the database does not answer.
    """
    settings: Settings = request.app.state.settings
    text = _key_text(request)
    address = f"address {request.client.host if request.client is not None else ''}"
    if text is None:
        _count(request, settings, address)
    else:
        keys: Keys = request.app.state.keys
        seen = keys.has_seen(text)
        if not seen:
            _count(request, settings, address)  # before the database is asked: it must not be asked without end
        found = await keys.caller_of(text)
        if found is not None:
            _count(request, settings, f"key {found.key_id}")
            return found
        if seen:
            _count(request, settings, address)
        raise MissingKey(f"the API key is unknown, expired or revoked; {CURE}", code="key_refused")
    if settings.keys_required:
        raise MissingKey(f"this service asks for an API key; {CURE}")
    _refuse_strangers(request, settings)
    return Caller(DEFAULT_TENANT, EVERYTHING)


def requires(scope: str) -> Callable[[Caller], Awaitable[Caller]]:
    """A dependency: the caller, who must have ``scope`` (read, solve or admin). Raises Forbidden and what ``caller`` raises."""
    if scope not in SCOPES:
        raise ValueError(f"'{scope}' is no scope")

    async def allowed(found: Annotated[Caller, Depends(caller)]) -> Caller:
        if not found.may(scope):
            raise Forbidden(
                f"this needs the scope '{scope}'; the key has {', '.join(sorted(found.scopes)) or 'none'}; "
                f"`quartermaster keys create --tenant {found.tenant} --scope {scope}` makes one that has it",
                code="scope_missing",
            )
        return found

    return allowed


def _key_text(request: Request) -> str | None:
    """The key as it was sent: ``Authorization: Bearer`` or ``X-API-Key``."""
    header = request.headers.get("authorization")
    if header is None:
        return request.headers.get("x-api-key")
    scheme, _, text = header.partition(" ")
    if scheme.lower() != BEARER or not text.strip():
        raise MissingKey(f"the Authorization header is not of the form 'Bearer KEY'; {CURE}", code="key_refused")
    return text.strip()


def _count(request: Request, settings: Settings, who: str) -> None:
    rates: Rates | None = getattr(request.app.state, "rates", None)
    if rates is None:
        rates = request.app.state.rates = Rates(settings.rate_per_minute)
    try:
        request.state.rate = rates.take(who)
    except TooMany:
        telemetry = getattr(request.app.state, "telemetry", None)
        if telemetry is not None:
            telemetry.rate_limited()
        raise


# ---------------------------------------------------------------- browsers


def _refuse_strangers(request: Request, settings: Settings) -> None:
    """A service without keys trusts whoever reaches it: a page in the user's browser must not be able to.

    A page of another site is told by its Origin. One whose name was pointed at this machine after it was loaded (DNS
    rebinding) is told by the Host it asks for.
    """
    host = request.headers.get("host", "")
    if settings.is_loopback and not _is_loopback(_name(host)):
        raise Forbidden(
            f"the Host '{host}' is not this machine; ask for 127.0.0.1 or localhost, or require API keys (QUARTERMASTER_REQUIRE_KEYS=true)",
            code="host_refused",
        )
    origin = request.headers.get("origin")
    if origin is not None and (origin == "null" or urlsplit_netloc(origin) != host.lower()):
        raise Forbidden("a page of another origin may not use a service without API keys", code="origin_refused")


def urlsplit_netloc(origin: str) -> str:
    """Host and port of an Origin header. Raises BadRequest when it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        raise BadRequest("the Origin header is not an origin", code="bad_origin") from None


def _name(host: str) -> str:
    """A Host header without its port and without the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def _is_loopback(name: str) -> bool:
    lowered = name.lower().rstrip(".")
    if lowered in LOOPBACK_NAMES or lowered.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(lowered).is_loopback
    except ValueError:
        return False

"""API keys: made, listed and revoked in the database; looked up for every request.

A key reads ``qm_<id>_<secret>``. Only the id and the SHA-256 of the secret are stored. The secret has 256 random bits, so
that a slow hash would protect nothing that a fast one does not.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from sqlalchemy import func, insert, or_, select, update

from service.errors import NotFound, Unavailable, Unprocessable
from service.runs.tables import api_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy import Connection

    from service.runs.database import Database

SCOPES = ("read", "solve", "admin")
"""From the least to the most: each includes those before it."""
DEFAULT_TENANT = "default"
KEY = re.compile(r"qm_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
LONGEST_NAME = 200
DAY_S = 86_400.0
FRESH_S = 0.5  # how long a look-up is believed: a revoked key stops working within a second, in every process
MOST_KEPT = 4_096  # look-ups kept; ids that nobody was given must not fill the memory
LOOKERS = 4  # look-ups at a time: others read the same database
LOOK_S = 10.0  # what a database may take before it counts as not answering
NO_HASH = "0" * 64  # what the secret of an unknown id is compared with, so that the work is the same


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is stored: without its secret. Times are seconds since 1970."""

    id: str
    name: str
    tenant: str
    scopes: tuple[str, ...]
    created_at: float
    expires_at: float | None
    revoked_at: float | None

    def state(self, now: float) -> str:
        """``active``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and now >= self.expires_at else "active"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a tenant, with what it may do. ``key_id`` is None for one that needed no key."""

    tenant: str
    scopes: frozenset[str]
    key_id: str | None = None

    def may(self, scope: str) -> bool:
        """Whether the scopes allow it: ``admin`` includes ``solve``, ``solve`` includes ``read``."""
        return not self.scopes.isdisjoint(SCOPES[SCOPES.index(scope) :])


# ---------------------------------------------------------------- operations for Database.write and Database.read


def create_key(connection: Connection, tenant: str, scopes: Iterable[str], *, name: str = "", expires_days: float | None = None) -> str:
    """Make a key and return its text, which can never be had again. Raises Unprocessable for what no key can be."""
    wanted = set(scopes)
    if not wanted or wanted - set(SCOPES):
        raise Unprocessable(
            f"a key needs scopes among {', '.join(SCOPES)}; got {', '.join(sorted(wanted)) or 'none'}", code="unknown_scope"
        )
    if not TENANT.fullmatch(tenant):
        raise Unprocessable(
            f"'{tenant}' cannot name a tenant; use up to 128 letters, digits, '.', '_' and '-', the first a letter or digit",
            code="bad_tenant",
        )
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise Unprocessable(f"the name of a key is one line of up to {LONGEST_NAME} characters", code="bad_name")
    now = time.time()
    key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    row = {
        "id": key_id,
        "hash": _hash(secret),
        "name": name,
        "tenant": tenant,
        "scopes": " ".join(scope for scope in SCOPES if scope in wanted),
        "created_at": now,
        "expires_at": now + expires_days * DAY_S if expires_days is not None else None,
    }
    connection.execute(insert(api_keys), row)
    return f"qm_{key_id}_{secret}"


def list_keys(connection: Connection) -> list[ApiKey]:
    """Every key there was, the oldest first."""
    columns = [column for column in api_keys.c if column.name != "hash"]
    rows = connection.execute(select(*columns).order_by(api_keys.c.created_at, api_keys.c.id)).mappings()
    return [ApiKey(**{**row, "scopes": tuple(row["scopes"].split())}) for row in rows]


def revoke_key(connection: Connection, key_id: str) -> None:
    """End a key for good; ending it again changes nothing. Raises NotFound."""
    known = connection.execute(select(api_keys.c.id).where(api_keys.c.id == key_id)).first()
    if known is None:
        raise NotFound(f"there is no key '{key_id}'; `quartermaster keys list` shows their ids", code="key_not_found")
    fresh = (api_keys.c.id == key_id) & api_keys.c.revoked_at.is_(None)
    connection.execute(update(api_keys).where(fresh).values(revoked_at=time.time()))


def count_active(connection: Connection) -> int:
    """How many keys would be let in now."""
    alive = api_keys.c.revoked_at.is_(None) & or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > time.time())
    return int(connection.execute(select(func.count()).where(alive)).scalar_one())


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


# ---------------------------------------------------------------- who a key belongs to


@dataclass(frozen=True, slots=True)
class _Known:
    """What the database said of an id."""

    hash: str
    caller: Caller
    expires_at: float | None
    revoked: bool


class Keys:
    """Looks keys up, and believes what it read for half a second. Safe in threads and coroutines.

    ``clock`` is monotonic (how old a look-up is), ``now`` seconds since 1970 (when a key expires).
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, _Known | None]] = OrderedDict()
        self._lookers = anyio.CapacityLimiter(LOOKERS)

    def has_seen(self, text: str) -> bool:
        """Whether the id of this key was found in the database before, as far as is remembered."""
        with self._lock:
            entry = self._kept.get(_split(text)[0])
        return entry is not None and entry[1] is not None

    async def caller_of(self, text: str) -> Caller | None:
        """Whose key this is; None when it is nobody's, expired or revoked. Raises Unavailable when the database does not answer."""
        key_id, secret = _split(text)
        fresh, known = self._fresh(key_id)
        if not fresh:
            known = await self._looked_up(key_id)
        return self._judged(known, secret)

    @property
    def remembered(self) -> int:
        """How many look-ups are kept."""
        with self._lock:
            return len(self._kept)

    def _fresh(self, key_id: str) -> tuple[bool, _Known | None]:
        with self._lock:
            entry = self._kept.get(key_id)
        if entry is None or self._clock() - entry[0] >= FRESH_S:
            return False, None
        return True, entry[1]

    async def _looked_up(self, key_id: str) -> _Known | None:
        try:
            async with asyncio.timeout(LOOK_S):
                return await anyio.to_thread.run_sync(self._look_up, key_id, limiter=self._lookers, abandon_on_cancel=True)
        except TimeoutError:
            raise Unavailable("the database does not answer", code="database_unavailable", retry_after_s=1) from None

    def _look_up(self, key_id: str) -> _Known | None:
        read_at = self._clock()  # before the reading: what is revoked meanwhile must not count as seen

        def operation(connection: Connection) -> _Known | None:
            row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).first()
            if row is None:
                return None
            caller = Caller(row.tenant, frozenset(row.scopes.split()), row.id)
            return _Known(row.hash, caller, row.expires_at, row.revoked_at is not None)

        known = self._database.read(operation)
        with self._lock:
            self._kept[key_id] = (read_at, known)
            self._kept.move_to_end(key_id)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return known

    def _judged(self, known: _Known | None, secret: str) -> Caller | None:
        """The secret is always hashed and compared, whatever is known of the id, so that the time taken tells nothing."""
        right = hmac.compare_digest(_hash(secret), known.hash if known is not None else NO_HASH)
        if known is None or not right or known.revoked:
            return None
        return None if known.expires_at is not None and self._now() >= known.expires_at else known.caller


def _split(text: str) -> tuple[str, str]:
    """Id and secret; what is no key at all becomes the secret of an id that is never given."""
    found = KEY.fullmatch(text)
    return (found[1], found[2]) if found is not None else ("", text)

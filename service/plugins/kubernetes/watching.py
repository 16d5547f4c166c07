"""Objects of the API server kept up to date: listed once, then watched; listed again when the watch cannot go on.

A watch may repeat an event, bring one late or end at any time; the server forgets old versions (410 Gone) and may restart.
What is kept is always some state that the object really had, and never an older one than before.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from service.plugins.kubernetes.connection import ApiAwayError, ApiRefusedError, Connection, Stream
from service.plugins.kubernetes.fields import Object, ObjectError, part, text
from service.plugins.kubernetes.trimming import alike, trimmed
from service.plugins.scheduler import SchedulerError

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = 500
GONE, NOT_FOUND, FORBIDDEN = 410, 404, 403
WATCH_S = 40.0  # after which the server ends a watch: also how long a dead connection can go unnoticed
SILENCE_S = 10.0  # more than that
ABSENT_S = 10.0  # before asking again for a kind that the server does not have: well before any gang of it is given up
SHORTEST_ABSENT_S = 1.0  # at first
SURE_S = 10.0  # of such refusals, before a kind that was read is believed to be gone, or forbidden
MOST_GONE = 20_000  # uids that are remembered between two lists: an event is never that late
RELIST_AFTER = 2  # refusals of a watch
SHORTEST_WATCH_S = 1.0  # one that the server ends sooner is a fault of its own
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 15.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object: its list's path. An optional one may be absent or forbidden."""

    kind: str
    path: str
    optional: bool = False


def version(manifest: Object) -> int:
    """The number that a resource version is; 0 of one that is none: then each event counts as newer."""
    found = text(manifest, "metadata", "resourceVersion")
    return int(found) if found.isascii() and found.isdigit() else 0


@dataclass(slots=True)
class Kept:
    """Objects of one kind by namespace and name. ``apply`` is told events in any order, as often as one likes."""

    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    _since: int = 0  # the version of the last list: what is older says nothing new
    _gone: dict[str, None] = field(default_factory=dict)  # uids, which never come back, the oldest first
    changes: int = 0  # how often anything was written

    def replace(self, manifests: list[Object], since: str) -> bool:
        """A whole list as of ``since``; whether anything changed that matters.

        What we were told of after the list was made stays; unless versions went backwards, which only a restored server does.
        """
        reached = int(since) if since.isascii() and since.isdigit() else 0
        found = {_key(one): one for one in manifests}
        if reached >= self._since:
            found |= {key: one for key, one in self.objects.items() if 0 < reached < version(one)}
        changed = found.keys() != self.objects.keys() or any(not alike(self.objects[key], one) for key, one in found.items())
        self.objects, self._gone, self._since = found, {}, reached
        self.changes += 1
        return changed

    def apply(self, kind: str, manifest: Object) -> bool:
        """One event; whether anything changed that matters. Raises ObjectError."""
        key, uid, before = _key(manifest), text(manifest, "metadata", "uid"), self.objects.get(_key(manifest))
        if kind == "DELETED":
            return self._delete(key, uid, manifest, before)
        if uid in self._gone or (0 < version(manifest) <= self._since and before is None) or (before and _newer(before, manifest)):
            return False
        self.objects[key] = manifest
        self.changes += 1
        return before is None or not alike(before, manifest)

    def _delete(self, key: tuple[str, str], uid: str, manifest: Object, before: Object | None) -> bool:
        if uid:
            self._gone[uid] = None
            if len(self._gone) > MOST_GONE:
                del self._gone[next(iter(self._gone))]
        if before is None or (uid and text(before, "metadata", "uid") != uid) or _newer(before, manifest):
            return False
        del self.objects[key]
        self.changes += 1
        return True


def _key(manifest: Object) -> tuple[str, str]:
    name = text(manifest, "metadata", "name")
    if not name:
        raise ObjectError("'metadata.name' is absent")
    return text(manifest, "metadata", "namespace"), name


def _newer(one: Object | None, other: Object) -> bool:
    """Whether ``one`` is known to be at least as new as ``other``."""
    return one is not None and 0 < version(other) <= version(one)


class Watcher:
    """Keeps the objects of one resource, in a thread of its own once started. ``changed`` is called after each change."""

    def __init__(
        self,
        connection: Connection,
        resource: Resource,
        changed: Callable[[], None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        watch_s: float = WATCH_S,
    ) -> None:
        self.resource, self.relists, self.breaks, self.malformed = resource, 0, 0, 0
        self._connection, self._changed, self._monotonic, self._watch_s = connection, changed, monotonic, watch_s
        self._kept, self._lock = Kept(), threading.Lock()
        self._listed, self._stop = threading.Event(), threading.Event()
        self._absent, self._forbidden = False, False
        self._denied: float | None = None  # since when the server refuses to tell of an optional kind
        self._since = ""  # the version to watch from; empty: list first
        self._lost: float | None = monotonic()  # since when the server is not heard; None: it is
        self._stream: Stream | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch-{resource.kind}", daemon=True)

    def start(self) -> None:
        """Begin, in the background."""
        self._thread.start()

    def stop(self) -> None:
        """End, within a moment."""
        self._stop.set()
        if self._stream is not None:
            self._stream.stop()

    def join(self, timeout_s: float) -> None:
        """Wait for its end."""
        self._thread.join(timeout_s)

    def wait_listed(self, timeout_s: float) -> bool:
        """Whether it has been listed, or is known to be absent, within that time."""
        return self._listed.wait(timeout_s)

    def silent_s(self) -> float:
        """Seconds since the connection to the server was lost; 0 while it holds, and of a kind that is absent."""
        lost = self._lost
        return 0.0 if lost is None or self._absent else self._monotonic() - lost

    def objects(self) -> list[Object] | None:
        """What is kept; None of an optional kind that may not be read."""
        with self._lock:
            return None if self._forbidden else list(self._kept.objects.values())

    @property
    def state(self) -> tuple[int, bool]:
        """Another one after each change of what is kept."""
        return self._kept.changes, self._forbidden

    def observe(self, kind: str, manifest: Object) -> None:
        """Take over what the server answered to a request of ours, before the watch tells it. Raises ObjectError."""
        with self._lock:
            changed = self._kept.apply(kind, trimmed(manifest))
        if changed:
            self._changed()

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            began = self._monotonic()
            try:
                if not self._since:
                    self._list()
                self._watch()
                failures = 0 if self._monotonic() - began >= SHORTEST_WATCH_S else failures + 1
                pause_s = pause(failures - 1) if failures else 0.0
            except ApiRefusedError as error:
                pause_s, failures = self._refused(error, failures), failures + 1
            except (ApiAwayError, ObjectError) as error:
                self.breaks += 1
                if not self._stop.is_set() and failures & (failures - 1) == 0:  # the first, and then ever more seldom
                    log.warning("kubernetes_watch_broke_off", kind=self.resource.kind, detail=str(error))
                pause_s, failures = pause(failures), failures + 1
            except Exception:  # a fault of ours must not end the watch for ever: the list starts all over
                log.exception("kubernetes_watch_failed", kind=self.resource.kind)
                self._since, pause_s, failures = "", pause(failures), failures + 1
            self._stop.wait(pause_s)

    def _refused(self, error: ApiRefusedError, failures: int) -> float:
        """After how long to go on after a refusal."""
        if error.status == GONE:
            log.info("kubernetes_relist", kind=self.resource.kind, detail=error.message)
            self._since = ""
            return 0.0 if failures == 0 else pause(failures)
        if error.status in {NOT_FOUND, FORBIDDEN} and self.resource.optional:
            return self._not_read(error, failures)
        if failures >= RELIST_AFTER:
            self._since = ""  # a server that was restored may not know our version: the list shows where it is
        log.warning("kubernetes_refused", kind=self.resource.kind, status=error.status, detail=error.message)
        return error.after_s if error.after_s is not None else pause(failures)

    def _not_read(self, error: ApiRefusedError, failures: int) -> float:
        """After how long to ask again for a kind that the server does not have, or may not tell us of.

        A server that has just started says so, for a moment, of kinds that it has and that we may read: what is known of them stays.
        """
        now = self._monotonic()
        self._since, self._denied = "", now if self._denied is None else self._denied
        known = self._listed.is_set() and not self._absent
        if known and now - self._denied < SURE_S:
            return min(pause(failures), SURE_S / 4)
        if known or not self._listed.is_set():
            log.info("kubernetes_kind_not_read", kind=self.resource.kind, detail=error.message)
        self._absent, self._forbidden = True, error.status == FORBIDDEN
        with self._lock:
            changed = bool(self._kept.objects) and self._kept.replace([], "")  # a kind that was taken away leaves nothing behind
        self._listed.set()
        if changed:
            self._changed()
        return min(max(now - self._denied, SHORTEST_ABSENT_S), ABSENT_S)

    def _list(self) -> None:
        """List everything. Raises as ``Connection.get``."""
        found: list[Object] = []
        query = {"limit": str(PAGE)}
        while True:
            page = self._connection.get(self.resource.path, query)
            for item in page.get("items") or []:
                try:
                    _key(item)
                    found.append(trimmed(item))
                except (ObjectError, AttributeError, TypeError) as error:
                    self.malformed += 1
                    log.warning("kubernetes_object_malformed", kind=self.resource.kind, detail=str(error))
            following = text(page, "metadata", "continue")
            if not following:
                break
            query = {"limit": str(PAGE), "continue": following}
        since = text(page, "metadata", "resourceVersion")
        with self._lock:
            changed = self._kept.replace(found, since)
        self.relists += 1
        self._denied = None
        self._since, self._lost, self._absent, self._forbidden = since, None, False, False
        first = not self._listed.is_set()
        self._listed.set()
        if changed or first:
            self._changed()

    def _watch(self) -> None:
        """Follow events until the server ends the watch. Raises as ``Connection.stream``."""
        seconds = self._watch_s * random.uniform(0.8, 1.2)  # noqa: S311  (so that watches do not end all at once)
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": self._since}
        try:
            with self._connection.stream(
                self.resource.path, query | {"timeoutSeconds": str(max(int(seconds), 1))}, seconds + SILENCE_S
            ) as stream:
                self._stream, self._lost = stream, None
                for event in stream:
                    self._event(event)
                    if self._stop.is_set():
                        break
        except SchedulerError:
            self._lost = self._monotonic() if self._lost is None else self._lost
            raise
        finally:
            self._stream = None

    def _event(self, event: Object) -> None:
        """Take one event. Raises ApiRefusedError for the server's own word that the watch is over."""
        kind, manifest = text(event, "type"), part(event, "object")
        if kind == "ERROR":
            raise ApiRefusedError(int(manifest.get("code") or 500), str(manifest.get("reason")), str(manifest.get("message")))
        try:
            if kind != "BOOKMARK":
                self.observe(kind, manifest)
        except ObjectError as error:
            self.malformed += 1
            log.warning("kubernetes_object_malformed", kind=self.resource.kind, detail=str(error))
        self._since = self._later(text(manifest, "metadata", "resourceVersion"))

    def _later(self, reached: str) -> str:
        """The version to watch from next: an event that comes late does not turn it back."""
        if reached.isdigit() and self._since.isdigit() and int(reached) < int(self._since):
            return self._since
        return reached or self._since


def pause(failures: int) -> float:
    """Seconds before the next try after so many failures: doubling, with chance in it, so that clients do not come together."""
    return random.uniform(0.5, 1.0) * min(SHORTEST_PAUSE_S * 2.0 ** min(failures, 20), LONGEST_PAUSE_S)  # noqa: S311


class Watching:
    """The watchers of several resources, with one signal for all."""

    def __init__(self, connection: Connection, resources: tuple[Resource, ...], *, watch_s: float = WATCH_S) -> None:
        self._signal = threading.Event()
        self.watchers = {one.kind: Watcher(connection, one, self._signal.set, watch_s=watch_s) for one in resources}

    def start(self) -> None:
        """Begin all."""
        for one in self.watchers.values():
            one.start()

    def check_listed(self, deadline: float) -> None:
        """Raises SchedulerError, naming the kinds, where some are not listed by then."""
        late = [kind for kind, one in self.watchers.items() if not one.wait_listed(max(deadline - time.monotonic(), 0.0))]
        if late:
            raise SchedulerError(f"the API server has not listed {', '.join(late)} yet; look at its log and at our permissions")

    def stop(self) -> None:
        """End all."""
        for one in self.watchers.values():
            one.stop()
        for one in self.watchers.values():
            one.join(2.0)

    def changed(self, timeout_s: float) -> bool:
        """Whether anything changed since the last call, waiting at most so long."""
        found = self._signal.wait(max(timeout_s, 0.0))
        self._signal.clear()
        return found

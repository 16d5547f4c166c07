"""Reads what ``kubectl get nodes,pods -o json`` (or ``-o yaml``) printed: one file or several, which are taken together.

Lists of further kinds help: Jobs, JobSets and PodGroups tell how large a gang is to be, PriorityClasses what a pod's class is worth,
PodDisruptionBudgets who may be evicted. Quantities, topology and gangs are read as the plugin reads them
(``service/plugins/kubernetes/reading.py``).
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from service.documents.errors import BadInputError
from service.documents.json_text import loaded as json_loaded
from service.importers.failures import ImportFileError, contents
from service.plugins.kubernetes.fields import ObjectError
from service.plugins.kubernetes.reading import ClusterObjects, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from service.plugins.cluster import Snapshot
    from service.plugins.kubernetes.connection import Connection
    from service.plugins.kubernetes.reading import ReadingOptions

KNOWN = frozenset({"Node", "Pod", "Job", "JobSet", "PodGroup", "PriorityClass", "PodDisruptionBudget"})
TIME = re.compile(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z$")
CURE = "give what `kubectl get nodes,pods --all-namespaces -o json` prints"


def read_kubernetes(files: Sequence[Path], taken_at: float | None = None, options: ReadingOptions | None = None) -> Snapshot:
    """The cluster that the files list, at ``taken_at`` (seconds since the epoch).

    Without a time, that is the latest that the objects themselves name (nodes report at least every five minutes). Raises
    ImportFileError: a file cannot be read, is no list of objects, or no node is in any of them.
    """
    items = [item for path in files for item in _items(path)]
    here = ", ".join(str(path) for path in files)
    if not any(item.get("kind") == "Node" for item in items):
        raise ImportFileError(f"{here}: lists no node; {CURE}")
    try:
        objects = ClusterObjects.of_list({"items": items})
    except ObjectError as error:
        raise ImportFileError(f"{here}: {error}; {CURE}") from None
    return snapshot(objects, options, latest_time(items) if taken_at is None else taken_at)


def fetched(connection: Connection, now: float, options: ReadingOptions | None = None) -> Snapshot:
    """The cluster as the API server tells it now. Raises SchedulerError: it does not answer, or lets us read neither nodes nor pods."""
    from service.plugins.kubernetes.listing import listed

    return snapshot(ClusterObjects.of_list(listed(connection)), options, now)


def latest_time(items: Sequence[dict[str, Any]]) -> float:
    """The latest past time of an event that objects tell of, seconds since the epoch; 0.0 where none is told.

    Only what has happened counts: when an object was made, when a pod started, when a condition was last seen to hold.
    """
    return max((time for item in items for time in _times(item)), default=0.0)


def _times(item: dict[str, Any]) -> Iterator[float]:
    status, meta = item.get("status"), item.get("metadata")
    told: list[object] = [meta.get("creationTimestamp")] if isinstance(meta, dict) else []
    if isinstance(status, dict):
        told.append(status.get("startTime"))
        conditions = status.get("conditions")
        for condition in conditions if isinstance(conditions, list) else ():
            if isinstance(condition, dict):
                told += [condition.get("lastHeartbeatTime"), condition.get("lastTransitionTime")]
    for text in told:
        if isinstance(text, str) and TIME.match(text):
            yield datetime.fromisoformat(text).timestamp()


def _items(path: Path) -> list[dict[str, Any]]:
    """The objects of one file: those of a list, or the one that it holds. Raises ImportFileError."""
    document = _document(path)
    if not isinstance(document, dict):
        raise ImportFileError(f"{path}: holds no object of the API; {CURE}")
    items = document.get("items", [document]) if "items" in document or document.get("kind") in KNOWN else None
    if not isinstance(items, list):
        raise ImportFileError(f"{path}: /items: there is no list of objects; {CURE}")
    for place, item in enumerate(items):
        if not isinstance(item, dict):
            raise ImportFileError(f"{path}: /items/{place}: is no object; {CURE}")
    return [_of_kind(item, str(document.get("kind", ""))) for item in items]


def _of_kind(item: dict[str, Any], listed: str) -> dict[str, Any]:
    """The item with its kind, which a list of one kind (``PodList``) leaves out."""
    return item if "kind" in item or not listed.endswith("List") else {**item, "kind": listed.removesuffix("List")}


def _document(path: Path) -> object:
    data = contents(path)
    if not data.strip():
        raise ImportFileError(f"{path}: is empty; {CURE}")
    if data.lstrip()[:1] in {b"{", b"["}:
        from service.documents.complaints import InvalidError

        try:
            return json_loaded(data)
        except InvalidError as error:
            raise ImportFileError(f"{path}: {error}; {CURE}") from None
    return _yaml(path, data)


def _yaml(path: Path, data: bytes) -> object:
    import yaml

    from service.documents.yaml_loader import loaded

    try:
        return _plain(loaded(data))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark is not None else ""
        raise ImportFileError(f"{path}: {place}is neither JSON nor YAML ({getattr(error, 'problem', None) or error}); {CURE}") from None
    except (ValueError, RecursionError, BadInputError) as error:
        raise ImportFileError(f"{path}: is not YAML that can be read ({error}); {CURE}") from None


def _plain(value: object) -> object:
    """The document as JSON would have it: YAML reads times as times."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else value

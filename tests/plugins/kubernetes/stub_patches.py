"""The three kinds of patch that an API server takes, as far as pods need them."""

from __future__ import annotations

import copy
from typing import Any


class PatchError(Exception):
    """The patch cannot be applied."""


def json_patch(document: Any, operations: Any) -> Any:
    """RFC 6902: test, add, replace and remove; a failed test refuses the whole patch."""
    if not isinstance(operations, list):
        raise PatchError("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    found = copy.deepcopy(document)
    for one in operations:
        _operate(found, one)
    return found


def _operate(document: Any, operation: dict[str, Any]) -> None:
    kind, path = operation["op"], operation["path"]
    steps = [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]
    holder = document
    for step in steps[:-1]:
        holder = _child(holder, step, path)
    last = steps[-1]
    if kind == "test":
        there = _child(holder, last, path) if _has(holder, last) else None
        if there != operation.get("value"):
            raise PatchError(f"testing value {path} failed: test failed")
    elif kind == "remove":
        if not _has(holder, last):
            raise PatchError(f"remove operation does not apply: doc is missing key: {path}")
        del holder[int(last) if isinstance(holder, list) else last]
    elif kind in {"add", "replace"}:
        if kind == "replace" and not _has(holder, last):
            raise PatchError(f"replace operation does not apply: doc is missing key: {path}")
        _put(holder, last, copy.deepcopy(operation["value"]), insert=kind == "add")
    else:
        raise PatchError(f"unexpected kind: {kind}")


def _has(holder: Any, step: str) -> bool:
    if isinstance(holder, list):
        return step.isdigit() and int(step) < len(holder)
    return isinstance(holder, dict) and step in holder


def _child(holder: Any, step: str, path: str) -> Any:
    if not _has(holder, step):
        raise PatchError(f"add operation does not apply: doc is missing path: {path}: missing value")
    return holder[int(step) if isinstance(holder, list) else step]


def _put(holder: Any, step: str, value: Any, *, insert: bool) -> None:
    if isinstance(holder, dict):
        holder[step] = value
    elif step == "-":
        holder.append(value)
    elif insert:
        holder.insert(int(step), value)
    else:
        holder[int(step)] = value


def merge_patch(document: Any, change: Any) -> Any:
    """RFC 7386."""
    if not isinstance(change, dict):
        return copy.deepcopy(change)
    found = copy.deepcopy(document) if isinstance(document, dict) else {}
    for name, value in change.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merge_patch(found.get(name), value)
    return found


MERGED_BY_NAME = frozenset({"schedulingGates", "containers", "initContainers"})


def strategic_patch(document: Any, change: Any) -> Any:
    """As a merge patch, but the lists of a pod that are keyed by name are merged by name, with ``$patch: delete``."""
    if not isinstance(change, dict):
        return copy.deepcopy(change)
    found = copy.deepcopy(document) if isinstance(document, dict) else {}
    for name, value in change.items():
        if value is None:
            found.pop(name, None)
        elif name in MERGED_BY_NAME and isinstance(value, list):
            items = {one["name"]: one for one in found.get(name, [])}
            for one in value:
                if one.get("$patch") == "delete":
                    items.pop(one["name"], None)
                else:
                    items[one["name"]] = strategic_patch(items.get(one["name"]), one)
            found[name] = list(items.values())
        else:
            found[name] = strategic_patch(found.get(name), value)
    return found

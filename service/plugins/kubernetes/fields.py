"""Careful access to objects as the API gives them: what is not of the promised type is told by its path, never trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.plugins.kubernetes.quantities import quantity

Object = Mapping[str, Any]  # mostly a dict, which ``isinstance`` is much quicker to find


class ObjectError(ValueError):
    """An object is not as the API promises; the message says where."""


def as_object(thing: object) -> Object:
    """The thing, which must be an object. Raises ObjectError."""
    if not isinstance(thing, (dict, Mapping)):
        raise ObjectError("it is not an object")
    return thing


def part(holder: Object, *path: str) -> Object:
    """The object at ``path``; an empty one where it is absent or null. Raises ObjectError."""
    found: object = holder
    for depth, name in enumerate(path):
        if not isinstance(found, (dict, Mapping)):
            raise ObjectError(f"'{'.'.join(path[:depth])}' is not an object")
        found = found.get(name)
        if found is None:
            return {}
    if not isinstance(found, (dict, Mapping)):
        raise ObjectError(f"'{'.'.join(path)}' is not an object")
    return found


def parts(holder: Object, *path: str) -> tuple[Object, ...]:
    """The list of objects at ``path``; an empty one where it is absent or null. Raises ObjectError."""
    found = part(holder, *path[:-1]).get(path[-1])
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(item, (dict, Mapping)) for item in found):
        raise ObjectError(f"'{'.'.join(path)}' is not a list of objects")
    return tuple(found)


def text(holder: Object, *path: str) -> str:
    """The text at ``path``; empty where it is absent or null. Raises ObjectError."""
    found = part(holder, *path[:-1]).get(path[-1])
    if found is None:
        return ""
    if not isinstance(found, str):
        raise ObjectError(f"'{'.'.join(path)}' is not a text")
    return found


def whole(holder: Object, *path: str) -> int | None:
    """The whole number at ``path``; None where it is absent or null. Raises ObjectError."""
    found = part(holder, *path[:-1]).get(path[-1])
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int):
        raise ObjectError(f"'{'.'.join(path)}' is not a whole number")
    return found


def texts(holder: Object, *path: str) -> dict[str, str]:
    """The texts by name at ``path`` (labels, annotations, a node selector). Raises ObjectError."""
    found = part(holder, *path)
    if not all(isinstance(name, str) and isinstance(value, str) for name, value in found.items()):
        raise ObjectError(f"'{'.'.join(path)}' holds something that is not a text")
    return dict(found)


def amounts(holder: Object, *path: str) -> dict[str, float]:
    """The quantities by resource at ``path``, each in its own unit. Raises ObjectError."""
    found: dict[str, float] = {}
    for name, value in part(holder, *path).items():
        try:
            found[str(name)] = quantity(value)
        except ValueError as error:
            raise ObjectError(f"'{'.'.join((*path, str(name)))}': {error}") from None
    return found


def named(thing: object) -> str:
    """``namespace/name`` of an object for a message, as far as it can be told."""
    meta = thing.get("metadata") if isinstance(thing, Mapping) else None
    if not isinstance(meta, Mapping) or not isinstance(meta.get("name"), str):
        return "an object without a name"
    return f"{meta['namespace']}/{meta['name']}" if isinstance(meta.get("namespace"), str) else str(meta["name"])

"""A change of a JSON document that is a JSON document itself."""

from __future__ import annotations

from typing import Any


def merged(target: Any, patch: Any) -> Any:  # noqa: ANN401  (any JSON value)
    """The JSON merge patch of RFC 7396: objects are merged, null removes, anything else replaces. ``target`` is left as it is."""
    if not isinstance(patch, dict):
        return patch
    found = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found

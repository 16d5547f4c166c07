"""JSON as it is taken from strangers: UTF-8, not nested deep, no key twice in one object."""

from __future__ import annotations

import json
from collections import Counter

from pydantic_core import from_json

from service.documents.complaints import NOT_JSON, REPEATED_KEY, InvalidError, Mistake, not_json


def loaded(data: bytes) -> object:
    """The parsed text; raises InvalidError, also for one nested more than about 200 levels deep or a number of thousands of digits."""
    try:
        return from_json(data)
    except ValueError as error:
        raise InvalidError([Mistake("", "", NOT_JSON, not_json(str(error)))]) from None


def refuse_repeated_keys(data: bytes) -> None:
    """Raises InvalidError when a key stands twice in one object: JSON allows it, and readers keep whichever they like."""
    json.loads(data, object_pairs_hook=_unique)


def strictly_loaded(data: bytes) -> object:
    """``loaded`` and ``refuse_repeated_keys`` in one."""
    found = loaded(data)
    refuse_repeated_keys(data)
    return found


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        times = Counter(name for name, _ in pairs)
        twice = next(name for name, _ in pairs if times[name] > 1)
        owner = next((f" of '{found[key]}'" for key in ("id", "job") if isinstance(found.get(key), str)), "")
        raise InvalidError([Mistake("", "", REPEATED_KEY, f"the key '{twice}' stands twice in one object{owner}; keep one of them")])
    return found

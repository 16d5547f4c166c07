"""Names that must be unique, and are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.contract import Warned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def repeated(names: Iterable[str], what: str, pointer: str | Callable[[int], str]) -> Iterator[Warned]:
    """A mistake for every name that an earlier one of ``what`` has; ``pointer`` is the JSON pointer: by position, or with a ``{}``."""
    names = tuple(names)
    if len(set(names)) == len(names):
        return
    seen: dict[str, int] = {}
    for place, name in enumerate(names):
        first = seen.setdefault(name, place)
        if first != place:
            detail = f"the id '{name}' is already that of item {first}; give each of the {what} its own id"
            yield Warned(pointer.format(place) if isinstance(pointer, str) else pointer(place), "duplicate_id", detail)

"""Goals that stand once for each priority class: ``throughput[2]`` is the throughput of priority 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def in_classes(names: tuple[str, ...], classes: Sequence[int]) -> tuple[str, ...]:
    """The names of all classes, in the order of ``classes``; as they are where there is at most one class."""
    if len(classes) <= 1:
        return names
    return tuple(f"{name}[{priority}]" for priority in classes for name in names)


def plain_name(name: str) -> str:
    """``throughput`` for ``throughput[2]``."""
    return name.partition("[")[0]


def named_class(name: str) -> int | None:
    """2 for ``throughput[2]``; None for a name without a class."""
    _, bracket, rest = name.partition("[")
    return int(rest[:-1]) if bracket else None

"""Safe YAML, with the library's fast parser where it is there, that refuses a key written twice in one mapping."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Hashable


DEEPEST = 200  # levels: the fast parser builds a document by recursion in C, which a deep one would crash


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The safe loader with one more rule."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:  # noqa: FBT001, FBT002  (the library's signature)
        """A mapping; raises yaml.constructor.ConstructorError for a key that stands twice."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"the key '{key.value}' stands twice", key.start_mark)
                seen.add(key.value)
        found: dict[Hashable, object] = super().construct_mapping(node, deep=deep)
        return found


def loaded(data: bytes) -> object:
    """The one document in ``data``; raises yaml.YAMLError."""
    _refuse_deep(data)
    return yaml.load(data, Loader=_Loader)  # noqa: S506  (a subclass of the safe loader)


def _refuse_deep(data: bytes) -> None:
    """Reads the events alone, without recursion; raises yaml.YAMLError for a document nested too deep to be meant."""
    depth = 0
    for event in yaml.parse(data, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                mark = event.start_mark
                raise yaml.YAMLError(f"nested more than {DEEPEST} levels deep" + (f" at line {mark.line + 1}" if mark is not None else ""))
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1

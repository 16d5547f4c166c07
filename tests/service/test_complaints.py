"""Telling what is wrong with a large document takes time that grows with it, not with its square."""

from __future__ import annotations

import difflib
import json
from typing import Any

import pytest

from service.api.requests import take_apart
from service.documents import json_text
from service.documents.complaints import MOST_FINDINGS, InvalidError


class Name(str):
    """Counts how often names are compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_a_key_that_stands_twice_among_many_is_found_by_few_comparisons() -> None:
    pairs: list[tuple[str, object]] = [(Name(f"key {number}"), 1) for number in range(1_000)]
    Name.compared = 0
    with pytest.raises(InvalidError, match="'key 999' stands twice"):
        json_text._unique([*pairs, (Name("key 999"), 2)])  # noqa: SLF001  (parsed names cannot be counted)
    assert Name.compared < 5_000


def test_only_what_is_told_is_compared_with_what_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    near: list[str] = []
    real = difflib.get_close_matches

    def counting(word: str, *arguments: Any, **named: Any) -> list[str]:
        near.append(word)
        return list(real(word, *arguments, **named))

    monkeypatch.setattr(difflib, "get_close_matches", counting)
    with pytest.raises(InvalidError) as refused:
        take_apart("run", json.dumps({f"key{number}": 1 for number in range(1_000)}).encode())
    assert len(near) == len(refused.value.findings) == MOST_FINDINGS
    assert str(refused.value).endswith("and 997 more such mistakes")

"""What is known of a study: what a store of answers must do, and the content address under which it keeps them.

``Memory`` is such a store for as long as a process lives. One that lasts is the caller's to give: no answer is written to disk here.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from models.vocabulary import Document
    from optimizer.study.executors.engine import Done
    from optimizer.study.rows import Row
    from optimizer.study.schema import Study


class AnswerStore(Protocol):
    """Where answers are kept."""

    version: str
    complaints: list[str]

    def row(self, key: str) -> Row | None:
        """The row of this key, if it is known."""
        ...

    def plan(self, key: str) -> bytes | None:
        """The plan of this key as JSON, if there is one."""
        ...

    def put(self, done: Done) -> None:
        """Keep an answer, in place of any before."""
        ...


class StudyStore(AnswerStore, Protocol):
    """A store that also knows which study its answers are of."""

    base_hash: str

    def study(self) -> Study:
        """The study as it was run last."""
        ...

    def base(self) -> Document:
        """Its base problem."""
        ...


def product_version() -> str:
    """Of this product: rows of another are solved anew."""
    try:
        return version("quartermaster")
    except PackageNotFoundError:
        return "unknown"


def canonical(base: Document) -> bytes:
    """The problem as JSON, the same for equal problems however they were written."""
    return json.dumps(base.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def base_hash(kind_name: str, text: bytes) -> str:
    """The content address of a base problem in its canonical form."""
    return hashlib.sha256(kind_name.encode() + b"\n" + text).hexdigest()


class Memory:
    """Answers kept as long as this process lives."""

    def __init__(self) -> None:
        self.version = product_version()
        self.complaints: list[str] = []
        self._done: dict[str, Done] = {}

    def row(self, key: str) -> Row | None:
        """The row of this key, if it is known."""
        return self._done[key].row if key in self._done else None

    def plan(self, key: str) -> bytes | None:
        """The plan of this key as JSON, if there is one."""
        plan = self._done[key].plan if key in self._done else None
        return None if plan is None else zlib.decompress(plan)

    def put(self, done: Done) -> None:
        """Keep an answer."""
        self._done[done.row.key] = done

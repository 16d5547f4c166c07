"""Reads server-sent events (the WHATWG format) from the bytes of a response as they come."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_EVENT = 16 * 2**20  # characters without an end: no event of a service


class NotEventsError(Exception):
    """The bytes are no server-sent events."""


@dataclass(frozen=True, slots=True)
class Told:
    """One event: its type and its data."""

    type: str
    data: str


class EventReader:
    """Give it bytes, cut anywhere; it gives the events that are complete."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._rest = ""
        self._type = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[Told]:
        """The events that these bytes complete. Raises NotEventsError for one that does not end."""
        text = self._rest + self._decoder.decode(chunk)
        # A carriage return at the end may be the first half of a line's end.
        held = "\r" if text.endswith("\r") else ""
        *lines, self._rest = text.removesuffix(held).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._rest += held
        for line in lines:
            told = self._line(line)
            if told is not None:
                yield told
        if len(self._rest) + self._size > LONGEST_EVENT:
            raise NotEventsError("an event that does not end")

    def _line(self, line: str) -> Told | None:
        if not line:
            told = Told(self._type or "message", "\n".join(self._data)) if self._data else None
            self._type, self._data, self._size = "", [], 0
            return told
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._size += len(value)
        elif name == "event":
            self._type = value
        return None

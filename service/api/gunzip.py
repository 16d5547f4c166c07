"""Undoes gzip in steps: a small input may unfold to gigabytes, and may be several files compressed one after the other."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

STEP_BYTES = 2**20  # of plain bytes at a time
FED_BYTES = 2**16  # of gzip data at a time: what follows a member is copied for each member
MOST_MEMBERS = 10_000  # empty ones unfold to nothing, so that the limit of plain bytes does not end them


def pieces(data: bytes) -> Iterator[bytes]:
    """The data in pieces of ``FED_BYTES``."""
    return (data[start : start + FED_BYTES] for start in range(0, len(data), FED_BYTES))


class Gunzip:
    """One gzip file of any number of members, the plain bytes of which follow each other (RFC 1952)."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._members = 0

    @property
    def complete(self) -> bool:
        """Whether what came so far is a whole file."""
        return self._member.eof

    def step(self, data: bytes) -> tuple[bytes, bytes]:
        """At most ``STEP_BYTES`` plain bytes, and what of the data is still to be given. Raises zlib.error for what is no gzip data."""
        if self._member.eof:
            self._members += 1
            if self._members >= MOST_MEMBERS:
                raise zlib.error("too many members")
            self._member = zlib.decompressobj(wbits=31)
        plain = self._member.decompress(data, STEP_BYTES)
        return plain, self._member.unused_data if self._member.eof else self._member.unconsumed_tail

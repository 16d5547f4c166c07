"""Random ids without a system call each: one would hand the interpreter to another thread, which keeps it for milliseconds."""

from __future__ import annotations

import os

BLOCK_BYTES = 4_096


class Entropy:
    """Hexadecimal digits that nobody can guess, drawn from the system in blocks. For one thread."""

    def __init__(self) -> None:
        self._block = b""
        self._at = 0

    def hex(self, size: int) -> str:
        """So many bytes, each used once."""
        if self._at + size > len(self._block):
            self._block, self._at = os.urandom(BLOCK_BYTES), 0
        start, self._at = self._at, self._at + size
        return self._block[start : self._at].hex()

"""What every reader of another format raises, and how each gets at the bytes of a file."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20
LARGEST_FILE_BYTES = 512 * MIB  # unpacked
GZIP = b"\x1f\x8b"


class ImportFileError(ValueError):
    """A file that is not what it should be; the message names file, line and column, and the cure."""


def contents(path: Path) -> bytes:
    """The bytes of a file, unpacked where they are gzip data. Raises ImportFileError."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(len(GZIP)) == GZIP
            raw.seek(0)
            data = (gzip.GzipFile(fileobj=raw) if packed else raw).read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise ImportFileError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()}); check the path") from None
    except (EOFError, zlib.error) as error:
        raise ImportFileError(f"{path}: the packed data is broken ({error}); fetch the file anew") from None
    if len(data) > LARGEST_FILE_BYTES:
        raise ImportFileError(f"{path}: is larger than {LARGEST_FILE_BYTES // MIB} MiB, the most that is read; give a smaller file")
    return data


def text_of(path: Path) -> str:
    """The file as UTF-8 text, unpacked. Raises ImportFileError."""
    try:
        return contents(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ImportFileError(f"{path}: byte {error.start} is not UTF-8 text; save the file as UTF-8") from None

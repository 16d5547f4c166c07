"""Reads problems and plans (JSON or YAML, a file or standard input) and writes files so that they are whole or absent."""

from __future__ import annotations

import codecs
import contextlib
import difflib
import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from service.cli.errors import BadInputError
from service.documents.reading import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 2**20
LARGEST_FILE_BYTES = 512 * MIB
LARGEST_YAML_BYTES = 20 * MIB  # YAML is read about fifty times more slowly than JSON
HEAD_BYTES = 64 * 1024  # enough to tell what a file is before the rest of it is read
STANDARD_INPUT = "-"
STANDARD_OUTPUT = Path("/dev/stdout")
COMPRESSED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
CONTROL_BYTES = bytes(set(range(32)) - set(b"\t\n\r\f"))


def read(source: str) -> Text:
    """The bytes of a file, or of standard input when ``source`` is ``-``; nonsense is refused before it is read to its end.

    Raises BadInputError.
    """
    name = "standard input" if source == STANDARD_INPUT else source
    try:
        with _opened(source) as stream:
            return _read(name, source, stream)
    except FileNotFoundError:
        raise BadInputError(
            f"{name}: there is no such file{_near_file(source)}; give the path of a JSON or YAML file, or - for standard input"
        ) from None
    except IsADirectoryError:
        raise BadInputError(f"{name}: is a folder; give the path of a file in it") from None
    except OSError as error:
        raise BadInputError(f"{name}: cannot be read ({_reason(error)}); check the path and its permissions") from None


@contextlib.contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    if source == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    with Path(source).open("rb") as stream:
        yield stream


def _read(name: str, source: str, stream: BinaryIO) -> Text:
    suffix = Path(source).suffix.lower()
    head = stream.read(HEAD_BYTES)
    _refuse_nonsense(name, head)
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    is_yaml = suffix in {".yaml", ".yml"} or (suffix != ".json" and start not in {b"{", b"["})
    if not is_yaml and start and start != b"{":
        raise BadInputError(
            f"{name}: line 1: starts with {start.decode('utf-8', 'replace')!r}; the file must hold one JSON object, which starts with '{{'"
        )
    largest = LARGEST_YAML_BYTES if is_yaml else LARGEST_FILE_BYTES
    data = head + stream.read(largest + 1 - len(head))
    if len(data) > largest:
        cure = "write it as JSON, which is read much faster" if is_yaml else "split the problem or leave out what the plan does not need"
        raise BadInputError(
            f"{name}: is larger than {largest // MIB} MiB, the most that is read as {'YAML' if is_yaml else 'JSON'}; {cure}"
        )
    return Text(name, data.removeprefix(codecs.BOM_UTF8), is_yaml)


def _refuse_nonsense(name: str, head: bytes) -> None:
    """Refuses what is not text, judged by the first bytes."""
    if not head.strip():
        raise BadInputError(f"{name}: is empty; `quartermaster example KIND` prints a problem to start from")
    for magic, what in COMPRESSED.items():
        if head.startswith(magic):
            raise BadInputError(f"{name}: is {what} data; decompress it first")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise BadInputError(f"{name}: is UTF-16 text; save it as UTF-8")
    if head.translate(None, CONTROL_BYTES) != head:
        raise BadInputError(f"{name}: is not text but binary data; give a JSON or YAML file")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError as error:
        raise BadInputError(f"{name}: byte {error.start} is not UTF-8 text; save the file as UTF-8") from None


def _near_file(source: str) -> str:
    """``, did you mean 'x'?`` when the folder holds a file of nearly that name."""
    path = Path(source)
    with contextlib.suppress(OSError):
        names = [entry.name for entry in path.parent.iterdir()]
        near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.75)
        if near:
            return f" (did you mean '{path.with_name(near[0])}'?)"
    return ""


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


class Target:
    """A file that will be written later, whole or not at all; made before the work so that a bad path costs no solve."""

    def __init__(self, option: str, path: str, *, not_over: tuple[str, ...] = ()) -> None:
        """Checks that ``path`` can be written.

        Raises BadInputError: the folder is missing or read-only, the path is a folder, or it is one of the ``not_over`` files.
        """
        self.option, self.shown = option, path
        if path == STANDARD_INPUT:
            raise BadInputError(f"{option} {path}: is not a file; give a path (/dev/stdout prints)")
        # A link stays a link: what it points to is replaced. Standard output is not followed: a pipe has no path.
        self.path = STANDARD_OUTPUT if Path(path) == STANDARD_OUTPUT else Path(os.path.realpath(path))
        for other in not_over:
            if other != STANDARD_INPUT and Path(os.path.realpath(other)) == self.path:
                raise BadInputError(f"{option} {path}: would overwrite {other}; give another path")
        self._check()

    def _check(self) -> None:
        try:
            if self.path.is_dir():
                raise BadInputError(f"{self.option} {self.shown}: is a folder; add a file name")
            if self._is_special:
                return
            if not self.path.parent.is_dir():
                raise BadInputError(f"{self.option} {self.shown}: there is no folder {self.path.parent}; make it first")
            if self.path.exists() and not os.access(self.path, os.W_OK):
                raise BadInputError(f"{self.option} {self.shown}: the file is read-only; give another path")
            handle, trial = tempfile.mkstemp(dir=self.path.parent, prefix=".quartermaster-")
            os.close(handle)
            Path(trial).unlink()
        except OSError as error:
            raise self._unwritable(error) from None

    @property
    def _is_special(self) -> bool:
        """A device or a pipe, such as /dev/stdout: written to, never replaced."""
        return self.path == STANDARD_OUTPUT or (self.path.exists() and not self.path.is_file())

    def write(self, text: str) -> None:
        """Writes the whole text beside the target and renames it into place; raises BadInputError when the disk refuses."""
        try:
            if self.path == STANDARD_OUTPUT:
                sys.stdout.write(text)
                sys.stdout.flush()
            elif self._is_special:
                self.path.write_text(text, encoding="utf-8")
            else:
                self._replace(text)
        except OSError as error:
            raise self._unwritable(error) from None

    def _replace(self, text: str) -> None:
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".quartermaster-")
        draft = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            draft.chmod(_mode(self.path))
            draft.replace(self.path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise

    def _unwritable(self, error: OSError) -> BadInputError:
        return BadInputError(f"{self.option} {self.shown}: cannot be written ({_reason(error)}); give another path")


def _mode(path: Path) -> int:
    """The permissions a file has, or would be given had it been opened the plain way."""
    if path.exists():
        return stat.S_IMODE(path.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask

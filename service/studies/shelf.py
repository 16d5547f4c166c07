"""What is known of a study, in a folder: the study, its base problem, and every answer under its content address.

A file is written beside its place and moved there, so a kill at any moment leaves nothing or a whole file. Each answer carries its
digest: one that a full disk, a power cut or an editor has changed is told and solved anew, never believed. That is why nothing waits
for the disk here: what a power cut takes was an answer that costs one solve.

    shelf.json         format, kind, hash of the base problem, version of the product
    study.json         the study as it was run last
    base.json          the base problem, a problem file like any other
    rows/KEY.json      a row, with the digests of the row and of its plan
    plans/KEY.json.z   the plan, deflated JSON
    lock               who is writing
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from pydantic import ValidationError

from models.catalogue import kind, kind_of
from optimizer.study.rows import Row
from optimizer.study.schema import Study
from optimizer.study.store import base_hash, canonical, product_version

if TYPE_CHECKING:
    from models.vocabulary import Document
    from optimizer.study.executors.engine import Done

FORMAT = 1
_UNFINISHED = ".tmp"
_OURS = {"shelf.json", "study.json", "base.json", "rows", "plans", "lock"}


class ShelfError(RuntimeError):
    """A folder cannot be used as it stands; the message says why and what helps."""


class Shelf:
    """A folder of answers; from ``opened`` to write, from ``read`` to look. A context manager."""

    def __init__(self, folder: Path, told: dict[str, Any], lock: IO[str] | None = None) -> None:
        self.folder = folder
        self.kind = str(told["kind"])
        self.base_hash = str(told["base"])
        self.version = str(told["version"])
        self.complaints: list[str] = []
        self._lock = lock

    # ------------------------------------------------------------ opening

    @classmethod
    def opened(cls, folder: Path, study: Study, base: Document, *, resume: bool = False) -> Self:
        """The shelf of a study, made where there is none, and locked until it is closed.

        A folder may hold any studies of one base problem, one at a time: answers that fit are used again. Raises ShelfError for a
        folder with another base problem, with other files, or in use, and, unless ``resume`` is set, with another study's name.
        """
        text = canonical(base)
        told = {"format": FORMAT, "kind": kind_of(base).name, "base": base_hash(kind_of(base).name, text), "version": product_version()}
        _ready(folder)
        lock = _locked(folder)
        try:
            _fits(folder, study, told, resume=resume)
            for place in (folder, folder / "rows", folder / "plans"):
                place.mkdir(exist_ok=True)
                for left in place.glob(f"*{_UNFINISHED}"):  # of a process that was killed; the lock is ours
                    left.unlink(missing_ok=True)
            _write(folder / "shelf.json", json.dumps(told).encode(), lasting=True)
            _write(folder / "base.json", text, lasting=True)
            _write(folder / "study.json", study.model_dump_json(indent=2).encode(), lasting=True)
        except OSError as error:
            lock.close()
            raise _unwritable(folder, error) from error
        except BaseException:
            lock.close()
            raise
        return cls(folder, told, lock)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The shelf in ``folder``, to look at, also while it is being written. Raises ShelfError where there is none."""
        return cls(folder, _header(folder))

    def close(self) -> None:
        """Let others write. May be called twice."""
        if self._lock is not None:
            self._lock.close()  # which lets it go; the file stays: whoever waits for it holds it open
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------ what it holds

    def study(self) -> Study:
        """The study as it was run last. Raises ShelfError when it cannot be read."""
        try:
            return Study.model_validate_json((self.folder / "study.json").read_bytes())
        except (OSError, ValidationError) as error:
            raise ShelfError(f"{self.folder / 'study.json'} cannot be read: {error}; run the study again into this folder") from error

    def base(self) -> Document:
        """The base problem. Raises ShelfError when it cannot be read or is not the one that the answers are about."""
        path = self.folder / "base.json"
        try:
            text = path.read_bytes()
            if base_hash(self.kind, text) != self.base_hash:
                raise ShelfError(f"{path} was changed since the study ran; run the study again into this folder")
            return kind(self.kind).problem.model_validate_json(text)
        except (OSError, ValidationError) as error:
            raise ShelfError(f"{path} cannot be read: {error}; run the study again into this folder") from error

    def row(self, key: str) -> Row | None:
        """The row of this key; None where there is none to be believed, of which ``complaints`` tells."""
        told = self._told(key)
        try:
            return None if told is None else Row.from_json(told["row"])
        except (TypeError, KeyError, AttributeError) as error:
            self._refuse(key, f"{type(error).__name__}: {error}")
            return None

    def plan(self, key: str) -> bytes | None:
        """The plan of this key as JSON; None where there is none to be believed."""
        told = self._told(key)
        if told is None or told["plan"] is None:
            return None
        try:
            deflated = self._plan_path(key).read_bytes()
        except OSError as error:
            self.complaints.append(f"{self._plan_path(key)} cannot be read: {error.strerror or error}")
            return None
        if hashlib.sha256(deflated).hexdigest() != told["plan"]:
            self.complaints.append(f"{self._plan_path(key)} is not believed: it was changed since it was written")
            return None
        return zlib.decompress(deflated)

    def put(self, done: Done) -> None:
        """Keep an answer, in place of any before. Raises ShelfError when the disk does not take it."""
        key, row = done.row.key, done.row.as_json()
        plan = None if done.plan is None else hashlib.sha256(done.plan).hexdigest()
        try:
            if done.plan is not None:
                _write(self._plan_path(key), done.plan)
            told = {"format": FORMAT, "digest": _digest(row, plan), "plan": plan, "row": row}
            _write(self._row_path(key), json.dumps(told, allow_nan=False).encode())  # last: it says that all is there
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def _told(self, key: str) -> dict[str, Any] | None:
        told: dict[str, Any] | None = None
        try:
            told = json.loads(self._row_path(key).read_bytes())
            why = _wrong(key, told)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            why = f"{type(error).__name__}: {error}"
        if why:
            self._refuse(key, why)
            return None
        return told

    def _refuse(self, key: str, why: str) -> None:
        self.complaints.append(f"{self._row_path(key)} is not believed: {why}")

    def _row_path(self, key: str) -> Path:
        return self.folder / "rows" / f"{key}.json"

    def _plan_path(self, key: str) -> Path:
        return self.folder / "plans" / f"{key}.json.z"


def _wrong(key: str, told: Any) -> str:  # noqa: ANN401  (whatever JSON lies there)
    """Why a file is not the row of this key, or "". Raises TypeError and KeyError for what is no row at all."""
    if told["format"] != FORMAT:
        return f"its format is {told['format']}, not {FORMAT}"
    if told["digest"] != _digest(told["row"], told["plan"]):
        return "it was changed since it was written"
    return "" if told["row"]["key"] == key else f"it is the row {told['row']['key']}"


def _digest(row: dict[str, Any], plan: str | None) -> str:
    return hashlib.sha256(json.dumps([row, plan], sort_keys=True, allow_nan=False).encode()).hexdigest()


def _write(path: Path, data: bytes, *, lasting: bool = False) -> None:
    """Put a whole file in its place, or none. ``lasting``: a power cut a moment later does not take it."""
    unfinished = path.with_name(f"{path.name}{_UNFINISHED}")
    try:
        with unfinished.open("wb") as file:
            file.write(data)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def _ready(folder: Path) -> None:
    """A folder that is there, and is a shelf or empty. Raises ShelfError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = sorted(entry.name for entry in folder.iterdir() if entry.name not in _OURS and not entry.name.endswith(_UNFINISHED))
    except (FileExistsError, NotADirectoryError):
        raise ShelfError(f"{folder} is a file, or lies in one; name a folder, which is made where there is none") from None
    except OSError as error:
        raise _unwritable(folder, error) from error
    if others and not (folder / "shelf.json").exists():
        raise ShelfError(f"{folder} holds other files ({', '.join(others[:3])}); choose an empty or a new folder")


def _unwritable(folder: Path, error: OSError) -> ShelfError:
    cure = "the answers so far are kept: make room, or make it writable, and run the study again with --resume"
    return ShelfError(f"{folder} cannot be written ({error.strerror or error}); {cure}")


def _header(folder: Path) -> dict[str, Any]:
    """What shelf.json says. Raises ShelfError."""
    try:
        told = json.loads((folder / "shelf.json").read_bytes())
        if told["format"] != FORMAT:
            raise ShelfError(f"{folder} was written in format {told['format']}; this version reads {FORMAT}: choose another folder")
        kind(told["kind"])
        return {name: str(told[name]) for name in ("kind", "base", "version")}
    except FileNotFoundError:
        raise ShelfError(f"{folder} holds no study: there is no shelf.json in it") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ShelfError(f"{folder / 'shelf.json'} cannot be read ({error}); choose another folder") from error


def _fits(folder: Path, study: Study, told: dict[str, Any], *, resume: bool) -> None:
    """Raises ShelfError when a folder is not for this study."""
    if not (folder / "shelf.json").exists():
        return
    known = _header(folder)
    if (known["kind"], known["base"]) != (told["kind"], told["base"]):
        raise ShelfError(f"{folder} holds a study of another base problem ({known['kind']} {known['base'][:12]}); choose another folder")
    try:
        name = json.loads((folder / "study.json").read_bytes()).get("name", "")
    except (OSError, ValueError, AttributeError):
        return
    if name != study.name and not resume:
        cure = f"--resume puts '{study.name}' in its place and uses the answers that fit, another folder keeps both"
        raise ShelfError(f"{folder} holds the study '{name}' of the same base problem; {cure}")


def _locked(folder: Path) -> IO[str]:
    """The lock of a folder, held until it is closed or the process ends, however that comes. Raises ShelfError."""
    try:
        lock = (folder / "lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "another process"
        lock.close()
        raise ShelfError(f"{folder} is in use by {holder}; wait for it, or choose another folder") from None
    except OSError as error:
        raise ShelfError(f"{folder} cannot be locked ({error.strerror or error}); choose a folder on a local disk with room") from error
    return lock

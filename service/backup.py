"""Backup and restore of the embedded database, and the hold on it that keeps the two apart from whoever uses it.

Every process that opens the database holds a shared lock on a file beside it; a restore takes the lock for itself. The
kernel lets go of a lock when its process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from alembic.script import ScriptDirectory

from service.errors import Conflict, ServiceError, Unprocessable
from service.runs.migrate import config
from service.runs.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

BUSY_S = 5.0
BESIDE = ("-wal", "-shm", "-journal")  # what SQLite keeps beside a database in use, and reads into whatever has the database's name
MODE = 0o600  # problems and the hashes of keys are nobody else's business
COMPARED = "alembic_version"


class BackupFailedError(ServiceError):
    """A backup or a restore could not be made; nothing was changed."""

    code, title = "backup_failed", "Backup failed"


@contextlib.contextmanager
def held(path: Path, *, alone: bool = False) -> Iterator[None]:
    """Hold the database of this path: with others, or ``alone``. Raises Conflict when that cannot be had at once."""
    with Path(f"{path}.in-use").open("a", encoding="ascii") as handle:
        try:
            fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            told = "a server, a worker or another command uses" if alone else "a restore is replacing"
            cure = "stop it first" if alone else "try again when it is done"
            raise Conflict(f"{told} the database {path}; {cure}", code="database_in_use") from None
        yield


def backup(source: Path, target: Path) -> int:
    """Copy the database as it is now to ``target``, whole or not at all, while others read and write it; its size in bytes.

    Raises BackupFailedError, and Unprocessable when ``source`` is no database of Quartermaster.
    """
    if not source.is_file():
        raise BackupFailedError(f"there is no database {source}; QUARTERMASTER_DATABASE_URL names it")
    if target.exists() and target.samefile(source):
        raise BackupFailedError(f"{target} is the database itself; name another file")
    with held(source), _draft(target) as draft:
        _copy(source, draft)
        _check(draft, source)
        draft.replace(target)
        _sync(target.parent)
    return target.stat().st_size


def restore(source: Path, target: Path) -> Path | None:
    """Put the backup ``source`` in the place of the database ``target``; where the database that was there is now, if there was one.

    Raises Unprocessable when ``source`` is not a database of this version or an older one, Conflict when the database is in
    use, BackupFailedError when the disk refuses.
    """
    if not source.is_file():
        raise BackupFailedError(f"there is no file {source}")
    if target.exists() and target.samefile(source):
        raise BackupFailedError(f"{source} is the database itself; there is nothing to restore")
    with held(target, alone=True), _draft(target) as draft:
        _copy(source, draft)
        _check(draft, source)
        kept = _keep_aside(target)
        draft.replace(target)  # from here on the restored database is the database
        _sync(target.parent)
    return kept


# ---------------------------------------------------------------- inside


@contextlib.contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """An empty file beside the target, gone at the end unless it was renamed."""
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".quartermaster-")
    except OSError as error:
        raise BackupFailedError(f"{target}: cannot be written ({_reason(error)}); choose a folder that can") from None
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
    except (sqlite3.Error, OSError) as error:
        raise BackupFailedError(f"{target}: cannot be written ({_reason(error)})") from error
    finally:
        for suffix in ("", *BESIDE):
            Path(f"{name}{suffix}").unlink(missing_ok=True)


def _copy(source: Path, draft: Path) -> None:
    """Copy by SQLite itself, in one step: one state of the database, however much is written meanwhile."""
    try:
        with contextlib.closing(_opened(source, "ro")) as reading, contextlib.closing(_opened(draft, "rw")) as writing:
            reading.backup(writing)
            writing.execute("PRAGMA journal_mode = DELETE")  # one file, without companions
    except sqlite3.DatabaseError as error:
        if _is_no_database(error):
            raise _not_ours(source, str(error)) from None
        raise
    draft.chmod(MODE)
    with draft.open("rb+") as handle:
        os.fsync(handle.fileno())


def _check(draft: Path, source: Path) -> None:
    """Raises Unprocessable unless the file is a sound database of Quartermaster, of this version or an older one."""
    with contextlib.closing(_opened(draft, "ro")) as connection:
        try:
            verdict = connection.execute("PRAGMA integrity_check").fetchone()[0]
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if verdict != "ok":
                raise _not_ours(source, f"damaged: {verdict}")
            if COMPARED not in tables or not {"runs", "problems"} <= tables & set(metadata.tables):
                raise _not_ours(source, "its tables are not those of Quartermaster")
            row = connection.execute(f"SELECT version_num FROM {COMPARED}").fetchone()  # noqa: S608  (a constant)
        except sqlite3.DatabaseError as error:
            raise _not_ours(source, str(error)) from None
    known = {script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()}
    if row is None or row[0] not in known:
        raise Unprocessable(
            f"{source} has schema {row[0] if row is not None else 'unknown'}, which this version does not know; "
            "use the newer version that wrote it",
            code="newer_schema",
        )


def _keep_aside(database: Path) -> Path | None:
    """A second name for the database that is about to be replaced, with all its writes in the one file; None when there is none.

    A log that is left, of a damaged or a deleted database, must not be read into the new one: it gets the second name too.
    """
    kept = _free_name(database)
    there = database.exists()
    if there:
        _bring_home(database)
    for suffix in BESIDE:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{database}{suffix}").rename(f"{kept}{suffix}")
    if not there:
        return None
    try:
        os.link(database, kept)
    except OSError:  # a file system without hard links
        database.rename(kept)
    return kept


def _bring_home(database: Path) -> None:
    """Put the log's writes into the file, unless it is damaged, which may be why it is replaced. Raises Conflict when it is in use."""
    try:
        with contextlib.closing(_opened(database, "rw")) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise Conflict(f"another program has the database {database} open; close it first", code="database_in_use") from None


def _free_name(database: Path) -> Path:
    """``*.before-restore``, or with a number when an earlier restore has taken that."""
    kept, number = Path(f"{database}.before-restore"), 1
    while any(Path(f"{kept}{suffix}").exists() for suffix in ("", *BESIDE)):
        number += 1
        kept = Path(f"{database}.before-restore-{number}")
    return kept


def _opened(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode={mode}", uri=True, timeout=BUSY_S, isolation_level=None)


def _sync(folder: Path) -> None:
    """Make a rename in this folder survive the loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_no_database(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", None) in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}


def _not_ours(path: Path, why: str) -> Unprocessable:
    detail = f"{path} is not a sound database of Quartermaster ({why}); give a file that `quartermaster backup` wrote"
    return Unprocessable(detail, code="no_backup")


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)

"""Backup and restore of the embedded database: whole or absent, checked, and never while somebody uses it."""

import contextlib
import os
import sqlite3
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import backup as backup_module
from service.backup import BackupFailedError, backup, held, restore
from service.cli import main
from service.errors import Conflict, Unprocessable
from service.keys import create_key, list_keys
from service.runs.database import Database
from service.runs.migrate import migrate


@contextlib.contextmanager
def open_database(path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{path}", durability="crash")
    try:
        migrate(made)
        yield made
    finally:
        made.close()


def add_key(database: Database, name: str) -> str:
    return database.write(lambda connection: create_key(connection, "team-a", ["read"], name=name))


def names(path: Path) -> list[str]:
    with open_database(path) as database:
        return [key.name for key in database.read(list_keys)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "live" / "quartermaster.db"
    path.parent.mkdir()
    with open_database(path) as database:
        add_key(database, "first")
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def left_over(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.name.startswith(".quartermaster-")]


# ---------------------------------------------------------------- backup


def test_a_backup_of_a_database_in_use_is_one_state_of_it(source: Path, tmp_path: Path) -> None:
    """While another thread writes, with its writes still in the log beside the file."""
    target = tmp_path / "backup.db"
    stop = threading.Event()
    with open_database(source) as database:

        def write() -> None:
            for number in range(2_000):
                if stop.is_set():
                    return
                add_key(database, f"more {number}")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            while database.read(lambda connection: len(list_keys(connection))) < 3:
                stop.wait(0.001)
            size = backup(source, target)
        finally:
            stop.set()
            writer.join()
    assert size == target.stat().st_size
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert not left_over(tmp_path)
    kept = names(target)
    assert kept[0] == "first"
    assert kept[1:] == [f"more {number}" for number in range(len(kept) - 1)]
    assert len(kept) >= 3


def test_a_backup_is_one_file_and_takes_the_place_of_the_last(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup.db"
    backup(source, target)
    with open_database(source) as database:
        add_key(database, "second")
    backup(source, target)
    assert {entry.name for entry in tmp_path.iterdir()} == {"live", "backup.db"}
    assert names(target) == ["first", "second"]


def test_a_backup_that_fails_leaves_the_last_one(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "backup.db"
    backup(source, target)
    before = target.read_bytes()

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BackupFailedError, match="no space left"):
        backup(source, target)
    assert target.read_bytes() == before
    assert not left_over(tmp_path)


def test_a_backup_of_nothing_or_over_itself_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(BackupFailedError, match="no database"):
        backup(tmp_path / "none.db", tmp_path / "backup.db")
    with pytest.raises(BackupFailedError, match="the database itself"):
        backup(source, source)
    with pytest.raises(BackupFailedError, match="cannot be written"):
        backup(source, tmp_path / "no folder" / "backup.db")
    assert names(source) == ["first"]


def test_a_damaged_database_gives_no_backup(source: Path, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(source)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    body = bytearray(source.read_bytes())
    for place in range(4096 * 2, len(body), 512):
        body[place : place + 64] = os.urandom(64)
    source.write_bytes(bytes(body))
    with pytest.raises(Unprocessable, match="not a sound database"):
        backup(source, tmp_path / "backup.db")
    assert not (tmp_path / "backup.db").exists()


# ---------------------------------------------------------------- restore


def test_restore_brings_back_what_was_and_keeps_what_is(source: Path, tmp_path: Path) -> None:
    saved = tmp_path / "backup.db"
    backup(source, saved)
    with open_database(source) as database:
        add_key(database, "second")
    kept = restore(saved, source)
    assert kept == source.with_name("quartermaster.db.before-restore")
    assert names(source) == ["first"]
    assert names(kept) == ["first", "second"]
    again = restore(saved, source)
    assert again == source.with_name("quartermaster.db.before-restore-2")
    assert names(kept) == ["first", "second"]  # the older one is not lost
    assert saved.exists()


def test_restore_into_an_empty_place(source: Path, tmp_path: Path) -> None:
    saved = tmp_path / "backup.db"
    backup(source, saved)
    fresh = tmp_path / "new.db"
    assert restore(saved, fresh) is None
    assert names(fresh) == ["first"]


def test_restore_replaces_a_damaged_database(source: Path, tmp_path: Path) -> None:
    saved = tmp_path / "backup.db"
    backup(source, saved)
    source.write_bytes(b"not a database at all" * 500)
    source.with_name("quartermaster.db-wal").write_bytes(b"a log that belongs to something else")
    kept = restore(saved, source)
    assert kept is not None
    assert kept.read_bytes().startswith(b"not a database")
    assert not source.with_name("quartermaster.db-wal").exists()
    assert names(source) == ["first"]


def test_the_log_of_a_damaged_database_goes_with_it(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not be read into the database that comes in its place."""
    saved = tmp_path / "backup.db"
    backup(source, saved)
    log = source.with_name("quartermaster.db-wal")
    log.write_bytes(b"the log")
    real = backup_module._opened  # noqa: SLF001  (the damage that SQLite cannot open is hard to make for real)

    def opened(path: Path, mode: str) -> sqlite3.Connection:
        if path == source:
            raise sqlite3.DatabaseError("database disk image is malformed")
        return real(path, mode)

    monkeypatch.setattr(backup_module, "_opened", opened)
    kept = restore(saved, source)
    assert kept is not None
    assert kept.with_name(f"{kept.name}-wal").read_bytes() == b"the log"
    assert not log.exists()
    assert names(source) == ["first"]


def test_the_log_of_a_deleted_database_is_not_read_into_the_restored_one(source: Path, tmp_path: Path) -> None:
    """Its salt is that of the log, which SQLite takes for its own: the restored rows would be those of later on."""
    saved = tmp_path / "backup.db"
    backup(source, saved)
    log = source.with_name("quartermaster.db-wal")
    with open_database(source) as database:
        add_key(database, "after the backup")
        left = log.read_bytes()
    source.unlink()
    log.write_bytes(left)
    journal = source.with_name("quartermaster.db-journal")
    journal.write_bytes(b"the journal")
    assert restore(saved, source) is None
    assert names(source) == ["first"]
    assert source.with_name("quartermaster.db.before-restore-wal").read_bytes() == left
    assert source.with_name("quartermaster.db.before-restore-journal").read_bytes() == b"the journal"
    kept = restore(saved, source)
    assert kept == source.with_name("quartermaster.db.before-restore-2"), "a name of its own, beside which no other log lies"


def test_restore_waits_for_nobody(source: Path, tmp_path: Path) -> None:
    saved = tmp_path / "backup.db"
    backup(source, saved)
    with held(source), pytest.raises(Conflict, match="stop it first"):
        restore(saved, source)
    with held(source, alone=True), pytest.raises(Conflict, match="a restore"), held(source):
        pass
    with held(source), held(source):
        pass  # servers, workers and commands share it
    assert not left_over(source.parent)


def test_restore_leaves_a_database_that_a_stranger_has_open(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as the shell of SQLite, which knows nothing of our lock."""
    monkeypatch.setattr(backup_module, "BUSY_S", 0.05)
    saved = tmp_path / "backup.db"
    backup(source, saved)
    with contextlib.closing(sqlite3.connect(source, isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        with pytest.raises(Conflict, match="another program"):
            restore(saved, source)
        stranger.execute("ROLLBACK")
    assert names(source) == ["first"]


@pytest.mark.parametrize("what", ["text", "empty", "another database", "newer"])
def test_restore_refuses_what_is_no_backup(source: Path, tmp_path: Path, what: str) -> None:
    saved = tmp_path / "backup.db"
    if what == "text":
        saved.write_text("hello " * 1_000, encoding="ascii")
    elif what == "empty":
        saved.touch()
    elif what == "another database":
        with contextlib.closing(sqlite3.connect(saved)) as connection:
            connection.execute("CREATE TABLE runs (x)")
    else:
        backup(source, saved)
        with contextlib.closing(sqlite3.connect(saved, isolation_level=None)) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Unprocessable) as refused:
        restore(saved, source)
    assert refused.value.code == ("newer_schema" if what == "newer" else "no_backup")
    assert str(saved) in refused.value.detail
    assert names(source) == ["first"]
    assert not left_over(source.parent)


# ---------------------------------------------------------------- the commands


def test_the_commands(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERMASTER_DATABASE_URL", f"sqlite:///{source}")
    saved = tmp_path / "backup.db"
    assert run("backup", saved) == 0
    assert run("restore", saved) == 0
    told = capsys.readouterr().out
    assert f"Backup of {source}: {saved}" in told
    assert "before-restore" in told
    with held(source):
        assert run("backup", saved) == 0
        assert run("restore", saved) == 2
    assert "stop it first" in capsys.readouterr().err
    assert run("restore", tmp_path / "none") == 2
    monkeypatch.setenv("QUARTERMASTER_DATABASE_URL", "postgresql://me:hunter2@127.0.0.1/name")
    assert run("backup", saved) == 2
    told = capsys.readouterr().err
    assert "pg_dump" in told
    assert "hunter2" not in told


def test_the_keys_commands(source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERMASTER_DATABASE_URL", f"sqlite:///{source}")
    assert run("keys", "create", "--tenant", "team-b", "--scope", "solve", "--scope", "read", "--name", "[b]", "--expires-days", "2") == 0
    told = capsys.readouterr()
    text = told.out.strip()
    assert text.startswith("qm_")
    assert len(text.splitlines()) == 1  # ready for $(...)
    assert run("keys", "list") == 0
    listed = capsys.readouterr().out
    assert text[3:19] in listed
    assert "[b]" in listed
    assert text[20:] not in listed
    assert run("keys", "revoke", text) == 0  # a whole key names its id as well
    assert text[20:] not in capsys.readouterr().out
    assert run("keys", "list", "--json") == 0
    assert '"state": "revoked"' in capsys.readouterr().out
    assert run("keys", "revoke", "0" * 16) == 2
    assert run("keys", "create", "--tenant", "team-b", "--scope", "root") == 2


@pytest.mark.parametrize(
    "url", ["mysql://x/y", "nonsense", "sqlite://", "sqlite:///:memory:/x/y", "sqlite:///{folder}", "sqlite:///{folder}/none/x.db"]
)
def test_a_database_that_cannot_be_is_told(tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("keys", "list", "--database-url", url.format(folder=tmp_path)) == 2
    assert "QUARTERMASTER_DATABASE_URL" in capsys.readouterr().err


def test_postgresql_without_its_driver_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert run("keys", "list", "--database-url", "postgresql://me:hunter2@127.0.0.1/name") == 2
    assert "quartermaster[postgres]" in capsys.readouterr().err

"""Rows on disk: what was written is read, a run that was cut off goes on, and rows of another machine are refused."""

from pathlib import Path

import pytest

from models.runtime.records import Machine, PairRecord, Sharing
from service.measure.store import Store, StoredRowsError, accepted_jobs, is_settled, key, read_rows
from tests.service.measure.rows import TINY, row

MACHINE = Machine(name="m", versions={"torch": "2"})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "rows")
    made.open(MACHINE)
    return made


def test_rows_come_back(store: Store) -> None:
    rows = [row(), row(accepted=False, reasons=("steal",)), row(TINY.model_copy(update={"batch": 8}))]
    for one in rows:
        store.add(one)
    assert list(store.rows()) == rows


def test_what_is_settled() -> None:
    assert is_settled(row())
    assert not is_settled(row(accepted=False, reasons=("foreign_on_core", "repeats_differ")))
    assert is_settled(row(accepted=False, reasons=("does_not_fit",)))


def test_names_do_not_tell_jobs_apart_but_sizes_do() -> None:
    assert key(row()) == key(row(TINY.model_copy(update={"id": "other"})))
    assert key(row()) != key(row(TINY.model_copy(update={"batch": 8})))


def test_only_settled_rows_are_not_repeated(store: Store) -> None:
    disturbed = row(TINY.model_copy(update={"batch": 8}), accepted=False, reasons=("steal",))
    store.add(row())
    store.add(disturbed)
    assert store.settled() == {key(row())}


def test_a_line_that_was_cut_off_is_left_out_and_overwritten(store: Store) -> None:
    store.add(row())
    with store.rows_file.open("a", encoding="utf-8") as stream:
        stream.write('{"row": "job", "job"')
    assert list(store.rows()) == [row()]
    store.open(MACHINE)
    store.add(row())
    assert list(store.rows()) == [row(), row()]


def test_a_bad_line_is_named(store: Store) -> None:
    store.rows_file.write_text('{"row": "job"}\n' + row().model_dump_json() + "\n", encoding="utf-8")
    with pytest.raises(StoredRowsError, match=r"rows.jsonl: line 1: .*mend or remove the line"):
        list(store.rows())


def test_rows_of_another_machine_are_refused(store: Store) -> None:
    with pytest.raises(StoredRowsError, match="give another folder"):
        store.open(Machine(name="other", versions={"torch": "2"}))


def test_accepted_jobs_are_the_last_of_each(store: Store) -> None:
    later = row(date="2026-11-22T00:00:00+00:00")
    for one in (row(), row(accepted=False, reasons=("steal",)), later):
        store.add(one)
    assert accepted_jobs(store.rows_file) == [later]


def test_slow_downs_of_a_pair() -> None:
    fields = row().model_dump(exclude={"row", "job", "work", "timing", "start_up", "memory"})
    empty = PairRecord(sharing=Sharing.same_core, first=TINY, second=TINY, **fields)
    assert empty.slow_downs is None
    times = {"first_alone_s": 0.1, "second_alone_s": 0.2, "first_together_s": 0.2, "second_together_s": 0.5}
    assert empty.model_copy(update=times).slow_downs == (2.0, 2.5)


def test_nothing_is_read_from_no_rows(tmp_path: Path) -> None:
    assert list(Store(tmp_path).rows()) == []
    (tmp_path / "empty.jsonl").touch()
    assert list(read_rows(tmp_path / "empty.jsonl")) == []

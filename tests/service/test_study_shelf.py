"""The folder of a study: whole files or none, nothing believed that was changed, one writer at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from models.linear.schema import Columns, Problem
from optimizer.limits import Limits
from optimizer.result import GoalCertificate
from optimizer.study.executors.engine import Done
from optimizer.study.rows import Change, Row, scenario_key
from optimizer.study.store import Memory, base_hash, canonical
from service.studies.shelf import Shelf, ShelfError
from tests.optimizer.study.small import base, study

KEY = "0123456789abcdef"
GOAL = GoalCertificate("objective", "maximise", "", 4.0, float("inf"), float("inf"), "nothing proved")
ROW = Row(KEY, "feasible", "deadline", (GOAL,), {"columns": 1.0}, verified=True, seconds=0.1, versions={"python": "3"})
PLAN = b'{"values":[4.0]}'
DONE = Done(ROW, zlib.compress(PLAN))
OTHER = Problem(columns=Columns(cost=(1.0,)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out"


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# ------------------------------------------------------------ what is kept


def test_an_answer_comes_back_as_it_was(folder: Path) -> None:
    with Shelf.opened(folder, study(), base()) as shelf:
        assert (shelf.row(KEY), shelf.plan(KEY)) == (None, None)
        shelf.put(DONE)
        assert (shelf.row(KEY), shelf.plan(KEY)) == (ROW, PLAN)
    read = Shelf.read(folder)
    assert (read.row(KEY), read.plan(KEY), read.complaints) == (ROW, PLAN, [])
    assert (read.study(), read.base()) == (study(), base())
    assert names(folder) == {"shelf.json", "study.json", "base.json", "lock", f"rows/{KEY}.json", f"plans/{KEY}.json.z"}


def test_a_row_without_a_plan_has_none(folder: Path) -> None:
    failed = Row.failed(KEY, "because")
    with Shelf.opened(folder, study(), base()) as shelf:
        shelf.put(Done(failed))
        assert (shelf.row(KEY), shelf.plan(KEY), shelf.complaints) == (failed, None, [])


def test_a_later_answer_takes_the_place_of_an_earlier_one(folder: Path) -> None:
    with Shelf.opened(folder, study(), base()) as shelf:
        shelf.put(DONE)
        shelf.put(Done(replace(ROW, seconds=9.0)))
        assert (shelf.row(KEY), shelf.plan(KEY)) == (replace(ROW, seconds=9.0), None)


def test_memory_keeps_the_same() -> None:
    memory = Memory()
    assert (memory.row(KEY), memory.plan(KEY)) == (None, None)
    memory.put(DONE)
    assert (memory.row(KEY), memory.plan(KEY)) == (ROW, PLAN)


def test_equal_bases_have_one_address_however_they_were_written() -> None:
    told = base().model_dump(mode="json")
    turned = Problem.model_validate(dict(reversed(told.items())))
    assert canonical(turned) == canonical(base())
    assert base_hash("program", canonical(base())) != base_hash("other", canonical(base())) != base_hash("other", canonical(OTHER))


def test_a_key_tells_every_question_apart() -> None:
    change = (Change("set", "/a", 1.0),)
    asked = [
        ("b", change, Limits(), "1"),
        ("c", change, Limits(), "1"),
        ("b", (Change("set", "/a", 1),), Limits(gap=0.1), "1"),
        ("b", (Change("append", "/a", [1.0]),), Limits(), "1"),
        ("b", change, Limits(seed=1), "1"),
        ("b", change, Limits(), "2"),
        ("b", (), Limits(), "1"),
    ]
    assert len({scenario_key(*one) for one in asked}) == len(asked)


# ------------------------------------------------------------ what is not believed


def spoil(path: Path, how: str) -> None:
    data = path.read_bytes()
    told = json.loads(data)
    match how:
        case "empty":
            path.write_bytes(b"")
        case "half":
            path.write_bytes(data[: len(data) // 2])
        case "zeros":
            path.write_bytes(bytes(len(data)))
        case "a better objective":
            path.write_bytes(data.replace(b"4.0", b"5.0"))
        case "another key":
            path.write_text(json.dumps(told | {"row": told["row"] | {"key": "f" * 16}}), encoding="utf-8")
        case "another format":
            path.write_text(json.dumps(told | {"format": 99}), encoding="utf-8")
        case "a list":
            path.write_text("[]", encoding="utf-8")
        case "a folder":
            path.unlink()
            path.mkdir()
        case _:
            raise AssertionError(how)


@pytest.mark.parametrize("how", ["empty", "half", "zeros", "a better objective", "another key", "another format", "a list", "a folder"])
def test_a_spoilt_row_is_told_and_not_believed(folder: Path, how: str) -> None:
    with Shelf.opened(folder, study(), base()) as shelf:
        shelf.put(DONE)
    spoil(folder / "rows" / f"{KEY}.json", how)
    read = Shelf.read(folder)
    assert read.row(KEY) is None
    assert len(read.complaints) == 1
    assert f"{KEY}.json is not believed" in read.complaints[0]


def test_a_row_under_a_strange_name_is_not_believed(folder: Path) -> None:
    with Shelf.opened(folder, study(), base()) as shelf:
        shelf.put(DONE)
        (folder / "rows" / "other.json").write_bytes((folder / "rows" / f"{KEY}.json").read_bytes())
        assert shelf.row("other") is None
        assert KEY in shelf.complaints[0]


@pytest.mark.parametrize("data", [None, b"", b"nothing", zlib.compress(b"{}")])
def test_a_spoilt_plan_is_told_and_not_believed(folder: Path, data: bytes | None) -> None:
    with Shelf.opened(folder, study(), base()) as shelf:
        shelf.put(DONE)
        path = folder / "plans" / f"{KEY}.json.z"
        path.unlink() if data is None else path.write_bytes(data)
        assert shelf.row(KEY) == ROW
        assert shelf.plan(KEY) is None
        assert len(shelf.complaints) == 1


def test_a_changed_base_is_not_taken_for_the_one_the_answers_are_about(folder: Path) -> None:
    Shelf.opened(folder, study(), base()).close()
    (folder / "base.json").write_bytes(canonical(OTHER))
    with pytest.raises(ShelfError, match=r"base\.json was changed since the study ran"):
        Shelf.read(folder).base()
    with Shelf.opened(folder, study(), base()) as shelf:  # which puts it right
        assert shelf.base() == base()


# ------------------------------------------------------------ whose folder it is


def test_an_enlarged_study_goes_on_in_its_folder(folder: Path) -> None:
    with Shelf.opened(folder, study(3), base()) as shelf:
        shelf.put(DONE)
    with Shelf.opened(folder, study(5), base()) as shelf:
        assert shelf.row(KEY) == ROW
        assert shelf.study() == study(5)


def test_another_study_of_the_base_needs_resume(folder: Path) -> None:
    with Shelf.opened(folder, study(), base()) as shelf:
        shelf.put(DONE)
    with pytest.raises(ShelfError, match="holds the study 'small' of the same base problem; --resume puts 'new' in its place"):
        Shelf.opened(folder, study(name="new"), base())
    with Shelf.opened(folder, study(name="new"), base(), resume=True) as shelf:
        assert (shelf.row(KEY), shelf.study().name) == (ROW, "new")


@pytest.mark.parametrize("resume", [False, True])
def test_another_base_is_refused_and_nothing_is_touched(folder: Path, *, resume: bool) -> None:
    Shelf.opened(folder, study(), base()).close()
    before = {name: (folder / name).read_bytes() for name in names(folder) - {"lock"}}
    with pytest.raises(ShelfError, match=r"holds a study of another base problem .*; choose another folder"):
        Shelf.opened(folder, study(), OTHER, resume=resume)
    assert {name: (folder / name).read_bytes() for name in names(folder) - {"lock"}} == before
    Shelf.opened(folder, study(), base()).close()  # the refusal has let the lock go


def test_a_folder_with_other_files_is_refused_and_left_alone(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.tex").touch()
    with pytest.raises(ShelfError, match=r"holds other files \(thesis\.tex\); choose an empty or a new folder"):
        Shelf.opened(folder, study(), base())
    assert names(folder) == {"thesis.tex"}


def test_an_empty_folder_and_one_with_a_report_are_fine(folder: Path) -> None:
    folder.mkdir()
    Shelf.opened(folder, study(), base(), resume=True).close()
    (folder / "report.html").touch()
    Shelf.opened(folder, study(), base()).close()
    assert Shelf.read(folder).study() == study()
    assert (folder / "report.html").exists()


@pytest.mark.parametrize("text", [None, "", "{}", '{"format": 99}', '{"format": 1, "kind": "no such", "base": "", "version": ""}'])
def test_a_folder_that_is_no_shelf_cannot_be_read(folder: Path, text: str | None) -> None:
    folder.mkdir()
    if text is not None:
        (folder / "shelf.json").write_text(text, encoding="utf-8")
    with pytest.raises(ShelfError, match=str(folder)):
        Shelf.read(folder)


def test_what_a_killed_writer_left_is_swept_away(folder: Path) -> None:
    Shelf.opened(folder, study(), base()).close()
    for place in ("rows/a.json.tmp", "plans/b.json.z.tmp", "study.json.tmp"):
        (folder / place).write_bytes(b"half")
    Shelf.opened(folder, study(), base()).close()
    assert not [name for name in names(folder) if name.endswith(".tmp")]


# ------------------------------------------------------------ one writer


def test_a_folder_in_use_names_who_uses_it_and_may_be_read(folder: Path) -> None:
    with Shelf.opened(folder, study(), base()) as shelf:
        shelf.put(DONE)
        with pytest.raises(ShelfError, match=f"is in use by process {os.getpid()} on .*; wait for it, or choose another folder"):
            Shelf.opened(folder, study(), base())
        assert Shelf.read(folder).row(KEY) == ROW
    Shelf.opened(folder, study(), base()).close()


def test_the_lock_of_a_killed_process_blocks_nobody(folder: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from service.studies.shelf import Shelf; from tests.optimizer.study.small import base, study\n"
        "shelf = Shelf.opened(Path(sys.argv[1]), study(), base()); print('open', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(ShelfError, match=f"process {holder.pid} on"):
            Shelf.opened(folder, study(), base())
    finally:
        holder.kill()
        holder.communicate()
    Shelf.opened(folder, study(), base()).close()


# ------------------------------------------------------------ disks


def test_a_path_that_is_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x", encoding="utf-8")
    with pytest.raises(ShelfError, match="out is a file, or lies in one; name a folder"):
        Shelf.opened(tmp_path / "out", study(), base())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full here")
def test_a_full_disk_is_one_clear_error_and_the_answers_so_far_are_kept(folder: Path) -> None:
    with Shelf.opened(folder, study(), base()) as shelf:
        shelf.put(DONE)
        (folder / "rows" / "full.json.tmp").symlink_to("/dev/full")
        with pytest.raises(ShelfError, match=r"cannot be written \(No space left on device\); the answers so far are kept"):
            shelf.put(Done(replace(ROW, key="full")))
        assert (shelf.row("full"), shelf.row(KEY)) == (None, ROW)
        shelf.put(Done(replace(ROW, key="full")))  # there is room again
        assert shelf.row("full") == replace(ROW, key="full")

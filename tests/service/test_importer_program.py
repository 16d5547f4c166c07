"""The reader of MPS and LP files: what it takes, what it refuses and why, and that nothing makes it stumble."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.contract import Sense
from models.linear.formulation import build
from models.linear.schema import Problem
from optimizer.child import Child
from optimizer.highs import HighsBackend
from optimizer.limits import Limits
from optimizer.model_file import write_mps
from service.importers.mps import read_mps
from service.importers.program import READERS, read
from service.importers.program_draft import Draft, Most
from tests.optimizer.oracle import random_program
from tests.service.program_files import LP, MOST, MPS, as_lp, mistake, problem, readings
from tests.service.test_cli import run

QUICK = settings(max_examples=150, deadline=None, derandomize=True, database=None)
MARKED = MPS.replace("    y  cost", "    M1 'MARKER' 'INTORG'\n    y  cost").replace("RHS\n", "    M2 'MARKER' 'INTEND'\nRHS\n", 1)
NO_BOUNDS = MPS.replace(" UP bnd x 4\n", "")


def bounded(line: str, text: str = NO_BOUNDS) -> str:
    return text.replace("BOUNDS\n", f"BOUNDS\n{line}\n")


# ---------------------------------------------------------------- what is read


def test_an_mps_file() -> None:
    found = problem(MPS, "mps")
    assert (found.sense, found.offset) == (Sense.minimise, 0.0)
    assert (found.columns.names, found.columns.cost) == (("x", "y"), (1.0, 2.0))
    assert (found.columns.lower, found.columns.upper, found.columns.integer) == ((0.0, 0.0), (4.0, None), None)
    assert (found.rows.names, found.rows.lower, found.rows.upper) == (("cap", "need", "eq"), (None, 1.0, 2.0), (10.0, None, 2.0))
    assert found.entries.rows == (0, 1, 0, 2)
    assert found.entries.columns == (0, 0, 1, 1)
    assert found.entries.values == (1.0, 1.0, 1.0, 1.0)
    assert readings(MPS, "mps")["size"] == {"rows": 3, "columns": 2, "integers": 0, "entries": 4}
    assert readings(MPS, "mps")["warnings"] == []


def test_an_lp_file() -> None:
    found = problem(LP, "lp")
    assert (found.sense, found.offset) == (Sense.maximise, 2.0)
    assert (found.columns.names, found.columns.cost) == (("x", "y", "z", "b"), (1.0, 2.0, -3.5, 0.0))
    assert (found.columns.lower, found.columns.upper) == ((0.0, -2.0, None, 0.0), (4.0, 8.0, None, 1.0))
    assert found.columns.integer == (False, True, False, True)
    assert (found.rows.names, found.rows.lower, found.rows.upper) == (("c1", "c2", "r2"), (2.0, None, 4.0), (None, 5.0, 4.0))
    assert found.entries.values == (1.0, 1.0, -1.0, 1.0, 2.0, 3.0, -1.0)
    assert [one["code"] for one in readings(LP, "lp")["warnings"]] == ["unused_column"]


@pytest.mark.parametrize(
    ("line", "lower", "upper", "integer"),
    [
        (" UP bnd x 4", 0.0, 4.0, False),
        (" UP x 4", 0.0, 4.0, False),
        (" UP bnd x 1e30", 0.0, None, False),
        (" UP bnd x inf", 0.0, None, False),
        (" LO bnd x -1e30", None, None, False),
        (" MI bnd x", None, None, False),
        (" MI bnd x\n UP bnd x -4", None, -4.0, False),
        (" UP bnd x -4\n MI bnd x", None, -4.0, False),
        (" FR x", None, None, False),
        (" PL bnd x", 0.0, None, False),
        (" FX bnd x 3", 3.0, 3.0, False),
        (" BV bnd x", 0.0, 1.0, True),
        (" LI bnd x 2", 2.0, None, True),
        (" UI bnd x 3", 0.0, 3.0, True),
    ],
)
def test_bounds_of_mps(line: str, lower: float | None, upper: float | None, integer: bool) -> None:
    columns = problem(bounded(line), "mps").columns
    assert columns.lower is not None
    assert columns.upper is not None
    assert (columns.lower[0], columns.upper[0], (columns.integer or (False,))[0]) == (lower, upper, integer)


@pytest.mark.parametrize(
    ("line", "lower", "upper"),
    [("", 0.0, 1.0), (" LO b y 2", 2.0, None), (" UP b y 7", 0.0, 7.0), (" PL b y", 0.0, None), (" MI b y", None, None)],
)
def test_integer_columns_between_markers(line: str, lower: float | None, upper: float | None) -> None:
    text = bounded(line, MARKED.replace(" UP bnd x 4\n", ""))
    columns = problem(text, "mps").columns
    assert (columns.lower, columns.upper, columns.integer) == ((0.0, lower), (None, upper), (False, True))
    assert [one["code"] for one in readings(text, "mps")["warnings"]] == ([] if line else ["marked_binary"])


@pytest.mark.parametrize(("span", "row", "sides"), [
    ("cap 3", 0, (7.0, 10.0)), ("need -4", 1, (1.0, 5.0)), ("eq 1", 2, (2.0, 3.0)), ("eq -1", 2, (1.0, 2.0)), ("eq 0", 2, (2.0, 2.0)),
])  # fmt: skip
def test_ranges(span: str, row: int, sides: tuple[float, float]) -> None:
    rows = problem(MPS.replace("BOUNDS\n", f"RANGES\n    rng {span}\nBOUNDS\n"), "mps").rows
    assert rows.lower is not None
    assert rows.upper is not None
    assert (rows.lower[row], rows.upper[row]) == sides


@pytest.mark.parametrize("sense", ["OBJSENSE\n    MAX\n", "OBJSENSE MAX\n", "OBJSENSE\n MAXIMIZE\n"])
def test_the_sense_of_mps(sense: str) -> None:
    assert problem(MPS.replace("ROWS\n", f"{sense}ROWS\n"), "mps").sense is Sense.maximise


@pytest.mark.parametrize(
    "change",
    [
        ("RHS\n", "* a comment\n\nRHS\n"),
        ("\n", "\r\n"),
        ("    ", "\t"),
        ("    rhs ", "    "),
        ("    ", ""),
        ("need 1\n    y", "need 1.0e+0\n    y"),
        ("need 1\n    y", "need 1D0\n    y"),
        ("ROWS\n", "rows\n"),
    ],
)
def test_other_ways_to_write_the_same(change: tuple[str, str]) -> None:
    assert problem(MPS.replace(*change), "mps") == problem(MPS, "mps")


@pytest.mark.parametrize(
    "change", [(">=", ">"), ("<=", "=<"), ("Maximize", "max"), ("Subject To", "s.t."), ("Bounds", "BOUND"), ("3y", "3 y"), ("\n", "\r\n")]
)
def test_other_ways_to_write_the_same_in_lp(change: tuple[str, str]) -> None:
    assert problem(LP.replace(*change), "lp") == problem(LP, "lp")


def test_the_objective_and_what_it_takes_along() -> None:
    assert problem(MPS.replace("rhs eq 2", "rhs eq 2 cost 5"), "mps").offset == -5.0
    free = MPS.replace(" N  cost\n", " N  cost\n N  other\n").replace("need 1\n    y", "need 1 other 7\n    y")
    assert problem(free, "mps") == problem(MPS, "mps")
    assert [one["code"] for one in readings(free, "mps")["warnings"]] == ["free_row"]
    aimless = MPS.replace(" N  cost\n", "").replace("cost 1 ", "").replace("cost 2 ", "")
    assert problem(aimless, "mps").columns.cost == (0.0, 0.0)
    assert [one["code"] for one in readings(aimless, "mps")["warnings"]] == ["no_objective"]


def test_nameless_rows_get_free_names() -> None:
    found = problem("min\n x\nst\n r1: x >= 1\n x <= 5\n x <= 4\nend\n", "lp")
    assert found.rows.names == ("r1", "r1_", "r2")


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("", "cut_off", "without ENDATA"),
        ("hello world\nfoo", "no_section", "line 1: 'hello'"),
        (MPS.replace("ENDATA", ""), "cut_off", "without ENDATA"),
        (MPS.replace(" G  need", " G  cap"), "duplicate_name", "line 5: the row 'cap'"),
        (MPS.replace(" G  need", " X  need"), "unknown_row_type", "line 5"),
        (MPS.replace(" G  need", " G  my need"), "wrong_fields", "line 5"),
        (MPS.replace("need 1\n    y", "need 1\n    x  need 5\n    y"), "duplicate_entry", "line 10: column 'x' names the row 'need' twice"),
        (MPS.replace("    y  eq 1\n", "    y  eq 1\n    x  eq 3\n"), "duplicate_name", "line 12: the column 'x'"),
        (MPS.replace("need 1\n    y", "nosuch 1\n    y"), "unknown_row", "line 9: there is no row 'nosuch'"),
        (MPS.replace("need 1\n    y", "need\n    y"), "wrong_fields", "line 9"),
        (MPS.replace("need 1\n    y", "need 1abc\n    y"), "not_a_number", "line 9: '1abc'"),
        (MPS.replace("need 1\n    y", "need nan\n    y"), "not_a_number", "line 9"),
        (MPS.replace("need 1\n    y", "need inf\n    y"), "not_a_number", "line 9"),
        (MPS.replace("need 1\n    y", "need 0x10\n    y"), "not_a_number", "line 9"),
        (MPS.replace("need 1\n    y", "need 1_0\n    y"), "not_a_number", "line 9"),
        (MPS.replace("need 1\n    y", "need 1e16\n    y"), "too_large", "row 'need', column 'x': 1e+16"),
        (MPS.replace("need 1\n    y", "need 1e-10\n    y"), "too_small", "row 'need', column 'x': 1e-10"),
        (MPS.replace("rhs eq 2", "rhs2 eq 7"), "several_sets", "line 14: 'rhs2'"),
        (MPS.replace("rhs eq 2", "rhs cap 2"), "side_twice", "line 14: the row 'cap'"),
        (MPS.replace("rhs eq 2", "rhs eq 1e30"), "infinite_side", "the row 'eq'"),
        (MPS.replace("BOUNDS\n", "RANGES\n    rng cost 3\nBOUNDS\n"), "range_of_objective", "line 16"),
        (MPS.replace("BOUNDS\n", "RANGES\n    rng cap 3\n    rng cap 3\nBOUNDS\n"), "side_twice", "line 17"),
        (MPS.replace("BOUNDS\n", "RHS\nBOUNDS\n"), "section_twice", "line 15"),
        (bounded(" UP bnd x -4"), "negative_upper", "column 'x' has a negative UP bound"),
        (bounded(" SC bnd x 3"), "unsupported", "line 16: a bound SC makes a column semi-continuous"),
        (bounded(" XX bnd x 3"), "unknown_bound", "line 16"),
        (bounded(" UP bnd z 3"), "unknown_column", "line 16: there is no column 'z'"),
        (bounded(" UP bnd x abc"), "not_a_number", "line 16"),
        (bounded(" UP bnd x nan"), "not_a_number", "line 16"),
        (bounded(" UP bnd x"), "not_a_number", "line 16"),
        (bounded(" UP x"), "wrong_fields", "line 16"),
        (bounded(" FR a b c d"), "wrong_fields", "line 16"),
        (bounded(" LO bnd x 5\n UP bnd x 3"), "crossed", "column 'x', lower: 5 is more than the upper limit 3"),
        (bounded(" UP b1 x 4\n UP b2 y 6"), "several_sets", "line 17"),
        (bounded(" UP b x 4\n FX b x 6"), "side_twice", "line 17"),
        (MARKED.replace("INTEND", "INTORG"), "wrong_marker", "line 13"),
        (MPS.replace("ROWS\n", "OBJSENSE\n    UP\nROWS\n"), "unknown_sense", "line 3"),
        (MPS.replace("ENDATA", "QUADOBJ\n    x x 2\nENDATA"), "unsupported", "line 17: the section QUADOBJ has quadratic terms"),
        (MPS.replace("ENDATA", "SOS\n S1 SOS s1\nENDATA"), "unsupported", "special ordered sets"),
        (MPS.replace("ENDATA", "INDICATORS\n IF a b 1\nENDATA"), "unsupported", "indicator constraints"),
        ("ROWS\n N c\nCOLUMNS\nENDATA\n", "empty", "there are no columns"),
        (MPS.replace("x", "x" * 256), "name_too_long", "line 8"),
        (MPS.replace("NAME t", "NAME \0"), "not_text", "line 1"),
        (MPS.replace("NAME t", "NAME \x0c"), "not_text", "line 1"),
    ],
)
def test_broken_mps_files_are_refused(text: str, code: str, words: str) -> None:
    found = mistake(text, "mps")
    assert found[0] == code
    assert words in found[1]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ((LP, ""), "empty", "the file is empty"),
        ((LP, "hello world"), "no_objective", "line 1"),
        (("End\n", ""), "cut_off", "without End"),
        (("End\n", "End\n x\n"), "after_end", "line 17"),
        (("x + 2 y", "x + 2 x"), "duplicate_entry", "line 3: the column 'x' is named twice"),
        (("c1: x + y", "c1: x + x"), "duplicate_entry", "line 5: the column 'x' is named twice"),
        (("c2:", "c1:"), "duplicate_name", "line 6: the row 'c1'"),
        (("x + y >= 2", "x + y + 5 >= 2"), "constant", "line 5"),
        (("x + y >= 2", "x + y >= 2 + z"), "unexpected", "line 6"),
        (("x + y >= 2", "2 <= x + y"), "number_first", "line 5"),
        (("x + y >= 2", "1 <= x + y <= 2"), "number_first", "line 5"),
        (("x + y >= 2", "x + y >= 2 <= 3"), "number_first", "line 5"),
        (("x + y >= 2", "x + y >= inf"), "infinite_side", "line 5"),
        (("x + y >= 2", "x + y >= x"), "unexpected", "line 5: expected a number, found 'x'"),
        (("x + y >= 2", "x y >= 2"), "unexpected", "line 5"),
        (("x + y >= 2", "x + y"), "unexpected", "line 6"),
        (("x + y >= 2", "x + [ x * y ] >= 2"), "unsupported", "line 5: quadratic terms"),
        (("x + y >= 2", "x * y >= 2"), "unsupported", "line 5: products"),
        (("x + y >= 2", "x + 1e20 y >= 2"), "too_large", "row 'c1', column 'y'"),
        (("x <= 4", "x <= 4\n x <= 3"), "side_twice", "line 10: the column 'x'"),
        (("x <= 4", "x <= -4"), "crossed", "column 'x', lower: 0 is more than the upper limit -4"),
        (("x <= 4", "x = inf"), "infinite_side", "line 9"),
        (("x <= 4", "x 4"), "unexpected", "line 9"),
        ((" b\n", " x\n"), "bounded_binary", "line 15"),
        (("Generals", "Semi-continuous"), "unsupported", "line 12: the file has semi-continuous columns"),
        (("Generals", "SOS"), "unsupported", "special ordered sets"),
        (("Generals", "General Constraints"), "unsupported", "general constraints"),
        (("Maximize", "Minimize multi-objectives"), "unsupported", "several objectives"),
    ],
)
def test_broken_lp_files_are_refused(change: tuple[str, str], code: str, words: str) -> None:
    found = mistake(LP.replace(*change), "lp")
    assert found[0] == code
    assert words in found[1]


@pytest.mark.parametrize(("form", "text"), [("mps", MPS), ("lp", LP)])
@pytest.mark.parametrize("what", ["rows", "columns", "entries"])
def test_large_files_are_refused_at_once(form: str, text: str, what: str) -> None:
    code, words = mistake(text, form, **{f"most_{what}": 1})
    assert (code, f"more than 1 {what}" in words) == ("too_large", True)


def test_other_bytes_and_formats_are_refused() -> None:
    assert read(b"\xff\xfe\x00N", "mps", **MOST)["errors"][0]["detail"].startswith("line 1: this is not text in UTF-8")
    assert read(gzip.compress(MPS.encode()), "mps", **MOST)["errors"][0]["code"] == "not_text"
    assert mistake(MPS, "nl")[0] == "unknown_format"
    assert problem("\ufeff" + MPS, "mps") == problem(MPS, "mps")


def misnamed(draft: Draft) -> None:
    draft.column_at = {("z" if known == "x" else known): at for known, at in draft.column_at.items()}


@pytest.mark.parametrize(
    ("slip", "words"),
    [
        (lambda draft: draft.cost.__setitem__(1, 7.0), "the cost of the column 'y'"),
        (lambda draft: draft.lower.__setitem__(0, -7.0), "the lower bound of the column 'x'"),
        (lambda draft: draft.upper.__setitem__(0, 7.0), "the upper bound of the column 'x'"),
        (lambda draft: draft.integer.__setitem__(0, True), "the integrality of the column 'x'"),
        (lambda draft: draft.row_lower.__setitem__(1, -7.0), "the lower side of the row 'need'"),
        (lambda draft: draft.row_upper.__setitem__(0, 7.0), "the upper side of the row 'cap'"),
        (lambda draft: draft.entry_value.__setitem__(3, 7.0), "the entry of column 'y' in row 'eq'"),
        (lambda draft: draft.entry_row.__setitem__(3, 1), "the entry of column 'y' in row 'need'"),
        (lambda draft: draft.add_entry(1, 1, 7.0), "HiGHS finds 4 entries, we find 5"),
        (lambda draft: draft.add_row("more", 0.0, 1.0, 1), "HiGHS finds 3 rows and 2 columns, we find 4 and 2"),
        (lambda draft: draft.row_names.__setitem__(0, "top"), "the row 'top' is called 'cap' by HiGHS"),
        (misnamed, "or other names"),
        (lambda draft: setattr(draft, "maximise", True), "the sense or the constant"),
        (lambda draft: setattr(draft, "offset", 7.0), "the sense or the constant"),
    ],
)
def test_two_readers_that_disagree_are_not_believed(monkeypatch: pytest.MonkeyPatch, slip: Callable[[Draft], None], words: str) -> None:
    """Whichever of them made a slip."""

    def slipping(text: str, most: Most) -> Draft:
        draft = read_mps(text, most)
        slip(draft)
        return draft

    monkeypatch.setitem(READERS, "mps", slipping)
    code, told = mistake(MPS, "mps")
    assert code == "ambiguous"
    assert words in told


# ---------------------------------------------------------------- random programs, there and back


@QUICK
@given(st.integers(0, 10**6))
def test_programs_survive_both_formats(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = np.random.default_rng(seed)
    program = random_program(rng, integers=int(rng.integers(0, 3)), continuous=int(rng.integers(1, 3)))
    expected = HighsBackend().solve(program, Limits(gap=0.0))
    path = tmp_path_factory.mktemp("mps") / "one.mps"
    write_mps(program, path)
    for form, text in (("mps", path.read_text(encoding="utf-8")), ("lp", as_lp(program))):
        found = readings(text, form)
        assert "errors" not in found, (seed, form, found)
        again = HighsBackend().solve(build(Problem.model_validate_json(found["body"])), Limits(gap=0.0))
        assert again.status is expected.status
        assert again.objective == (None if expected.objective is None else pytest.approx(expected.objective, abs=1e-5))


# ---------------------------------------------------------------- anything at all


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    with Child.start(imports=("service.importers.program",)) as one:
        yield one


PIECES = st.sampled_from(
    [
        *(" ", "\n", "\t", "0", "1", "-", "1e30", "-1e30", "nan", "1e400", "x", "y", "cost", "cap", "*", "$", "é", "\0", "\x0b"),
        *("RHS", "RANGES", "BOUNDS", "ENDATA", "MARKER", "'INTORG'", " FR b x\n", " BV b y\n", " MI b x\n"),
        *("<=", ">=", "=", ":", "+", "[", "^2", "]", "free", "inf", "End\n", "Bounds\n", "st\n", "\\"),
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, str]:
    """One of the files with a few pieces cut out, doubled, moved or put in."""
    form, text = draw(st.sampled_from([("mps", MPS), ("mps", MARKED), ("lp", LP)]))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(text)))
        stop = min(len(text), start + draw(st.integers(0, 12)))
        put = draw(st.one_of(PIECES, st.just(text[start:stop] * 2), st.just("")))
        text = text[:start] + put + text[stop:]
    return form, text


@settings(max_examples=400, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutated())
def test_mutated_files_end_in_a_program_or_a_clear_error(child: Child, file: tuple[str, str]) -> None:
    form, text = file
    end = child.run("service.tasks:read_program", {"data": text.encode(), "format": form, **MOST}, deadline_s=20.0)
    assert end.reason == "finished", (file, end.message)
    if "errors" in end.value:
        assert end.value["errors"]
        for one in end.value["errors"]:
            assert one["pointer"] == ""
            assert one["code"]
            assert len(one["detail"]) > 20
    else:
        assert build(Problem.model_validate_json(end.value["body"])).columns > 0


@settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.sampled_from(["mps", "lp"]))
def test_any_bytes_end_in_a_clear_error(child: Child, data: bytes, form: str) -> None:
    end = child.run("service.tasks:read_program", {"data": data, "format": form, **MOST}, deadline_s=20.0)
    assert end.reason == "finished"
    assert "errors" in end.value


# ---------------------------------------------------------------- the command


def test_the_command_makes_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.mps").write_text(MARKED, encoding="utf-8")
    (tmp_path / "two.lp.gz").write_bytes(gzip.compress(LP.encode()))
    out = tmp_path / "problem.json"
    assert run("import", "program", tmp_path / "one.mps", "--out", out) == 0
    told = capsys.readouterr()
    assert told.out.endswith("problem.json: 3 rows, 2 columns (1 integer), 4 entries\n")
    assert "warning: 1 integer columns between markers" in told.err
    assert Problem.model_validate_json(out.read_bytes()) == problem(MARKED, "mps")
    assert run("import", "program", tmp_path / "two.lp.gz", "--out", out) == 0
    assert json.loads(out.read_text(encoding="utf-8"))["sense"] == "maximise"


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, data, words in (
        ("a.mps", b"hello", "a.mps: line 1: 'hello' stands outside all sections"),
        ("a.txt", b"", "a.txt: an MPS or LP file ends in .mps, .lp"),
        ("a.lp.gz", b"no gzip", "a.lp.gz: cannot be read"),
        ("b.lp.gz", gzip.compress(LP.encode())[:-9], "b.lp.gz: cannot be read"),
    ):
        (tmp_path / name).write_bytes(data)
        assert run("import", "program", tmp_path / name, "--out", tmp_path / "out.json") == 2
        assert words in capsys.readouterr().err
    assert run("import", "program", tmp_path / "none.mps", "--out", tmp_path / "out.json") == 2
    assert "there is no such file" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()

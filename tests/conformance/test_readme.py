"""What README.md says is true: its commands run in the order given, its ``make`` targets and the files it points to are there."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.catalogue import kinds
from service.cli import main
from tests.conformance.documents import ROOT, fenced, page

README = (ROOT / "README.md").read_text(encoding="utf-8")
LONGEST_S = 5.0  # that a command may search
FURTHER = [path for kind in kinds().values() for path in sorted(page(kind).parent.rglob("*.md")) if path != page(kind)]
IN_TWO_LINES = "\\\n"


def shell_lines(text: str) -> Iterator[list[str]]:
    """The lines of the shell blocks as words, without comments."""
    for block in fenced(text, "sh", "bash", "shell", "console"):
        for line in block.replace(IN_TWO_LINES, " ").splitlines():
            if words := shlex.split(line.removeprefix("$ "), comments=True):
                yield words


def run(words: list[str]) -> int:
    """One ``quartermaster`` line with its redirection; the exit code."""
    arguments, _, target = " ".join(words[1:]).partition(" > ")
    with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit) as stop:
        main(shlex.split(arguments))
    if target:
        Path(target).write_text(printed.getvalue(), encoding="utf-8")
    return int(stop.value.code or 0)


def test_the_commands_run_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder that has nothing but the bundled data, where the line says so."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    found = [words for words in shell_lines(README) if words[0] == "quartermaster"]
    for words in found:
        if words[1] == "solve":
            assert float(words[words.index("--time-limit") + 1]) <= LONGEST_S, words
        assert run(words) == 0, words
    assert {words[1] for words in found} == {
        "kinds",
        "example",
        "solve",
        "verify",
        "explain",
        "schema",
        "import",
        "view",
        "curve",
        "study",
        "simulate",
        "replay",
    }
    made = {path.name for path in tmp_path.iterdir()} - {"benchmarks"}
    placed = {"problem.json", "plan.json", "report.html", "schema.json", "openb.json"}
    shared = {"sharing.json", "shares.json", "shares.html", "pop.json"}
    studied = {"link.yaml", "link", "replayed"}
    assert made == placed | shared | studied | {"network.json", "routes.json", "network.html", "data.json", "places.json", "netgen.json"}


@pytest.mark.parametrize("path", FURTHER, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_commands_of_further_pages_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that start from an example; files of other formats are the user's own."""
    monkeypatch.chdir(tmp_path)
    found = [words for words in shell_lines(path.read_text(encoding="utf-8")) if words[0] == "quartermaster"]
    for words in found if found and found[0][1] == "example" else []:
        assert run([*words, *(["--time-limit", f"{LONGEST_S:g}"] if words[1] == "solve" else [])]) == 0, words


def test_the_targets_of_make_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    told = {words[1] for words in shell_lines(README) if words[0] == "make"} | set(re.findall(r"`make ([a-z-]+)", README))
    assert {"demo", "test", "install"} <= told <= targets


def test_the_links_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(page(kind) for kind in kinds().values())]
    for path in pages:
        links = re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8"))
        assert not [link for link in links if "://" not in link and not (path.parent / link).exists()], path


def test_the_map_names_what_there_is() -> None:
    """Every path in the tables exists; a placeholder in angle brackets stands for any kind."""
    for name in re.findall(r"`((?:models|optimizer|service|tests|benchmarks|\.github)/[\w./<>-]*)`", README):
        assert list(ROOT.glob(name.rstrip("/").replace("<kind>", "*"))), name

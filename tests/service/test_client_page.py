"""Every example of the client's page is run against a real service."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import client as client_package
from tests.conformance.documents import ROOT
from tests.service.live import Live, live, warm_pool
from tests.service.test_cli import run

PAGE = ROOT / "service" / "client" / "README.md"
TEXT = PAGE.read_text(encoding="utf-8")
HERE = "http://127.0.0.1:8080"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with warm_pool() as pool, live(tmp_path_factory.mktemp("service"), pool) as made:
        yield made


@pytest.mark.parametrize("place", range(len(blocks("python"))))
def test_python(service: Live, capsys: pytest.CaptureFixture[str], place: int) -> None:
    code = blocks("python")[place].replace(HERE, service.url)
    exec(compile(code, f"{PAGE.name}, example {place + 1}", "exec"), {"__name__": "example"})  # noqa: S102  (our own page)
    told = capsys.readouterr().out.splitlines()
    expected = (r"optimal \d", r"1 state queued", r"\[-4\.0, -4\.0\]", r".*baseline")[place]
    assert re.match(expected, told[0])


def test_shell(service: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    [block] = blocks("sh")
    run_id = "RUN"
    for line in block.replace(HERE, service.url).splitlines():
        words, _, target = line.replace("RUN", run_id).partition(" > ")
        name, *arguments = shlex.split(words)
        assert name == "quartermaster"
        assert run(*arguments) == 0, line
        shown = capsys.readouterr()
        if target:
            Path(target).write_text(shown.out, encoding="utf-8")
        run_id = next(iter(re.findall(r"run_[0-9a-f]{24}", shown.err)), run_id)
    assert json.loads(Path("plan.json").read_text(encoding="utf-8"))["placements"]
    assert run_id != "RUN"


def test_the_names_on_the_page_are_there() -> None:
    errors = set(re.findall(r"`([A-Z][A-Za-z]+)`", TEXT)) & {name for name in dir(client_package) if name[0].isupper()}
    assert errors >= {"Invalid", "TooMany", "Unavailable", "Unreachable", "ClientError", "AsyncClient"}
    for name in re.findall(r"client\.(\w+)\(", TEXT):
        assert hasattr(client_package.Client, name)
    for target in re.findall(r"\]\(([^)#\s]+)", TEXT):
        assert (PAGE.parent / target).exists()

"""What README.md shows of the service works: its curl lines and its Python, against a real server."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import httpx

from models.catalogue import kind
from tests.conformance.documents import ROOT, fenced
from tests.conformance.test_readme import shell_lines
from tests.service.served import started

PAGE = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN = "http://127.0.0.1:8080"


def test_the_service_of_the_readme(tmp_path: Path) -> None:
    asked = [words for words in shell_lines(PAGE) if words[0] == "curl"]
    [python] = fenced(PAGE, "python")
    assert len(asked) >= 3
    with started(tmp_path, "serve", "--port", "0", slots=1, spare_children=0, durability="crash") as server:
        problem = kind("placement").part("schema").example().model_dump(mode="json")
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            exec(python.replace(SHOWN, server.url), {"problem": problem})  # noqa: S102  (our own page)
        assert told.getvalue().startswith("optimal 103.8 103.8")
        for words in asked:
            assert words[:2] == ["curl", "-s"]
            [url] = words[2:]
            assert httpx.get(url.replace(SHOWN, server.url)).status_code == 200, url

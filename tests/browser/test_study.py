"""The report of a study in a real browser: no error, nothing from outside, and no wider than the window."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from optimizer.study.rows import Row
from service.report.study import render_study
from tests.browser.test_report import CHROMIUM, OUTSIDE, QUIET, loaded
from tests.service.study_tables import NASTY, goal, large, row, scenario, table
from tests.service.test_study_report import FRONT, REFUSED, SMALL, SWEEP, TARGET

if TYPE_CHECKING:
    from pathlib import Path

PROBE = """<script>
  const main = document.documentElement;
  document.body.dataset.over = main.scrollWidth - main.clientWidth;
  document.body.dataset.width = main.clientWidth;
  const bars = [...document.querySelectorAll('.rail i')].map(one => one.getBoundingClientRect().width);
  document.body.dataset.bars = bars.filter(width => width > 1).length;
  document.body.dataset.dots = document.querySelectorAll('svg circle').length;
  document.body.dataset.tiles = document.querySelectorAll('.heat td[style]').length;
</script></body>"""


def probed(page: str, tmp_path: Path, width: int = 1240) -> dict[str, int]:
    """What the page measures in a window of a width."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    # A window is never narrower than 500 in headless mode, a frame is.
    (tmp_path / "inner.html").write_text(page.replace("</body>", PROBE), encoding="utf-8")
    frame = f'<body style="margin:0"><iframe src="inner.html" style="border:0;width:{width}px;height:3000px"></iframe></body>'
    relay = "<script>onload = () => { const inner = document.querySelector('iframe').contentDocument.body.dataset;"
    relay += " for (const name in inner) document.body.dataset[name] = inner[name]; }</script>"
    outer = tmp_path / "outer.html"
    outer.write_text(f"<!doctype html>{frame}{relay}", encoding="utf-8")
    profile = tmp_path / f"profile{width}"
    command = [CHROMIUM, *QUIET, "--allow-file-access-from-files", f"--user-data-dir={profile}", "--dump-dom", outer.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    shutil.rmtree(profile, ignore_errors=True)
    assert not [line for line in done.stderr.splitlines() if ":CONSOLE" in line], done.stderr
    return {name: int(value) for name, value in re.findall(r'data-(\w+)="(-?\d+)"', done.stdout)}


def test_everything_is_drawn_and_nothing_is_fetched(tmp_path: Path) -> None:
    page = render_study(table(SMALL, gates=({"metric": "objective", "fall_at_most": 0.05},)), (SWEEP, FRONT, TARGET, REFUSED))
    assert not OUTSIDE.search(page)
    found = probed(page, tmp_path)
    assert found["width"] == 1240
    assert found["over"] == 0
    assert found["bars"] >= 2
    assert found["dots"] == 4 + 3 + 3 + 3  # against spend, along a, sweep, trade-off


@pytest.mark.parametrize("width", [420, 1240])
def test_it_fits_the_window(width: int, tmp_path: Path) -> None:
    long = "a-very-long-name-of-an-axis-without-a-single-space-in-it"
    pairs = [(scenario({}, baseline=True), row("b", goal(1e9, 1.1e9, unit="GPUs")))]
    pairs += [
        (scenario({long: f"value-{number}-of-it-that-is-long-too"}), row(f"k{number}", goal(1e9 + number * 1e7))) for number in range(5)
    ]
    pairs += [(scenario({long: "broken"}), Row.failed("f", "x" * 300))]
    page = render_study(table(pairs, title="w" * 90), (SWEEP, FRONT, TARGET, REFUSED | {"failure": "y" * 200}))
    found = probed(page, tmp_path, width)
    assert width - 20 < found["width"] <= width  # a scroll bar takes some
    assert found["over"] == 0


def test_a_large_study_fits_and_is_drawn(tmp_path: Path) -> None:
    found = probed(render_study(large(400)), tmp_path)
    assert found["over"] == 0
    assert found["tiles"] == 400
    assert found["dots"] > 300


def test_names_are_text(tmp_path: Path) -> None:
    pairs = [(scenario({NASTY: number}), row(f"k{number}", goal(1.0 + number))) for number in range(4)]
    loaded(render_study(table(pairs, title=NASTY)), tmp_path)

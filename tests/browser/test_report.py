"""The report in a real browser (Debian's chromium, headless): it loads without errors and draws every GPU."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from models.placement.schema import Job, Node, Plan, Problem
from models.vocabulary import Document, Topology
from optimizer.result import Outcome
from service.report import render
from tests.service.small_cluster import cluster, plan, planless, solved

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--enable-logging=stderr",
    "--virtual-time-budget=2000",
)
OUTSIDE = re.compile(r"""(?:https?:)?//[\w.-]+\.\w+|@import|url\((?!["']?data:)""")


def loaded(page: str, tmp_path: Path) -> str:
    """The document as the browser holds it after running its script; fails when the console saw an error."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    command = [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert not [line for line in done.stderr.splitlines() if ":CONSOLE" in line], done.stderr
    return done.stdout


def drawn_gpus(page: str) -> int:
    grid = page.partition('<div id="grid"')[2].partition('<div id="tip"')[0]
    return len(re.findall(r"<i class=", grid))


@pytest.mark.parametrize(("tenants", "racks"), [(1, False), (3, True)])
def test_every_gpu_is_drawn(tenants: int, racks: bool, tmp_path: Path) -> None:
    problem = cluster(tenants=tenants, racks=racks)
    probe = "<script>document.body.dataset.cells = document.querySelectorAll('#grid .n i').length</script></body>"
    page = loaded(render(problem, solved(problem, plan())).replace("</body>", probe), tmp_path)
    assert 'data-cells="20"' in page
    assert drawn_gpus(page) == sum(node.gpus for node in problem.nodes)


def test_pointing_and_searching_tell_the_job(tmp_path: Path) -> None:
    problem = cluster()
    probe = """<script>
      const cell = document.querySelector('#grid i.g');
      cell.dispatchEvent(new PointerEvent('pointermove', {bubbles: true, clientX: 5, clientY: 5}));
      const find = document.getElementById('find');
      find.value = 'GANG';
      find.dispatchEvent(new Event('input'));
      document.body.dataset.lit = document.querySelectorAll('.lit').length;
      document.body.dataset.hits = document.querySelectorAll('.hit').length;
    </script></body>"""
    page = loaded(render(problem, solved(problem, plan())).replace("</body>", probe), tmp_path)
    assert 'data-lit="8"' in page
    assert 'data-hits="8"' in page
    assert "GPU 0: gang (8 GPUs)" in page
    assert "1 jobs with GPUs, 0 nodes, 8 GPUs: gang (8 GPUs) on n0" in page


def test_the_page_asks_for_nothing_outside() -> None:
    problem = cluster()
    for page in (render(problem, solved(problem, plan())), render(problem, planless(Outcome.infeasible))):
        assert not OUTSIDE.search(re.sub(r'xmlns(:\w+)?="[^"]*"', "", page))
        assert not re.search(r"<(link(?! rel=\"icon\" href=\"data:)|iframe|object|img|script[^>]*\bsrc)", page)


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    nasty = "</script><script>alert(1)</script>&\"'"
    nodes = (Node(id=nasty, gpu_model=nasty, gpus=1, cpu_cores=1, memory_gib=1, topology=Topology(rack=nasty)),)
    jobs = (Job(id=nasty, tenant=nasty, gpus_per_worker=1), Job(id="b", tenant="t", gpus_per_worker=0.5))
    problem = Problem(nodes=nodes, jobs=jobs, goals=cluster().goals)
    found = Plan.model_validate({"placements": [{"job": nasty, "workers": [{"node": nasty, "gpus": [0]}]}]})
    page = render(problem, solved(problem, found))
    assert "<script>alert" not in page
    loaded(page, tmp_path)


def test_what_is_proved_is_said_in_words() -> None:
    problem = cluster()
    page = render(problem, solved(problem, plan()))
    assert "No plan can allocate more than 50.00% of the GPUs (10 of 20); this one allocates 44.00% (8.8)." in page
    assert "no node has 8 &lt;free&gt; GPUs" in page
    assert "1 worker" not in page
    assert "8 GPUs, 8 cores, 16 GiB" in page


def test_a_plan_to_compare_with() -> None:
    problem = cluster()
    page = render(problem, solved(problem, plan()), plan())
    assert "the plan to compare with" in page
    assert "h100: 50.0% before, 50.0% after" in page
    assert "h100: 0.0% before, 50.0% after" in render(problem, solved(problem, plan()))


def test_a_kind_without_a_drawing_gets_tables() -> None:
    class Route(Document):
        link: str
        load_gbps: float

    class Routes(Document):
        schema_version: int = 1
        routes: tuple[Route, ...]

    problem = cluster()
    result = solved(problem, plan(), kind="unheard_of", plan=Routes(routes=tuple(Route(link=f"l{n}", load_gbps=n / 2) for n in range(300))))
    page = render(problem, result)
    assert "<td>l7</td><td>3.5</td>" in page
    assert "and 100 more rows" in page

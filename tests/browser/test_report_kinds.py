"""The reports of flow, tiering and fairshare in a real browser: they load without errors and draw every link, tier and GPU."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import networks
from models.fairshare import examples as shares
from models.fairshare.schema import Policy
from models.flow import examples as flows
from models.flow.network.arrays import Network, network_of
from models.flow.schema import Objective
from models.tiering import examples as tierings
from models.vocabulary import Document
from optimizer.limits import Limits
from optimizer.result import Outcome
from optimizer.solve import solve
from service.report import render
from service.report.flow_layout import layout
from tests.browser.test_report import OUTSIDE, loaded

LIMITS = Limits(time_limit_s=20.0)
PROBE = "<script>document.body.dataset.shapes = document.querySelectorAll('{shapes}').length</script></body>"


def page(problem: Document, tmp_path: Path, shapes: str) -> tuple[str, int]:
    """The loaded report of a solve, and how many shapes of a kind it has."""
    result = solve(problem, LIMITS, isolate=False)
    assert result.outcome is Outcome.optimal
    written = render(problem, result)
    assert not OUTSIDE.search(written.replace("http://www.w3.org/2000/svg", ""))
    found = loaded(written.replace("</body>", PROBE.format(shapes=shapes)), tmp_path)
    shown = re.search(r'data-shapes="(\d+)"', found)
    assert shown is not None
    return found, int(shown[1])


@pytest.mark.parametrize("name", list(flows.examples()))
def test_a_flow_is_drawn(name: str, tmp_path: Path) -> None:
    problem = flows.examples()[name]
    wide = bool(problem.transfers)
    found, shapes = page(problem, tmp_path, ".lane" if wide else ".network path")
    assert shapes > 0 if wide else shapes == network_of(problem).links
    assert "None" not in re.sub(r"<script.*?</script>", "", found, flags=re.DOTALL)


@pytest.mark.parametrize("name", list(tierings.examples()))
def test_a_tiering_is_drawn(name: str, tmp_path: Path) -> None:
    problem = tierings.examples()[name]
    found, shapes = page(problem, tmp_path, ".use.tier")
    assert shapes == len(problem.tiers)
    assert all(tier.id in found for tier in problem.tiers)


@pytest.mark.parametrize("name", list(shares.examples()))
def test_a_division_of_gpu_time_is_drawn(name: str, tmp_path: Path) -> None:
    problem = shares.examples()[name]
    found, shapes = page(problem, tmp_path, ".lane")
    assert shapes == sum(one.count for one in problem.accelerators)  # a lane for each GPU: the first leases
    names = {*(one.id for one in problem.accelerators), *(one.id for one in problem.jobs), *(one.id for one in problem.tenants)}
    assert all(name in found for name in names)
    assert "None" not in re.sub(r"<script.*?</script>", "", found, flags=re.DOTALL)
    # Behind a tenant's earlier job one waits: the page may not say that everybody has something.
    assert ("Every job that rises first" in found) == (problem.policy is Policy.hierarchical)
    assert ("the worst that the problem guards against" in found) == (problem.robust is not None)


def crossed(network: Network) -> float:
    """How much longer a link is drawn than the closest two nodes are apart, at the median link."""
    places = layout(network)
    assert places.shape == (network.nodes, 2)
    assert np.isfinite(places).all()
    assert places.min() >= 0.0
    assert places.max() <= 1.0
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) + np.eye(network.nodes) * 9
    drawn = np.linalg.norm(places[network.link_tail] - places[network.link_head], axis=1)
    assert apart.min() > 1e-3, "two nodes lie on each other"
    return float(np.median(drawn) / np.median(apart))


def test_neighbours_are_drawn_near_each_other() -> None:
    assert crossed(network_of(networks.chain(12))) < 0.5
    assert crossed(network_of(networks.fat_tree(4, 8, Objective.max_throughput, 0))) < 0.9


def test_the_same_network_always_looks_the_same() -> None:
    network = network_of(flows.wan())
    assert (layout(network) == layout(network)).all()

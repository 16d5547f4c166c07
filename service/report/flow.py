"""The drawing of a flow plan: the network with every link as full as it is, the fullest links, and who gets less than asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from models.flow.network.arrays import network_of, traffic_of
from models.flow.network.tally import tally_of
from models.flow.schema import Objective, Plan, Problem, Use
from service.report.drawing import Drawing, Figure, Table
from service.report.flow_layout import layout
from service.report.wording import EXACT, count, number, percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.flow.network.arrays import Network
    from models.flow.network.tally import Tally
    from models.program import Floats
    from models.vocabulary import Document
    from optimizer.result import GoalCertificate

MOST_NODES = 400  # of a network that is drawn
MOST_LINKS = 4_000
MOST_ROWS = 60
MOST_LABELS = 40  # nodes up to which each is named in the picture
SHORT = 1e-6  # of its size: a demand that lacks less has all it asked for
WIDTH, HEIGHT, EDGE = 1160, 620, 46
STEPS = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0 + 1e-6)  # shares at which the colour of a link changes
LEGEND = ("empty", "up to 25%", "up to 50%", "up to 75%", "up to 95%", "full", "overloaded")

_PROVES = {  # what a bound proves, and what it proves when the plan attains it
    "cost": ("No routing costs less than {bound}; this one costs {objective}.", "This routing costs {objective}, and none costs less."),
    "throughput": (
        "No routing carries traffic worth more than {bound}; this one carries {objective}.",
        "This routing carries traffic worth {objective}, and none carries more.",
    ),
    "concurrent": (
        "No routing gives every demand more than {bound} times its size; this one gives {objective}.",
        "Every demand gets {objective} times its size at least, and no routing gives all of them more.",
    ),
    "max_utilisation": (
        "No routing keeps the busiest link below {bound}; here it is at {objective}.",
        "The busiest link is at {objective}, and no routing keeps it lower.",
    ),
    "design_cost": (
        "No choice of upgrades costs less than {bound}; this one costs {objective}.",
        "These upgrades and routes cost {objective}, and none cost less.",
    ),
}


def sentence(goal: GoalCertificate, _metrics: dict[str, float]) -> str | None:
    """What the bound of a goal proves; None where the page says it as well."""
    name, _, level = goal.name.partition("[")
    if name not in _PROVES:
        return None
    told = _PROVES[name][abs(goal.objective - goal.bound) <= EXACT * max(1.0, abs(goal.objective))]
    of_class = f" This is about priority {level.rstrip(']')}." if level else ""
    return told.format(bound=number(goal.bound), objective=number(goal.objective)) + of_class


def draw(problem: Document, plan: Document, _before: Document | None) -> Drawing:
    """The network, its fullest links and the demands that get less than they asked for."""
    problem, plan = cast("Problem", problem), cast("Plan", plan)
    network, traffic = network_of(problem), traffic_of(problem)
    if problem.use is Use.transfer:
        return _shipped(problem, plan)
    tally = tally_of(problem, plan)
    capacity = _capacity(problem, plan, network)
    load = tally.channel_load(network)
    used = np.divide(load, capacity, out=np.where(load > 0, np.inf, 0.0), where=capacity > 0)
    used[np.isinf(capacity)] = 0.0
    short = [] if problem.objective is Objective.max_concurrent else np.flatnonzero(tally.carried < traffic.size * (1 - SHORT)).tolist()
    tables = [*_links(network, load, capacity, used, plan), *_short(problem, tally, short), *_upgrades(plan), *_aftermaths(plan)]
    return Drawing(
        figures=tuple(_figures(problem, tally, used, len(short))),
        template="flow.html.j2",
        values={"picture": _picture(network, used), "spread": _spread(used), "tables": tables},
        left_out=tuple(traffic.ids[place] for place in short if tally.carried[place] <= SHORT * traffic.size[place]),
    )


def _capacity(problem: Problem, plan: Plan, network: Network) -> Floats:
    """Gbit/s of each channel, with what the plan adds."""
    capacity = network.channel_capacity.copy()
    sizes = {(link.id, module.id): module.capacity_gbps for link in problem.links for module in link.modules}
    added = np.zeros(network.links)
    for upgrade in plan.upgrades:
        added[network.link_at[upgrade.link]] += upgrade.count * sizes[upgrade.link, upgrade.module]
    return np.asarray(capacity + added[network.channel_link])


def _figures(problem: Problem, tally: Tally, used: Floats, short: int) -> Iterator[Figure]:
    traffic = traffic_of(problem)
    if traffic.count:
        asked = float(traffic.size.sum())
        yield Figure("Carried", f"{number(float(tally.carried.sum()))} Gbit/s", f"of {number(asked)} asked for")
        yield Figure(
            "Demands", f"{traffic.count:,}", "all have what they asked for" if not short else f"{short:,} get less than they asked for"
        )
    else:
        supply = network_of(problem).supply
        yield Figure("Supplied", f"{number(float(supply[supply > 0].sum()))} Gbit/s", "by the nodes")
    yield Figure("Busiest link", percent(float(used.max(initial=0.0))), "of its capacity in use")
    yield Figure("Full links", f"{int(np.count_nonzero(used >= STEPS[4])):,}", f"of {len(used):,} at 95% or more")


# ---------------------------------------------------------------- the picture


def _picture(network: Network, used: Floats) -> dict[str, Any] | None:
    """Nodes and links as SVG shapes; None when there are too many to see anything."""
    if network.nodes > MOST_NODES or network.links > MOST_LINKS:
        return None
    at = layout(network) * (WIDTH - 2 * EDGE, HEIGHT - 2 * EDGE) + EDGE
    full = np.zeros(network.links)
    np.maximum.at(full, network.channel_link, used)
    shift = _parallel(network)
    lines = []
    for link in np.argsort(full, kind="stable").tolist():  # the fullest on top
        (x, y), (to_x, to_y) = at[network.link_tail[link]], at[network.link_head[link]]
        across = np.array([to_y - y, x - to_x])
        off = across / max(1e-9, float(np.hypot(*across))) * shift[link]
        middle = (x + to_x) / 2 + 2 * off[0], (y + to_y) / 2 + 2 * off[1]
        ends = f"{network.node_ids[network.link_tail[link]]} - {network.node_ids[network.link_head[link]]}"
        title = f"{network.link_ids[link]} ({ends}): {percent(float(full[link]))} in use"
        path = f"M{x:.1f} {y:.1f}Q{middle[0]:.1f} {middle[1]:.1f} {to_x:.1f} {to_y:.1f}"
        lines.append({"path": path, "level": _level(float(full[link])), "title": title})
    named = network.nodes <= MOST_LABELS
    dots = [{"x": f"{x:.1f}", "y": f"{y:.1f}", "name": name} for (x, y), name in zip(at.tolist(), network.node_ids, strict=True)]
    return {"lines": lines, "dots": dots, "named": named, "width": WIDTH, "height": HEIGHT, "radius": 6 if named else 4, "legend": LEGEND}


def _parallel(network: Network) -> Floats:
    """How far each link is bent aside, in pixels, so that those between the same nodes are told apart."""
    seen: dict[tuple[int, int], int] = {}
    shift = np.zeros(network.links)
    for link, (tail, head) in enumerate(zip(network.link_tail.tolist(), network.link_head.tolist(), strict=True)):
        ends = (min(tail, head), max(tail, head))
        number_here = seen[ends] = seen.get(ends, -1) + 1
        side = 1.0 if tail < head else -1.0
        shift[link] = side * 7.0 * ((number_here + 1) // 2) * (1.0 if number_here % 2 else -1.0) if number_here else 0.0
    return shift


def _level(share: float) -> int:
    """The place of a share among the colours."""
    return 0 if share <= 0 else int(np.searchsorted(STEPS, share, side="left"))


def _spread(used: Floats) -> list[dict[str, Any]]:
    """How many channels are how full, for bars."""
    levels = np.array([_level(share) for share in used.tolist()], dtype=np.int64)
    counts = np.bincount(levels, minlength=len(LEGEND))
    most = max(1, int(counts.max(initial=0)))
    return [
        {"name": name, "level": level, "count": int(counts[level]), "share": float(counts[level]) / most}
        for level, name in enumerate(LEGEND)
        if counts[level] or level < len(LEGEND) - 1
    ]


# ---------------------------------------------------------------- tables


def _links(network: Network, load: Floats, capacity: Floats, used: Floats, plan: Plan) -> Iterator[Table]:
    prices = {(price.link, price.back): price.price for price in plan.prices}
    order = [place for place in np.argsort(-used, kind="stable").tolist() if load[place] > 0]
    rows = []
    for place in order[:MOST_ROWS]:
        link, back = int(network.channel_link[place]), bool(network.channel_back[place])
        ends = [network.node_ids[network.link_tail[link]], network.node_ids[network.link_head[link]]]
        price = prices.get((network.link_ids[link], back))
        rows.append(
            (
                network.link_ids[link],
                " to ".join(ends[::-1] if back else ends),
                number(float(load[place])),
                "no limit" if np.isinf(capacity[place]) else number(float(capacity[place])),
                percent(float(used[place])),
                f"{price:.4g}" if price else "",
            )
        )
    if rows:
        columns = ("link", "way", "Gbit/s", "capacity", "in use", "one more Gbit/s is worth")
        yield Table("The busiest links", columns, tuple(rows), max(0, len(order) - len(rows))).without_empty()


def _short(problem: Problem, tally: Tally, short: list[int]) -> Iterator[Table]:
    if not short:
        return
    traffic, names = traffic_of(problem), network_of(problem).node_ids
    short.sort(key=lambda place: float(tally.carried[place] - traffic.size[place]))
    rows = tuple(
        (
            traffic.ids[place],
            f"{names[traffic.source[place]]} to {names[traffic.target[place]]}",
            number(float(traffic.size[place])),
            number(float(tally.carried[place])),
            percent(float(tally.carried[place] / traffic.size[place])),
        )
        for place in short[:MOST_ROWS]
    )
    yield Table(
        "Demands that get less than they asked for", ("demand", "way", "asked", "carried", "share"), rows, max(0, len(short) - len(rows))
    )


def _upgrades(plan: Plan) -> Iterator[Table]:
    if plan.upgrades:
        rows = tuple((one.link, one.module, f"{one.count:,}") for one in plan.upgrades[:MOST_ROWS])
        yield Table("Upgrades", ("link", "module", "count"), rows, max(0, len(plan.upgrades) - MOST_ROWS))


def _aftermaths(plan: Plan) -> Iterator[Table]:
    if not plan.aftermaths:
        return
    order = sorted(plan.aftermaths, key=lambda one: -one.max_utilisation)
    rows = tuple(
        (
            one.scenario,
            ", ".join(one.links),
            percent(one.max_utilisation),
            ", ".join(one.overloaded),
            ", ".join((*one.cut_off, *one.demands_cut_off)),
        )
        for one in order[:MOST_ROWS]
    )
    columns = ("failure", "links", "busiest link then", "overloaded", "cut off")
    title = "What each failure does, with everything routed anew"
    yield Table(title, columns, rows, max(0, len(order) - len(rows))).without_empty()


def _shipped(problem: Problem, plan: Plan) -> Drawing:
    """Transfers: what goes when over which link."""
    steps = problem.horizon.steps if problem.horizon is not None else 0
    legs = [(leg.step, one.transfer, leg.link, leg.back, one.gbit) for one in plan.shipments for leg in one.legs]
    legs.sort()
    rows = tuple(
        (transfer, link + (" (back)" if back else ""), f"{step:,}", number(gbit)) for step, transfer, link, back, gbit in legs[:MOST_ROWS]
    )
    table = Table("Shipments", ("transfer", "link", "step", "Gbit"), rows, max(0, len(legs) - len(rows)))
    busy: dict[str, list[float]] = {}
    for step, _, link, _, gbit in legs:
        busy.setdefault(link, [0.0] * steps)[step] += gbit
    figures = (
        Figure("Transfers", f"{len(problem.transfers):,}", f"in {count(steps, 'step')}"),
        Figure("Sent", f"{number(sum(leg[-1] for leg in legs))} Gbit", "over all links"),
    )
    most = max((max(row) for row in busy.values()), default=1.0)
    lanes = [
        {"name": link, "cells": [{"step": step, "share": gbit / most, "gbit": number(gbit)} for step, gbit in enumerate(row)]}
        for link, row in sorted(busy.items(), key=lambda item: -sum(item[1]))[:MOST_ROWS]
    ]
    values = {"picture": None, "spread": [], "lanes": lanes, "tables": [table] if rows else []}
    return Drawing(figures=figures, template="flow.html.j2", values=values)

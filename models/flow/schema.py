"""The Problem and Plan of a flow: nodes, links, demands in; routes and link flows out. README.md has the maths.

Rates are in Gbit/s, volumes in Gbit, latencies in ms. A large network may come as tables, one tuple for each column.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.contract import ContradictionError
from models.flow.checks import errors
from models.vocabulary import Count, Document, Id, PositiveCount, PositiveQuantity, Quantity

Number = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Use(StrEnum):
    """What is decided: the routes of given traffic, the upgrades that let it be carried, or transfers over time."""

    route = "route"
    design = "design"
    transfer = "transfer"


class Objective(StrEnum):
    """What a routing is best in."""

    min_cost = "min_cost"
    max_throughput = "max_throughput"
    max_concurrent = "max_concurrent"
    min_max_utilisation = "min_max_utilisation"
    max_min_fair = "max_min_fair"


class GoalName(StrEnum):
    """Names of goals; of the classes of a problem with several priorities, the name is followed by ``[priority]``."""

    cost = "cost"
    throughput = "throughput"
    concurrent = "concurrent"
    max_utilisation = "max_utilisation"
    fair_rate = "fair_rate"
    fair_slack = "fair_slack"
    loss_cvar = "loss_cvar"
    design_cost = "design_cost"
    transfer_value = "transfer_value"
    transfer_cost = "transfer_cost"


class Rule(StrEnum):
    """The names of what a plan obeys."""

    link_capacity = "link_capacity"
    link_lower = "link_lower"
    flow_conservation = "flow_conservation"
    demand_served = "demand_served"
    demand_size = "demand_size"
    node_supply = "node_supply"
    latency_limit = "latency_limit"
    path_choice = "path_choice"
    protection = "protection"
    module_limit = "module_limit"
    fairness_proof = "fairness_proof"
    node_storage = "node_storage"
    transfer_window = "transfer_window"
    transfer_complete = "transfer_complete"


class Direction(StrEnum):
    """Which ways a link carries traffic, and whether both ways share its capacity or each has all of it."""

    directed = "directed"
    shared = "shared"
    each = "each"


class Node(Document):
    """A place where links meet."""

    id: Id
    supply_gbps: Number = Field(
        default=0.0, description="Gbit/s that enter the network here; negative: leave it. For single-commodity problems."
    )
    storage_gbit: Quantity | None = Field(
        default=0.0, description="Gbit of transfers that may wait here during a step; null: any amount. Sources and targets keep their own."
    )


class Module(Document):
    """A capacity that can be added to a link, some number of times."""

    id: Id
    capacity_gbps: PositiveQuantity
    cost: Quantity = Field(description="Cost of one.")
    most: Count | None = Field(default=None, description="How many at most; null: any number.")


class Link(Document):
    """A link from ``source`` to ``target``; several may join the same two nodes."""

    id: Id
    source: Id
    target: Id
    capacity_gbps: Quantity | None = Field(description="Gbit/s; null: no limit.")
    latency_ms: Quantity = Field(default=0.0, description="ms, each way.")
    cost: Number = Field(default=0.0, description="Cost of one Gbit/s on this link, each way.")
    lower_gbps: Quantity = Field(default=0.0, description="Gbit/s that must flow at least; of directed links only.")
    direction: Direction = Direction.directed
    risk_groups: tuple[Id, ...] = Field(default=(), description="What it fails with: a duct, a line card, a building.")
    modules: tuple[Module, ...] = Field(default=(), description="For use design: what can be added to it.")
    setup_cost: Quantity = Field(default=0.0, description="For use design: paid once when any module is added.")
    usd_per_gbit: tuple[Quantity, ...] = Field(
        default=(), description="For use transfer: price of one Gbit in each step; one item holds for every step."
    )


class LinkTable(Document):
    """Links as columns, for networks with very many: every column has one item for each link. Columns left out have the defaults."""

    id: tuple[Id, ...] | None = Field(default=None, description="Left out: l0, l1, l2, ...")
    source: tuple[Id, ...]
    target: tuple[Id, ...]
    capacity_gbps: tuple[Quantity | None, ...]
    latency_ms: tuple[Quantity, ...] | None = Field(default=None, description="ms, each way; left out: 0.")
    cost: tuple[Number, ...] | None = Field(default=None, description="Cost of one Gbit/s, each way; left out: 0.")
    lower_gbps: tuple[Quantity, ...] | None = None
    direction: Direction = Field(default=Direction.directed, description="Of all links of the table.")


class NodeTable(Document):
    """Nodes as columns."""

    id: tuple[Id, ...]
    supply_gbps: tuple[Number, ...] | None = None


class Demand(Document):
    """Traffic from one node to another."""

    id: Id
    source: Id
    target: Id
    size_gbps: PositiveQuantity
    priority: int = Field(default=0, ge=-1000, le=1000, description="Classes are served one after another, the largest number first.")
    value: PositiveQuantity = Field(default=1.0, description="Worth of one Gbit/s, for max_throughput.")
    weight: PositiveQuantity = Field(default=1.0, description="Share in max_min_fair: rates are compared after division by it.")
    latency_limit_ms: PositiveQuantity | None = Field(default=None, description="Every route that it uses takes at most this.")


class DemandTable(Document):
    """Demands as columns. Columns left out have the defaults."""

    id: tuple[Id, ...] | None = Field(default=None, description="Left out: d0, d1, d2, ...")
    source: tuple[Id, ...]
    target: tuple[Id, ...]
    size_gbps: tuple[PositiveQuantity, ...]
    priority: tuple[int, ...] | None = Field(default=None, description="Left out: 0.")
    value: tuple[PositiveQuantity, ...] | None = Field(default=None, description="Worth of one Gbit/s; left out: 1.")
    weight: tuple[PositiveQuantity, ...] | None = Field(default=None, description="Share in max_min_fair; left out: 1.")
    latency_limit_ms: tuple[PositiveQuantity | None, ...] | None = Field(default=None, description="ms; null or left out: no limit.")


class PathChoice(StrEnum):
    """Which paths a demand may use."""

    all = "all"
    shortest = "shortest"
    edge_disjoint = "edge_disjoint"
    listed = "listed"


class ListedPath(Document):
    """One path that a demand may use, as the ids of its links in order."""

    demand: Id
    links: tuple[Id, ...] = Field(min_length=1)


class Paths(Document):
    """The choice of paths; ``k`` for shortest (loopless, by ``by``) and edge_disjoint (the k with the fewest hops)."""

    choice: PathChoice = PathChoice.all
    k: PositiveCount | None = Field(default=None, description="How many paths for each demand.")
    by: Literal["hops", "latency", "cost"] = "hops"
    listed: tuple[ListedPath, ...] = ()


class Scenario(Document):
    """Links that fail together."""

    id: Id
    links: tuple[Id, ...] = ()
    risk_groups: tuple[Id, ...] = ()
    probability: Probability | None = Field(default=None, description="For cvar; what is missing to 1 is that nothing fails.")


class FailureMode(StrEnum):
    """What is done about failures.

    ``protect``: the granted traffic survives every scenario on the routes that are left. ``cvar``: the mean loss of the worst
    share of scenarios is least. ``sweep``: routes are optimised anew for each scenario, and what does not fit is named.
    """

    protect = "protect"
    cvar = "cvar"
    sweep = "sweep"


class Failures(Document):
    """What may fail: listed scenarios, and every set of up to so many links or risk groups."""

    mode: FailureMode
    scenarios: tuple[Scenario, ...] = ()
    any_links: Count = 0
    any_risk_groups: Count = 0
    beta: Annotated[float, Field(ge=0, le=1)] = Field(default=0.95, description="For cvar: the share of probability left out, below 1.")


class Charge(StrEnum):
    """What routing costs on a link of direction ``each``: by the sum of both flows, or by the larger. On others it is always the sum."""

    sum = "sum"
    larger = "larger"


class Design(Document):
    """How links may be upgraded so that all demands are carried at least cost."""

    growth: PositiveQuantity = Field(default=1.0, description="Every demand times this must be carried.")
    modules_per_link: Literal["any", "one"] = Field(default="any", description="Any mix of a link's modules, or at most one of one kind.")
    charge: Charge = Charge.sum
    installed_cost: Quantity = Field(default=0.0, description="Cost of what is there already: a constant part of the design's cost.")
    survive: Failures | None = Field(default=None, description="Failures after which everything is still carried, on new routes.")


class Transfer(Document):
    """A volume that must be at every target by its deadline. Nodes on the way may copy it.

    One with a value may also be delivered in part, for that share of its value: what counts is what has reached all targets.
    """

    id: Id
    source: Id
    targets: tuple[Id, ...] = Field(min_length=1)
    size_gbit: PositiveQuantity = Field(description="Gbit.")
    release: Count = Field(default=0, description="First step in which it may be sent.")
    deadline: PositiveCount | None = Field(
        default=None, description="Number of steps after which all must be there; left out: the horizon."
    )
    value: PositiveQuantity | None = Field(
        default=None, description="Worth of delivering all of it, of a part its share; left out: all must be delivered."
    )


class Horizon(Document):
    """Time in equal steps, counted from 0."""

    steps: PositiveCount
    step_s: PositiveQuantity


class Problem(Document):
    """A network and what it must carry."""

    schema_version: Literal[1] = 1
    use: Use = Use.route
    objective: Objective = Objective.min_cost
    nodes: tuple[Node, ...] = ()
    node_table: NodeTable | None = Field(default=None, description="In place of ``nodes``.")
    links: tuple[Link, ...] = ()
    link_table: LinkTable | None = Field(default=None, description="In place of ``links``.")
    demands: tuple[Demand, ...] = ()
    demand_table: DemandTable | None = Field(default=None, description="In place of ``demands``.")
    paths: Paths = Paths()
    failures: Failures | None = None
    design: Design | None = None
    transfers: tuple[Transfer, ...] = ()
    horizon: Horizon | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ContradictionError.refuse(errors(self))
        return self

    def ordered_goals(self) -> tuple[str, ...]:
        """The goals' names, the most important first."""
        from models.flow.goals import goal_names

        return goal_names(self)


class Bundle(Document):
    """Links over which traffic is spread evenly: each tail sends over equally many of them, each head receives from equally many."""

    id: Id
    links: tuple[Id, ...] = Field(min_length=1)


class Route(Document):
    """Part of a demand's traffic on one path; a hop is a link, or a bundle over whose links it is spread evenly."""

    demand: Id
    gbps: Quantity = Field(description="Gbit/s.")
    hops: tuple[Id, ...] = Field(description="Ids of links or bundles, from the source on.")


class RouteTable(Document):
    """``Route`` as columns, for plans of very many; every column but ``hops`` has one item for each route."""

    demand: tuple[Id, ...]
    gbps: tuple[Quantity, ...] = Field(description="Gbit/s.")
    hop_count: tuple[Count, ...] = Field(description="How many of ``hops`` are each route's.")
    hops: tuple[Id, ...] = Field(description="Ids of links or bundles: those of the first route from its source on, then of the next.")


class LinkFlow(Document):
    """Traffic of node supplies on one link; on one that carries both ways ``back_gbps`` is what flows from target to source."""

    link: Id
    gbps: Quantity = Field(default=0.0, description="Gbit/s from source to target.")
    back_gbps: Quantity = 0.0


class FlowTable(Document):
    """``LinkFlow`` as columns; links without flow are left out."""

    link: tuple[Id, ...]
    gbps: tuple[Quantity, ...] = Field(description="Gbit/s from source to target.")
    back_gbps: tuple[Quantity, ...] | None = None


class Granted(Document):
    """What a demand is granted under ``protect``: it survives every scenario. Its routes reserve as much or more; left out: 0."""

    demand: Id
    gbps: Quantity = Field(description="Gbit/s.")


class Upgrade(Document):
    """Modules added to a link."""

    link: Id
    module: Id
    count: PositiveCount = Field(description="How many of them.")


class ScenarioRoutes(Document):
    """Routes of a design while a scenario lasts; a demand without any here keeps those that it has when nothing fails."""

    scenario: Id = Field(description="As in the problem, or the ids of the links or risk groups that fail, joined by +.")
    routes: tuple[Route, ...]


class LinkPrice(Document):
    """What one more Gbit/s on a link (or, where each way has its own capacity, on one way of it) is worth to the first goal."""

    link: Id
    back: bool = False
    price: Quantity = Field(description="Units of the goal for one Gbit/s.")


class FairLevel(Document):
    """One level of fairness and its proof: no plan that gives the demands of earlier levels their rates gives all others a higher rate.

    ``prices`` price capacity and ``shares`` weigh demands (sum 1): see the page.
    """

    priority: int = Field(description="Whose level this is.")
    rate: Quantity = Field(description="Gbit/s for each unit of weight.")
    demands: tuple[Id, ...] = Field(description="Demands whose rate ends at this level.")
    prices: tuple[LinkPrice, ...] = ()
    shares: tuple[Quantity, ...] = Field(default=(), description="Weight in the proof of each of ``demands``.")


class Aftermath(Document):
    """What a sweep found for one scenario, with everything routed anew that is not cut off from its target.

    ``prices`` of capacity prove ``bound``: see the page.
    """

    scenario: Id
    links: tuple[Id, ...] = Field(description="The links that fail.")
    max_utilisation: Quantity = Field(description="Of the busiest link; above 1 it carries more than its capacity.")
    bound: Quantity | None = Field(default=None, description="No routing has a busiest link below this; null: not proved.")
    overloaded: tuple[Id, ...] = Field(default=(), description="Links that carry more than their capacity, the busiest first.")
    cut_off: tuple[Id, ...] = Field(default=(), description="Nodes that none of their demands reach, or that none of them leave.")
    demands_cut_off: tuple[Id, ...] = Field(default=(), description="Demands without any path left.")
    prices: tuple[LinkPrice, ...] = Field(default=(), description="The proof of ``bound``; links without a price are left out.")


class Leg(Document):
    """A link that is used in a step; what is sent then is at the other end from the next step on."""

    link: Id
    back: bool = Field(default=False, description="From target to source of the link.")
    step: Count = Field(description="Number of the step.")


class Shipment(Document):
    """A volume of a transfer that travels as one and reaches every target; a node that has it may send several copies on.

    It waits where its next leg starts, from when it last came there until then.
    """

    transfer: Id
    gbit: Quantity = Field(description="Gbit; a copy of it goes over every leg.")
    legs: tuple[Leg, ...] = Field(min_length=1)


class Plan(Document):
    """Routes of demands, or flows of supplies; with them upgrades, prices, proofs and shipments where the problem asks for them."""

    schema_version: Literal[1] = 1
    bundles: tuple[Bundle, ...] = ()
    routes: tuple[Route, ...] = ()
    # Left out where there is none: a plan of few routes looks as it did before there were tables.
    route_table: RouteTable | None = Field(default=None, exclude_if=lambda table: table is None, description="In place of ``routes``.")
    flows: tuple[LinkFlow, ...] = ()
    flow_table: FlowTable | None = Field(default=None, description="In place of ``flows``.")
    granted: tuple[Granted, ...] = ()
    upgrades: tuple[Upgrade, ...] = ()
    scenario_routes: tuple[ScenarioRoutes, ...] = Field(default=(), description="For a design that survives failures.")
    shipments: tuple[Shipment, ...] = ()
    aftermaths: tuple[Aftermath, ...] = ()
    levels: tuple[FairLevel, ...] = ()
    prices: tuple[LinkPrice, ...] = Field(default=(), description="Prices of full links, where the plan was solved to its optimum.")


def example() -> Problem:
    """A small network: see ``examples``."""
    from models.flow.examples import wan

    return wan()

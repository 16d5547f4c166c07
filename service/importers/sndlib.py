"""Reads a network of SNDlib (native format) as a flow problem: a design after one of SNDlib's planning models, or a routing.

Source of format and models: Orlowski, Pióro, Tomaszewski, Wessäly, "SNDlib 1.0 - Survivable Network Design Library", 2010, and
http://sndlib.zib.de. A model has a name such as ``U-U-M-N-C-A-N-N``, one letter for each choice:

    demands         U undirected, D directed
    links           U both ways share a capacity, B each way has all of it, D one way only
    capacity        M any mix of modules, S any number of the smallest module, E at most one module
    fixed charge    N none, Y the setup cost of a link, paid when anything is added to it
    routing         C any fractions
    paths           A all
    hop limit       N none
    survivability   N none, U every demand is still carried, on new routes, when any one link fails

Other letters (linear capacities, unsplit routing, listed paths, hop limits, dedicated protection) are refused. An undirected demand
is taken as one from its first node to its second: on links that share their capacity this makes no difference. On links of
model B, SNDlib charges routing by the larger of both flows; others charge the sum (Raack, Koster, Orlowski, Wessäly 2011).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from models.flow.schema import Charge, Demand, Design, Direction, FailureMode, Failures, Link, Module, Node, Objective, Problem, Use
from service.importers.failures import ImportFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LETTERS = ("UD", "UBD", "MSE", "NY", "C", "A", "N", "NU")
CHOICES = ("demands", "links", "capacity", "fixed charge", "routing", "paths", "hop limit", "survivability")
DIRECTIONS = {"U": Direction.shared, "B": Direction.each, "D": Direction.directed}
SECTIONS = ("NODES", "LINKS", "DEMANDS", "ADMISSIBLE_PATHS", "META")
Item = TypeVar("Item")
_TOKEN = re.compile(r"[()]|[^\s()]+")


@dataclass(frozen=True, slots=True)
class _Link:
    id: str
    ends: tuple[str, str]
    capacity: float
    capacity_cost: float
    routing_cost: float
    setup_cost: float
    modules: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class _Demand:
    id: str
    ends: tuple[str, str]
    size: float


@dataclass(frozen=True, slots=True)
class _Network:
    nodes: tuple[str, ...]
    links: tuple[_Link, ...]
    demands: tuple[_Demand, ...]


def import_sndlib(
    path: Path, *, model: str | None = None, charge: Charge = Charge.larger, objective: Objective = Objective.min_max_utilisation
) -> Problem:
    """The network as a design after ``model``; without one as a routing that is best in ``objective``.

    SNDlib's units are taken as Gbit/s. The cost of capacity that is there already is a constant part of the design's cost. A routing
    takes each way of a link to have the capacity that is there, or, where there is none, that of the link's largest module.

    Raises ImportFileError.
    """
    network = _Reader(path).read()
    try:
        return _routing(network, objective) if model is None else _design(path, network, _letters(model), charge)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = str(first.get("ctx", {}).get("error", first["msg"])).splitlines()[0]
        raise ImportFileError(f"{path} does not make a problem: {what}") from None


def _letters(model: str) -> str:
    parts = model.strip().upper().split("-")
    wanted = "-".join(f"[{letters}]" for letters in LETTERS)
    if len(parts) != len(LETTERS):
        raise ImportFileError(f"model '{model}': a model is {len(LETTERS)} letters, {wanted}; for example U-U-M-N-C-A-N-N")
    for part, letters, choice in zip(parts, LETTERS, CHOICES, strict=True):
        if len(part) != 1 or part not in letters:
            raise ImportFileError(f"model '{model}': for {choice}, '{part}' is not taken; choose from {', '.join(letters)} ({wanted})")
    demands, links = parts[:2]
    if demands == "U" and links != "U":
        raise ImportFileError(f"model '{model}': undirected demands need undirected links; write D-{links} or U-U at the beginning")
    return "".join(parts)


def _design(path: Path, network: _Network, letters: str, charge: Charge) -> Problem:
    direction, capacity, fixed, survive = DIRECTIONS[letters[1]], letters[2], letters[3], letters[7]
    links = tuple(
        Link(
            id=link.id,
            source=link.ends[0],
            target=link.ends[1],
            capacity_gbps=link.capacity,
            cost=link.routing_cost,
            direction=direction,
            modules=_modules(path, link, smallest=capacity == "S"),
            setup_cost=link.setup_cost if fixed == "Y" else 0.0,
        )
        for link in network.links
    )
    return Problem(
        use=Use.design,
        nodes=tuple(Node(id=node) for node in network.nodes),
        links=links,
        demands=_demands(network),
        design=Design(
            modules_per_link="one" if capacity == "E" else "any",
            charge=charge,
            installed_cost=math.fsum(link.capacity_cost for link in network.links),
            survive=Failures(mode=FailureMode.protect, any_links=1) if survive == "U" else None,
        ),
    )


def _routing(network: _Network, objective: Objective) -> Problem:
    links = tuple(
        Link(
            id=link.id,
            source=link.ends[0],
            target=link.ends[1],
            capacity_gbps=link.capacity or max((capacity for capacity, _ in link.modules), default=0.0),
            cost=link.routing_cost,
            direction=Direction.each,
        )
        for link in network.links
    )
    return Problem(objective=objective, nodes=tuple(Node(id=node) for node in network.nodes), links=links, demands=_demands(network))


def _demands(network: _Network) -> tuple[Demand, ...]:
    return tuple(Demand(id=one.id, source=one.ends[0], target=one.ends[1], size_gbps=one.size) for one in network.demands if one.size > 0)


def _modules(path: Path, link: _Link, *, smallest: bool) -> tuple[Module, ...]:
    """Modules are called by their capacity; of two of the same capacity only the cheaper is of use."""
    by_name: dict[str, Module] = {}
    for capacity, cost in link.modules:
        name = f"{capacity:.12g}"
        if capacity <= 0:
            raise ImportFileError(f"{path}: link '{link.id}' has a module of capacity {capacity:g}; it must be more than 0")
        if name not in by_name or cost < by_name[name].cost:
            by_name[name] = Module(id=name, capacity_gbps=capacity, cost=cost)
    ordered = sorted(by_name.values(), key=lambda module: module.capacity_gbps)
    return tuple(ordered[:1] if smallest else ordered)


class _Reader:
    """One file, word by word, with the line of each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._line = 1
        self._words = self._tokens()

    def read(self) -> _Network:
        """The sections of the file; those that are not needed are passed over."""
        nodes: tuple[str, ...] = ()
        links: tuple[_Link, ...] = ()
        demands: tuple[_Demand, ...] = ()
        seen: set[str] = set()
        for section in self._words:
            if section not in SECTIONS:
                raise self._error(f"'{section[:40]}' stands where a section should begin; expected one of {', '.join(SECTIONS)}")
            if section in seen:
                raise self._error(f"a second section {section}; put all of it into one")
            seen.add(section)
            self._expect("(")
            if section == "NODES":
                nodes = tuple(self._items(self._node))
            elif section == "LINKS":
                links = tuple(self._items(self._link))
            elif section == "DEMANDS":
                demands = tuple(self._items(self._demand))
            else:
                self._pass_over()
        for section in ("NODES", "LINKS", "DEMANDS"):
            if section not in seen:
                raise ImportFileError(f"{self._path}: there is no section {section}; is this a network file of SNDlib in native format?")
        return _Network(nodes, links, demands)

    def _tokens(self) -> Iterator[str]:
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ImportFileError(f"{self._path}: there is no such file; give the path of a network file of SNDlib") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ImportFileError(f"{self._path}: cannot be read ({error}); give a network file of SNDlib in native format") from None
        for line, content in enumerate(text.splitlines(), start=1):
            self._line = line
            if content.startswith("?") or content.lstrip().startswith("#"):
                continue
            yield from _TOKEN.findall(content)

    def _error(self, what: str) -> ImportFileError:
        return ImportFileError(f"{self._path}: line {self._line}: {what}")

    def _next(self) -> str:
        word = next(self._words, None)
        if word is None:
            raise self._error("the file ends in the middle of a section; is it whole?")
        return word

    def _expect(self, wanted: str) -> None:
        word = self._next()
        if word != wanted:
            raise self._error(f"expected '{wanted}', found '{word[:40]}'")

    def _name(self) -> str:
        word = self._next()
        if word in "()":
            raise self._error(f"expected a name, found '{word}'")
        return word

    def _number(self, word: str | None = None) -> float:
        """A number of 0 or more."""
        text = self._next() if word is None else word
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise self._error(f"expected a number of 0 or more, found '{text[:40]}'")
        return value

    def _items(self, item: Callable[[str], Item]) -> Iterator[Item]:
        """Items until the section closes; each begins with its name."""
        seen: set[str] = set()
        while (word := self._next()) != ")":
            if word == "(":
                raise self._error("expected a name, found '('")
            if word in seen:
                raise self._error(f"the name '{word}' stands here for the second time; give each its own name")
            seen.add(word)
            yield item(word)

    def _ends(self) -> tuple[str, str]:
        self._expect("(")
        ends = (self._name(), self._name())
        self._expect(")")
        return ends

    def _node(self, name: str) -> str:
        self._expect("(")
        self._pass_over()  # coordinates, which may be negative
        return name

    def _link(self, name: str) -> _Link:
        ends = self._ends()
        capacity, capacity_cost, routing_cost, setup_cost = (self._number() for _ in range(4))
        modules: list[tuple[float, float]] = []
        self._expect("(")
        while (word := self._next()) != ")":
            modules.append((self._number(word), self._number()))
        return _Link(name, ends, capacity, capacity_cost, routing_cost, setup_cost, tuple(modules))

    def _demand(self, name: str) -> _Demand:
        ends = self._ends()
        unit, value = self._number(), self._number()
        hops = self._next()
        if hops != "UNLIMITED":
            self._number(hops)
        return _Demand(name, ends, unit * value)

    def _pass_over(self) -> None:
        """To the end of the parentheses that are open."""
        depth = 1
        while depth:
            depth += {"(": 1, ")": -1}.get(self._next(), 0)

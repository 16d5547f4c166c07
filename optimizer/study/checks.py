"""What contradicts itself in a study file, as far as it can be told without the base problem."""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, Any

from models.contract import ContradictionError, Warned
from optimizer.study.scenarios import axes, edits
from optimizer.study.scenarios.pointers import SHOWN, VALUE, PlaceError, parse, pointer, uses_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from optimizer.study.schema import Axis, Gate, Study
    from optimizer.study.schema_edits import Edit

SPEND = "spend_usd"  # the metric that every study has


def errors(study: Study) -> list[Warned]:
    """Every mistake, with its place in the study file."""
    return [
        *_doubles("/axes", "axis", [axis.name for axis in study.axes]),
        *(Warned(f"/axes/{index}{one.pointer}", one.code, one.detail) for index, axis in enumerate(study.axes) for one in _of_axis(axis)),
        *_of_combination(study),
        *_of_baseline(study),
        *_of_gates(study),
        *_of_asks(study),
    ]


def hints(study: Study) -> list[Warned]:
    """What is legal, and often not what was meant: chance drawn once only, circumstances compared as if they were chosen."""
    found = []
    chance = [axis.name for axis in study.axes if axis.draw is not None or _picks(axis)]
    if chance and study.replicates == 1 and study.combine.how != "latin_hypercube":
        detail = (
            f"chance ({', '.join(chance)}) is drawn once, so what is found holds for this draw; several replicates tell how much it matters"
        )
        found.append(Warned("/replicates", "drawn_once", detail))
    for index, axis in enumerate(study.axes):
        if axis.chosen is None and axis.is_chosen and _loses(axis):
            detail = (
                f"axis '{axis.name}' takes something away: if that is a loss and no choice, say chosen: false, and it is never recommended"
            )
            found.append(Warned(f"/axes/{index}/chosen", "maybe_a_circumstance", detail))
    named = study.baseline or {}
    fixed = [axis for axis in study.axes if not axis.is_chosen and axis.draw is None and axes.size(axis) == 1 and axis.name not in named]
    if fixed and any(axis.is_chosen for axis in study.axes):
        detail = (
            f"the baseline is without '{fixed[0].name}', which all other scenarios have: every difference mixes both;"
            f" name its value in the baseline"
        )
        found.append(Warned("/baseline", "baseline_without_circumstance", detail))
    return found


def _edits_of(axis: Axis) -> list[Edit]:
    return [*axis.edits, *(edit for option in axis.options or () for edit in option.edits)]


def _picks(axis: Axis) -> bool:
    return any(getattr(edit, "pick", None) is not None for edit in _edits_of(axis))


def _loses(axis: Axis) -> bool:
    return any(edit.op == "remove" for edit in _edits_of(axis))


def check_names(study: Study, goal_names: Sequence[str], metric_names: Sequence[str]) -> None:
    """Raises ContradictionError where a gate, a question or the table names no goal and no metric of the base problem."""
    known = list(dict.fromkeys([*goal_names, *metric_names, SPEND]))
    asked = [(f"/metrics/{index}", name) for index, name in enumerate(study.metrics)]
    asked += [(f"/gates/{index}/metric", gate.metric) for index, gate in enumerate(study.gates)]
    for index, ask in enumerate(study.asks):
        if ask.ask == "pareto":
            asked += [(f"/asks/{index}/first", ask.first), (f"/asks/{index}/second", ask.second)]
        elif ask.ask == "target":
            asked.append((f"/asks/{index}/metric", ask.metric))
    ContradictionError.refuse(
        [_unknown(place, "unknown_metric", "goal or metric", name, known) for place, name in asked if name not in known]
    )


def _unknown(place: str, code: str, what: str, name: str, known: Sequence[str]) -> Warned:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    listed = ", ".join(known[:SHOWN]) + (f" and {len(known) - SHOWN:,} more" if len(known) > SHOWN else "")
    cure = f"did you mean '{near[0]}'?" if near else f"there are {listed}" if known else "there are none"
    return Warned(place, code, f"there is no {what} '{name}'; {cure}")


def _doubles(place: str, what: str, names: Iterable[str]) -> Iterator[Warned]:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if first.setdefault(name, index) != index:
            yield Warned(
                f"{place}/{index}/name", "name_taken", f"{place}/{first[name]} is called '{name}' too; give each {what} a name of its own"
            )


# ---------------------------------------------------------------- one axis


def _of_axis(axis: Axis) -> Iterator[Warned]:
    yield from _of_values(axis)
    yield from _of_options(axis)
    for place, edit in _all_edits(axis):
        yield from _of_edit(place, edit, axis)
    if axis.options is None and not any(edits.has_value(edit) for edit in axis.edits) and (axis.values is None or len(axis.values) > 1):
        yield Warned(
            "/edits",
            "value_unused",
            f"no edit uses {VALUE}: every value of axis '{axis.name}' would do the same; write {VALUE} where it goes",
        )


def _all_edits(axis: Axis) -> Iterator[tuple[str, Edit]]:
    for index, edit in enumerate(axis.edits):
        yield f"/edits/{index}", edit
    for number, option in enumerate(axis.options or ()):
        for index, edit in enumerate(option.edits):
            yield f"/options/{number}/edits/{index}", edit


def _of_values(axis: Axis) -> Iterator[Warned]:
    if axis.values is None:
        return
    there: list[axes.Choice] = list(axes.choices(axis))
    seen: dict[str, int] = {}
    for index, one in enumerate(there):
        if seen.setdefault(one.key, index) != index:
            yield Warned(f"/values/{index}", "value_taken", f"{one.key} is /values/{seen[one.key]} already; leave one out, or label them")
        elif axis.usd_each and one.number is None:
            yield Warned(f"/values/{index}", "no_number", f"usd_each needs numbers, and {one.key} is none; use options, each with its usd")


def _of_options(axis: Axis) -> Iterator[Warned]:
    if axis.options is None:
        return
    seen: dict[str, int] = {}
    for index, option in enumerate(axis.options):
        if seen.setdefault(option.label, index) != index:
            yield Warned(
                f"/options/{index}/label", "name_taken", f"/options/{seen[option.label]} has the label '{option.label}' too; choose another"
            )
    if axis.usd_each:
        yield Warned("/usd_each", "usd_each", "an axis of options has its prices there: give each option its usd")


def _of_edit(place: str, edit: Edit, axis: Axis) -> Iterator[Warned]:
    field = {"copies": "of", "merge": ""}.get(edit.op, "at")
    if field:
        try:
            selector = parse(getattr(edit, field))
        except PlaceError as error:
            yield error.at(f"{place}/{field}")
        else:
            if axis.draw is not None and uses_value(selector):
                yield Warned(
                    f"{place}/{field}", "drawn_place", f"a random number cannot be part of a place; leave {VALUE} out, or use values"
                )
    if axis.options is not None and edits.has_value(edit):
        yield Warned(place, "no_value", f"an option has no value to put for {VALUE}; write what it sets")


# ---------------------------------------------------------------- combinations


def scenario_count(study: Study) -> int:
    """How many scenarios a study has, baselines aside: by arithmetic, however many they are."""
    how = study.combine.how
    sizes = [axes.size(axis) for axis in study.axes if not axes.is_drawn(axis)]
    if how == "latin_hypercube":
        return (study.combine.samples or 0) * study.replicates
    return (max(sizes, default=1) if how == "zip" else math.prod(sizes)) * study.replicates


def _of_combination(study: Study) -> Iterator[Warned]:
    from optimizer.study.schema import MOST_SCENARIOS

    sizes = {index: axes.size(axis) for index, axis in enumerate(study.axes) if not axes.is_drawn(axis)}
    if study.combine.how == "latin_hypercube" and not study.axes:
        yield Warned("/combine/samples", "nothing_to_sample", "there is no axis to sample; add one, or leave combine out")
    if study.combine.how == "zip" and len(set(sizes.values())) > 1:
        told = ", ".join(f"{study.axes[index].name} has {count:,}" for index, count in sizes.items())
        other = next(index for index, count in sizes.items() if count != next(iter(sizes.values())))
        yield Warned(
            f"/axes/{other}",
            "zip_lengths",
            f"axes that are zipped have equally many values: {told}; add or leave out some, or combine them otherwise",
        )
        return
    count = scenario_count(study)
    if count + study.replicates <= MOST_SCENARIOS:  # each replicate has a baseline
        return
    place, cure = _to_thin(study, sizes)
    yield Warned(
        place, "too_many_scenarios", f"the study has {count:,} scenarios and its baselines, and {MOST_SCENARIOS:,} are allowed; {cure}"
    )


def _to_thin(study: Study, sizes: dict[int, int]) -> tuple[str, str]:
    """Where most is to be saved, and how."""
    largest = max(sizes, key=lambda index: sizes[index], default=None)
    how = study.combine.how
    if how == "latin_hypercube":
        samples = study.combine.samples or 0
        return ("/combine/samples", "take fewer samples") if samples >= study.replicates else ("/replicates", "take fewer replicates")
    if largest is None or study.replicates > sizes[largest]:
        return "/replicates", f"take fewer replicates than {study.replicates:,}"
    cure = f"thin axis '{study.axes[largest].name}', which has {sizes[largest]:,} values"
    return f"/axes/{largest}", cure if how == "zip" else f"{cure}, or sample with combine: {{how: latin_hypercube, samples: ...}}"


# ---------------------------------------------------------------- what names an axis and its values


def _choices_named(study: Study, place: str, wanted: dict[str, Any]) -> Iterator[Warned]:
    by_name = {axis.name: axis for axis in study.axes}
    for name, value in wanted.items():
        here = f"{place}{pointer((name,))}"
        if name not in by_name:
            yield _unknown(here, "unknown_axis", "axis", name, list(by_name))
            continue
        try:
            axes.named(by_name[name], value)
        except PlaceError as error:
            yield error.at(here)


def _of_baseline(study: Study) -> Iterator[Warned]:
    yield from _choices_named(study, "/baseline", study.baseline or {})


# ---------------------------------------------------------------- gates


def _of_gates(study: Study) -> Iterator[Warned]:
    names = [gate.name for gate in study.gates]
    for index, gate in enumerate(study.gates):
        yield from _choices_named(study, f"/gates/{index}/where", gate.where)
        if gate.name is not None and names.index(gate.name) != index:
            yield Warned(
                f"/gates/{index}/name", "name_taken", f"/gates/{names.index(gate.name)} is called '{gate.name}' too; choose another name"
            )
        for other, earlier in enumerate(study.gates[: index + 1]):
            yield from _contradiction(study, (other, earlier), (index, gate))


def _contradiction(study: Study, first: tuple[int, Gate], second: tuple[int, Gate]) -> Iterator[Warned]:
    """Two gates (or one with itself) that no value of their metric can pass, where some scenario must pass both."""
    (here, one), (there, other) = first, second
    if one.metric != other.metric or not _overlap(study, one, other):
        return
    for low, low_at, high, high_at in ((one, here, other, there), (other, there, one, here))[: 1 if here == there else 2]:
        if low.at_least is not None and high.at_most is not None and low.at_least > high.at_most:
            limits = f"{one.metric} of at least {low.at_least:g} (/gates/{low_at}) and at most {high.at_most:g} (/gates/{high_at})"
            cure = "move one limit, or tell the scenarios apart with where" if here != there else "move one limit"
            yield Warned(f"/gates/{there}", "contradictory_gates", f"nothing has {limits}; {cure}")


def _overlap(study: Study, one: Gate, other: Gate) -> bool:
    """Whether a scenario may be subject to both gates: no axis is asked to have two values."""
    by_name = {axis.name: axis for axis in study.axes}
    for name in one.where.keys() & other.where.keys():
        try:
            keys = {axes.named(by_name[name], gate.where[name]).key for gate in (one, other)}
        except (KeyError, PlaceError):
            return False  # told of already
        if len(keys) > 1:
            return False
    return True


# ---------------------------------------------------------------- questions


def _of_asks(study: Study) -> Iterator[Warned]:
    by_name = {axis.name: axis for axis in study.axes}
    for index, ask in enumerate(study.asks):
        if ask.ask == "pareto" and ask.first == ask.second:
            detail = f"'{ask.second}' is first and second: a trade-off has two goals; name another"
            yield Warned(f"/asks/{index}/second", "one_goal", detail)
        if ask.axis is None:
            continue
        place = f"/asks/{index}/axis"
        if ask.axis not in by_name:
            yield _unknown(place, "unknown_axis", "axis", ask.axis, list(by_name))
        elif fault := _no_line(by_name[ask.axis]):
            yield Warned(place, "no_line", f"axis '{ask.axis}' {fault}; a {ask.ask} needs a range, or values that are numbers")


def _no_line(axis: Axis) -> str:
    """Why the values of an axis do not lie on a line."""
    faults: dict[str, Callable[[], bool]] = {
        "is random": lambda: axis.draw is not None,
        "has options": lambda: axis.options is not None,
        "has values that are no numbers": lambda: axis.range is None and any(one.number is None for one in axes.choices(axis)),
    }
    return next((fault for fault, holds in faults.items() if holds()), "")

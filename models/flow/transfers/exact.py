"""The exact program of transfers in arc form: what each sends over each arc in each step, and keeps at each node.

For one target this is the problem itself. For several it is a relaxation: what is sent must be enough for each target, as if copies
could be coded together (S.-Y. R. Li, R. W. Yeung, N. Cai, "Linear network coding", IEEE Transactions on Information Theory 49 (2003));
plans are trees, which may need more. ``search`` finds the optimum over trees; this program bounds it, and names conflicts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from models.flow.schema import GoalName, Rule
from models.flow.transfers.expansion import expansion_of
from models.flow.transfers.first import TINY, Part, parts_of, plan_of
from models.flow.transfers.trees import ways
from models.program_builder import ProgramBuilder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from models.flow.schema import Plan, Problem
    from models.flow.transfers.expansion import Expansion, Legs
    from models.program import Bools, Floats, Ids, Ints, LinearProgram

__all__ = ["LINKING", "build", "extract", "size", "start"]

LINKING = frozenset({"flow_over_time", "goal_floor", "link_copy", "node_copy"})  # rows that are part of what the columns mean

Values = dict[str, dict[tuple[Any, ...], float]]


def build(problem: Problem, goal: str | None = None, floors: Mapping[str, float] | None = None, *, hasten: bool = True) -> LinearProgram:
    """The program for ``goal`` (the first by default), with the goals of ``floors`` at least as good as told.

    ``hasten=False`` states windows, closed links and nodes without storage as rows, and names rows without their steps, so that a conflict
    can cite them and a repair can move them. Raises ValueError for a goal that is not among the problem's.
    """
    names = problem.ordered_goals()
    goal = names[0] if goal is None else goal
    for name in (goal, *(floors or {})):
        if name not in names:
            raise ValueError(f"{name} is not among the goals of the problem: {', '.join(names)}")
    return _Program(expansion_of(problem), loose=not hasten).program(goal, floors or {})


def size(problem: Problem) -> int:
    """About how many columns, with ``hasten=False``: the largest form of the program."""
    expansion = expansion_of(problem)
    copies = sum(len(one) + (len(one) > 1) for one in expansion.targets)
    return copies * expansion.steps * (expansion.network.arcs + expansion.network.nodes)


def extract(problem: Problem, values: Mapping[str, Mapping[tuple[Any, ...], float]]) -> Plan:
    """The plan of column values: paths, or trees as far as what is sent holds them (for several targets that may be less than all)."""
    expansion = expansion_of(problem)
    layout = _Layout(expansion, loose=False)
    send, keep = np.zeros(layout.send.shape), np.zeros(layout.keep.shape)
    send[layout.send] = np.fromiter(values["send"].values(), np.float64, int(layout.send.sum()))
    keep[layout.keep] = np.fromiter(values["keep"].values(), np.float64, int(layout.keep.sum()))
    amount = expansion.size.copy()
    amount[~expansion.required] = np.fromiter(values["deliver"].values(), np.float64, int((~expansion.required).sum()))
    return plan_of(
        expansion, (part for one in range(expansion.count) for part in _stripped(expansion, one, send[one], keep[one], amount[one]))
    )


def start(problem: Problem, plan: Plan) -> Values:
    """The values of a plan's columns that are not 0, and of all ``deliver``."""
    expansion = expansion_of(problem)
    found: Values = {"send": {}, "keep": {}, "reach_send": {}, "reach_keep": {}, "deliver": {}}
    for transfer in np.flatnonzero(~expansion.required).tolist():
        found["deliver"][(expansion.ids[transfer],)] = 0.0
    for part in parts_of(expansion, plan):
        name = expansion.ids[part.transfer]
        legs = expansion.needed(part.transfer, part.legs)
        if not expansion.required[part.transfer]:
            found["deliver"][(name,)] += part.gbit
        _add(found["send"], ((name, *_leg(expansion, *leg)) for leg in legs), part.gbit)
        kept = ((expansion.network.node_ids[node], step) for node, step in expansion.waits(part.transfer, legs))
        _add(found["keep"], ((name, *one) for one in kept), part.gbit)
        if len(expansion.targets[part.transfer]) > 1:
            for target in expansion.targets[part.transfer].tolist():
                to = (name, expansion.network.node_ids[target])
                path, waits = _path_to(expansion, part.transfer, legs, target)
                _add(found["reach_send"], ((*to, *_leg(expansion, *leg)) for leg in path), part.gbit)
                _add(found["reach_keep"], ((*to, expansion.network.node_ids[node], step) for node, step in waits), part.gbit)
    return found


def _add(values: dict[tuple[Any, ...], float], ids: Iterator[tuple[Any, ...]], gbit: float) -> None:
    for one in ids:
        values[one] = values.get(one, 0.0) + gbit


def _leg(expansion: Expansion, arc: int, step: int) -> tuple[str, bool, int]:
    network = expansion.network
    return network.link_ids[network.arc_link[arc]], bool(network.arc_back[arc]), step


def _path_to(expansion: Expansion, transfer: int, legs: Legs, target: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The legs of a tree that lead to one target, and where the volume waits between them."""
    network = expansion.network
    at = min((leg for leg in legs if network.arc_head[leg[0]] == target), key=lambda leg: leg[1])
    path, waits = [at], list[tuple[int, int]]()
    while network.arc_tail[at[0]] != expansion.source[transfer]:
        node = int(network.arc_tail[at[0]])
        before = [leg for leg in legs if network.arc_head[leg[0]] == node and leg[1] < at[1]]
        came = before[0] if expansion.own[transfer, node] else before[-1]
        waits += [(node, step) for step in range(came[1] + 1, at[1])]
        path.append(came)
        at = came
    return path, waits


def _stripped(expansion: Expansion, transfer: int, send: Floats, keep: Floats, amount: float) -> Iterator[Part]:
    """Parts of one transfer taken out of what it sends (steps, arcs) and keeps (steps, nodes), until ``amount`` is reached."""
    least = TINY * expansion.size[transfer]
    while amount > least:
        (way,) = ways(expansion, [transfer], np.where(send > least, 0.0, np.inf), np.where(keep > least, 0.0, np.inf))
        if not way.legs:
            return
        waits = expansion.waits(transfer, way.legs)
        gbit = min(amount, *(float(send[step, arc]) for arc, step in way.legs), *(float(keep[step, node]) for node, step in waits))
        for arc, step in way.legs:
            send[step, arc] -= gbit
        for node, step in waits:
            keep[step, node] -= gbit
        amount -= gbit
        yield Part(transfer, way.legs, gbit)


# ---------------------------------------------------------------- columns


@dataclass(frozen=True, eq=False)
class _Layout:
    """Which columns there are, as masks in the order of the columns.

    ``send`` (transfers, steps, arcs), ``keep`` (transfers, steps, nodes); of transfers with several targets for each of these
    ``reach_send`` (streams, steps, arcs), ``reach_keep`` (streams, steps, nodes). ``loose``: also where rows forbid it.
    """

    expansion: Expansion
    loose: bool

    @cached_property
    def inside(self) -> Bools:
        """Steps of each transfer's window; (transfers, steps)."""
        expansion, moments = self.expansion, np.arange(self.expansion.steps)
        found: Bools = (expansion.release[:, None] <= moments) & (moments < expansion.deadline[:, None])
        return np.asarray(found | self.loose)

    @cached_property
    def many(self) -> Bools:
        """Transfers with several targets; (transfers,)."""
        return np.array([len(one) > 1 for one in self.expansion.targets], dtype=np.bool_)

    @cached_property
    def streams(self) -> tuple[Ints, Ints]:
        """Transfer and target of each stream: every target of a transfer with several."""
        pairs = [(one, node) for one in np.flatnonzero(self.many).tolist() for node in self.expansion.targets[one].tolist()]
        table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    @cached_property
    def single(self) -> Ints:
        """The target of a transfer with one, else -1."""
        return np.array([-1 if len(one) > 1 else int(one[0]) for one in self.expansion.targets], dtype=np.int64)

    @cached_property
    def send(self) -> Bools:
        """No arc into the source, none out of a single target."""
        expansion, network = self.expansion, self.expansion.network
        usable = (network.arc_head != expansion.source[:, None]) & (network.arc_tail != self.single[:, None])
        usable &= self.loose | np.isfinite(expansion.blocked)
        return np.asarray(self.inside[:, :, None] & usable[:, None, :])

    @cached_property
    def keep(self) -> Bools:
        """What waits and counts: not at the source and the targets."""
        expansion = self.expansion
        room = ~expansion.own & (self.loose | (expansion.storage > 0.0))
        return np.asarray(self.inside[:, :, None] & room[:, None, :])

    @cached_property
    def reach_send(self) -> Bools:
        """As ``send``, and none out of the stream's target."""
        transfer, target = self.streams
        return np.asarray(self.send[transfer] & (self.expansion.network.arc_tail != target[:, None])[:, None, :])

    @cached_property
    def reach_keep(self) -> Bools:
        """As ``keep``, and at the transfer's other targets."""
        transfer, target = self.streams
        expansion, nodes = self.expansion, np.arange(self.expansion.network.nodes)
        others = expansion.own[transfer] & (nodes != target[:, None]) & (nodes != expansion.source[transfer][:, None])
        return np.asarray(self.keep[transfer] | (self.inside[transfer][:, :, None] & others[:, None, :]))


class _Program:
    """Puts the program together, block by block."""

    def __init__(self, expansion: Expansion, *, loose: bool) -> None:
        self._expansion, self._network, self._loose = expansion, expansion.network, loose
        self._layout = _Layout(expansion, loose)

    def program(self, goal: str, floors: Mapping[str, float]) -> LinearProgram:
        """All columns and rows."""
        expansion, layout = self._expansion, self._layout
        value = goal == GoalName.transfer_value
        builder = self._builder = ProgramBuilder(maximise=value)
        usd = np.broadcast_to(expansion.usd, layout.send.shape)[layout.send]
        self._send = self._columns("send", layout.send, 0.0 if value else usd, expansion.ids)
        self._keep = self._columns("keep", layout.keep, 0.0, expansion.ids)
        transfer, target = layout.streams
        streams = [(expansion.ids[one], self._network.node_ids[node]) for one, node in zip(transfer.tolist(), target.tolist(), strict=True)]
        self._reach_send = self._columns("reach_send", layout.reach_send, 0.0, streams)
        self._reach_keep = self._columns("reach_keep", layout.reach_keep, 0.0, streams)
        valued = np.flatnonzero(~expansion.required)
        density = (expansion.value / expansion.size)[valued]
        found = builder.add_columns(
            "deliver", [(expansion.ids[one],) for one in valued.tolist()], cost=density if value else 0.0, upper=expansion.size[valued]
        )
        self._deliver = np.full(expansion.count, -1, dtype=np.int64)
        self._deliver[valued] = np.arange(found.start, found.stop)
        self._streamed("transfer_complete", self._complete)
        self._streamed("flow_over_time", self._conserved)
        if len(transfer):
            self._copied("link_copy", self._send[transfer], self._reach_send)
            self._copied("node_copy", self._keep[transfer], self._reach_keep)
        step_s = expansion.step_s  # capacity rows are in Gbit/s, as the links are
        self._limits(Rule.link_capacity, self._send, self._network.arc_channel, expansion.channel_gbit, self._channel_ids(), unit=step_s)
        self._limits(
            Rule.node_storage, self._keep, np.arange(self._network.nodes), expansion.storage, [(one,) for one in self._network.node_ids]
        )
        if self._loose:
            self._windows()
        self._floors(floors, usd, valued, density)
        return builder.build()

    def _columns(self, name: str, mask: Bools, cost: Any, owners: Any) -> Ints:  # noqa: ANN401 - arrays or numbers, ids or tuples of them
        """Add a family; the column at each place of the mask, -1 where there is none."""
        places = np.argwhere(mask).tolist()
        network = self._network
        if name.endswith("send"):
            ends = [(network.link_ids[link], back) for link, back in zip(network.arc_link.tolist(), network.arc_back.tolist(), strict=True)]
            ids: list[Ids] = [(*_tuple(owners[one]), *ends[arc], step) for one, step, arc in places]
        else:
            ids = [(*_tuple(owners[one]), network.node_ids[node], step) for one, step, node in places]
        found = self._builder.add_columns(name, ids, cost=cost)
        at = np.full(mask.shape, -1, dtype=np.int64)
        at[mask] = np.arange(found.start, found.stop)
        return at

    def _channel_ids(self) -> list[Ids]:
        network = self._network
        names = [network.link_ids[link] for link in network.channel_link.tolist()]
        if self._loose:
            return [(name,) for name in names]
        return [(name, "back") if back else (name,) for name, back in zip(names, network.channel_back.tolist(), strict=True)]

    # ------------------------------------------------------------ rows of streams

    def _streamed(self, name: str, add: Any) -> None:  # noqa: ANN401 - one of the two methods below
        """Rows for each transfer with one target, and each stream of the others."""
        layout = self._layout
        one = np.flatnonzero(~layout.many)
        transfer, target = layout.streams
        send = np.concatenate((self._send[one], self._reach_send))
        keep = np.concatenate((self._keep[one], self._reach_keep))
        add(name, np.concatenate((one, transfer)), np.concatenate((layout.single[one], target)), send, keep)

    def _complete(self, name: str, transfer: Ints, target: Ints, send: Ints, keep: Ints) -> None:
        """What comes to the target is all, or what is delivered."""
        del keep
        expansion = self._expansion
        arriving = (send >= 0) & (self._network.arc_head == target[:, None])[:, None, :]
        valued = np.flatnonzero(~expansion.required[transfer])
        names = [(expansion.ids[one], self._network.node_ids[node]) for one, node in zip(transfer.tolist(), target.tolist(), strict=True)]
        ids: list[Ids] = [one[:1] if self._loose else one for one in names]
        self._builder.add_rows(
            name,
            ids,
            lower=np.where(expansion.required[transfer], expansion.size[transfer], 0.0),
            row_index=np.concatenate((np.nonzero(arriving)[0], valued)),
            column_index=np.concatenate((send[arriving], self._deliver[transfer[valued]])),
            coefficient=np.concatenate((np.ones(int(arriving.sum())), -np.ones(len(valued)))),
        )

    def _conserved(self, name: str, transfer: Ints, target: Ints, send: Ints, keep: Ints) -> None:
        """What comes to a node at a moment, or waited there, goes on or waits on; not at the source and the target."""
        expansion, network = self._expansion, self._network
        nodes, steps = network.nodes, expansion.steps
        inner = np.ones((len(transfer), nodes), dtype=np.bool_)
        inner[np.arange(len(transfer)), expansion.source[transfer]] = False
        inner[np.arange(len(transfer)), target] = False
        row, column, sign = [], [], []
        for at, ends, shift, coefficient in (
            (send, network.arc_head, 1, 1.0),
            (send, network.arc_tail, 0, -1.0),
            (keep, np.arange(nodes), 1, 1.0),
            (keep, np.arange(nodes), 0, -1.0),
        ):
            stream, step, place = np.nonzero(at >= 0)
            here = inner[stream, ends[place]]
            row.append(((stream * (steps + 1) + step + shift) * nodes + ends[place])[here])
            column.append(at[stream, step, place][here])
            sign.append(np.full(int(here.sum()), coefficient))
        entries = np.concatenate(row)
        # What is there when the window ends may stay: at the end of time there is no row.
        stays = (entries // nodes) % (steps + 1) == steps
        used, position = np.unique(entries[~stays], return_inverse=True)
        told = [(int(one) // nodes // (steps + 1), int(one) // nodes % (steps + 1), int(one) % nodes) for one in used]
        ids = [
            (expansion.ids[transfer[stream]], network.node_ids[target[stream]], network.node_ids[node], moment)
            for stream, moment, node in told
        ]
        self._builder.add_rows(
            name,
            ids,
            lower=0.0,
            upper=0.0,
            row_index=position,
            column_index=np.concatenate(column)[~stays],
            coefficient=np.concatenate(sign)[~stays],
        )

    def _copied(self, name: str, shared: Ints, own: Ints) -> None:
        """What is sent or kept is enough for each stream."""
        both = (own >= 0) & (shared >= 0)
        count = int(both.sum())
        rows = np.arange(count)
        self._builder.add_rows(
            name,
            [(place,) for place in range(count)],
            lower=0.0,
            row_index=np.concatenate((rows, rows)),
            column_index=np.concatenate((shared[both], own[both])),
            coefficient=np.concatenate((np.ones(count), -np.ones(count))),
        )

    # ------------------------------------------------------------ limits

    def _limits(self, rule: Rule, columns: Ints, owner: Ints, room: Floats, names: list[Ids], unit: float = 1.0) -> None:
        """What all transfers send or keep at an owner of room, step by step."""
        transfer, step, place = np.nonzero((columns >= 0) & (room < 2.0 * float(self._expansion.size.sum()))[owner])
        keys = owner[place] * self._expansion.steps + step
        used, position = np.unique(keys, return_inverse=True)
        owners, steps = np.divmod(used, self._expansion.steps)
        told = zip(owners.tolist(), steps.tolist(), strict=True)
        self._builder.add_rows(
            rule.value,
            [names[one] if self._loose else (*names[one], when) for one, when in told],
            upper=room[owners] / unit,
            row_index=position,
            column_index=columns[transfer, step, place],
            coefficient=1.0 / unit,
        )

    def _windows(self) -> None:
        """Nothing leaves the source early, and nothing comes to a target late."""
        expansion, network, layout = self._expansion, self._network, self._layout
        moments = np.arange(expansion.steps)
        soon = (moments < expansion.release[:, None])[:, :, None] & (network.arc_tail == expansion.source[:, None])[:, None, :]
        late = (moments >= expansion.deadline[:, None])[:, :, None]
        arriving = late & (network.arc_head == layout.single[:, None])[:, None, :]
        own = (self._send >= 0) & (soon | arriving)
        transfer, target = layout.streams
        streamed = (self._reach_send >= 0) & late[transfer] & (network.arc_head == target[:, None])[:, None, :]
        self._builder.add_rows(
            Rule.transfer_window.value,
            [(one,) for one in expansion.ids],
            upper=0.0,
            row_index=np.concatenate((np.nonzero(own)[0], transfer[np.nonzero(streamed)[0]])),
            column_index=np.concatenate((self._send[own], self._reach_send[streamed])),
        )

    def _floors(self, floors: Mapping[str, float], usd: Floats, valued: Ints, density: Floats) -> None:
        """Goals that come first stay as good as they are, but for rounding."""
        for name, attained in floors.items():
            slack = 1e-9 * max(1.0, abs(attained))
            if name == GoalName.transfer_value:
                sides, columns, values = {"lower": attained - slack}, self._deliver[valued], density
            else:
                sides, columns, values = {"upper": attained + slack}, self._send[self._layout.send], usd
            self._builder.add_rows(
                "goal_floor", [(name,)], **sides, row_index=np.zeros(len(columns), dtype=np.int64), column_index=columns, coefficient=values
            )


def _tuple(owner: str | tuple[str, ...]) -> tuple[str, ...]:
    return owner if isinstance(owner, tuple) else (owner,)

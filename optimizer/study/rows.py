"""A scenario, and its row in the table: plain, immutable, and the same in memory, on disk, over HTTP and on Ray."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from optimizer.result import GoalCertificate, Outcome, finite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optimizer.limits import Limits
    from optimizer.result import Result

BASELINE = "baseline"
KEY_VERSION = 1  # of what a key is made of, and of what a row means: raised when an old row must not be taken for a new one


@dataclass(frozen=True, slots=True)
class Change:
    """One resolved edit: the value at a plain JSON pointer, new items at the end of a list, or places left out.

    ``op`` set: ``pointer`` gets ``value``. append: the list at ``pointer`` gets the items of ``value`` at its end. remove: the place goes.
    All pointers are those of the base problem. A later change of the same place wins.
    """

    op: Literal["set", "append", "remove"]
    pointer: str
    value: Any = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """One combination of the axes' values in one replicate.

    ``values``: axis name to value or label as shown; ``numbers``: axis name to its number where it has one (None: not a number).
    ``changes`` are what the values do to the base; ``seed`` is that of the solver; ``spend_usd`` what the values cost.
    """

    id: str
    values: Mapping[str, Any]
    numbers: Mapping[str, float | None]
    replicate: int
    seed: int
    changes: tuple[Change, ...]
    spend_usd: float = 0.0
    is_baseline: bool = False

    @property
    def label(self) -> str:
        """How the table names it."""
        return ", ".join(f"{name}={value}" for name, value in self.values.items()) or BASELINE


def scenario_key(base: str, changes: tuple[Change, ...], limits: Limits, version: str) -> str:
    """The content address of an answer: ``base`` is the hash of the base problem, ``version`` that of the product.

    Two scenarios with one key ask the same question within the same limits; the name of an axis is no part of it.
    """
    asked = [KEY_VERSION, base, [[one.op, one.pointer, one.value] for one in changes], asdict(limits), version]
    return hashlib.sha256(json.dumps(asked, sort_keys=True, allow_nan=False).encode()).hexdigest()[:40]


@dataclass(frozen=True, slots=True)
class Row:
    """The answer of one question. ``failure`` says why there is none, in a sentence; then ``outcome`` is None.

    ``goals`` are those of the plan's certificate, empty without a plan; ``metrics`` those of the verdict, numbers only. ``refuted`` holds
    the rules that conflict, in words, where it is proved that no plan exists. ``attempts`` counts processes that were lost over it.
    """

    key: str
    outcome: str | None
    stop_reason: str | None
    goals: tuple[GoalCertificate, ...]
    metrics: dict[str, float]
    verified: bool
    seconds: float
    strategy: str = ""
    message: str = ""
    refuted: tuple[str, ...] = ()
    failure: str | None = None
    attempts: int = 1
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def answered(self) -> bool:
        """Whether something is known: a verified plan, or a proof that there is none."""
        return self.failure is None and (bool(self.goals) or self.outcome in (Outcome.infeasible.value, Outcome.unbounded.value))

    def goal(self, name: str) -> GoalCertificate | None:
        """The certificate of one goal; None without a plan, or where no goal has this name."""
        return next((goal for goal in self.goals if goal.name == name), None)

    @classmethod
    def of(cls, key: str, result: Result) -> Row:
        """The row of a result."""
        certificate, verdict = result.certificate, result.verdict
        metrics = {} if verdict is None else {name: value for name, value in verdict.metrics.items() if finite(value) is not None}
        return cls(
            key=key,
            outcome=None if result.failure is not None and certificate is None else result.outcome.value,
            stop_reason=result.stop_reason.value,
            goals=() if certificate is None else certificate.goals,
            metrics=metrics,
            verified=certificate is not None and certificate.verified,
            seconds=result.seconds,
            strategy="" if certificate is None else certificate.strategy,
            message=result.message,
            refuted=() if result.conflict is None else tuple(f"{rule}: {', '.join(ids)}" for rule, ids in result.conflict.rules),
            failure=result.failure if certificate is None else None,
            versions={} if certificate is None else dict(certificate.versions),
        )

    @classmethod
    def failed(cls, key: str, why: str, *, seconds: float = 0.0, attempts: int = 1) -> Row:
        """The row of a scenario that could not be answered."""
        return cls(key, None, None, (), {}, verified=False, seconds=seconds, failure=why, attempts=attempts)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON; a number that is not finite is null."""
        told = asdict(self)
        told["goals"] = [
            {name: finite(value) if isinstance(value, float) else value for name, value in goal.items()} for goal in told["goals"]
        ]
        return told

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Row:
        """The row that ``as_json`` told; what is endless is so again. Raises TypeError and KeyError for anything else."""
        goals = tuple(_goal(goal) for goal in told["goals"])
        return cls(**(told | {"goals": goals, "refuted": tuple(told["refuted"])}))


def _goal(told: dict[str, Any]) -> GoalCertificate:
    endless = float("inf") if told["sense"] == "maximise" else float("-inf")
    absent = {"bound": endless, "objective": -endless, "gap": float("inf")}
    return GoalCertificate(**(told | {name: value for name, value in absent.items() if told[name] is None}))


@dataclass(frozen=True, slots=True)
class Answered:
    """A scenario with its row: one line of the table."""

    scenario: Scenario
    row: Row

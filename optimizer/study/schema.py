"""The study file: a base problem, axes of change, and what is asked of the table.

A study is the base problem with every combination of its axes' values, each for every replicate: a scenario. An axis changes the problem
by edits, in which the text ``$value`` stands for the axis's value. Places are JSON pointers with selectors
(``optimizer.study.scenarios.pointers``), looked up in the base problem whatever other axes do. ``read`` makes a study of parsed JSON or
YAML.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, ValidationError, WrapValidator, model_validator

from models.contract import ContradictionError, Warned
from models.vocabulary import Document, Id
from optimizer.study.scenarios.changes import told
from optimizer.study.scenarios.draws import LEAST_PROBABILITY, MOST_MEAN, UNCUT, probability_inside
from optimizer.study.schema_edits import Edit, Json, Number, alternative, json_value

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_SCENARIOS = 100_000
MOST_REPLICATES = 10_000
SIZES = ("mean", "deviation", "least", "most", "mode", "scale")  # parameters of draws
LEAST_SIZE, MOST_SIZE = 1e-15, 1e15


class Range(Document):
    """Equally spaced values, both ends included; for samples, any value between the ends."""

    least: Number
    most: Number
    steps: Annotated[int, Field(ge=2, le=100_000)] = 5
    whole: bool = Field(default=False, description="Only whole numbers, each once.")

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if not self.least < self.most:
            raise ValueError(f"least {self.least:g} is not below most {self.most:g}")
        if not math.isfinite(self.most - self.least):
            raise ValueError(f"from {self.least:g} to {self.most:g} is too far to count; give ends nearer to each other")
        if self.whole and not (self.least.is_integer() and self.most.is_integer()):
            raise ValueError(f"least {self.least:g} and most {self.most:g} of a range of whole numbers must be whole")
        return self


class Draw(Document):
    """A random value of each replicate: the same in every scenario of the replicate, its baseline included.

    With ends that are no parameters of it, the distribution is that of the values between them; mean and deviation are those of the whole.
    """

    distribution: Literal["uniform", "normal", "lognormal", "triangular", "exponential", "poisson", "bernoulli", "weibull"]
    mean: Number | None = Field(default=None, description="normal, lognormal (of the value itself), exponential, poisson, bernoulli.")
    deviation: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        default=None, description="normal, lognormal (of the value itself)."
    )
    least: Number | None = Field(default=None, description="uniform, triangular: the end; else no value below is drawn.")
    most: Number | None = Field(default=None, description="uniform, triangular: the end; else no value above is drawn.")
    mode: Number | None = Field(default=None, description="triangular.")
    shape: Annotated[float, Field(ge=0.1, le=1_000)] | None = Field(default=None, description="weibull.")
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(default=None, description="weibull.")
    whole: bool = Field(default=False, description="Round to a whole number.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed = _PARAMETERS[self.distribution]
        allowed = needed if self.distribution in UNCUT else (*needed, "least", "most")
        given = [name for name in ("mean", "deviation", "least", "most", "mode", "shape", "scale") if getattr(self, name) is not None]
        if missing := [name for name in needed if name not in given]:
            raise ValueError(f"a {self.distribution} draw needs {' and '.join(missing)}")
        if idle := [name for name in given if name not in allowed]:
            raise ValueError(f"a {self.distribution} draw has no {' and no '.join(idle)}; it has {', '.join(allowed)}")
        if fault := self._fault():
            raise ValueError(fault)
        return self

    def _fault(self) -> str:
        """What is wrong with the parameters together."""
        what, mean = self.distribution, 0.0 if self.mean is None else self.mean
        least, most = (-math.inf if self.least is None else self.least), (math.inf if self.most is None else self.most)
        cut = what not in UNCUT and (self.least, self.most) != (None, None)
        faults: tuple[tuple[bool, str], ...] = (
            (not least < most, f"least {least:g} is not below most {most:g}"),
            (self.mode is not None and not least <= self.mode <= most, f"the mode is not between least {least:g} and most {most:g}"),
            (what in ("lognormal", "exponential") and mean <= 0, f"the mean of a {what} draw is above 0, not {mean:g}"),
            (what == "poisson" and not 0 <= mean <= MOST_MEAN, f"the mean of a poisson draw is from 0 to {MOST_MEAN:,.0f}, not {mean:g}"),
            (what == "bernoulli" and not 0 <= mean <= 1, f"the mean of a bernoulli draw is a probability, from 0 to 1, not {mean:g}"),
            (cut and self.deviation == 0, "a draw without deviation is always its mean: leave least and most out"),
        )
        if fault := next((words for holds, words in faults if holds), ""):
            return fault
        if outside := next((name for name in SIZES if not _is_sized(getattr(self, name))), ""):
            return f"{outside} is 0, or in size from {LEAST_SIZE:g} to {MOST_SIZE:g}, not {getattr(self, outside):g}"
        if cut and probability_inside(self) < LEAST_PROBABILITY:
            return f"a {what} draw is almost never between least {least:g} and most {most:g}; move them nearer to its middle"
        return ""


def _is_sized(value: float | None) -> bool:
    """Whether products and powers of a parameter can be told from 0 and from infinity."""
    return value is None or value == 0 or LEAST_SIZE <= abs(value) <= MOST_SIZE


_PARAMETERS: dict[str, tuple[str, ...]] = {
    "uniform": ("least", "most"),
    "normal": ("mean", "deviation"),
    "lognormal": ("mean", "deviation"),
    "triangular": ("least", "mode", "most"),
    "exponential": ("mean",),
    "poisson": ("mean",),
    "bernoulli": ("mean",),
    "weibull": ("shape", "scale"),
}


class Option(Document):
    """A named alternative: its own edits, none for the problem as it is."""

    label: Id
    edits: tuple[Edit, ...] = ()
    usd: Number = Field(default=0.0, description="What it costs to have.")


class Labelled(Document):
    """A value with a name to show."""

    label: Id
    value: Json


def _labelled(value: object, _: Callable[[object], object]) -> object:
    """Takes an object with a label for ``Labelled``, anything else for a value."""
    if isinstance(value, Labelled):
        return value
    return Labelled.model_validate(value) if isinstance(value, dict) and "label" in value else json_value(value)


class Axis(Document):
    """One thing that changes. It has exactly one of values, range, draw and options."""

    name: Id
    values: tuple[Annotated[Labelled | JsonValue, WrapValidator(_labelled)], ...] | None = Field(
        default=None, min_length=1, description="Any JSON values; {label, value} names one."
    )
    range: Range | None = None
    draw: Draw | None = None
    options: tuple[Option, ...] | None = Field(default=None, min_length=1)
    edits: tuple[Edit, ...] = Field(default=(), description="What a value changes; an axis of options has its edits there.")
    usd_each: Number = Field(default=0.0, description="What one unit of the value costs; the metric spend_usd sums it over the axes.")
    unit: str = Field(default="", max_length=40)
    chosen: bool | None = Field(
        default=None,
        description="Whether its value is ours to choose; else it is a circumstance: a failure, growth, a price. Left out: a draw, and an "
        "axis whose edits pick at random, are circumstances, all others are chosen.",
    )

    @property
    def is_chosen(self) -> bool:
        """Whether its value is ours to choose."""
        edits = [*self.edits, *(edit for option in self.options or () for edit in option.edits)]
        picks = any(getattr(edit, "pick", None) is not None for edit in edits)
        return self.chosen if self.chosen is not None else self.draw is None and not picks

    @model_validator(mode="after")
    def _one_domain(self) -> Self:
        given = [name for name in ("values", "range", "draw", "options") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"axis '{self.name}' has exactly one of values, range, draw and options, not {' and '.join(given) or 'none'}")
        if self.options is not None and self.edits:
            raise ValueError(f"axis '{self.name}' has options: the edits belong to each of them")
        if self.options is None and not self.edits:
            raise ValueError(f"axis '{self.name}' changes nothing; give it edits")
        return self


class Combine(Document):
    """How the axes' values are combined: every combination, the n-th of each with the n-th, or a Latin hypercube of samples.

    A Latin hypercube samples each axis evenly: a range or a draw has one sample in each of so many parts of equal probability, values and
    options are each taken equally often. Else a draw is taken once a replicate and multiplies nothing.
    """

    how: Literal["cartesian", "zip", "latin_hypercube"] = "cartesian"
    samples: Annotated[int, Field(ge=1, le=MOST_SCENARIOS)] | None = Field(default=None, description="latin_hypercube: how many.")

    @model_validator(mode="after")
    def _samples(self) -> Self:
        if (self.samples is not None) != (self.how == "latin_hypercube"):
            raise ValueError("samples belong to latin_hypercube, which needs them")
        return self


class StudyLimits(Document):
    """What each scenario may use."""

    time_limit_s: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 60.0
    gap: Annotated[float, Field(ge=0, lt=1)] = 1e-4
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    memory_gib: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class Gate(Document):
    """What every scenario (or those ``where`` the axes have these values) must keep, of a goal or a metric.

    Changes are relative to the baseline of the same replicate: 0.01 is one per cent of it.
    """

    name: Id | None = None
    metric: Id
    fall_at_most: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    rise_at_most: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    at_least: Number | None = None
    at_most: Number | None = None
    where: dict[str, Json] = Field(default_factory=dict, description="Axis name: value or label.")

    @model_validator(mode="after")
    def _asks(self) -> Self:
        if all(one is None for one in (self.fall_at_most, self.rise_at_most, self.at_least, self.at_most)):
            raise ValueError("a gate asks for something: give it at_least, at_most, fall_at_most or rise_at_most")
        return self


class SweepAsk(Document):
    """The optimal value as a piecewise-linear function of one axis, exactly, for a linear program: with few solves."""

    ask: Literal["sweep"]
    axis: Id


class ParetoAsk(Document):
    """The trade-off of two goals: exact ends, and points between them by limits on the second; or of a goal and what an axis limits."""

    ask: Literal["pareto"]
    first: Id
    second: Id
    points: Annotated[int, Field(ge=3, le=1_000)] = 9
    axis: Id | None = Field(
        default=None, description="An axis of numbers that limits the second and changes nothing else, such as a budget."
    )
    limits: Literal["at_most", "at_least"] = Field(default="at_most", description="Which way the axis limits the second.")


class TargetAsk(Document):
    """The least value of one whole-number or ranged axis at which a goal or metric reaches its target."""

    ask: Literal["target"]
    axis: Id
    metric: Id
    at_least: Number | None = None
    at_most: Number | None = None
    tolerance: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(default=None, description="For an axis that is not whole.")
    seek: Literal["least", "most"] = Field(
        default="least", description="The least value of the axis that reaches it, or the most that still does."
    )

    monotone: bool = Field(default=True, description="Whether the target, once reached, stays reached further on.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("a target has exactly one of at_least and at_most")
        return self


Ask = Annotated[SweepAsk | ParetoAsk | TargetAsk, Field(discriminator="ask"), alternative("ask", None, SweepAsk, ParetoAsk, TargetAsk)]


class Snapshot(Document):
    """A cluster as its scheduler shows it: read once, when the study starts, and kept with its answers; a problem of placement."""

    slurm: str | None = Field(default=None, description="Folder of what Slurm's commands printed; live: they are asked when it starts.")
    kubernetes: str | None = Field(default=None, description="What kubectl get nodes,pods -o json printed; live: the API server is asked.")
    jobs: Literal["all", "opted-in"] = Field(
        default="all", description="The waiting jobs in it: all, or those that opted in to the plugin."
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.slurm is None) == (self.kubernetes is None):
            raise ValueError("a snapshot has exactly one of slurm and kubernetes: a folder or a file, or live")
        return self


class Base(Document):
    """Where the base problem comes from: exactly one of these."""

    file: str | None = Field(default=None, description="A problem file; a relative path starts at the study file's folder.")
    problem_id: str | None = Field(default=None, description="A problem that the service has stored.")
    problem: dict[str, Any] | None = Field(default=None, description="The problem itself.")
    snapshot: Snapshot | None = Field(default=None, description="A cluster as its scheduler shows it.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(one is not None for one in (self.file, self.problem_id, self.problem, self.snapshot)) != 1:
            raise ValueError("the base has exactly one of file, problem_id, problem and snapshot")
        return self


class Study(Document):
    """A study file."""

    schema_version: Literal[1] = 1
    name: Id
    title: str = Field(default="", max_length=500)
    kind: Id
    base: Base
    axes: tuple[Axis, ...] = Field(default=(), max_length=50)
    combine: Combine = Combine()
    replicates: Annotated[int, Field(ge=1, le=MOST_REPLICATES)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    limits: StudyLimits = StudyLimits()
    baseline: dict[str, Json] | None = Field(
        default=None,
        description="Axis name: value or label; axes that are not named change nothing. Left out: no axis changes anything. Draws are made "
        "for the baseline too, unless it names them, or the study has draws only.",
    )
    metrics: tuple[Id, ...] = Field(default=(), description="What the table shows besides the goals; left out: the kind's own metrics.")
    gates: tuple[Gate, ...] = ()
    asks: tuple[Ask, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        from optimizer.study.checks import errors

        ContradictionError.refuse(errors(self))
        return self


def read(raw: object) -> Study:
    """The study that parsed JSON or YAML describes. Raises ContradictionError with every mistake and its place in the file."""
    try:
        return Study.model_validate(raw)
    except ValidationError as error:
        raise ContradictionError(*told(error)) from None
    except RecursionError:
        what = "the study is nested too deeply, or holds itself by a YAML alias; write it flat"
        raise ContradictionError(Warned("", "too_deep", what)) from None

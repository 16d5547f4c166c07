"""How an axis changes the problem: the edits of a study file, and the numbers and places in them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, JsonValue, WrapValidator, model_validator

from models.vocabulary import Document, Id
from optimizer.study.scenarios.pointers import VALUE

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_COPIES = 100_000

# A union of types complains once for each of them, at places that the file does not have. So whoever reads an amount, an edit, a value or a
# question is told by one validator which of them is meant, and only that one complains.


def _amount(least: float = -math.inf, most: float = math.inf, *, whole: bool = False) -> WrapValidator:
    """Takes ``$value``, or a number within the limits."""

    def read(value: object, handler: Callable[[object], object]) -> object:
        if value is None or value == VALUE:
            return handler(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or (whole and math.isfinite(value) and value != math.floor(value)):
            raise ValueError(f"must be a {'whole ' if whole else ''}number or {VALUE}, not {str(value)[:60]}")
        if not (math.isfinite(value) and least <= value <= most):
            raise ValueError(f"must be {_interval(least, most)}, not {value:g}")
        return int(value) if whole else float(value)

    return WrapValidator(read)


def _interval(least: float, most: float) -> str:
    if math.isinf(least):
        return "a finite number"
    return f"at least {least:g}" if math.isinf(most) else f"from {least:g} to {most:g}"


def json_value(value: object) -> object:
    """Takes any JSON value, as it is."""
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("must not be or contain NaN or infinity; write a number, or null")
        return value
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {name: json_value(item) for name, item in value.items()}
    raise ValueError(f"must be JSON, and {str(value)[:60]} is none; put it in quotes")


Number = Annotated[float, Field(allow_inf_nan=False)]
Json = Annotated[JsonValue, WrapValidator(lambda value, _: json_value(value))]
Place = Annotated[str, Field(min_length=1, description="JSON pointer with selectors: /nodes/[gpu_model=A100][topology.row=3]/state.")]
Amount = Annotated[float | Literal["$value"], _amount()]


class Pick(Document):
    """Only some of the items that an edit matches, drawn at random; the same replicate draws alike in every scenario.

    The items are ranked by random numbers of their own, and the first of them are taken: who fails among 2 also fails among 3. All edits
    of an axis draw alike, so that two of them change the same items.
    """

    count: Annotated[int | Literal["$value"] | None, _amount(0, whole=True)] = Field(default=None, description="How many.")
    share: Annotated[float | Literal["$value"] | None, _amount(0, 1)] = Field(default=None, description="Which share of them, rounded.")
    probability: Annotated[float | Literal["$value"] | None, _amount(0, 1)] = Field(default=None, description="Each of them, alone.")
    by: str | None = Field(
        default=None, min_length=1, description="Items with the same value of this field are one: topology.rack draws whole racks."
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(one is not None for one in (self.count, self.share, self.probability)) != 1:
            raise ValueError("a pick has exactly one of count, share and probability")
        return self


class SetEdit(Document):
    """Every matched place gets this value; a field that is not there yet is made."""

    op: Literal["set"] = "set"
    at: Place
    to: Json = Field(description="Any JSON value; $value is the axis's.")
    pick: Pick | None = None


class ScaleEdit(Document):
    """Every matched number is multiplied. Whole numbers stay whole: they are rounded to the nearest, halves up."""

    op: Literal["scale"]
    at: Place
    by: Amount
    pick: Pick | None = None


class AddEdit(Document):
    """Every matched number is raised by this. Whole numbers stay whole: a fraction added to them is refused."""

    op: Literal["add"]
    at: Place
    by: Amount
    pick: Pick | None = None


class RemoveEdit(Document):
    """Every matched item of a list is left out; a field gets its default."""

    op: Literal["remove"]
    at: Place
    pick: Pick | None = None


class CopiesEdit(Document):
    """Copies of one item of a list, as the base problem has it, are appended to the list with ids of their own."""

    op: Literal["copies"]
    of: Place = Field(description="Exactly one item of a list.")
    count: Annotated[int | Literal["$value"], _amount(0, MOST_COPIES, whole=True)]
    id: Id = Field(description="The id of the copies; {n} becomes 1, 2, ...")
    merge: dict[str, Json] = Field(default_factory=dict, description="Merge patch for each copy.")

    @model_validator(mode="after")
    def _numbered(self) -> Self:
        if "{n}" not in self.id:
            raise ValueError("the id of copies needs {n}, or all of them would have one name")
        return self


class MergeEdit(Document):
    """A JSON merge patch (RFC 7396) of the whole problem."""

    op: Literal["merge"]
    patch: dict[str, Json]


def alternative(key: str, default: str | None, *classes: type[Document]) -> WrapValidator:
    """Takes an object for the class whose ``key`` it has."""
    by_name = {str(one.model_fields[key].annotation.__args__[0]): one for one in classes}  # type: ignore[union-attr]

    def read(value: object, _: Callable[[object], object]) -> object:
        if isinstance(value, classes):
            return value
        if not isinstance(value, dict):
            raise ValueError(f"must be an object with {key}, not {str(value)[:60]}")  # noqa: TRY004  (Pydantic takes ValueErrors)
        name = value.get(key, default)
        if not isinstance(name, str) or name not in by_name:
            raise ValueError(f"{key} must be one of {', '.join(by_name)}, not {'left out' if name is None else str(name)[:60]}")
        return by_name[name].model_validate(value)

    return WrapValidator(read)


Edit = Annotated[
    SetEdit | ScaleEdit | AddEdit | RemoveEdit | CopiesEdit | MergeEdit,
    Field(discriminator="op"),
    alternative("op", "set", SetEdit, ScaleEdit, AddEdit, RemoveEdit, CopiesEdit, MergeEdit),
]

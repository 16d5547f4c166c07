"""What a kind's drawing hands to the page, and the plain table for kinds without one.

A drawing is ``service/report/<kind>.py`` with ``draw(problem, plan, before) -> Drawing`` and, if it can say it better
than the page, ``sentence(goal, metrics) -> str | None`` for what a goal's bound proves.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    from models.vocabulary import Document

MOST_ROWS = 200  # rows of a plain table that are shown


@dataclass(frozen=True, slots=True)
class Figure:
    """One number at the head of the page: what it is, the number as text, and a line below it."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A plain table; ``more`` rows are not shown."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    more: int = 0

    def without_empty(self) -> Table:
        """The same without the columns that are empty in every row."""
        kept = [place for place in range(len(self.columns)) if any(row[place] for row in self.rows)]
        columns = tuple(self.columns[place] for place in kept)
        return Table(self.title, columns, tuple(tuple(row[place] for place in kept) for row in self.rows), self.more)


@dataclass(frozen=True, slots=True)
class Drawing:
    """A kind's part of the page.

    ``template`` is drawn with ``values``; ``left_out`` are the ids of everything asked for and not in the plan;
    ``facts`` say in a few words what such an id is.
    """

    figures: tuple[Figure, ...] = ()
    template: str = "plain.html.j2"
    values: dict[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)


def drawing_module(kind: str) -> ModuleType | None:
    """The module that draws a kind's plans, when there is one."""
    name = f"service.report.{kind}"
    return importlib.import_module(name) if importlib.util.find_spec(name) is not None else None


def plain(plan: Document) -> Drawing:
    """Every list in the plan as a table, every single value as a row of one."""
    content = plan.model_dump(mode="json")
    lists = {name: value for name, value in content.items() if isinstance(value, list)}
    single = tuple((name, _text(value)) for name, value in content.items() if name not in lists)
    tables = [Table("Values", ("name", "value"), single)] if single else []
    tables += [_table(name, value) for name, value in lists.items() if value]
    return Drawing(values={"tables": tables})


def _table(name: str, items: list[Any]) -> Table:
    title, shown, more = name.replace("_", " ").capitalize(), items[:MOST_ROWS], max(0, len(items) - MOST_ROWS)
    if not all(isinstance(item, dict) for item in shown):
        return Table(title, (name,), tuple((_text(item),) for item in shown), more)
    columns = tuple(dict.fromkeys(key for item in shown for key in item))
    return Table(title, columns, tuple(tuple(_text(item.get(column)) for column in columns) for item in shown), more)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)

"""What the conformance tests know of Pydantic documents and Markdown pages, whatever the kind."""

from __future__ import annotations

import importlib
import re
import shlex
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from models.contract import Kind

ROOT = Path(__file__).resolve().parents[2]


def page(kind: Kind) -> Path:
    """The page of a kind."""
    origin = importlib.import_module(kind.package).__file__
    assert origin is not None
    return Path(origin).parent / "README.md"


def reachable(*classes: type[BaseModel]) -> list[type[BaseModel]]:
    """The classes and all that their fields are made of."""
    found: list[type[BaseModel]] = []
    open_ends: list[Any] = list(classes)
    while open_ends:
        one = open_ends.pop()
        if isinstance(one, type) and issubclass(one, BaseModel):
            if one not in found:
                found.append(one)
                open_ends += [field.annotation for field in one.model_fields.values()]
        else:
            open_ends += typing.get_args(one)
    return found


def numeric_fields(document: type[BaseModel]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The fields of a document that hold numbers, alone or in lists and tables, with their JSON schemas; constants do not count."""
    for name, schema in document.model_json_schema()["properties"].items():
        if _shape(schema, 0) is not None:
            yield name, schema


def with_number(schema: dict[str, Any], number: float) -> Any:
    """A value of the field's shape with ``number`` in it."""
    return _shape(schema, number)


def _shape(schema: dict[str, Any], number: float) -> Any:
    if "const" in schema or "enum" in schema:
        return None
    for choice in schema.get("anyOf", ()):
        if (found := _shape(choice, number)) is not None:
            return found
    if schema.get("type") in {"number", "integer"}:
        return number
    if schema.get("type") == "array":
        inner = _shape(schema.get("items", {}), number)
        return None if inner is None else [inner]
    if isinstance(schema.get("additionalProperties"), dict):
        inner = _shape(schema["additionalProperties"], number)
        return None if inner is None else {"name": inner}
    return None


def strings(thing: Any) -> Iterator[str]:
    """Every string in a JSON document, keys of tables included."""
    if isinstance(thing, str):
        yield thing
    elif isinstance(thing, dict):
        for key, value in thing.items():
            yield key
            yield from strings(value)
    elif isinstance(thing, list | tuple):
        for value in thing:
            yield from strings(value)


def section(text: str, title: str) -> str:
    """What stands under a heading, with the headings below it."""
    found = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert found is not None, f"the page has no section '{title}'"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def tables(text: str) -> Iterator[list[dict[str, str]]]:
    """The Markdown tables in a text, each as rows by column title."""
    for block in re.findall(r"(?:^\|.*\|\s*$\n?)+", text, re.MULTILINE):
        lines = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))] for line in block.strip().splitlines()]
        yield [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def names_in_code(cell: str) -> set[str]:
    """The bare names among what a cell quotes as code: ``place`` for `place[k,n]`."""
    return {re.split(r"[\[(]", quoted)[0].strip() for quoted in re.findall(r"`([^`]+)`", cell)}


def fenced(text: str, *languages: str) -> list[str]:
    """The fenced blocks of the given languages; "" is a block without one."""
    return [body for language, body in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL) if language in languages]


def commands(text: str) -> list[list[str]]:
    """The ``quartermaster`` lines of a page, as words without the program's name; without redirections and comments."""
    found = []
    for block in fenced(text, "", "sh", "bash", "shell", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words and Path(words[0]).name == "quartermaster":
                stop = next((place for place, word in enumerate(words) if word in {">", "|", "<", "&&", ";"}), len(words))
                found.append(words[1:stop])
    return found

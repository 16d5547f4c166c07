"""Turns the text of a document (JSON, YAML) into a problem or a plan, or tells its mistakes: the place and the cure."""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from models.garbage import collection_paused
from models.vocabulary import Document
from service.documents.complaints import InvalidError, Mistake, invalid, pointer, unknown_field
from service.documents.errors import BadInputError
from service.documents.json_text import loaded, refuse_repeated_keys

SMALL_BYTES = 2**20  # up to here a file is validated in one call: it cannot hold enough mistakes to fill the memory
CHUNK = 2_000  # items of a list validated at a time in a larger file, so that millions of mistakes are never collected

AnyDocument = TypeVar("AnyDocument", bound=Document)


@dataclass(frozen=True, slots=True)
class Text:
    """What was read: the name to call it by in messages, its bytes (UTF-8, no byte order mark), and whether it is YAML."""

    name: str
    data: bytes
    is_yaml: bool


def parse(document: type[AnyDocument], text: Text) -> AnyDocument:
    """Validates the text of a document; raises BadInputError with one message."""
    with collection_paused():
        try:
            return validated(document, _yaml(text)) if text.is_yaml else from_text(document, text.data)
        except InvalidError as error:
            raise BadInputError(f"{text.name}: {error}") from None


def from_text(document: type[AnyDocument], data: bytes) -> AnyDocument:
    """Validates JSON text; raises InvalidError."""
    if len(data) > SMALL_BYTES:
        _refuse_wrong_start(document, data)
    found = validated(document, loaded(data))
    refuse_repeated_keys(data)
    return found


def validated(document: type[AnyDocument], raw: object) -> AnyDocument:
    """Validates parsed input, its long lists in chunks; raises InvalidError."""
    parts: object = raw
    try:
        if isinstance(raw, dict):
            parts = {name: _items(document, name, value) for name, value in raw.items()}
        return document.model_validate(parts)
    except ValidationError as error:
        raise invalid(error, document, raw) from None
    except _ItemsError as error:
        raise invalid(error.cause, document, raw, (error.field, error.start)) from None


def _refuse_wrong_start(document: type[Document], data: bytes) -> None:
    """Looks at the first part of a large text alone, so that hundreds of megabytes of the wrong thing cost nothing."""
    try:
        start = from_json(data[:SMALL_BYTES], allow_partial=True)
    except ValueError:
        return  # the whole text is not JSON either, and says where
    if not isinstance(start, dict):
        return
    unknown = next((name for name in start if name not in document.model_fields), None)
    if unknown is not None:
        raise InvalidError([Mistake(pointer((unknown,)), "", "extra_forbidden", unknown_field(unknown, document))])
    for name, value in start.items():
        if isinstance(value, list) and len(value) > 1:
            try:
                _items(document, name, value[:-1], longest=0)  # the last item may be cut
            except _ItemsError as error:
                raise invalid(error.cause, document, start, (error.field, error.start)) from None


class _ItemsError(Exception):
    """Some items of a list are wrong: the field's name, the index of the first item validated, and what Pydantic found."""

    def __init__(self, field: str, start: int, cause: ValidationError) -> None:
        super().__init__(field)
        self.field, self.start, self.cause = field, start, cause


def _items(document: type[Document], name: object, value: object, *, longest: int = CHUNK) -> object:
    """A long list of documents validated chunk by chunk, anything else as it is."""
    field = document.model_fields.get(name) if isinstance(name, str) else None
    if field is None or not isinstance(value, list) or len(value) <= longest:
        return value
    item = _item_type(field.annotation)
    if item is None:
        return value
    adapter: TypeAdapter[list[Any]] = TypeAdapter(list[item])  # type: ignore[valid-type]
    items: list[Any] = []
    for start in range(0, len(value), CHUNK):
        try:
            items += adapter.validate_python(value[start : start + CHUNK])
        except ValidationError as error:
            raise _ItemsError(str(name), start, error) from None
    return items


def _item_type(annotation: object) -> object | None:
    """The item type of ``tuple[X, ...]`` or ``list[X]``, also when it is optional or annotated; None for anything else."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _item_type(arguments[0])
    if origin in (typing.Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not type(None)]
        return _item_type(inner[0]) if len(inner) == 1 else None
    if origin is list or (origin is tuple and len(arguments) == 2 and arguments[1] is ...):  # noqa: PLR2004  (tuple[X, ...])
        return arguments[0]  # type: ignore[no-any-return]
    return None


def _yaml(text: Text) -> object:
    """The parsed YAML; raises BadInputError with line and column."""
    import yaml

    from service.documents.yaml_loader import loaded

    try:
        return loaded(text.data)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise BadInputError(f"{text.name}: {place}this is not YAML: {problem}; correct the file there") from None
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{text.name}: this is not YAML that can be read ({error}); write it as JSON") from None

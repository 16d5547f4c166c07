"""Turns the bytes of a file into a problem or a plan, or into one message that names the place and the cure."""

from __future__ import annotations

import json
import types
import typing
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from models.garbage import collection_paused
from models.vocabulary import Document
from service.cli.complaints import complaint, pointer, unknown_field
from service.cli.errors import BadInputError
from service.cli.files import Text, read

if TYPE_CHECKING:
    from models.contract import Kind

SMALL_BYTES = 2**20  # up to here a file is validated in one call: it cannot hold enough mistakes to fill the memory
CHUNK = 2_000  # items of a list validated at a time in a larger file, so that millions of mistakes are never collected

AnyDocument = TypeVar("AnyDocument", bound=Document)


def load(document: type[AnyDocument], source: str) -> AnyDocument:
    """Reads and validates a document from a path, or from standard input when ``source`` is ``-``; raises BadInputError."""
    return parse(document, read(source))


def parse(document: type[AnyDocument], text: Text) -> AnyDocument:
    """Validates the text of a document; raises BadInputError with one message."""
    with collection_paused():
        return _parse(document, text)


def _parse(document: type[AnyDocument], text: Text) -> AnyDocument:
    if text.is_yaml:
        return _validated(document, text, _yaml(text))
    try:
        if len(text.data) <= SMALL_BYTES:
            found = document.model_validate_json(text.data)
        else:
            _refuse_wrong_start(document, text)
            found = _validated(document, text, from_json(text.data))
    except ValidationError as error:
        raise BadInputError(f"{text.name}: {complaint(error, document, _raw(text.data))}") from None
    except ValueError as error:
        raise BadInputError(f"{text.name}: {_not_json(str(error))}") from None
    _refuse_repeated_keys(text)
    return found


def load_problem(kind: Kind, source: str) -> Document:
    """The kind's problem from a file; raises BadInputError."""
    return load(kind.problem, source)


def load_plan(kind: Kind, source: str) -> Document:
    """The kind's plan from a file; raises BadInputError."""
    return load(kind.plan, source)


def _raw(data: bytes) -> object:
    try:
        return from_json(data)
    except ValueError:
        return None


def _not_json(message: str) -> str:
    """Pydantic's words for broken JSON, with the place in front: ``expected value at line 1 column 2``."""
    what, _, place = message.partition(" at line ")
    line, _, column = place.partition(" column ")
    return f"line {line}, column {column}: this is not JSON: {what}; correct the file there"


def _validated(document: type[AnyDocument], text: Text, raw: object) -> AnyDocument:
    """Validates parsed input, its long lists in chunks."""
    parts: object = raw
    try:
        if isinstance(raw, dict):
            parts = {name: _items(document, name, value) for name, value in raw.items()}
        return document.model_validate(parts)
    except ValidationError as error:
        raise BadInputError(f"{text.name}: {complaint(error, document, raw)}") from None
    except _ItemsError as error:
        raise BadInputError(f"{text.name}: {complaint(error.cause, document, raw, (error.field, error.start))}") from None


def _refuse_wrong_start(document: type[Document], text: Text) -> None:
    """Looks at the first part of a large file alone, so that hundreds of megabytes of the wrong thing cost nothing."""
    try:
        start = from_json(text.data[:SMALL_BYTES], allow_partial=True)
    except ValueError:
        return  # the whole file is not JSON either, and says where
    if not isinstance(start, dict):
        return
    unknown = next((name for name in start if name not in document.model_fields), None)
    if unknown is not None:
        raise BadInputError(f"{text.name}: {pointer((unknown,))}: {unknown_field(unknown, document)}")
    for name, value in start.items():
        if isinstance(value, list) and len(value) > 1:
            try:
                _items(document, name, value[:-1], longest=0)  # the last item may be cut
            except _ItemsError as error:
                raise BadInputError(f"{text.name}: {complaint(error.cause, document, start, (error.field, error.start))}") from None


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


def _refuse_repeated_keys(text: Text) -> None:
    """JSON lets a key stand twice in one object and readers keep the last: here it is a mistake."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            owner = next((f" of '{found[key]}'" for key in ("id", "job") if isinstance(found.get(key), str)), "")
            raise BadInputError(f"{text.name}: the key '{twice}' stands twice in one object{owner}; keep one of them")
        return found

    json.loads(text.data, object_pairs_hook=unique)


def _yaml(text: Text) -> object:
    """The parsed YAML; raises BadInputError with line and column."""
    import yaml

    from service.cli.yaml_loader import loaded

    try:
        return loaded(text.data)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise BadInputError(f"{text.name}: {place}this is not YAML: {problem}; correct the file there") from None
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{text.name}: this is not YAML that can be read ({error}); write it as JSON") from None

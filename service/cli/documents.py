"""Problems and plans from files: a document, or one message that names the place and the cure."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from models.vocabulary import Document
from service.cli.files import read
from service.documents.reading import parse

if TYPE_CHECKING:
    from models.contract import Kind

AnyDocument = TypeVar("AnyDocument", bound=Document)


def load(document: type[AnyDocument], source: str) -> AnyDocument:
    """Reads and validates a document from a path, or from standard input when ``source`` is ``-``; raises BadInputError."""
    return parse(document, read(source))


def load_problem(kind: Kind, source: str) -> Document:
    """The kind's problem from a file; raises BadInputError."""
    return load(kind.problem, source)


def load_plan(kind: Kind, source: str) -> Document:
    """The kind's plan from a file; raises BadInputError."""
    return load(kind.plan, source)

"""Finds the kinds by folder. Nothing else in the project lists them."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING

import models

if TYPE_CHECKING:
    from models.contract import Kind
    from models.vocabulary import Document


class UnknownKindError(KeyError):
    """Raised when no kind has the asked name; the message lists those there are."""

    def __str__(self) -> str:
        """The message without the quotes that KeyError adds."""
        return str(self.args[0])


@cache
def kinds() -> dict[str, Kind]:
    """All kinds by name: every package below ``models`` whose ``__init__`` has a ``KIND``."""
    found: dict[str, Kind] = {}
    for info in pkgutil.iter_modules(models.__path__):
        if info.ispkg:
            kind = getattr(importlib.import_module(f"models.{info.name}"), "KIND", None)
            if kind is not None:
                found[kind.name] = kind
    return found


def kind(name: str) -> Kind:
    """The kind called ``name``; raises UnknownKindError."""
    try:
        return kinds()[name]
    except KeyError:
        message = f"there is no kind called '{name}'; the kinds are: {', '.join(sorted(kinds()))}"
        raise UnknownKindError(message) from None


def kind_of(document: Document) -> Kind:
    """The kind that a problem or plan belongs to, by the package of its class; raises UnknownKindError."""
    for candidate in kinds().values():
        if type(document).__module__.startswith(candidate.package + "."):
            return candidate
    message = f"{type(document).__name__} belongs to no kind"
    raise UnknownKindError(message)

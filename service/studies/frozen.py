"""The base of a study that has begun: a cluster is read once, and what was seen then stays the base of all its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.documents.errors import BadInputError
from service.studies.shelf import Shelf, ShelfError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from models.vocabulary import Document
    from optimizer.study.schema import Study


def frozen_in(folder: Callable[[Study], Path]) -> Callable[[Study], Document | None]:
    """Finds the base that ``folder`` of a study holds, if the study in it has the same source of its base.

    What it finds raises BadInputError for a folder that cannot be read: to read the cluster anew would mix two clusters in one table.
    """

    def found(study: Study) -> Document | None:
        place = folder(study)
        if not (place / "shelf.json").exists():
            return None
        try:
            shelf = Shelf.read(place)
            return shelf.base() if shelf.study().base == study.base else None
        except ShelfError as error:
            raise BadInputError(str(error)) from None

    return found

"""The studies that are shipped as examples: files in ``service/studies/examples``."""

from __future__ import annotations

import difflib
import json
from importlib.resources import files
from typing import TYPE_CHECKING

from service.documents.errors import BadInputError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

SUFFIXES = (".yaml", ".yml", ".json")


def examples() -> dict[str, str]:
    """Their names, with the first line of what each says of itself."""
    return {name: _about(place.read_text(encoding="utf-8")) for name, place in _places().items()}


def example(name: str) -> str:
    """The text of one. Raises BadInputError for a name that there is not."""
    found = _places()
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1)
        meant = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(found) or 'none'}"
        raise BadInputError(f"there is no shipped study '{name}'; {meant}")
    return found[name].read_text(encoding="utf-8")


def as_json(name: str) -> str:
    """The same as JSON. Raises as ``example``."""
    from service.documents.yaml_loader import loaded

    return json.dumps(loaded(example(name).encode()), indent=1, ensure_ascii=False)


def _places() -> dict[str, Traversable]:
    folder = files("service.studies") / "examples"
    if not folder.is_dir():
        return {}
    places = sorted((one for one in folder.iterdir() if one.is_file()), key=lambda one: one.name)
    return {one.name.rsplit(".", 1)[0]: one for one in places if one.name.endswith(SUFFIXES)}


def _about(text: str) -> str:
    """The title of a study, or its first comment."""
    for line in text.splitlines():
        word, _, rest = line.strip().rstrip(",").partition(":")
        if word.strip('"') == "title":
            return rest.strip().strip("\"'")
    first = text.lstrip().splitlines()[:1]
    return first[0].lstrip("# ") if first and first[0].startswith("#") else ""

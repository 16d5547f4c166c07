"""Kubernetes' resource quantities (``500m``, ``1.5Gi``, ``12e6``) and times as numbers."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from functools import lru_cache

GIB = 2**30
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60}
_DECIMAL = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:([eE][+-]?[0-9]{1,3})|([KMGTPE]i|[numkMGTPE]))?", re.ASCII)


def quantity(text: object) -> float:
    """The number that a quantity stands for, in its own unit: cores, bytes, pieces.

    A bare number is taken too, as some tools write one. Raises ValueError for anything else, for a negative and for a
    quantity that no double holds.
    """
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ValueError(f"a quantity is a text such as '500m' or '8Gi', not {text!r}")  # noqa: TRY004  (bad input, not a wrong call)
    return _number(str(text))


@lru_cache(4096)  # a cluster has few different ones, and each is read thousands of times
def _number(text: str) -> float:
    found = _QUANTITY.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"'{text}' is no quantity such as '500m', '8Gi' or '2'")
    digits, exponent, suffix = found.groups()
    factor = _BINARY.get(suffix or "") or _DECIMAL[suffix or ""]
    value = float(digits + (exponent or "")) * factor
    if value < 0 or not math.isfinite(value):
        raise ValueError(f"'{text}' is not a quantity of 0 or more")
    return value


def seconds(text: object) -> float | None:
    """Seconds since the epoch of an RFC 3339 time; None of an absent one. Raises ValueError."""
    if text is None:
        return None
    if not isinstance(text, str):
        raise ValueError(f"a time is a text such as '2026-01-31T12:00:00Z', not {text!r}")  # noqa: TRY004  (as above)
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"'{text}' is no time such as '2026-01-31T12:00:00Z'") from None
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()


def moment(epoch_s: float) -> str:
    """The RFC 3339 time with microseconds (``MicroTime``) of seconds since the epoch."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

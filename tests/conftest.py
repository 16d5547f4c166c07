"""What all tests share."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from hypothesis import settings

if TYPE_CHECKING:
    import pytest

# A slow machine is no failure: how long an example takes is not what these tests are about.
settings.register_profile("unhurried", settings(), deadline=None)
settings.load_profile("unhurried")


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:  # noqa: ARG001  (pytest's names)
    """Gzipped bytes are named by their number: they hold the second they were made in, and processes that share tests agree on names."""
    if isinstance(val, bytes) and val.startswith(b"\x1f\x8b"):
        return f"{len(val)} gzipped bytes"
    return None


def pytest_collection_finish() -> None:
    """Collected tests live to the end: keep the garbage collector from walking them again and again."""
    gc.collect()
    gc.freeze()

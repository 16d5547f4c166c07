"""What all tests share."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """Collected tests live to the end: keep the garbage collector from walking them again and again."""
    gc.collect()
    gc.freeze()

"""Cursors of pages: where the page before ended, so that new entries do not shift the next."""

from __future__ import annotations

import base64
import binascii

from service.errors import BadRequest, Finding


def cursor_of(position: int) -> str:
    """The cursor of the page after this position."""
    return base64.urlsafe_b64encode(f"before:{position}".encode()).decode().rstrip("=")


def position_of(cursor: str) -> int:
    """The position of a cursor; raises BadRequest for one that is none of ours."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (ValueError, binascii.Error):
        text = ""
    name, _, number = text.partition(":")
    if name != "before" or not number.isdecimal() or not 0 < int(number) < 2**63:
        finding = Finding("/query/cursor", "bad_cursor", "give the `next` of a page as it was, or leave the cursor out")
        raise BadRequest("the cursor is none of ours", code="bad_cursor", errors=(finding,))
    return int(number)

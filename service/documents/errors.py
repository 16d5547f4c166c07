"""The one exception for input that cannot be used."""

from __future__ import annotations


class BadInputError(Exception):
    """The user's input cannot be used; the message names the place and the cure, and is all that is shown."""

"""How the command line says what went wrong: exit codes, and the one exception for bad input."""

from __future__ import annotations

from enum import IntEnum

from service.documents.errors import BadInputError

__all__ = ["INTERRUPTED", "BadInputError", "Exit"]


class Exit(IntEnum):
    """What the exit code of ``quartermaster`` means."""

    plan = 0
    our_fault = 1
    bad_input = 2
    infeasible = 3
    no_plan = 4


INTERRUPTED = 130  # the shell's own code for a second Ctrl-C: nothing was decided

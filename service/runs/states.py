"""The life of a run.

    queued -> starting -> solving -> verifying -> succeeded | failed | cancelled
       |         |           |           |
       |         +-----------+-----------+--> cancelling -> cancelled (or succeeded, when the answer was already there)
       +--> cancelled                    +--> queued (its worker was lost: the next attempt starts from the best plan so far)

``succeeded`` is an answer: a verified plan, or the proof that none exists. ``failed`` is none: the limits were too tight, or
a fault of ours, which the failure describes. ``cancelled`` keeps the best verified plan unless it was discarded.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a run is."""

    queued = "queued"
    starting = "starting"
    solving = "solving"
    verifying = "verifying"
    cancelling = "cancelling"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"


class Task(StrEnum):
    """What a run does."""

    solve = "solve"  # its problem
    asks = "asks"  # answers what a study asks: sweeps, trade-offs, targets


class CancelMode(StrEnum):
    """What becomes of the best plan of a cancelled run."""

    keep_best = "keep_best"
    discard = "discard"


TERMINAL = frozenset({State.succeeded, State.failed, State.cancelled})
LEASED = frozenset({State.starting, State.solving, State.verifying, State.cancelling})  # a worker has it

NEXT: dict[State, frozenset[State]] = {
    State.queued: frozenset({State.starting, State.cancelled, State.succeeded}),  # succeeded: from the cache
    State.starting: frozenset({State.solving, State.verifying, State.cancelling, State.queued, *TERMINAL}),
    State.solving: frozenset({State.verifying, State.cancelling, State.queued, *TERMINAL}),
    State.verifying: frozenset({State.cancelling, State.queued, *TERMINAL}),
    State.cancelling: frozenset({State.queued, *TERMINAL}),
    State.succeeded: frozenset(),
    State.failed: frozenset(),
    State.cancelled: frozenset(),
}
"""Every step a run may take; the store refuses any other."""

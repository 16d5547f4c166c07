"""Small programs to start from: they are printed by ``quartermaster example program NAME``."""

from __future__ import annotations

from models.contract import Sense
from models.linear.schema import Columns, Entries, Problem, Rows


def examples() -> dict[str, Problem]:
    """Every example by name; the first is the usual one."""
    return {"lp": lp(), "mip": mip()}


def lp() -> Problem:
    """A linear program: how many hours a week each sort of work gets, within GPU hours, energy and a wish for tuning."""
    return Problem(
        sense=Sense.maximise,
        columns=Columns(
            names=("train_hours", "tune_hours", "serve_hours"),
            cost=(40.0, 22.0, 12.0),
            lower=(0.0, 0.0, 20.0),
            upper=(None, 60.0, 168.0),
        ),
        rows=Rows(
            names=("gpu_hours", "energy_kwh", "tuning_wish"),
            lower=(None, None, 0.0),
            upper=(1200.0, 900.0, None),
        ),
        entries=Entries(
            rows=(0, 0, 0, 1, 1, 1, 2, 2),
            columns=(0, 1, 2, 0, 1, 2, 0, 1),
            values=(16.0, 8.0, 4.0, 14.0, 5.0, 2.0, -0.5, 1.0),
        ),
    )


def mip() -> Problem:
    """A mixed-integer program: which of two sites to open, how many racks to put there, and how much work they do."""
    return Problem(
        sense=Sense.maximise,
        columns=Columns(
            names=("open_north", "open_south", "racks_north", "racks_south", "work"),
            cost=(-30.0, -18.0, -4.0, -5.0, 3.0),
            upper=(1.0, 1.0, 12.0, 12.0, None),
            integer=(True, True, True, True, False),
        ),
        rows=Rows(
            names=("done_by_racks", "north_is_open", "south_is_open", "budget"),
            upper=(0.0, 0.0, 0.0, 90.0),
        ),
        entries=Entries(
            rows=(0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 3),
            columns=(4, 2, 3, 2, 0, 3, 1, 0, 1, 2, 3),
            values=(1.0, -3.5, -3.0, 1.0, -12.0, 1.0, -9.0, 30.0, 18.0, 4.0, 5.0),
        ),
    )

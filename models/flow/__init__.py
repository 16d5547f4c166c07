"""How traffic flows over a network, and what to build so that it can."""

from models.contract import Kind

KIND = Kind(name="flow", package=__name__, summary="How traffic flows: routes, protection against failures, upgrades, bulk transfers.")

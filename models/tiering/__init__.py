"""Where data lives: which tiers hold each object, how many copies, compressed or not, and what moves."""

from models.contract import Kind

KIND = Kind(
    name="tiering", package=__name__, summary="Where data lives: tiers and copies of each object, caches, what to move this period."
)

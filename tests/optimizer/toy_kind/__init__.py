"""A kind that has nothing to do with data centres: things go into bags. It proves that the engine knows no kind."""

from models.contract import Kind

KIND = Kind(name="bags", package=__name__, summary="Which thing goes into which bag.")

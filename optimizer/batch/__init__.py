"""Many linear programs of the same shape, solved together by a first-order method in torch; see ``optimizer.batch.solving``."""

from optimizer.batch.answers import BatchAnswer
from optimizer.batch.solving import Engines, Start, TorchMissingError, solve_batch

__all__ = ["BatchAnswer", "Engines", "Start", "TorchMissingError", "solve_batch"]

"""Reading what users send, for the command line and the API alike: documents, their mistakes, and merge patches."""

from service.documents.problems import MOST_INLINE_BYTES, read_problem

__all__ = ["MOST_INLINE_BYTES", "read_problem"]

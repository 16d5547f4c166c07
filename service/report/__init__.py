"""One self-contained HTML page of a solve: what was decided, how good it is proved to be, and why."""

from service.report.page import render

__all__ = ["render"]

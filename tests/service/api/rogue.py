"""A task that takes its process down."""

import os


def crash(*_: object) -> None:
    os._exit(3)

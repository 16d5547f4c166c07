"""A process that is all a watchdog sees of a follower: it starts the watchdog, and then leaves signs of life.

Run as ``python -m tests.plugins.follower_process STAMP LIMIT_S FREED``; prints the watchdog's process id.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from service.plugins import watchdog
from service.plugins.heartbeat import Heart

BEAT_S = 0.05


def freeing(config: Mapping[str, Any]) -> Callable[[], Sequence[str]]:
    """What the watchdog calls: each call leaves a line with the monotonic time."""
    path = Path(config["freed"])

    def free_all() -> Sequence[str]:
        before = path.read_text().splitlines() if path.exists() else []
        with path.open("a") as file:
            file.write(f"{time.monotonic()}\n")
        if not before:
            raise ConnectionError("the scheduler is away at first")
        return ["held-1", "held-2"] if len(before) == 1 else []

    return free_all


def main() -> None:
    stamp, limit_s, freed = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    heart = Heart(stamp)
    heart.begin()
    dog = watchdog.start(stamp, limit_s, "tests.plugins.follower_process:freeing", {"freed": freed}, log=stamp.with_name("watchdog.log"))
    sys.stdout.write(f"{dog.pid}\n")
    sys.stdout.flush()
    while True:
        heart.beat()
        time.sleep(BEAT_S)


if __name__ == "__main__":
    main()

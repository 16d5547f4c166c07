"""What a supervisor may ask of a child beyond a deadline: CPU seconds, a grace that depends, and an end from another thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from optimizer.child import Child

HERE = "tests.optimizer.test_child_limits"
LONG_S = 60.0


def burn(payload: float, send: Callable[[object], None], cancel: threading.Event) -> str:
    """Use CPU until asked to stop, at most ``payload`` seconds."""
    send("burning")
    until = time.monotonic() + payload
    while time.monotonic() < until:
        if cancel.is_set():
            return "stopped"
    return "done"


def ignore(_: object, send: Callable[[object], None], __: threading.Event) -> None:
    """Never look at the cancel."""
    send("deaf")
    time.sleep(LONG_S)


def answer_slowly(payload: float, send: Callable[[object], None], cancel: threading.Event) -> str:
    """Say that the answer is near when asked to stop, and give it a while later."""
    cancel.wait(LONG_S)
    send("nearly")
    time.sleep(payload)
    return "answer"


@pytest.fixture
def child() -> Iterator[Child]:
    with Child.start(imports=(HERE,)) as made:
        yield made


def test_a_run_that_used_its_cpu_seconds_is_stopped_softly(child: Child) -> None:
    end = child.run(f"{HERE}:burn", LONG_S, deadline_s=LONG_S, cpu_s=0.3, grace_s=10.0)
    assert (end.reason, end.value) == ("deadline", "stopped")
    assert end.seconds < LONG_S / 2


def test_the_cpu_seconds_of_one_run_are_not_those_of_the_next(child: Child) -> None:
    for _ in range(3):
        assert child.run(f"{HERE}:burn", 0.2, deadline_s=LONG_S, cpu_s=10.0).value == "done"
    assert child.run(f"{HERE}:burn", 0.1, deadline_s=LONG_S, cpu_s=0.5).reason == "finished"


def test_the_grace_may_depend_on_what_was_heard(child: Child) -> None:
    heard: list[Any] = []
    end = child.run(
        f"{HERE}:answer_slowly", 0.5, deadline_s=0.1, on_message=heard.append, grace_s=lambda: 20.0 if "nearly" in heard else 5.0
    )
    assert (end.reason, end.value, heard) == ("deadline", "answer", ["nearly"])


def test_a_grace_that_shrinks_ends_a_deaf_child(child: Child) -> None:
    graces = iter([LONG_S, LONG_S])
    end = child.run(f"{HERE}:ignore", None, deadline_s=0.1, grace_s=lambda: next(graces, 0.0))
    assert (end.reason, end.value, child.alive) == ("deadline", None, False)


def test_another_thread_may_end_a_child(child: Child) -> None:
    def kill(_: object) -> None:
        threading.Thread(target=child.kill).start()

    end = child.run(f"{HERE}:ignore", None, deadline_s=LONG_S, on_message=kill)
    assert (end.reason, child.alive) == ("crash", False)
    assert "SIGKILL" in end.message


def test_a_negative_cpu_limit_is_refused(child: Child) -> None:
    with pytest.raises(ValueError, match="cpu_s"):
        child.run(f"{HERE}:burn", 0.1, deadline_s=1.0, cpu_s=-1.0)
    assert child.run(f"{HERE}:burn", 0.01, deadline_s=LONG_S).value == "done"

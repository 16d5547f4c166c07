"""Searches that misbehave. Each stands in for ``optimizer.strategy.search`` in the child process, or in this one."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable

from optimizer.incumbents import Bounded, Found, Message, Refuted
from optimizer.task import Task
from tests.optimizer.toy_kind.schema import Packed, Plan

Send = Callable[[Message], None]

BETTER = Plan(packed=(Packed(thing="b", bag="large"), Packed(thing="c", bag="large")))  # worth 9, weight 9
BEST = Plan(packed=(*BETTER.packed, Packed(thing="d", bag="small")))  # worth 13, weight 13
TWICE = Plan(packed=(Packed(thing="a", bag="large"), Packed(thing="a", bag="large")))


def find(send: Send, plan: Plan, *objectives: float) -> None:
    send(Found(0.1, "rogue", plan, objectives))


def hang(_: Task, send: Send, __: threading.Event) -> None:
    """Finds the best plan, then sits in C with the interpreter locked: deaf to everything but SIGKILL."""
    find(send, BEST, 13.0, 13.0)
    time.sleep(0.1)
    ctypes.PyDLL(None).sleep(600)


def abort(_: Task, send: Send, __: threading.Event) -> None:
    find(send, BEST, 13.0, 13.0)
    os.abort()


def raise_error(_: Task, send: Send, __: threading.Event) -> None:
    find(send, BEST, 13.0, 13.0)
    raise ZeroDivisionError("a bug of this test")


def eat_memory(_: Task, send: Send, __: threading.Event) -> None:
    find(send, BEST, 13.0, 13.0)
    pieces = []
    while True:
        pieces.append(bytearray(os.urandom(1 << 16) * 256))
        time.sleep(0.02)


def break_a_rule(_: Task, send: Send, __: threading.Event) -> None:
    find(send, BEST, 13.0, 13.0)
    find(send, TWICE, 14.0, 12.0)


def prove_too_much(_: Task, send: Send, __: threading.Event) -> None:
    send(Bounded(0.1, "rogue", "worth", 12.0, "a wrong proof"))
    find(send, BEST, 13.0, 13.0)


def prove_too_much_of_the_second_goal(_: Task, send: Send, __: threading.Event) -> None:
    find(send, BEST, 13.0, 13.0)
    send(Bounded(0.1, "rogue", "weight", 14.0, "a wrong proof"))


def boast(_: Task, send: Send, __: threading.Event) -> None:
    find(send, BETTER, 12.0, 9.0)


def go_back(_: Task, send: Send, __: threading.Event) -> None:
    """Reports plans and bounds in no order."""
    find(send, BEST, 13.0, 13.0)
    find(send, BETTER, 9.0, 9.0)
    send(Bounded(0.1, "rogue", "worth", 14.0, "a proof"))
    send(Bounded(0.1, "rogue", "worth", 17.0, "a weaker proof"))


def refute(_: Task, send: Send, __: threading.Event) -> None:
    send(Refuted(None))


def listen(_: Task, send: Send, cancel: threading.Event) -> None:
    """A well-behaved search that only a cancel ends."""
    find(send, BEST, 13.0, 13.0)
    cancel.wait(600)


def silent(*_: object) -> None:
    """Finds nothing."""

"""Contexts that the application enters by hand, as a library nobody knows might: in turns, on threads, one in another."""

import contextlib
import contextvars
import itertools
import threading

from turns import handler, outside, steps, tell


class LeftError(Exception):
    """Leaves a context."""


def fail(busy, length):
    busy(length)
    raise LeftError


class Entered:
    """A context in which a span is current, entered once for each step of a handler."""

    def __init__(self, kind):
        self.context = contextvars.copy_context()
        self.span = handler(kind)
        self.busy = self.context.run(self.span.__enter__)
        self.steps = steps(kind)

    def leave(self):
        self.context.run(self.span.__exit__, None, None, None)


def take_turns(kinds):
    running = [Entered(kind) for kind in kinds]
    idle = steps("idle")
    for number in itertools.count():
        outside(next(idle, 0))
        for each in list(running):
            length = next(each.steps, None)
            if length is None:
                running.remove(each)
                each.leave()
            elif number % 3:
                each.context.run(each.busy, length)
            else:
                with contextlib.suppress(LeftError):
                    each.context.run(fail, each.busy, length)
        if not running:
            return


def nested():
    """A context within another one, and back."""
    outer, inner = Entered("outer"), Entered("inner")

    def both(outer_length, inner_length):
        outer.busy(outer_length / 2)
        inner.context.run(inner.busy, inner_length)
        outer.busy(outer_length / 2)

    for lengths in zip(outer.steps, inner.steps, strict=False):
        outer.context.run(both, *lengths)
    inner.leave()
    outer.leave()


threads = [
    threading.Thread(target=take_turns, args=([f"first_{number}" for number in range(4)],)),
    threading.Thread(target=take_turns, args=([f"second_{number}" for number in range(2)],)),
    threading.Thread(target=nested),
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
tell()

"""Gevent's greenlets, and threads that are greenlets: patched by the application after us or before us, or by upstream."""

import sys

match sys.argv[2]:
    case "after":
        from gevent import monkey

        monkey.patch_all()
    case "before":
        from gevent import monkey

        monkey.patch_all()
        from opentelemetry.instrumentation.auto_instrumentation import initialize

        initialize()
    case "upstream":
        from gevent import monkey

        assert monkey.is_module_patched("threading")

import threading

import gevent
import gevent.pool
from opentelemetry import context
from turns import handler, outside, steps, tell


def work(busy, kind, **part):
    for length in steps(kind, **part):
        busy(length)
        gevent.sleep(0)


def handle(kind):
    with handler(kind) as busy:
        work(busy, kind)


def work_in(parent, *arguments, **part):
    """gevent's greenlets begin with an empty context: who wants another one attaches it."""
    token = context.attach(parent)
    work(*arguments, **part)
    context.detach(token)


def inherited(kind):
    with handler(kind) as busy:
        parent = context.get_current()
        gevent.joinall([gevent.spawn(work_in, parent, busy, f"{kind}_{half}", part=0.5) for half in range(2)])


pool = gevent.pool.Pool(3)
threads = [threading.Thread(target=handle, args=(f"thread_{number}",)) for number in range(2)]
for thread in threads:
    thread.start()
greenlets = [gevent.spawn(handle, f"spawned_{number}") for number in range(2)]
greenlets += [pool.spawn(handle, f"pooled_{number}") for number in range(3)]
greenlets += [gevent.spawn(inherited, "inherited"), gevent.spawn(work, outside, "no_span")]
gevent.joinall(greenlets, raise_error=True)
for thread in threads:
    thread.join()
tell()

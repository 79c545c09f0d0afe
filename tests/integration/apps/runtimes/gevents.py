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

import gevent
from gevent.pool import Pool
from green import take_turns

take_turns(gevent.spawn, Pool(3).spawn, gevent.Greenlet.get, gevent.sleep)

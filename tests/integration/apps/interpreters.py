"""Interpreters come and go beside the main one, which works in a span before, meanwhile and after."""

import _testcapi
import json

from busy import busy_function, tracer


def work(name):
    with tracer.start_as_current_span(f"GET {name}"):
        busy_function(name)(0.4)


work("busy_before")
ended = [_testcapi.run_in_subinterp(f"import threading; assert threading.active_count() == 1, {number}") for number in range(3)]
work("busy_after")
print(json.dumps(ended))

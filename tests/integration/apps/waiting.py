"""Waits, computes and allocates inside spans."""

import time

from busy import busy_function, tracer

kept = []


def wait_in_span():
    time.sleep(1)


def allocate():
    for _ in range(200):
        kept.append(bytearray(512 * 1024))


with tracer.start_as_current_span("waiting"):
    wait_in_span()
with tracer.start_as_current_span("busy"):
    busy_function("busy_in_span")(0.5)
with tracer.start_as_current_span("allocating"):
    allocate()

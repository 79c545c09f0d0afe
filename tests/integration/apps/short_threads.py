"""A thread for each request, as development servers have them: one after the other, each as long as its span.

Arguments: milliseconds of a request, seconds of all.
"""

import json
import sys
import threading
import time

from busy import busy_function, tracer

MILLISECONDS, SECONDS = float(sys.argv[1]), float(sys.argv[2])
HANDLERS = 8
work = [busy_function(f"busy_{number}") for number in range(HANDLERS)]


def request(number):
    with tracer.start_as_current_span(f"GET /{number}"):
        work[number](MILLISECONDS / 1000)


end = time.process_time() + SECONDS
count = 0
while time.process_time() < end:
    thread = threading.Thread(target=request, args=(count % HANDLERS,))
    thread.start()
    thread.join()
    count += 1
print(json.dumps({f"busy_{number}": {"span_name": f"GET /{number}"} for number in range(HANDLERS)}))

"""Waits for signals as programs do that block them on all of their threads, and as event loops do; says which came."""

import asyncio
import json
import os
import signal

from busy import busy_function, tracer

CHOSEN = {signal.SIGTERM, signal.SIGUSR1}
came = []


async def wait_in_a_loop():
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR2, there.set)
    os.kill(os.getpid(), signal.SIGUSR2)
    await asyncio.wait_for(there.wait(), 10)
    came.append(signal.SIGUSR2)


with tracer.start_as_current_span("work"):
    busy_function("busy_work")(0.3)
signal.pthread_sigmask(signal.SIG_BLOCK, CHOSEN)
for number in CHOSEN:
    os.kill(os.getpid(), number)
    came.append(signal.sigwait({number}))
child = os.fork()
if child == 0:
    os.kill(os.getpid(), signal.SIGTERM)
    os._exit(0 if signal.sigwait(CHOSEN) == signal.SIGTERM else 1)
came.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
asyncio.run(wait_in_a_loop())
print(json.dumps(sorted(came)))

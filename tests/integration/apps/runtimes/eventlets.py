"""eventlet's green threads, and threads that are green ones: patched by the application, after us."""

import eventlet
from eventlet.greenthread import GreenThread
from green import take_turns

eventlet.monkey_patch()
take_turns(eventlet.spawn, eventlet.GreenPool(3).spawn, GreenThread.wait, eventlet.sleep)

"""A Dramatiq worker process with threads; spans are attached and detached by a middleware, in two calls."""

import os
import time

import dramatiq
from busy import tracer
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from opentelemetry import context as context_api
from opentelemetry import trace
from routes import BUSY, STEPS, work_outside

PORT = int(os.environ["REDIS_PORT"])


class Traced(dramatiq.Middleware):
    """A span for each message."""

    def __init__(self):
        self.current = {}

    def before_process_message(self, _broker, message):
        span = tracer.start_span(f"run/{message.actor_name}", kind=trace.SpanKind.CONSUMER)
        self.current[message.message_id] = span, context_api.attach(trace.set_span_in_context(span))

    def after_process_message(self, _broker, message, *, result=None, exception=None):  # noqa: ARG002 - as Dramatiq calls it
        span, token = self.current.pop(message.message_id)
        context_api.detach(token)
        span.end()

    def after_worker_boot(self, _broker, _worker):
        work_outside()


def actor(route):
    @dramatiq.actor(actor_name=route, store_results=True)
    def run():
        for length in STEPS:
            BUSY[route](length)
            time.sleep(0)
        return route

    return run


broker = RedisBroker(port=PORT)
broker.add_middleware(Results(backend=RedisBackend(port=PORT)))
broker.add_middleware(Traced())
dramatiq.set_broker(broker)
ACTORS = [actor(route) for route in BUSY]

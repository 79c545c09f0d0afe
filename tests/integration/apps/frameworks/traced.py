"""A span around a handler, as applications make it by hand where nothing instruments their framework."""

import functools
import inspect

from busy import tracer
from opentelemetry.trace import SpanKind


def traced(name, kind=SpanKind.SERVER):
    """Return a decorator that has a span called `name` current while the function or coroutine function runs."""

    def decorate(function):
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wrapper(*arguments, **keywords):
                with tracer.start_as_current_span(name, kind=kind):
                    return await function(*arguments, **keywords)

        else:

            @functools.wraps(function)
            def wrapper(*arguments, **keywords):
                with tracer.start_as_current_span(name, kind=kind):
                    return function(*arguments, **keywords)

        return wrapper

    return decorate

"""Requests and messages below spans that last as long as the process: a command's, a script's, a worker's loop's."""

from busy import busy_function, tracer
from opentelemetry import trace
from opentelemetry.trace import SpanKind

click = trace.get_tracer("opentelemetry.instrumentation.click")
"""What upstream's instrumentation of click makes the span of a whole command with."""

with click.start_as_current_span("serve"):
    busy_function("busy_command")(0.5)
    with tracer.start_as_current_span("step of the command"):
        busy_function("busy_step_of_command")(0.5)
with tracer.start_as_current_span("script"):
    busy_function("busy_script")(0.5)
    with click.start_as_current_span("subcommand"):
        busy_function("busy_subcommand")(0.5)
        with tracer.start_as_current_span("step of the subcommand"):
            busy_function("busy_step_of_subcommand")(0.5)
    for kind in (SpanKind.SERVER, SpanKind.CONSUMER):
        with tracer.start_as_current_span(f"outer {kind.name}", kind=kind):
            busy_function(f"busy_outer_{kind.name}")(0.5)
            with tracer.start_as_current_span("between"), tracer.start_as_current_span("inner", kind=SpanKind.SERVER):
                busy_function(f"busy_inner_{kind.name}")(0.5)
    busy_function("busy_end_of_script")(0.5)

"""An application whose standard output is read by a program, and whose logging goes there, whoever logs."""

import logging.config

from busy import busy_function, tracer

logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
        "loggers": {"pyroscope": {"level": "DEBUG"}},
        "root": {"level": "INFO", "handlers": ["out"]},
    }
)
with tracer.start_as_current_span("work"):
    busy_function("busy_work")(0.3)
print('{"result": 1}')

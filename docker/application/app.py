"""Stands for any application: it knows nothing of telemetry."""

import hashlib

from flask import Flask

app = Flask(__name__)


@app.get("/sum/<int:rounds>")
def work(rounds: int) -> str:
    """Keep a processor busy."""
    digest = b""
    for _ in range(min(rounds, 1_000_000)):
        digest = hashlib.sha256(digest).digest()
    return digest.hex()


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=8000)  # noqa: S104 - in a container, whose ports are published or not

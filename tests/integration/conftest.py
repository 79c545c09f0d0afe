"""Starts real applications under ``opentelemetry-instrument``, with the real agent, against a real receiver."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from otel_profiling_distro.receiver import Receiver

APPS = Path(__file__).parent / "apps"
SERVICE = "application-under-test"


@dataclasses.dataclass
class Run:
    """A finished application and what arrived from it."""

    exit_code: int
    output: str
    errors: str
    receiver: Receiver

    @property
    def told(self):
        """What the application printed on its last line, as JSON."""
        return json.loads(self.output.splitlines()[-1])

    @property
    def samples(self):
        return self.receiver.samples(SERVICE)

    @property
    def spans(self):
        return self.receiver.spans(SERVICE)

    def samples_of(self, function):
        """All samples that have `function` on their stack."""
        return [sample for sample in self.samples if any(frame.function == function for frame in sample.stack)]


def bin_path(name):
    return str(Path(sys.executable).parent / name)


def environment(receiver, **variables):
    """The environment of an application that sends to `receiver`; a variable that is None is left out."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYROSCOPE_"))}
    ours = {
        "OTEL_SERVICE_NAME": SERVICE,
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_PROFILING_SERVER_ADDRESS": receiver.url,
    }
    return {name: value for name, value in {**inherited, **ours, **variables}.items() if value is not None}


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def run(receiver):
    """Run an application of the folder ``apps`` (or any other command) to its end."""

    def run(app, *arguments, flags=(), instrument=True, timeout=150, **variables):
        command = [sys.executable, str(APPS / app), *arguments]
        if instrument:
            command = [bin_path("opentelemetry-instrument"), *flags, *command]
        done = subprocess.run(
            command, env=environment(receiver, **variables), capture_output=True, text=True, timeout=timeout, check=False
        )
        print(done.stdout, done.stderr)  # shown by pytest if the test fails
        return Run(done.returncode, done.stdout, done.stderr, receiver)

    return run


def assert_labelled(samples, expected, share=0.9):
    """At least `share` of `samples` carry the labels `expected`; None stands for a label that must be missing.

    Every sample counts, and none may have a key twice. The default leaves room for one of the 30 samples of a short run: the
    sampler reads a stack and its labels a little later, and a span may end in between. For accuracy, see `assert_accurate`.
    """
    return assert_accurate([(samples, expected)], share)


def assert_accurate(groups, share):
    """At least `share` of all samples carry the labels expected of their group; returns how many samples there are.

    Args:
        groups: Pairs of samples and the labels expected of them; none may be empty.
        share: Over all groups together: one sample that was taken while a span ended must not decide.
    """
    total = right = 0
    for samples, expected in groups:
        assert samples, f"no sample arrived where {expected} is expected"
        for sample in samples:
            keys = [key for key, _ in sample.labels]
            assert len(keys) == len(set(keys)), sample.labels
            total += sample.count
            if all(sample.label(key) == value for key, value in expected.items()):
                right += sample.count
    assert right / total >= share, f"{right} of {total} samples are right, {[expected for _, expected in groups]}"
    return total

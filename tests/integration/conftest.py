"""Starts real applications under ``opentelemetry-instrument``, with the real agent, against a real receiver."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from otel_profiling_configurator.native import native

from otel_profiling_distro.receiver import Receiver

APPS = Path(__file__).parent / "apps"
SERVICE = "application-under-test"

ACCURACY_SECONDS = float(os.environ.get("ACCURACY_SECONDS", "8"))
"""CPU seconds that each application works whose samples are counted for accuracy."""
ACCURACY_SAMPLE_RATE = "100"
"""Samples a second of those applications: the default."""


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
        # Where modules in C were left out on purpose, no warning of it is wanted.
        **({} if native else {"OTEL_PROFILING_ALIASES": "false"}),
    }
    return {name: value for name, value in {**inherited, **ours, **variables}.items() if value is not None}


BY_PROCESS = {"OTEL_PROFILING_RESOURCE_LABELS": "service.instance.id,process.pid"}
"""Has profiles name their process and its instance, by which tests tell them apart."""

GAVE_UP = "the last profile was not taken within 2 s"
"""What a process says that did not wait for a server that hangs: the agent alone would have waited 10 s."""


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


def assert_accurate(groups, share, least=0.0, *, chance=False):
    """At least `share` of all samples carry the labels expected of their group; returns how many samples there are.

    Args:
        groups: Pairs of samples and the labels expected of them, or a list of labels of which any will do; none may be empty.
        share: Over all groups together: one sample that was taken while a span ended must not decide.
        chance: Whether some hundred samples stand for `share` of very many. Which are taken is chance: as many wrong ones more
            are accepted as a truth of exactly this share would exceed once in 30,000 runs (four standard deviations).
        least: Of each group, where a group that is wrong as a whole could hide among many.
    """
    total = right = 0
    shares: list[tuple[float, int, str]] = []
    for samples, expected in groups:
        alternatives = expected if isinstance(expected, list) else [expected]
        assert samples, f"no sample arrived where {alternatives[0]} is expected"
        in_group = right_in_group = 0
        wrong: Counter[str | None] = Counter()
        for sample in samples:
            keys = [key for key, _ in sample.labels]
            assert len(keys) == len(set(keys)), sample.labels
            in_group += sample.count
            if any(all(sample.label(key) == value for key, value in labels.items()) for labels in alternatives):
                right_in_group += sample.count
            else:
                wrong[sample.label("span_name")] += sample.count
        shares.append((right_in_group / in_group, in_group, f"{alternatives[0].get('span_name')}, others {dict(wrong)}"))
        total += in_group
        right += right_in_group
    listed = "\n".join(f"{right:7.1%} of {count:5} of {name}" for right, count, name in shares)
    print(f"{right / total:.2%} of {total} samples are right\n{listed}")  # shown by pytest if the test fails, or asked with -rP
    enough = share - (4 * math.sqrt(share * (1 - share) / total) if chance else 0)
    assert right / total >= enough, f"{right} of {total} samples are right, {enough:.2%} would do\n{listed}"
    assert min(shares)[0] >= least, f"a group has less than {least:.0%} right\n{listed}"
    return total


def assert_nothing_said(errors):
    """No line is of ours. A traceback or a warning of Python's may name a folder that is called as we are."""
    assert [line for line in errors.splitlines() if line.startswith("otel-profiling")] == []


def assert_no_frame_of_ours(samples):
    """No stack of a sample of the application's work has a frame of ours, wherever it was switched to."""
    worked = [sample for sample in samples if any(frame.function.startswith("busy_") for frame in sample.stack)]
    assert worked
    ours = {(f.filename, f.function) for sample in worked for f in sample.stack if "otel_profiling" in f.filename}
    assert not ours

"""What readers outside the process see: a stopped thread's record is that of the span whose function runs there."""

import contextlib
import mmap
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
import venv
from collections import Counter
from importlib.metadata import distribution
from pathlib import Path

import pytest

from .. import refusing
from ..context_reader import Reader, is_supported
from .apps.outside import CELLS, END
from .conftest import APPS, SERVICE, bin_path, environment

pytestmark = [
    pytest.mark.skipif(not is_supported, reason="the reader is for Linux on x86-64"),
    pytest.mark.skipif("config.getoption('--pure')", reason="without the native module there are no records"),
]


OF_UPSTREAM = ("Configuration of profiling not loaded, configurator already loaded",)
"""What `opentelemetry-instrument` says where both of our distributions are installed as they are here."""


INSTRUMENTED = (bin_path("opentelemetry-instrument"), sys.executable)
"""What the application is started by."""


def can_trace():
    """Whether this process may stop another one of its own."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        reader = Reader(child.pid)
        with reader.stopped():
            pass
        reader.close()
    except OSError:
        return False
    else:
        return True
    finally:
        child.kill()
        child.communicate()


@pytest.fixture(scope="module", autouse=True)
def tracing():
    if not can_trace():
        pytest.skip("ptrace is not allowed here")


class Application:
    """A running application and the file that it shares with us."""

    def __init__(self, process, words):
        self.process = process
        self.words = words
        self.reader = Reader(process.pid)

    def assert_runs(self):
        """It has not ended. Not asked by `Popen.poll`, which would take the reader's news of a stopped thread for the end."""
        state = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        assert state not in ("Z", "X"), self.process.communicate()

    def cells(self):
        """For each thread of the application that takes part, its id and the id of the span whose function it is in, or 0."""
        return {self.words[2 * i]: self.words[2 * i + 1] for i in range(END) if self.words[2 * i]}


@pytest.fixture
def outside(receiver, tmp_path):
    """Start an application; it is told to end, and has to do so well, when the test is over."""
    with contextlib.ExitStack() as undo:

        def outside(way, before=(), command=INSTRUMENTED, **variables):
            file = tmp_path / "cells"
            file.write_bytes(bytes(CELLS * 16))
            words = memoryview(mmap.mmap(undo.enter_context(file.open("r+b")).fileno(), 0)).cast("Q")
            process = subprocess.Popen(
                [*before, *command, str(APPS / "outside.py"), way, str(file)],
                # What is freed is overwritten at once, so that a record would be seen that is.
                env=environment(receiver, **{"MALLOC_PERTURB_": "165", "OTEL_PROFILING_AGENT_ENABLED": "false", **variables}),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            undo.callback(process.kill)
            if process.stdout.readline() != "begun\n":
                output, errors = process.communicate()
                if process.returncode == refusing.NOT_HERE:
                    pytest.skip("no system call can be refused here")
                raise AssertionError((output, errors))
            return Application(process, words)

        yield outside


def finish(application):
    application.words[2 * END] = 1
    application.reader.close()
    output, errors = application.process.communicate(timeout=60)
    errors = [line for line in errors.splitlines() if line not in OF_UPSTREAM]
    assert (application.process.returncode, output, errors) == (0, "", [])


def judge(record, span_id):
    """Say what is wrong with a record while a thread is in a function of this span."""
    if record is None:
        return "none"
    if record.valid != 1 or record.attributes[0] != f"{record.trace_id:032x} {record.span_id:016x}" or not record.flags & 1:
        return "torn"
    return "right" if record.span_id == span_id else "another's"


def stop_often(application, count):
    """Stop the application until busy functions have been met so many times; return what was found, by the words of `judge`.

    A stop may find more than one: threads that wait for the GIL are in theirs, too.
    """
    reader, found, pointer, stops = application.reader, Counter(), None, 0
    while stops < count:
        application.assert_runs()
        with reader.stopped() as threads:
            cells = application.cells()
            # As readers do: the process context tells that there is something to be looked for.
            if pointer is None and reader.process_context() is not None and any(cells.values()):
                pointer = reader.find_pointer()
            stops += pointer is not None and any(cells.get(thread) for thread in threads)
            for thread in threads if pointer else []:
                record = reader.record(thread, pointer)
                if span_id := cells.get(thread, 0):
                    found[judge(record, span_id)] += 1
                elif record is not None and judge(record, 0) == "torn" and record.attributes[0] != "not yet named":
                    found["torn between steps"] += 1
    print(f"{stops} stops: {dict(found)}")
    return found


def assert_right(found, share=0.995):
    """So many of the records are those of the spans whose functions ran, and none is torn or freed."""
    assert found["right"] >= share * found.total(), found
    assert not any(word.startswith("torn") for word in found), found


LIBRARIES = {"greenlets": "greenlet", "gevent": "gevent", "trio": "trio", "uvloop": "uvloop"}


@pytest.mark.parametrize("way", ["asyncio", "threads", "short threads", *LIBRARIES])
def test_stopped_again_and_again(outside, stops, way):
    """The record is that of the span whose function is on top of the stack: never another's, none that is torn or freed."""
    if way in LIBRARIES:
        pytest.importorskip(LIBRARIES[way])
    application = outside(way)
    print(way, end=": ")
    found = stop_often(application, stops)
    finish(application)
    assert_right(found)


def test_agent_beside(outside, stops):
    """The same while the agent takes its samples."""
    application = outside("asyncio", OTEL_PROFILING_AGENT_ENABLED="true")
    found = stop_often(application, stops)
    finish(application)
    assert_right(found)


@pytest.mark.parametrize("sampler", ["always_on", "always_off"])
def test_process_context(outside, sampler):
    """It has the resource, and says how records are to be read; spans that are not sampled have records, too."""
    application = outside(
        "asyncio",
        OTEL_TRACES_SAMPLER=sampler,
        OTEL_PROFILING_BAGGAGE_KEYS="tenant=customer",
        OTEL_RESOURCE_ATTRIBUTES="service.namespace=front,deployment.environment.name=test",
    )
    reader = application.reader
    context = reader.process_context()
    texts = {key: item.value.string_value for key, item in context.resource.items()}
    assert (texts["service.name"], texts["service.namespace"]) == (SERVICE, "front")
    assert context.attributes["threadlocal.schema_version"].value.string_value == "tlsdesc_v1_dev"
    assert context.keys == ["span_name", "customer"]
    flags = set()
    while not flags:
        with reader.stopped() as threads:
            if any(application.cells().values()):
                pointer = reader.find_pointer()
                flags = {record.flags & 1 for thread in threads if (record := reader.record(thread, pointer))}
    finish(application)
    assert flags == {1 if sampler == "always_on" else 0}


def under(refused):
    """What has the kernel refuse these system calls to the rest of the command."""
    return (sys.executable, refusing.__file__, refused)


FORKING = {"PYTHONWARNINGS": "ignore::DeprecationWarning"}
"""CPython's own, of a fork beside threads."""


def wait_for_child(application):
    """Return the process id of an application's forked child that is at work."""
    pid = application.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while not (child := children.read_text().split()) or not any(application.cells().values()):
        application.assert_runs()
    return int(child[0])


def test_forked_child(outside, stops):
    """The child publishes a context of its own, and its records are those of its own spans."""
    application = outside("fork", **FORKING)
    parent = application.reader
    child = wait_for_child(application)
    before = parent.process_context()
    parent.close()
    application.reader = Reader(child)
    context = application.reader.process_context()
    assert context.published_at > before.published_at
    assert context.resource.keys() == before.resource.keys()
    found = stop_often(application, stops)
    finish(application)
    assert_right(found, 1)


def test_switched_off(outside):
    """`OTEL_PROFILING_THREAD_CONTEXT=false` publishes nothing."""
    application = outside("asyncio", OTEL_PROFILING_THREAD_CONTEXT="false")
    reader = application.reader
    while not any(application.cells().values()):
        application.assert_runs()
    with reader.stopped() as threads:
        pointer = reader.find_pointer()
        assert [reader.record(thread, pointer) for thread in threads] == [None] * len(threads)
    assert reader.process_context() is None
    finish(application)


def test_system_that_refuses(outside):
    """Where neither files in memory nor names can be had, no process context is found, in a forked child either; the
    application works, and nothing is said."""
    application = outside("fork", under("memfd_create,prctl"), **FORKING)
    child = Reader(wait_for_child(application))
    assert application.reader.process_context() is None
    assert child.process_context() is None
    child.close()
    finish(application)


def test_broken_pyroscope(outside, tmp_path):
    """Where pyroscope-io can't be imported and no agent is wanted, records are there all the same, and nothing is said."""
    (tmp_path / "pyroscope").mkdir()
    (tmp_path / "pyroscope/__init__.py").write_text("raise ImportError('left out by the test')\n")
    application = outside("threads", PYTHONPATH=str(tmp_path))
    found = stop_often(application, 20)
    finish(application)
    assert_right(found, 1)


@pytest.fixture(scope="module")
def without_pyroscope(tmp_path_factory):
    """The interpreter of an environment that has everything which is installed here, but no pyroscope-io."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    places = [sysconfig.get_paths(vars={"base": base, "platbase": base})["purelib"] for base in (sys.prefix, str(folder))]
    here, there = map(Path, places)
    left_out = {file.parts[0] for file in distribution("pyroscope-io").files if file.parts[0] != ".."}
    assert left_out
    for entry in here.iterdir():
        if entry.name not in left_out and not (there / entry.name).exists():
            (there / entry.name).symlink_to(entry)
    check = (
        "import importlib.metadata as m; print([d.name for d in m.distributions() if 'pyroscope' in d.name]); import pyroscope"
    )
    done = subprocess.run([python, "-c", check], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n"
    assert "No module named 'pyroscope'" in done.stderr
    return str(python)


def test_without_pyroscope(outside, without_pyroscope):
    """Where pyroscope-io is not installed at all and no agent is wanted, spans are there all the same, and nothing is said."""
    instrument = "from opentelemetry.instrumentation.auto_instrumentation import run; run()"
    application = outside("asyncio", command=(without_pyroscope, "-c", instrument, without_pyroscope))
    found = stop_often(application, 20)
    assert application.reader.process_context().resource["service.name"].value.string_value == SERVICE
    finish(application)
    assert_right(found, 1)


def test_gdb(outside, tmp_path):
    """Another reader, which knows nothing of ours, sees the same: a record on the thread that works, none on others."""
    gdb = shutil.which("gdb")
    if gdb is None:
        pytest.skip("gdb is not installed")
    if "musl" in (sysconfig.get_config_var("SOABI") or ""):
        pytest.skip("gdb finds thread-locals with the help of glibc's libthread_db only")
    application = outside("asyncio")
    while not any(application.cells().values()):
        application.assert_runs()
    seen, pattern = [], re.compile(r"(?m)^Thread \d+ \(.*LWP (\d+)\).*:\n\$\d+ = .*(0x\w+)$")
    asked = [
        f"shell cp {tmp_path}/cells {tmp_path}/copy",
        "thread apply all print *(void **) &otel_thread_ctx_v1",
        "thread 1",
        "x/8xb *(char **) &otel_thread_ctx_v1 + 16",
    ]
    commands = [argument for command in asked for argument in ("-ex", command)]
    while not seen:  # it may have been stopped between two steps
        done = subprocess.run(
            [gdb, "-nx", "-batch", "-p", str(application.process.pid), *commands],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        print(done.stdout, done.stderr)
        thread, span_id = struct.unpack_from("QQ", (tmp_path / "copy").read_bytes(), 16 * (END - 1))
        if span_id:
            seen = [int(thread) for thread, pointer in pattern.findall(done.stdout) if pointer != "0x0"]
            assert seen == [thread]
            (line,) = [line for line in done.stdout.splitlines() if line.startswith("0x") and ":\t" in line]
            assert bytes(int(byte, 16) for byte in line.split(":")[1].split()) == span_id.to_bytes(8, "big")
    finish(application)

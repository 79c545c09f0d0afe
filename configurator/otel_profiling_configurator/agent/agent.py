"""The Pyroscope agent of this process: the only module that imports `pyroscope`.

Imported lazily, because its native module may be missing or made for another libc or interpreter, and because labels
without an agent, and traces without labels, must both go on.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import logging
import os
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from .. import sampler
from ..guard import guarded, report
from ..log import logger
from ..settings import Settings
from ..threads import thread_labels
from ..threads.os_threads import Helper, are_still, native_threads, thread_ids
from . import fork_warning, signals
from .descriptors import Keeper

EXIT_SECONDS = 2.0
"""Longest that an upload may delay the process's exit. The agent itself would wait 10 s for a server that hangs."""

SAMPLES_EXPECTED = 100
"""Of threads with labels, in the CPU time that they use: if not one is seen, none will be."""

SHORTEST_SECONDS = 3.0
"""Of CPU time, before that is said: the sampler takes some time to start."""

FORK_SECONDS = 0.02
"""Longest that a fork waits for the agent's threads to sleep. Threads of other native libraries can't be told from them."""


def load() -> ModuleType | None:
    """Import and return `pyroscope`; None, after a warning, if that is impossible here."""
    try:
        if sys.implementation.name != "cpython":
            raise ImportError(f"pyroscope-io needs CPython, this is {sys.implementation.name}")
        if not getattr(sys, "_is_gil_enabled", lambda: True)():  # asked before the import, which might switch the GIL on
            raise ImportError("pyroscope-io needs the GIL, this is a free-threaded Python that runs without it")
        if "pyroscope._native" in sys.modules:
            fork_warning.find()
        with fork_warning.importing():
            return importlib.import_module("pyroscope")
    except Exception as error:  # noqa: BLE001 - a native module for another libc or interpreter may raise anything
        logger.warning(
            "profiling is off, traces go on: pyroscope-io can't be loaded (%s: %s). "
            "Install pyroscope-io for this interpreter and libc, or set OTEL_PROFILING_ENABLED=false.",
            type(error).__name__,
            error,
        )
        return None


def tag_writer(pyroscope: ModuleType) -> Any:
    """Return what has ``add_thread_tag`` and ``remove_thread_tag``: the native module, which Python ones only forward to."""
    native = getattr(pyroscope, "lib", None)
    return native if hasattr(native, "add_thread_tag") and hasattr(native, "remove_thread_tag") else pyroscope


def _by_name(pyroscope: ModuleType) -> dict[str, Any]:
    """Ask for the sampler that knows labels, where there is a choice: the default may change (pyroscope-io 1.4)."""
    sampler_by_name = getattr(getattr(pyroscope, "ProfilerImplementation", None), "PySpy", None)
    return {} if sampler_by_name is None else {"cpu_implementation": sampler_by_name}


def _start_quietly(pyroscope: ModuleType, configure: Callable[[], Any]) -> Any:
    """Start the agent; its library says only what fails, and the logger of its Python half stays as the application has it."""
    initialize_logging = getattr(tag_writer(pyroscope), "initialize_logging", None)
    if initialize_logging is not None:
        initialize_logging(logging.ERROR)
    python_half = logging.getLogger("pyroscope")
    disabled = python_half.disabled
    try:
        return configure()
    finally:
        python_half.disabled = disabled


def _stopper(pyroscope: ModuleType) -> Callable[[], Any]:
    """Return what stops the agent: the native function, since ``shutdown`` says through `logging` that it was successful."""
    stop: Callable[[], Any] = getattr(tag_writer(pyroscope), "drop_agent", pyroscope.shutdown)
    return stop


class Agent:
    """Starts, restarts and stops pyroscope-io as the settings ask."""

    def __init__(self, pyroscope: ModuleType, settings: Settings) -> None:
        self.pyroscope = pyroscope
        self._settings = settings
        self._configure: Callable[..., Any] = pyroscope.configure
        self._keeper: Keeper | None = None
        self._uploader = Helper()
        self._older_threads: set[int] | None = None
        self._gil_only = True
        self._stand_ins_wanted = settings.stand_ins
        self._process = 0
        self.running = False
        """Whether an agent of ours runs, in this process or in the one that forked it."""

    def start(self, application_name: str, labels: Mapping[str, str], threads: bool = True) -> bool:
        """Start the agent; False if one that somebody else started runs in this process already.

        Args:
            application_name: Becomes the label ``service_name``.
            labels: Labels of every profile.
            threads: Whether a thread of ours may start it, see `descriptors`.
        """
        settings = self._settings
        wall = "wall" in settings.types
        gil_only = settings.gil_only and not wall  # a thread that waits does not hold the GIL
        older_threads = thread_ids()
        arguments = {
            "application_name": application_name,
            "server_address": settings.server_address,
            "basic_auth_username": settings.basic_auth_user,
            "basic_auth_password": settings.basic_auth_password,
            "tenant_id": settings.tenant_id,
            "http_headers": dict(settings.headers),
            # Samples of both clocks have the same profile type.
            "tags": {**labels, "clock": "wall"} if wall else dict(labels),
            "sample_rate": settings.sample_rate,
            "upload_interval": settings.upload_interval,
            "gil_only": gil_only,
            "oncpu": not wall,
            "cpu_enabled": "cpu" in settings.types or wall,
            "mem_enabled": "memory" in settings.types,
            **_by_name(self.pyroscope),
        }
        start = functools.partial(_start_quietly, self.pyroscope, functools.partial(self._configure, **arguments))
        self._keeper = Keeper() if threads else None
        with signals.blocked():
            self.running = bool(start() if self._keeper is None else self._keeper.start(start))
        fork_warning.silence(self.running)
        # Its memory profile has no labels, and then nothing samples threads.
        by_thread = not (wall or "cpu" in settings.types)
        self._keep_together(older_threads if self.running else None, gil_only, settings.sample_rate, by_thread)
        if self._keeper is None:
            self._uploader.prepare()
        return self.running

    @property
    def has_own_descriptors(self) -> bool:
        """Whether the agent's descriptors are out of the application's sight and reach, see `descriptors`."""
        return self._keeper is not None and self._keeper.has_own_table

    @property
    def words_are_caught(self) -> bool:
        """Whether what the agent says on descriptor 2 comes to `take_words`, and nowhere else."""
        return self.has_own_descriptors

    def take_words(self) -> bytes:
        """Return what the agent has said on descriptor 2 since the last call, see `descriptors`."""
        return b"" if self._keeper is None else self._keeper.take_words()

    def _keep_together(self, older_threads: set[int] | None, gil_only: bool, sample_rate: float, by_thread: bool) -> None:
        """See to it that a sample's labels are those of its stack, once an agent has started: by stand-ins or by the clock.

        Args:
            older_threads: The kernel's ids of the threads that ran before it was started; None for no agent.
            gil_only: Whether it samples only the thread that holds the GIL.
            sample_rate: Samples a second that it takes.
            by_thread: Whether its samples need the threads' own ids.
        """
        self._older_threads, self._gil_only, self._process = older_threads, gil_only, os.getpid()
        if older_threads is not None and self._stand_ins_wanted and not by_thread:
            worn_seconds = max(SHORTEST_SECONDS, SAMPLES_EXPECTED / sample_rate)
            if thread_labels.use_stand_ins(tag_writer(self.pyroscope), worn_seconds, self._end_stand_ins):
                sampler.follow(None)
                return
        if older_threads is not None:
            thread_labels.leave_stand_ins()
        self._follow()

    def _follow(self) -> None:
        sampler.follow(self._older_threads, reads_one_thread=self._gil_only)

    def _end_stand_ins(self) -> None:
        """Do without them from now on, if there is an agent here by which they should have been seen."""
        if self._older_threads is not None and self._process == os.getpid():
            self._stand_ins_wanted = False
            self._follow()
            logger.info("no sample by pyroscope-io was seen where it would get its labels: they are kept by thread from now on")

    def wait_to_fork(self) -> None:
        """Return when a fork is safe for the child's agent: while all threads of this one sleep.

        They hold locks while they work, and those are copied as they are: a child forked then has an agent that waits for
        ever for a thread that only its parent has (pyroscope-io 1.4: about 1 fork in 20). Where that can't be seen (not
        Linux), and after two sampling periods or `FORK_SECONDS` in any case, it returns.
        """
        older_threads = self._older_threads
        if self.running and older_threads is not None:
            # Found out here: the agent's threads start one another, some time after it has said that it runs.
            are_still(native_threads(older_threads), min(FORK_SECONDS, 2 / self._settings.sample_rate))

    def before_fork(self) -> None:
        """Keep a warning of the fork away that would be there because of the agent's threads."""
        older_threads = self._older_threads
        if self.running and older_threads is not None:
            fork_warning.before_fork(len(native_threads(older_threads)))

    @guarded("upload the last profile")
    def stop(self) -> None:
        """Stop our agent after it has sent what it has, waiting for that at most `EXIT_SECONDS`. Never raises.

        In a child whose fork no hook heard of there is nothing to stop, and trying to would end the process.
        """
        if not self.running or self._process != os.getpid():
            return
        self.running = False
        self._older_threads = None
        sampler.follow(None)
        fork_warning.silence(False)
        stop = _stopper(self.pyroscope)
        ended = self._uploader.run(stop, EXIT_SECONDS) if self._keeper is None else self._keeper.stop(stop, EXIT_SECONDS)
        if not ended:
            logger.info("the last profile was not taken within %g s, the process ends without it", EXIT_SECONDS)

    def stop_at_exit(self) -> Callable[[], None]:
        """Arrange for `stop` when the interpreter exits; return what cancels that."""
        at_exit = self.stop  # one object: a bound method is made anew with each look-up
        atexit.register(at_exit)
        return functools.partial(atexit.unregister, at_exit)

    def watch_application(self, on_start: Callable[[], None]) -> Callable[[], None]:
        """Give way if the application starts Pyroscope itself; return what ends that.

        Args:
            on_start: Called after the application has started an agent, which begins with no labels on any thread.
        """
        original = self._configure

        @functools.wraps(original)
        def configure(*args: Any, **kwargs: Any) -> Any:
            if self.running:
                try:
                    logger.warning(
                        "the application starts Pyroscope itself: its agent replaces ours, with its own server and "
                        "application name; span labels stay. OTEL_PROFILING_AGENT_ENABLED=false leaves ours out from the "
                        "start."
                    )
                    self.stop()
                except Exception:  # noqa: BLE001 - called from inside the application's pyroscope.configure
                    report("give way to the application's Pyroscope agent")
            older_threads = thread_ids()
            # What is given by position may be anything, and other implementations have thread ids of their own accord.
            by_thread = (
                bool(args[1:])
                or any(kwargs.get(option) for option in ("report_thread_id", "report_thread_name", "cpu_implementation"))
                or not kwargs.get("cpu_enabled", True)
            )
            result = original(*args, **kwargs)
            if result:
                try:
                    self._keep_together(older_threads, kwargs.get("gil_only", True), kwargs.get("sample_rate", 100), by_thread)
                    on_start()
                except Exception:  # noqa: BLE001 - as above
                    report("follow the application's Pyroscope agent")
            return result

        def undo() -> None:
            if self.pyroscope.configure is configure:
                self.pyroscope.configure = original  # type: ignore[attr-defined] # a module's function

        self.pyroscope.configure = configure  # type: ignore[attr-defined] # a module's function
        return undo

    def watch_labels(self) -> Callable[[], None]:
        """Label by thread from when on the application adds labels to its threads itself; return what ends that.

        Stand-ins for its threads would not have them.
        """
        writer = tag_writer(self.pyroscope)
        original = writer.add_thread_tag

        @functools.wraps(original)
        def add_thread_tag(*args: Any, **kwargs: Any) -> Any:
            if self._stand_ins_wanted:
                try:
                    self._stand_ins_wanted = False
                    if thread_labels.leave_stand_ins():
                        self._follow()
                        thread_labels.refresh()
                except Exception:  # noqa: BLE001 - called from inside the application's pyroscope.add_thread_tag
                    report("label by thread")
            return original(*args, **kwargs)

        def undo() -> None:
            if writer.add_thread_tag is add_thread_tag:
                writer.add_thread_tag = original

        writer.add_thread_tag = add_thread_tag
        return undo

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

from ..context import labelling
from ..guard import guarded, report
from ..log import forget_thread, logger
from ..settings import Settings
from ..threads.os_threads import Helper, are_still, native_threads, start_thread, thread_ids
from . import c_library, fork_warning, signals
from .descriptors import Keeper

EXIT_SECONDS = 2.0
"""Longest that an upload may delay the process's exit. The agent itself would wait 10 s for a server that hangs."""

END_SECONDS = 30.0
"""Longest that another agent waits for the one before it, which ends when its last uploads have been sent or given up: the
library allows each of two 10 s. None can be started meanwhile."""

FORK_SECONDS = 0.02
"""Longest that a fork waits for the agent's threads to sleep. Threads of other native libraries can't be told from them."""


def load(*, is_needed: bool = True) -> ModuleType | None:
    """Import and return `pyroscope`; None, after a warning, if that is impossible here.

    Args:
        is_needed: False: there is something to do without it, too, and no warning.
    """
    try:
        if sys.implementation.name != "cpython":
            raise ImportError(f"pyroscope-io needs CPython, this is {sys.implementation.name}")
        if not getattr(sys, "_is_gil_enabled", lambda: True)():  # asked before the import, which might switch the GIL on
            raise ImportError("pyroscope-io needs the GIL, this is a free-threaded Python that runs without it")
        old_musl = c_library.too_old_musl()
        if old_musl is not None:
            raise ImportError(f"its wheels for musl need musl 1.2.4 or later (Alpine 3.18), and this is {old_musl}")
        if "pyroscope._native" in sys.modules:
            fork_warning.find()
        with fork_warning.importing():
            return importlib.import_module("pyroscope")
    except Exception as error:  # noqa: BLE001 - a native module for another libc or interpreter may raise anything
        if is_needed:
            logger.warning(
                "profiling is off, traces go on: pyroscope-io can't be loaded (%s: %s). "
                "Install pyroscope-io for this interpreter and libc, or set OTEL_PROFILING_ENABLED=false.",
                type(error).__name__,
                error,
            )
        else:
            logger.info("no agent can be labelled: pyroscope-io can't be loaded (%s: %s)", type(error).__name__, error)
        return None


class NoTags:
    """Stands for an agent's `Tags` where there is none and will be none."""

    def add_thread_tag(self, key: str, value: str, /) -> None:
        """Do nothing."""

    def remove_thread_tag(self, key: str, value: str, /) -> None:
        """Do nothing."""


class Tags:
    """The agent's own functions that label the calling thread, whoever replaces them in its module later."""

    def __init__(self, pyroscope: ModuleType) -> None:
        self.module = tag_module(pyroscope)
        self.add_thread_tag: Callable[[str, str], Any] = self.module.add_thread_tag
        self.remove_thread_tag: Callable[[str, str], Any] = self.module.remove_thread_tag


def tag_module(pyroscope: ModuleType) -> Any:
    """Return what has ``add_thread_tag`` and ``remove_thread_tag``: the native module, which Python ones only forward to."""
    native = getattr(pyroscope, "lib", None)
    return native if hasattr(native, "add_thread_tag") and hasattr(native, "remove_thread_tag") else pyroscope


def _by_name(pyroscope: ModuleType) -> dict[str, Any]:
    """Ask for the sampler that knows labels, where there is a choice: the default may change (pyroscope-io 1.4)."""
    sampler_by_name = getattr(getattr(pyroscope, "ProfilerImplementation", None), "PySpy", None)
    return {} if sampler_by_name is None else {"cpu_implementation": sampler_by_name}


def _start_quietly(pyroscope: ModuleType, configure: Callable[[], Any]) -> Any:
    """Start the agent; its library says only what fails, and the logger of its Python half stays as the application has it."""
    initialize_logging = getattr(tag_module(pyroscope), "initialize_logging", None)
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
    stop: Callable[[], Any] = getattr(tag_module(pyroscope), "drop_agent", pyroscope.shutdown)
    return stop


class Agent:
    """Starts, restarts and stops pyroscope-io as the settings ask."""

    def __init__(self, pyroscope: ModuleType, settings: Settings) -> None:
        self.pyroscope = pyroscope
        self.tags = Tags(pyroscope)
        self._settings = settings
        self._configure: Callable[..., Any] = pyroscope.configure
        self._keeper: Keeper | None = None
        self._uploader = Helper()
        self._older_threads: set[int] | None = None
        self._process = 0
        self.running = False
        """Whether an agent of ours runs, in this process or in the one that forked it."""
        self.when_stopped: Callable[[], None] = lambda: None
        """Called after the agent has been stopped: what it said as it ended can be had by `take_words`."""

    def start(self, application_name: str, labels: Mapping[str, str], threads: bool = True) -> bool:
        """Start the agent; False if one that somebody else started runs in this process already.

        Args:
            application_name: Becomes the label ``service_name``.
            labels: Labels of every profile.
            threads: Whether a thread of ours may start it, see `descriptors`.
        """
        settings = self._settings
        wall = "wall" in settings.types
        # By CPU clocks the agent is led to the threads that are to be sampled, and is not to choose among them itself.
        wanted = settings.gil_only is None and "cpu" in settings.types
        by_clocks = labelling.use_cpu_clocks(self.tags, settings.sample_rate if wanted else 0)
        gil_only = settings.gil_only is not False and not wall and not by_clocks  # a thread that waits does not hold the GIL
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
            "oncpu": not wall and not by_clocks,
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
        self._started(older_threads if self.running else None, labels_samples=wall or "cpu" in settings.types)
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

    def _started(self, older_threads: set[int] | None, *, labels_samples: bool) -> None:
        """Have samples labelled, once an agent has started.

        Args:
            older_threads: The kernel's ids of the threads that ran before it was started; None where none has started.
            labels_samples: Whether it takes samples of threads, which need no thread's own id.
        """
        self._older_threads, self._process = older_threads, os.getpid()
        # One that runs already is the application's, and may report the ids of its threads.
        labelling.agent_started(self.tags, aliases=labels_samples and older_threads is not None)

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
        labelling.agent_stopped()
        fork_warning.silence(False)
        stop = _stopper(self.pyroscope)
        ended = self._uploader.run(stop, EXIT_SECONDS) if self._keeper is None else self._keeper.stop(stop, EXIT_SECONDS)
        if not ended:
            logger.info("the last profile was not taken within %g s, the process ends without it", EXIT_SECONDS)
        self.when_stopped()

    def restart(self, application_name: str, labels: Mapping[str, str]) -> bool:
        """Stop our agent and start it once more; return whether it runs. Takes `END_SECONDS` at most."""
        self.stop()
        self._wait_for_end()
        return self.start(application_name, labels)

    def _wait_for_end(self, seconds: float = END_SECONDS) -> bool:
        is_here = self._process == os.getpid()  # otherwise it is the parent's, and no hook heard of the fork
        return self._keeper is None or not is_here or self._keeper.wait_for_end(seconds)

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
                    if not self._wait_for_end(0):  # its server hangs, and until it gives up no other agent can start
                        start_thread(configure_later, (args, kwargs))
                        return True
                except Exception:  # noqa: BLE001 - called from inside the application's pyroscope.configure
                    report("give way to the application's Pyroscope agent")
            return configure_now(args, kwargs)

        def configure_now(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            older_threads = thread_ids()
            guarded("leave CPU clocks")(labelling.use_cpu_clocks)(self.tags, 0)
            # What is given by position may be anything, and other implementations have thread ids of their own accord.
            by_thread = (
                bool(args[1:])
                or any(kwargs.get(option) for option in ("report_thread_id", "report_thread_name", "cpu_implementation"))
                or not kwargs.get("cpu_enabled", True)
            )
            result = original(*args, **kwargs)
            if result:
                try:
                    self._started(older_threads, labels_samples=not by_thread)
                    on_start()
                except Exception:  # noqa: BLE001 - as above
                    report("follow the application's Pyroscope agent")
            return result

        @guarded("start the application's Pyroscope agent after ours has ended")
        def configure_later(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._wait_for_end()
            configure_now(args, kwargs)
            forget_thread()

        def undo() -> None:
            if self.pyroscope.configure is configure:
                self.pyroscope.configure = original  # type: ignore[attr-defined] # a module's function

        self.pyroscope.configure = configure  # type: ignore[attr-defined] # a module's function
        return undo

    def watch_labels(self) -> Callable[[], None]:
        """Have samples keep the tags that the application gives its threads, which an alias hides; return what ends that."""
        module = self.tags.module
        undos = [_watch(module, "add_thread_tag", add=True), _watch(module, "remove_thread_tag", add=False)]

        def undo() -> None:
            for put_back in undos:
                put_back()

        return undo


def _watch(writer: Any, name: str, *, add: bool) -> Callable[[], None]:
    original = getattr(writer, name)

    @functools.wraps(original)
    def tag(key: Any, value: Any) -> Any:
        result = original(key, value)
        try:
            labelling.tag_of_application(add, key, value)
        except Exception:  # noqa: BLE001 - called from inside the application's pyroscope.add_thread_tag
            report("follow the application's own tags")
        return result

    def undo() -> None:
        if getattr(writer, name) is tag:
            setattr(writer, name, original)

    setattr(writer, name, tag)
    return undo

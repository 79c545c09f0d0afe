"""Hooks of libraries and servers that fork or leave without Python's own."""

from __future__ import annotations

import inspect
import pickle
import signal
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from otel_profiling_configurator.agent import process_models


@pytest.fixture(autouse=True)
def nothing_arranged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_models, "_arranged", set())
    for name in ("multiprocessing.util", "celery.signals", "uwsgi"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_children_of_multiprocessing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child registers a finalizer, after the application's; once, however often the parent forks."""
    in_child: list[tuple[Any, Callable[[Any], None]]] = []
    finalizers: list[Any] = []
    util = SimpleNamespace(
        register_after_fork=lambda key, function: in_child.append((key, function)),
        Finalize=lambda *arguments, **more: finalizers.append((*arguments, more)),
    )
    monkeypatch.setitem(sys.modules, "multiprocessing.util", util)  # type: ignore[arg-type] # plays a module
    calls: list[str] = []

    def stop() -> None:
        calls.append("stop")

    for _ in range(3):
        process_models.in_children(lambda: None, stop)
    ((key, function),) = in_child
    function(key)
    assert finalizers == [(None, stop, {"exitpriority": -100})]
    assert calls == []


def test_workers_of_celery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their own signal is followed, and kept alive."""
    receivers: list[Any] = []
    connected = SimpleNamespace(connect=lambda receiver, weak: receivers.append((receiver, weak)))
    monkeypatch.setitem(
        sys.modules,
        "celery.signals",
        SimpleNamespace(worker_process_shutdown=connected),  # type: ignore[arg-type] # plays a module
    )
    calls: list[str] = []
    for _ in range(3):
        process_models.in_children(lambda: None, lambda: calls.append("stop"))
    ((receiver, weak),) = receivers
    receiver(sender="host", pid=1, exitcode=0)
    assert (calls, weak) == (["stop"], False)


def test_neither() -> None:
    """Nothing is imported that the application has not imported."""
    process_models.in_children(lambda: None, lambda: None)
    assert "multiprocessing.util" not in sys.modules
    assert "celery.signals" not in sys.modules


@pytest.mark.parametrize(
    ("number", "handler", "stops"),
    [
        (signal.SIGTERM, signal.SIG_DFL, True),
        (signal.SIGTERM, signal.SIG_IGN, False),
        (signal.SIGINT, signal.default_int_handler, False),
        (signal.SIGCHLD, signal.SIG_DFL, False),
    ],
)
def test_own_signal(number: Any, handler: Any, stops: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only before a signal that ends the process; it is raised in any case."""
    calls: list[Any] = []
    monkeypatch.setattr(signal, "raise_signal", calls.append)
    monkeypatch.setattr(signal, "getsignal", {number: handler}.get)
    original = signal.raise_signal
    undo = process_models.before_fatal_signal(lambda: calls.append("stop"))
    signal.raise_signal(number)
    assert calls == (["stop"] if stops else []) + [number]
    undo()
    assert signal.raise_signal is original


def test_own_signal_wrapped_by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever came after us keeps what is theirs."""
    monkeypatch.setattr(signal, "raise_signal", signal.raise_signal)
    undo = process_models.before_fatal_signal(lambda: None)

    def theirs(_number: int, /) -> None: ...

    signal.raise_signal = theirs
    undo()
    assert signal.raise_signal is theirs


@pytest.mark.parametrize(
    ("arguments", "executable", "is_uwsgi"),
    [
        ([], "/usr/bin/uwsgi-core", True),
        ([], "/usr/bin/python3", False),
        (["uwsgi"], "/usr/bin/uwsgi", False),
        ([], None, False),
    ],
)
def test_is_uwsgi(arguments: list[str], executable: str | None, is_uwsgi: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedded interpreter has no arguments of its own, and the server's executable."""
    monkeypatch.setattr(sys, "orig_argv", arguments)
    monkeypatch.setattr(sys, "executable", executable)
    assert process_models.is_uwsgi() is is_uwsgi


def test_uwsgi_at_start_up() -> None:
    """The module is there before uWSGI fills it, and ours is called before the application's hook, whoever sets that."""
    calls: list[str] = []
    process_models.in_each_uwsgi_worker(lambda: calls.append("ours"))
    module: Any = sys.modules["uwsgi"]
    vars(module)["worker_id"] = lambda: 1  # as uWSGI does, in C
    vars(module)["post_fork_hook"]()
    assert calls == ["ours"]
    module.post_fork_hook = lambda: calls.append("application's")
    module.other = 1
    vars(module)["post_fork_hook"]()
    assert calls == ["ours", "ours", "application's"]
    assert module.other == 1


def test_uwsgi_activated_again() -> None:
    """Before uWSGI has filled its module: the later activation is the one that is called."""
    calls: list[str] = []
    process_models.in_each_uwsgi_worker(lambda: calls.append("first"))
    process_models.in_each_uwsgi_worker(lambda: calls.append("second"))
    sys.modules["uwsgi"].post_fork_hook()  # type: ignore[attr-defined] # as uWSGI calls it
    assert calls == ["second"]


@pytest.mark.parametrize("worker", [0, 1])
def test_uwsgi_later(worker: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where code activates us: in a worker at once, in the master in each worker, after which comes the application's hook."""
    calls: list[str] = []
    module: Any = ModuleType("uwsgi")
    module.worker_id = lambda: worker
    module.post_fork_hook = lambda: calls.append("application's")
    monkeypatch.setitem(sys.modules, "uwsgi", module)
    process_models.in_each_uwsgi_worker(lambda: calls.append("ours"))
    assert calls == (["ours"] if worker else [])
    module.post_fork_hook()
    assert calls == (["ours", "application's"])


@pytest.mark.parametrize(
    ("arguments", "helper", "forks"),
    [
        (["python", "-c", "from multiprocessing.resource_tracker import main;main(7)"], True, False),
        (["python", "-I", "-c", "from multiprocessing.resource_tracker import main;main(7)"], True, False),
        (["python", "-c", "from joblib.externals.loky.backend.resource_tracker import main; main(7, False)"], True, False),
        (["python", "-c", "from multiprocessing.forkserver import main; main(5, 6, [], **{})"], False, True),
        (["python", "-c", "from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5)"], False, False),
        (["python", "-c", "print('from multiprocessing.resource_tracker import main')"], False, False),
        (["python", "app.py", "-c", "config.ini"], False, False),
        (["python", "-c"], False, False),
        ([], False, False),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else str(value),
)
def test_processes_of_multiprocessing(arguments: list[str], helper: bool, forks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that run nothing of the application's are known by what Python was told to run."""
    monkeypatch.setattr(sys, "orig_argv", arguments)
    assert (process_models.is_helper(), process_models.only_forks()) == (helper, forks)


def test_raise_signal_seen_by_others() -> None:
    """Who looks at it, or pickles it, finds what the module has."""
    signature = inspect.signature(signal.raise_signal)
    undo = process_models.before_fatal_signal(lambda: None)
    try:
        assert pickle.loads(pickle.dumps(signal.raise_signal)) is signal.raise_signal  # noqa: S301 - our own
        assert inspect.signature(signal.raise_signal) == signature
        assert signal.raise_signal.__module__ == "signal"
    finally:
        undo()

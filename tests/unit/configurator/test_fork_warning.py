"""Warnings about forks: none that is there because of our agent, and all others."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from otel_profiling_configurator.agent import fork_warning


@pytest.fixture(autouse=True)
def hooks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """No hook has been found yet."""
    found: list[Any] = []
    monkeypatch.setattr(fork_warning, "_hooks", found)
    return found


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What has been registered with Python."""
    registered: list[dict[str, Any]] = []
    monkeypatch.setattr(os, "register_at_fork", lambda **hooks: registered.append(hooks))
    return registered


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A native function that can be told to be pyroscope-io's, and warns."""
    monkeypatch.setattr(fork_warning, "HOOK", "getpid")
    return os.getpid


def test_hook_of_pyroscope(registered: list[dict[str, Any]], hook: Any) -> None:
    """It is silent while the agent is ours, and only then."""
    original = os.register_at_fork
    with fork_warning.importing():
        os.register_at_fork(after_in_parent=hook, after_in_child=hook)
    assert os.register_at_fork is original
    (hooks,) = registered
    assert hooks["after_in_child"] is hook
    called = hooks["after_in_parent"]
    assert called() == os.getpid()
    fork_warning.silence(True)
    assert not called()
    fork_warning.silence(False)
    assert called() == os.getpid()


def test_hooks_of_others(registered: list[dict[str, Any]]) -> None:
    """They are registered as they are."""

    def theirs() -> None:
        pass

    with fork_warning.importing():
        os.register_at_fork(before=theirs, after_in_parent=theirs)
        os.register_at_fork(after_in_parent=os.getpid)
    assert registered == [{"before": theirs, "after_in_parent": theirs}, {"after_in_parent": os.getpid}]


def test_import_that_fails() -> None:
    """Nothing stays replaced."""
    original = os.register_at_fork

    def load() -> None:
        with fork_warning.importing():
            raise ImportError("no wheel")

    with pytest.raises(ImportError):
        load()
    assert os.register_at_fork is original


def test_imported_by_the_application(hook: Any) -> None:
    """The hook is found in the interpreter's list."""
    interpreters: list[Any] = [print, hook, len]
    fork_warning.find()
    fork_warning.silence(True)
    assert [interpreters[0], interpreters[2]] == [print, len]
    assert not interpreters[1]()
    fork_warning.silence(False)
    assert interpreters[1]() == os.getpid()


TEXT = "This process (pid=4711) is multi-threaded, use of fork() may lead to deadlocks in the child."
SINCE_312 = pytest.mark.skipif(sys.version_info < (3, 12), reason="CPython does not warn of it before 3.12")


@pytest.fixture
def shown() -> Iterator[Callable[[], list[str]]]:
    """Warn as CPython does, and of something else; return what was shown."""
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")

        def warn() -> list[str]:
            record.clear()
            warnings.warn(TEXT, DeprecationWarning, stacklevel=1)
            warnings.warn("of the application", DeprecationWarning, stacklevel=1)
            return [str(warning.message) for warning in record]

        yield warn


@SINCE_312
@pytest.mark.parametrize(("threads", "ours", "is_shown"), [(5, 4, False), (6, 4, True), (2, 0, True), (1, 0, False)])
def test_warning_of_cpython(
    threads: int, ours: int, is_shown: bool, shown: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is kept away where all other threads are the agent's, and is seen where the application has some."""
    monkeypatch.setattr(fork_warning, "_threads", lambda: threads)
    filters = list(warnings.filters)
    for _ in range(2):
        fork_warning.before_fork(ours)
        assert shown() == [TEXT, "of the application"][not is_shown :]
        assert list(warnings.filters) == filters
        assert shown() == [TEXT, "of the application"]


@SINCE_312
@pytest.mark.parametrize("end", [fork_warning.end_fork, lambda: fork_warning.before_fork(0)], ids=["child", "next fork"])
def test_fork_of_which_cpython_has_nothing_to_say(end: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """In a child, and at the latest with the next fork, filters are as the application has set them."""
    filters = list(warnings.filters)
    monkeypatch.setattr(fork_warning, "_threads", lambda: 2)
    fork_warning.before_fork(1)
    assert list(warnings.filters) != filters
    end()
    assert list(warnings.filters) == filters


@SINCE_312
def test_warnings_that_were_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is to be shown once stays shown once: the filters have not changed."""
    monkeypatch.setattr(fork_warning, "_threads", lambda: 2)
    registry: dict[Any, Any] = {}

    def warn() -> None:
        warnings.warn_explicit("of the application", DeprecationWarning, "app.py", 1, registry=registry)

    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("default")
        warn()
        fork_warning.before_fork(1)
        warnings.warn_explicit(TEXT, DeprecationWarning, "app.py", 2, registry=registry)
        warn()
    assert len(record) == 1

"""What is replaced where contexts are followed in Python, and put back."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Iterator
from typing import Any

import opentelemetry.context as context_api
import pytest
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.context.context import _RuntimeContext
from otel_profiling_configurator.context import python_form
from otel_profiling_configurator.context.python_form import ProfilingRuntimeContext

from .fakes import TRACE, Tags, WithoutVariable, context_with, expected, root_labels

A = context_with(root_labels("a", 0xA))
LABELS_OF_A = expected(TRACE, 0xA, "a")


@pytest.fixture(params=["contextvars", "custom"])
def inner(request: pytest.FixtureRequest, writer: Tags) -> Iterator[Any]:
    """The runtime context that was there: OpenTelemetry's default or one of the application's own."""
    assert writer.current() == {}
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "custom":
            patch.setattr(context_api, "_RUNTIME_CONTEXT", WithoutVariable())
        before = context_api._RUNTIME_CONTEXT
        undo = python_form.install()
        yield before
        undo()
        assert context_api._RUNTIME_CONTEXT is before


@pytest.mark.usefixtures("inner")
def test_nested_contexts(writer: Tags) -> None:
    """Are followed whatever keeps them."""
    outer = attach(A)
    inner = attach(Context())
    assert writer.current() == {}
    detach(inner)
    assert (get_current(), writer.current()) == (A, LABELS_OF_A)
    detach(outer)
    assert (get_current(), writer.current()) == ({}, {})


@pytest.mark.usefixtures("inner")
def test_tasks(writer: Tags) -> None:
    """So are the steps of tasks."""
    seen: list[dict[str, str]] = []

    async def work() -> None:
        token = attach(A)
        await asyncio.sleep(0)
        seen.append(writer.current())
        detach(token)

    async def main() -> None:
        task = asyncio.create_task(work())
        for _ in range(3):
            await asyncio.sleep(0)
            assert writer.current() == {}
        await task

    asyncio.run(main())
    assert seen == [LABELS_OF_A]


def test_replacement_of_the_runtime_context(inner: Any) -> None:
    """Who looks for the default's context variable finds it; one of the application's own has none."""
    ours = context_api._RUNTIME_CONTEXT
    assert isinstance(ours, ProfilingRuntimeContext)
    assert isinstance(ours, _RuntimeContext)
    assert ours.inner is inner
    assert getattr(ours, "_current_context", None) is getattr(inner, "_current_context", None)


def replaced() -> list[Any]:
    return [context_api._RUNTIME_CONTEXT, vars(asyncio.Handle)["_run"], sys.modules["_imp"].create_dynamic]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("writer")
def test_undo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The very objects that were there are there again; what replaces them has their signatures."""
    monkeypatch.delitem(sys.modules, "greenlet._greenlet", raising=False)
    before = replaced()
    undo = python_form.install()
    assert all(ours is not original for ours, original in zip(replaced(), before, strict=True))
    for ours, original in zip(replaced()[1:], before[1:], strict=True):
        assert inspect.unwrap(ours) is original
    assert inspect.signature(asyncio.Handle._run) == inspect.signature(before[1])
    undo()
    assert all(now is original for now, original in zip(replaced(), before, strict=True))


@pytest.mark.usefixtures("writer")
def test_undo_after_somebody_else() -> None:
    """Who replaced it after us stays, and still reaches the originals."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context_api, "_RUNTIME_CONTEXT", context_api._RUNTIME_CONTEXT)
        patch.setattr(asyncio.Handle, "_run", asyncio.Handle._run)
        undo = python_form.install()
        theirs = context_api._RUNTIME_CONTEXT = WithoutVariable()
        ours = asyncio.Handle._run
        ran: list[int] = []

        @functools.wraps(ours)
        def run(self: Any) -> None:
            ran.append(1)
            ours(self)

        asyncio.Handle._run = run  # type: ignore[method-assign]
        undo()
        assert context_api._RUNTIME_CONTEXT is theirs
        assert asyncio.Handle._run is run
        asyncio.run(asyncio.sleep(0))
        assert ran

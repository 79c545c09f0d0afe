"""Wraps a tracer provider, so that the spans of whatever tracers it hands out are labelled.

The whole idea is that of Grafana's otel-profiling-go. Spans are annotated, not wrapped, and tracers shadowed: they stay the
objects that the inner provider made. The SDK's own tracers need no shadow once their class is seen to: see `sdk_tracers`.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any, cast

import wrapt
from opentelemetry import trace
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.trace import Span, Tracer, TracerProvider

from ..guard import report
from . import local_roots, renames, sdk_tracers
from .annotation import annotating_any
from .labels import LabelRules
from .scope import Scope


class ProfilingTracerProvider(wrapt.ObjectProxy):  # type: ignore[type-arg] # generic since wrapt 2, to type checkers only
    """A tracer provider whose spans' CPU samples can be told apart in Pyroscope.

    Everything but `get_tracer` is the inner provider's: `isinstance`, ``add_span_processor``, ``resource``, ``shutdown``.
    Labels reach the samples while the hooks of `otel_profiling_configurator.activate` are in place.

    Args:
        provider: Any provider that conforms to the OpenTelemetry API.
        span_id_scope: Which spans own a ``span_id`` label and the span attribute ``pyroscope.profile.id``.
        span_name_scope: Which spans own a ``span_name`` label.
    """

    def __init__(
        self,
        provider: TracerProvider,
        span_id_scope: Scope = Scope.ROOT,
        span_name_scope: Scope = Scope.ROOT,
    ) -> None:
        super().__init__(provider)
        self._self_rules = LabelRules(span_id_scope, span_name_scope)
        self._self_tracers: weakref.WeakSet[Tracer] = weakref.WeakSet()

    def get_tracer(self, *args: Any, **kwargs: Any) -> Tracer:
        """Return the inner provider's tracer, whose spans are annotated from now on."""
        tracer: Tracer = self.__wrapped__.get_tracer(*args, **kwargs)
        scopes = sdk_tracers.scopes_of(tracer.start_span)
        if scopes is not None and (scopes == self._self_rules.scopes or _is_shadow(tracer.start_span)):
            return tracer  # somebody came first
        try:
            # Shadowed on the instance: `start_as_current_span` finds it there, and nothing else is in the way. A proxy around
            # the tracer would cost every span more than all the rest of what we do. (So would a look into the instance's
            # dictionary, by and by: an object whose dictionary was once asked for is a slower one ever after.)
            tracer.start_span = _shadow_of(tracer, self._self_rules)  # type: ignore[method-assign]
            self._self_tracers.add(tracer)
        except (TypeError, AttributeError):  # no instance dictionary, so that nothing can be shadowed
            return cast(Tracer, _ProfilingTracer(tracer, self._self_rules))
        return tracer

    def _self_release_tracers(self) -> None:
        """Give the tracers that were handed out their own `start_span` back: an SDK hands the same ones out again."""
        for tracer in tuple(self._self_tracers):
            shadow: Any = tracer.start_span
            if _is_shadow(shadow):
                del tracer.start_span  # the shadow, not the method
                if not isinstance(shadow, MethodType) and not isinstance(shadow.__wrapped__, MethodType):
                    tracer.start_span = shadow.__wrapped__  # type: ignore[method-assign] # somebody else's shadow
        self._self_tracers.clear()


class _ProfilingTracer(wrapt.ObjectProxy):  # type: ignore[type-arg] # generic since wrapt 2, to type checkers only
    """Stands in front of a tracer that has no instance dictionary."""

    def __init__(self, tracer: Tracer, rules: LabelRules) -> None:
        super().__init__(tracer)
        self._self_start_span = _annotating(tracer, rules)

    @property
    def start_span(self) -> Callable[..., Span]:
        """The inner tracer's, annotating."""
        return self._self_start_span

    @property
    def start_as_current_span(self) -> Callable[..., Any]:
        """The SDK's own, run on this proxy: it asks nothing of its tracer but `start_span`."""
        return cast(Callable[..., Any], SdkTracer.start_as_current_span.__get__(self))


def _shadow_of(tracer: Any, rules: LabelRules) -> Callable[..., Span]:
    """Return what stands for a tracer's `start_span`."""
    return (isinstance(tracer, SdkTracer) and sdk_tracers.shadow_of(tracer, rules)) or _annotating(tracer, rules)


def _is_shadow(start_span: Any) -> bool:
    """Whether this is one tracer's own, and not that of the SDK's class."""
    of_class = getattr(start_span, "__func__", None) is vars(SdkTracer)["start_span"]
    return sdk_tracers.scopes_of(start_span) is not None and not of_class


def _annotating(tracer: Any, rules: LabelRules) -> Callable[..., Span]:
    local_roots.follow_forks()
    return sdk_tracers.marked(annotating_any(tracer.start_span, rules, tracer), rules)


def install(provider: TracerProvider) -> Callable[[], None]:
    """Make `provider` the global tracer provider in place of the one that is there; return what puts that back.

    `opentelemetry.trace.set_tracer_provider` allows one call a process, and the SDK has made it. The private name
    ``_TRACER_PROVIDER`` is what it sets (API 1.0 to 1.45 at least).
    """
    inner = trace._TRACER_PROVIDER
    trace._TRACER_PROVIDER = provider

    def undo() -> None:
        if trace._TRACER_PROVIDER is provider:
            trace._TRACER_PROVIDER = inner
        if isinstance(provider, ProfilingTracerProvider):
            provider._self_release_tracers()
        renames.unfollow_all()

    return undo


def when_set(act: Callable[[TracerProvider], None]) -> Callable[[], None]:
    """Call `act` after the application has set its global tracer provider; return what stops waiting for that.

    `opentelemetry.trace.set_tracer_provider` looks the private function ``_set_tracer_provider`` up with every call, so
    modules that imported it early are covered too (API 1.0 to 1.45 at least).
    """
    original = trace._set_tracer_provider

    def undo() -> None:
        if trace._set_tracer_provider is watching:
            trace._set_tracer_provider = original

    @functools.wraps(original)
    def watching(tracer_provider: TracerProvider, log: bool) -> None:
        original(tracer_provider, log)
        undo()
        try:
            act(tracer_provider)
        except Exception:  # noqa: BLE001 - called from inside the application's set_tracer_provider
            report("wrap the tracer provider")

    trace._set_tracer_provider = watching
    return undo

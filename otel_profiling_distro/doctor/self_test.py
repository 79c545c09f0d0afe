"""Whether what the probe did in a second arrived: the agent loads and samples, and labels are there and right."""

from __future__ import annotations

from collections.abc import Iterator

from otel_profiling_configurator.settings import Settings

from otel_profiling_distro.receiver.model import Sample

from .finding import Finding, Level
from .inside import Outcome
from .probe import SPAN, busy_in_span

_QUESTION = "self-test"
_RIGHT_SHARE = 0.9
"""Of so few samples, some may be taken while the span begins or ends."""


def findings(outcome: Outcome, settings: Settings) -> Iterator[Finding]:
    """Yield what became of the probe's work."""
    told = outcome.told
    if not told or told["agent"] or "configurator" in told or not settings.enabled or not settings.agent_enabled:
        return
    samples = [sample for sample in outcome.samples if any(frame.function == busy_in_span.__name__ for frame in sample.stack)]
    count = sum(sample.count for sample in samples)
    if not samples:
        lines = [line for line in outcome.errors.splitlines() if "otel-profiling" in line]
        yield Finding(
            _QUESTION,
            Level.FAULT,
            f"a second of work was profiled, and no sample arrived on this machine{': ' + lines[0] if lines else '.'}",
            "Nothing is profiled.",
            "OTEL_PROFILING_LOG_LEVEL=info says more at start. Is opentelemetry-instrument that of this environment?",
        )
        return
    right = sum(sample.count for sample in samples if _is_right(sample, told))
    if right < _RIGHT_SHARE * count:
        yield Finding(
            _QUESTION,
            Level.WARNING,
            f"{right} of {count} samples of a second of work had the labels of its span.",
            "Profiles arrive, and their links to traces are incomplete.",
            "Please report this, with the output of otel-profiling doctor --json.",
        )
    else:
        yield Finding(
            _QUESTION, Level.OK, f"the agent loads and samples: {right} of {count} samples had the labels of their span"
        )
    names = {sample.series.get("service_name", "") for sample in samples}
    if not outcome.spans:
        yield Finding(
            _QUESTION,
            Level.WARNING,
            f"the span did not arrive; exporters there: {', '.join(told.get('exporters', [])) or 'none'}.",
            "Profiles come without traces to link to.",
            "See what distro and exporter are used, below.",
        )
    elif any(span.profile_id for span in outcome.spans):
        yield Finding(_QUESTION, Level.OK, f"traces and profiles agree: the span links to its samples, of {', '.join(names)}")


def _is_right(sample: Sample, told: object) -> bool:
    span_id = told.get("span_id") if isinstance(told, dict) else None
    return sample.label("span_name") == SPAN and sample.label("span_id") == span_id

"""Has the labels of each thread follow its current context: by the native module, or in Python where that can't be.

The SDK tells nobody when the current context changes: span processors see spans start and end, and that is another thing (a
span may be started and never made current, ended by another thread, or attached for a moment in a callback).
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

import opentelemetry.context as context_api

from ..context import labelling
from ..guard import guarded, report
from ..native import native, why_missing
from ..spans.baggage_labels import BAGGAGE
from ..spans.labels import CURRENT_SPAN, KEYS, NO_LABELS, SPAN_ATTRIBUTE
from ..threads import by_thread
from . import greenlets, python_form


def install() -> tuple[Callable[[], None], str]:
    """Follow each switch from now on.

    Returns:
        What ends that, and why it is done in Python; empty where the native module does it.
    """
    variable = getattr(context_api._RUNTIME_CONTEXT, "_current_context", None)
    why_not = why_missing
    if not why_not and not isinstance(variable, ContextVar):
        why_not = "another runtime context than OpenTelemetry's default one is in use"
    if not why_not and variable is not None:
        try:
            return _install_native(variable), ""
        except RuntimeError as error:
            why_not = str(error)
    return python_form.install(), why_not


def _install_native(variable: ContextVar[context_api.Context]) -> Callable[[], None]:
    native.start(
        variable,
        CURRENT_SPAN,
        SPAN_ATTRIBUTE,
        NO_LABELS,
        KEYS,
        BAGGAGE if labelling.baggage_is_labelled() else None,
        labelling.pairs_of_baggage,
        by_thread.label,
        _failed,
    )
    labelling.use_native(True)
    undo_greenlets = guarded("follow greenlets")(greenlets.install)(native)

    def undo() -> None:
        if undo_greenlets is not None:
            undo_greenlets()
        native.stop()
        labelling.use_native(False)

    return undo


def _failed(error: BaseException) -> None:
    try:
        raise error
    except Exception:  # noqa: BLE001 - whatever the agent raised
        report("label a thread")

from collections.abc import Callable
from typing import Any

from opentelemetry.trace import Span

def use(names: dict[str, Any], context_names: dict[str, Any], /) -> None: ...
def annotating(
    start_span: Callable[..., Span],
    annotate: Callable[..., None],
    shared_if_alike: bool,
    root_names: dict[str, str] | None,
    /,
) -> Callable[..., Span]: ...

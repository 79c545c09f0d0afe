"""Replaces attributes of other people's modules and classes, so that each can be put back."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any


class replacing:  # noqa: N801 - used like a function
    """Replaces attributes one by one. As a context manager it puts all of them back if one can't be replaced."""

    def __init__(self) -> None:
        self._undos: list[Callable[[], None]] = []

    def __enter__(self) -> replacing:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self.undo()

    def __call__(self, owner: Any, name: str, replacement: Any) -> None:
        """Set `owner.name`. Whoever sets it after us is left alone by `undo`.

        Raises:
            AttributeError, TypeError: `owner` has no such attribute, or can't be changed.
        """
        was_own = name in vars(owner)
        original = vars(owner)[name] if was_own else getattr(owner, name)
        setattr(owner, name, replacement)

        def undo() -> None:
            if vars(owner).get(name) is not replacement:
                return
            if was_own:
                setattr(owner, name, original)
            else:
                delattr(owner, name)  # inherited: the original is seen again

        self._undos.append(undo)

    def undo(self) -> None:
        """Put everything back, last first."""
        while self._undos:
            self._undos.pop()()

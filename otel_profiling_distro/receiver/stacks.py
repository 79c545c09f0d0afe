"""Keeps stacks as a tree of calls: most of them begin alike, and a recursion of a thousand frames costs its frames once."""

from __future__ import annotations

from array import array

from .model import Frame

ROOT = 0
"""The node of the empty stack."""

_BYTES_OF_A_NODE = 120
_BYTES_OF_A_FRAME = 400
"""About what each costs, tables and strings included; measured on CPython 3.11."""


class Stacks:
    """Stacks, each with a number: the node of the tree that its leaf is. Nothing is ever taken out. Not thread-safe."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.parents = array("I", [ROOT])
        """By node: the node of the caller, always a smaller number."""
        self.frame_of = array("I", [0])
        """By node: index in `frames`; without meaning for the root."""
        self._frame_ids: dict[Frame, int] = {}
        self._children: dict[tuple[int, int], int] = {}
        self._strings: dict[str, str] = {}

    @property
    def size(self) -> int:
        """Bytes, about."""
        return _BYTES_OF_A_NODE * len(self.parents) + _BYTES_OF_A_FRAME * len(self.frames)

    def node(self, stack: tuple[Frame, ...]) -> int:
        """Return the number of a stack that is given leaf first."""
        node = ROOT
        for frame in reversed(stack):
            frame_id = self._frame_ids.get(frame)
            if frame_id is None:
                frame_id = self._add(frame)
            step = (node, frame_id)
            child = self._children.get(step)
            if child is None:
                child = self._children[step] = len(self.parents)
                self.parents.append(node)
                self.frame_of.append(frame_id)
            node = child
        return node

    def stack(self, node: int) -> tuple[Frame, ...]:
        """Return the stack, leaf first, that has this number."""
        frames = []
        while node != ROOT:
            frames.append(self.frames[self.frame_of[node]])
            node = self.parents[node]
        return tuple(frames)

    def _add(self, frame: Frame) -> int:
        # Each profile brings strings of its own; those of equal frames are kept once.
        function = self._strings.setdefault(frame.function, frame.function)
        filename = self._strings.setdefault(frame.filename, frame.filename)
        frame = Frame(function, filename, frame.line)
        self._frame_ids[frame] = len(self.frames)
        self.frames.append(frame)
        return len(self.frames) - 1

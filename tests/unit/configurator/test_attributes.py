"""Attributes of others are replaced one by one, and put back as they were."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from otel_profiling_configurator.context.attributes import replacing


class Base:
    def method(self) -> str:
        return "original"


class Derived(Base):
    pass


def replaced(_self: object) -> str:
    return "replaced"


@pytest.mark.parametrize("owner", [Base, Derived])
def test_undo(owner: Any) -> None:
    """An attribute of its own is put back, an inherited one seen again."""
    before = dict(vars(owner))
    replace = replacing()
    replace(owner, "method", replaced)
    assert owner().method() == "replaced"
    replace.undo()
    assert dict(vars(owner)) == before


def test_replaced_again_by_somebody_else() -> None:
    """Is left to them."""
    owner = SimpleNamespace(name=1)
    replace = replacing()
    replace(owner, "name", 2)
    owner.name = 3
    replace.undo()
    assert owner.name == 3


def test_failure_in_between() -> None:
    """What was replaced before it is put back."""
    owner = SimpleNamespace(name=1)

    def install() -> None:
        with replacing() as replace:
            replace(owner, "name", 2)
            replace(owner, "missing", 2)

    with pytest.raises(AttributeError):
        install()
    assert owner.name == 1

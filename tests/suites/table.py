"""Which suites are run, and where their tests come from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Suite:
    """One project's tests, or one module of CPython's."""

    name: str
    arguments: tuple[str, ...]
    """Of pytest, which loads no plugin that is not named here; of ``python -m test`` where it is CPython's."""
    quick: bool
    """Whether it belongs to the quick part."""
    cpython: bool = False
    distribution: str = ""
    """Whose source distribution has `members`, which are copied to where the tests run."""
    members: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    """Further variables."""
    is_idle: bool = False
    """Whether its tests take so little CPU time that it is chance whether one of them has a sample."""


def _cpython(module: str, *, quick: bool, is_idle: bool = False) -> Suite:
    return Suite(module, (module,), quick, cpython=True, is_idle=is_idle)


SUITES = (
    _cpython("test_context", quick=True),
    _cpython("test_gc", quick=True),
    _cpython("test_fork1", quick=True, is_idle=True),
    _cpython("test_threading", quick=True),
    _cpython("test_signal", quick=True),
    _cpython("test_asyncio", quick=False),
    _cpython("test_subprocess", quick=False),
    _cpython("test_concurrent_futures", quick=False),
    Suite(
        "trio",
        ("--pyargs", "trio", "-m", "not redistributors_should_skip", "--skip-optional-imports"),
        quick=True,
        distribution="trio",
        members=("pyproject.toml",),
    ),
    Suite("anyio", ("tests", "-m", "not network"), quick=False, distribution="anyio", members=("tests", "pyproject.toml")),
    Suite(
        "greenlet",
        ("--pyargs", "greenlet.tests", "-k", "not test_leaks"),
        quick=True,
        environment=(("GREENLET_SKIP_LEAKCHECKS", "1"),),
    ),
    # Each test many times, until the number of references stays the same.
    Suite("greenlet-leaks", ("--pyargs", "greenlet.tests"), quick=False),
    Suite(
        "asgiref", ("tests", "-p", "pytest_asyncio.plugin"), quick=True, distribution="asgiref", members=("tests", "setup.cfg")
    ),
    Suite(
        "uvloop",
        # What is left out reads its own repository's source, or compiles it.
        ("tests", "--ignore=tests/test_sourcecode.py", "--ignore=tests/test_cython.py"),
        quick=False,
        distribution="uvloop",
        members=("tests", "pyproject.toml"),
    ),
    Suite("wrapt", ("tests/core",), quick=True, distribution="wrapt", members=("tests",)),
    Suite("opentelemetry-api", ("tests",), quick=True, distribution="opentelemetry-api", members=("tests",)),
    Suite("opentelemetry-sdk", ("tests",), quick=False, distribution="opentelemetry-sdk", members=("tests",)),
)

"""What becomes of tests whose process is hostile, and that tests really are profiled and have spans."""

from __future__ import annotations

import textwrap

from .comparison import PROCESS
from .running import Runner
from .table import Suite


def runner(folder, source, *arguments):
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_it.py").write_text(textwrap.dedent(source))
    return Runner(Suite("made-up", arguments or ("test_it.py",), quick=True), folder)


def test_outcomes(tmp_path):
    """Each test's outcome is what pytest says, set-up and tear-down included, and failures have their tracebacks."""
    result = runner(
        tmp_path,
        """
        import pytest

        @pytest.fixture
        def bad_end():
            yield
            raise OSError("at the end")

        def test_passes(): pass
        def test_fails(): assert "this" == "that"
        def test_skipped(): pytest.skip()
        def test_tear_down(bad_end): pass
        @pytest.mark.xfail
        def test_expected(): assert False
        """,
    ).plain()
    assert result.outcomes == {
        "test_it.py::test_passes": "passed",
        "test_it.py::test_fails": "failed",
        "test_it.py::test_skipped": "skipped",
        "test_it.py::test_tear_down": "failed",
        "test_it.py::test_expected": "skipped",
        PROCESS: "passed",
    }
    assert "'this' == 'that'" in result.messages["test_it.py::test_fails"]
    assert "at the end" in result.messages["test_it.py::test_tear_down"]


def test_a_process_that_dies(tmp_path):
    """It costs the test that it was in; those after it run in another process."""
    result = runner(
        tmp_path,
        """
        import os
        def test_first(): pass
        def test_deadly(): os.kill(os.getpid(), 9)
        def test_last(): pass
        """,
    ).plain()
    assert result.outcomes == {
        "test_it.py::test_first": "passed",
        "test_it.py::test_deadly": "lost",
        "test_it.py::test_last": "passed",
        PROCESS: "passed",
    }
    assert "left with -9" in result.messages["test_it.py::test_deadly"]


def test_a_process_that_fails_without_a_test(tmp_path):
    """That is a failure of its own."""
    result = runner(tmp_path, "raise OSError('while it is imported')").plain()
    assert result.outcomes == {PROCESS: "failed"}
    assert "while it is imported" in result.messages[PROCESS]


def test_some_files_only(tmp_path):
    """Other files' tests do not run."""
    (tmp_path / "test_other.py").write_text("def test_other(): pass\n")
    both = runner(tmp_path, "def test_it(): pass", ".")
    assert both.plain(["test_other.py"]).outcomes == {"test_other.py::test_other": "passed"}
    assert set(both.plain().outcomes) == {"test_other.py::test_other", "test_it.py::test_it", PROCESS}


SPANS = """
    import time

    def test_has_a_span():
        from opentelemetry import trace
        assert trace.get_current_span().name == "test_it.py::test_has_a_span"

    def test_works():
        end = time.thread_time() + 1
        while time.thread_time() < end:
            pass
    """


def test_with_profiling(tmp_path):
    """A test is in a span of its name, and samples of its work arrive with it."""
    result = runner(tmp_path, SPANS).profiled()
    assert set(result.outcomes.values()) == {"passed"}
    assert result.profiled


def test_with_opentelemetry_alone(tmp_path):
    """A test is in a span of its name, and nothing of ours is there, in its children neither."""
    result = runner(
        tmp_path,
        SPANS
        + """
    def test_nothing_of_ours():
        import subprocess, sys
        check = "import sys; assert not [name for name in sys.modules if name.startswith(('otel_profiling', 'pyroscope'))]"
        exec(check)
        child = subprocess.run([sys.executable, "-c", check + "; import opentelemetry.sdk"], capture_output=True, check=True)
        assert child.stdout == child.stderr == b""
    """,
    ).traced()
    assert set(result.outcomes.values()) == {"passed"}


def test_a_module_of_cpython(tmp_path):
    """Its tests are told by their names, and have spans, too."""
    suite = Runner(Suite("test_context", ("test_context",), quick=True, cpython=True), tmp_path)
    plain, traced = suite.plain().outcomes, suite.traced().outcomes
    assert plain["test.test_context.HamtTest.test_hamt_basics_1"] == "passed"
    assert plain == traced

"""A pytest plugin: each test has a span, and its outcome is noted when it is known."""

import pytest
from suites_outcomes import note, span_around, wanted


def _file(item):
    return item.nodeid.partition("::")[0]


def pytest_collection_modifyitems(config, items):
    """Leave out what is not wanted."""
    left_out = [item for item in items if not wanted(item.nodeid, _file(item))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if wanted(item.nodeid, _file(item))]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Have the span around set-up, test and tear-down."""
    item.config.stash[_reports] = []
    note(item.nodeid, "started", _file(item))
    with span_around(item.nodeid):
        result = yield
    reports = item.config.stash[_reports]
    failed = [report for report in reports if report.failed]
    outcome = "failed" if failed else "skipped" if any(report.skipped for report in reports) else "passed"
    note(item.nodeid, outcome, _file(item), "\n".join(report.longreprtext for report in failed)[-4000:])
    return result


_reports = pytest.StashKey()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Keep the reports of the test that runs, those of fixtures included."""
    report = yield
    item.config.stash[_reports].append(report)
    return report

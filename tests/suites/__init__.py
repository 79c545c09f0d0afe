"""Runs other projects' own test suites with profiling and without, and compares them test by test.

Those tests know nothing of us, and look at what only a guest of the interpreter can disturb: tasks and their exceptions,
contexts, signals, forks, descriptors, reference counts, warnings, destructors at the interpreter's end. So whatever passes
without us must pass with us.

``make suites`` runs everything that ``table.py`` lists, ``make suites-quick`` a part of it. ``python -m tests.suites NAME``
runs one suite. That needs Python 3.11 or later. For each suite:

1. It runs as its project runs it (``plain``).
2. It runs under ``opentelemetry-instrument`` with the real agent, against a real receiver, with a span around each test
   (``profiled``).
3. Where a test did well in the first run only, the files that have such tests run again, both ways. A test that does not do
   the same again is unstable: it is told apart, and does not count.
4. What is left runs twice more with OpenTelemetry, and as if we were not installed (``traced``). What fails both times is
   OpenTelemetry's own doing. The rest is ours, and makes the run fail, unless ``known.toml`` has the test and a reason.

A process that ends too early, or makes no progress, costs the test that it was in. The other tests run in another process.

| file | what |
|---|---|
| ``table.py`` | which suites there are, and which of them are quick |
| ``sources.py`` | the tests of a project that does not install them: they are in its source distribution |
| ``running.py`` | a suite's outcomes, test by test, in one of the three ways |
| ``comparison.py`` | what follows from the outcomes; pure |
| ``known.py``, ``known.toml`` | what fails with us, and why that is right |
| ``inside/`` | modules that run inside the tests' processes: they note each outcome, and start the spans |
| ``upstream/`` | starts OpenTelemetry alone |
"""

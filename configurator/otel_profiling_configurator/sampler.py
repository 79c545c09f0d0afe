"""Keeps labels as they are while the agent's sampler is between a thread's stack and that thread's labels.

This is for labels that are kept by thread: where samples can't have stand-ins for theirs (`thread_labels.use_stand_ins`).

pyroscope-io reads a stack on one thread (the sampler), then wakes another (the recorder), which looks the labels up: 0.1
to 0.4 ms later, more for a deep stack. If the labels of the sampled thread change in between, one span's stack goes under the
next one's name. With steps of 10 ms that is one sample in fifty, with steps of 0.2 ms it is most of them.

The sampler tells nobody when it works, and its intervals are random (exponentially distributed), so it can't be foreseen
either. But the kernel counts the CPU time of each thread: if the sampler's has grown since the last look, a sample was or is
being taken. It is over if the recorder's has grown by as much as it usually does for that, and neither runs; where that is not
so clear, once both are asleep: the one wakes the other before it sleeps. A look costs 0.4 us where nothing has happened, and
3 us once a sample.

A change of labels that comes in the middle of that waits, 0.2 ms or so, and gives its processor away whenever the sampler does
not get on: that may be what it waits for. To wait for each sample would take more than its share
of the time of a thread that switches every fraction of a millisecond. There the clock helps once more: what the sampler has
used for this sample, beside what a sample takes, tells how far it is. It walks the frames first, from the top, in less than a
third of that, and then reads their names, which stay what they are. So such a thread waits only until the frames have been
read, and goes on with the labels as they are; its next switch makes up for it, in all likelihood before the next sample. Only
if the end is near, it waits for that and changes its labels: the nearer, the less it has left of its share. (A long step that
begins right there keeps the labels of the step before it. That is one in a hundred of those that come after a row of short
ones.) Where there were none, labels that come are not put off, or a whole request might be without; and such as go only where
an event loop runs: that is heard of with its next step, while a thread might do anything next.

Bounds: no look of a thread for `LOOK_SECONDS` after its last, unless that put something off (a change in between is not
protected: the sampler takes longer than such a step to read a stack), no wait longer than `LONGEST_WAIT`, all waits of all
threads together no more than `WAIT_SHARE` of the CPU time that the process uses: who waits holds the GIL, so that all wait. So
that this goes as far as it can, those come first who need not wait long. Where the two threads can't be told, or the system has
no such clocks, nothing is held back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import clock_gettime, monotonic, process_time, thread_time

from .guard import is_of_signal_handler, report
from .threads.os_threads import State, allocate_lock, cpu_clock, give_way, native_threads

LOOK_SECONDS = 100e-6
"""Between two looks of a thread: with 0.4 us a look, at most 0.4 % of its time goes into them while no sample is taken."""

LONGEST_WAIT = 0.002
"""Of one label change, in seconds, also of one that is put off again and again: who reads a thousand threads is always at
work. The sampler needs half of that for a stack of 50 frames, as web frameworks have them."""

SHORTEST_WAIT = 1e-5
"""What it takes to look at the state of both threads, in seconds: who has not got that does not begin."""

FRAMES_READ = 0.4
"""Of the CPU time that a sample takes: by then the sampler has walked the frames, 20 of the 90 reads of memory that a stack of
15 frames takes, and the first ones are slow. Only if it reads one thread, the one that holds the GIL; otherwise nobody knows
whose turn it is, and the frames count as read at the end."""

ONE_SAMPLE = 2.0
"""Of the lower quarter of the CPU time that a sample takes: what is above that may be two."""

KEEPS_UP = 0.6
"""Of its usual share of the sampler's work: if the recorder has done less, there is a sample that it has not recorded yet. (It
does 0.58 of it or more in nine of ten cases under FastAPI and Flask, and half of it where it has recorded one of two.)"""

WAIT_SHARE = 0.004
"""Of the process's CPU time that may go into waiting, whatever the number of threads. What others do with a processor that was
given away counts, too."""

SAVED_WAIT = 0.02
"""Seconds of waiting that may be saved up while the process works and nobody waits."""

PLENTY = SAVED_WAIT / 2
"""As long as so much is left, there is no need to ask how long a wait is going to be."""

AT_ONCE = 0.05
"""Of less than that, what may go into a single wait."""

OFTEN = 0.001
"""Seconds between two label changes below which one may be put off until the next."""

TOO_OFTEN = 1.2 * LOOK_SECONDS
"""Seconds between two looks below which most label changes come in between, and to protect the others would be no use."""

TOO_OFTEN_TO_WAIT = 2 * LOOK_SECONDS
"""The same where the change can't be put off."""

FORGOTTEN = 0.8
"""What is left of a pace after a look: ten short steps after a long one, a thread is one that switches all the time."""

BELIEVED = 1.15
"""What the pace of a thread that switches all the time grows by with a look, at most: a long step there is a pause that the
sample itself made, unless more of them follow."""

LONG_AGO = 10 * OFTEN
"""More seconds than that between two looks say no more. (With less, the few short steps of a request outweigh a long one.)"""

_FIRST_LOOKS = 8
"""Looks at which the two threads must have been seen at work before they are taken for the sampler and the recorder."""

_FIRST_LOOK_SECONDS = 0.002
"""Between those: less than the time between two samples, so that only threads that work with every sample stand out."""

_MOST_FIRST_LOOKS = 20_000
"""After that the search is given up: five times what it takes at one sample a second."""


class Budget:
    """How long the threads of this process may still wait."""

    __slots__ = ("_saved", "_saved_at")

    def __init__(self) -> None:
        self._saved = 0.0
        self._saved_at = process_time()  # what was used before there was a sampler has saved nothing

    def seconds(self) -> float:
        """Return how long they may wait now, in seconds of CPU time."""
        now = process_time()
        self._saved = min(SAVED_WAIT, self._saved + WAIT_SHARE * (now - self._saved_at))
        self._saved_at = now
        return self._saved

    def spend(self, seconds: float) -> None:
        """Take `seconds` off what was saved."""
        self._saved -= seconds


class Account:
    """When one thread of the application looks, and how often it changes its labels."""

    __slots__ = ("next_look", "pace", "put_off", "put_off_since")

    def __init__(self) -> None:
        self.next_look = 0.0
        """When the next look is due, in `time.monotonic` seconds."""
        self.pace = LONG_AGO
        """Seconds between two looks: the most of late, forgotten by and by."""
        self.put_off = self.put_off_since = 0.0
        """When a change was last put off, and the first of those that followed one another."""

    def has_put_off_enough(self, now: float) -> bool:
        """Return whether a change must not be put off once more; if it may, have the next switch looked at, too.

        However soon that comes, it must not change the labels unseen, in the middle of the same sample.
        """
        if now - self.put_off > OFTEN:
            self.put_off_since = now
        self.put_off = now
        if now - self.put_off_since > LONGEST_WAIT:
            return True
        self.next_look = now
        return False


class Followed:
    """The sampler and the recorder, once they are told apart from the agent's other threads.

    Raises:
        OSError: One of them has ended or is at work right now.
    """

    __slots__ = (
        "asked_at",
        "asked_recorded",
        "asked_used",
        "clock",
        "first_recorded",
        "first_used",
        "recorded",
        "recorder",
        "recorder_clock",
        "sampler",
        "seen",
        "usual",
    )

    def __init__(self, sampler: int, recorder: int) -> None:
        self.clock, self.recorder_clock = cpu_clock(sampler), cpu_clock(recorder)
        """The kernel's ids of their CPU clocks."""
        self.first_used, self.first_recorded = clock_gettime(self.clock), clock_gettime(self.recorder_clock)
        """CPU time of the two when they were found."""
        self.seen, self.recorded = self.first_used, self.first_recorded
        """The same when last no sample was being taken."""
        self.sampler = State(sampler)
        try:
            self.recorder = State(recorder)
        except OSError:
            self.sampler.close()
            raise
        self.asked_used, self.asked_recorded, self.asked_at = self.first_used, self.first_recorded, 0.0
        """What `stands_still` saw last, and when it first saw that."""
        self.usual = 0.0
        """CPU time of the sampler for one sample, in seconds: the lower quarter, roughly, 0 until it is known."""

    def has_recorded(self) -> bool:
        """Whether what was sampled since the last look is recorded; False if that can't be told by the clocks alone.

        Most samples are over when they are first noticed, and a file that nobody has looked at for a while takes 30 us to read.
        """
        recorded, used = clock_gettime(self.recorder_clock), clock_gettime(self.clock)
        share = (recorded - self.first_recorded) / (used - self.first_used)
        if used - self.seen > ONE_SAMPLE * self.usual or recorded - self.recorded <= KEEPS_UP * share * (used - self.seen):
            return False  # there may be another sample, of which the sampler or the recorder waits for a processor
        if clock_gettime(self.recorder_clock) != recorded or clock_gettime(self.clock) != used:
            return False  # one of them is at work
        self.note(used, recorded)
        return True

    def stands_still(self, now: float) -> bool:
        """Whether neither has worked from one call of this to another: all that can be said where nobody may wait.

        They may want to, and have no processor; but to put labels off for longer is worse.
        """
        used, recorded = clock_gettime(self.clock), clock_gettime(self.recorder_clock)
        if used != self.asked_used or recorded != self.asked_recorded:
            self.asked_used, self.asked_recorded, self.asked_at = used, recorded, now
        if now < self.asked_at + LOOK_SECONDS:
            return False  # the one takes some time to wake the other
        self.note(used, recorded)
        return True

    def note(self, used: float, recorded: float) -> None:
        """Remember the CPU time of both: no sample is being taken right now."""
        if used <= self.seen:
            return  # another thread has noted a later one
        # The lower quarter: who switches seldom sees the work of several samples at once.
        self.usual = (self.usual or used - self.seen) * (1.02 if used - self.seen > self.usual else 0.94)
        self.seen, self.recorded = used, recorded

    def close(self) -> None:
        """Give back what is needed to look at them."""
        self.sampler.close()
        self.recorder.close()


_budget = Budget()


_older_threads: frozenset[int] | None = None
"""The threads that there were before the agent's; None while there is no agent to follow."""

_candidates: dict[int, tuple[float, int]] = {}
"""Threads that may be the agent's: CPU time at the last look, and at how many looks it had advanced."""

_telling_apart = allocate_lock()
"""Held by the one thread that finds the two out: others don't wait for it, their labels may change."""

_first_looks = 0
"""Of the whole process, since the agent was started."""

_next_first_look = 0.0
"""When the next is due, in `time.monotonic` seconds: with a thousand threads, each takes a millisecond."""

_followed: Followed | None = None
"""None until they are found."""

_frames_read = FRAMES_READ
"""`FRAMES_READ`, or all of it."""


def follow(older_threads: Iterable[int] | None, *, reads_one_thread: bool = True) -> None:
    """Find the sampler and the recorder of an agent that has just started, as soon as they have been seen at work.

    Args:
        older_threads: The kernel's ids of the threads that ran before it was started; None for no agent.
        reads_one_thread: Whether it samples only the thread that holds the GIL.
    """
    global _older_threads, _candidates, _telling_apart, _followed, _first_looks, _next_first_look, _budget  # noqa: PLW0603 - the agent is the process's
    global _frames_read  # noqa: PLW0603 - as above
    _frames_read = FRAMES_READ if reads_one_thread else 1.0
    followed, _followed = _followed, None
    _older_threads = None if older_threads is None else frozenset(older_threads)
    _candidates = {}
    _first_looks, _next_first_look = 0, 0.0
    _budget = Budget()
    _telling_apart = allocate_lock()  # in a forked child, the thread that held it may not exist
    if followed is not None:
        followed.close()


def may_change_in_python(account: Account, now: float, put_off: bool) -> bool:
    """Return whether the calling thread may change its labels now; it may have to wait for that here.

    Args:
        account: The calling thread's, of which a look is due.
        now: `time.monotonic`.
        put_off: Whether False will do: the caller will ask again with its next switch.
    """
    try:
        followed = _followed
        if followed is None:
            account.next_look = now + _FIRST_LOOK_SECONDS
            if _older_threads is not None and now >= _next_first_look:
                _look_for_it(_older_threads, now)
            return True
        since = now + LOOK_SECONDS - account.next_look
        pace = account.pace
        longest = pace * BELIEVED if pace < TOO_OFTEN_TO_WAIT else LONG_AGO
        account.pace = pace = max(min(since, longest), pace * FORGOTTEN)
        account.next_look = now + LOOK_SECONDS
        if pace < (TOO_OFTEN if put_off else TOO_OFTEN_TO_WAIT) or clock_gettime(followed.clock) == followed.seen:
            return True  # spans that come and go so fast can't be told apart: most changes would not even be looked at
        return followed.has_recorded() or _wait(followed, now, put_off and pace < OFTEN) or account.has_put_off_enough(now)
    except Exception as error:  # noqa: BLE001 - called from inside the application's attach and detach
        return _failed(error)


def _failed(error: BaseException) -> bool:
    """See to what was raised instead of an answer: labels may change, and nothing is followed any more.

    What a signal handler of the application's has raised is raised again.
    """
    try:
        raise error
    except OSError:  # the agent was stopped, or this kernel has no such clocks
        if is_of_signal_handler():  # a `TimeoutError`
            raise
        follow(None)
    except Exception:  # noqa: BLE001 - as above
        report("wait for the sampler")
        follow(None)
    finally:
        del error  # its traceback has this frame, and the application's
    return True


def _wait(followed: Followed, now: float, put_off: bool) -> bool:
    """Wait until the sample that is being taken is recorded, if that is soon enough; with `put_off` labels may also stay."""
    saved = _budget.seconds()
    frames_read = followed.usual * _frames_read if put_off else 0.0
    nearly_over = followed.usual - saved * AT_ONCE if saved < PLENTY else 0.0
    if saved < SHORTEST_WAIT or (put_off and frames_read <= clock_gettime(followed.clock) - followed.seen < nearly_over):
        return not put_off or followed.stands_still(now)
    start = thread_time()  # not the time that other threads have the GIL in between
    end = now + min(saved, LONGEST_WAIT)
    used = recorded = given_away = 0.0
    while True:
        before, used, recorded = (used, recorded), clock_gettime(followed.clock), clock_gettime(followed.recorder_clock)
        if (used, recorded) == before:
            given_away += give_way()  # one of them may be waiting for this very processor; or somebody else is
            used = clock_gettime(followed.clock)
        reading = not followed.sampler.is_asleep()
        over = not reading and followed.recorder.is_asleep()
        if over or (reading and frames_read <= used - followed.seen < nearly_over) or monotonic() >= end:
            break
    _budget.spend(thread_time() - start + given_away)
    if over:
        followed.note(used, clock_gettime(followed.recorder_clock))
    return over or not put_off


def _look_for_it(older_threads: frozenset[int], now: float) -> None:
    """Try to tell the agent's threads apart, if no other thread is just trying; no more than `WAIT_SHARE` of the time."""
    global _first_looks, _next_first_look  # noqa: PLW0603 - the agent is the process's
    lock = _telling_apart
    if not lock.acquire(False):
        return
    try:
        _first_looks += 1
        if _first_looks > _MOST_FIRST_LOOKS:
            follow(None)
            return
        start = thread_time()  # not the time that other threads have the GIL in between
        _tell_apart(older_threads)
        _next_first_look = now + max(_FIRST_LOOK_SECONDS, (thread_time() - start) / WAIT_SHARE)
    finally:
        lock.release()


def _tell_apart(older_threads: frozenset[int]) -> None:
    """Find the two threads of the agent that work with every sample; the sampler is the one that works longer."""
    global _followed  # noqa: PLW0603 - the agent is the process's
    candidates = _candidates
    # Each time anew: the agent's threads start one another, some time after it has said that it runs.
    for thread in native_threads(older_threads):
        last, times = candidates.get(thread, (0.0, 0))
        try:
            time = clock_gettime(cpu_clock(thread))
        except OSError:  # it has ended by now
            if is_of_signal_handler():
                raise
            continue
        candidates[thread] = time, times + (time != last)
    by_times = sorted(candidates, key=lambda thread: candidates[thread][1], reverse=True)
    seen_at_work = [candidates[thread][1] for thread in by_times]
    pair, others = by_times[:2], seen_at_work[2:]
    if len(by_times) > 1 and seen_at_work[1] >= _FIRST_LOOKS and max(others, default=0) <= seen_at_work[1] / 2:
        sampler, recorder = sorted(pair, key=lambda thread: candidates[thread][0], reverse=True)
        try:
            _followed = Followed(sampler, recorder)
        except OSError:  # one is at work right now
            if is_of_signal_handler():
                raise


# What everybody calls.
may_change: Callable[[Account, float, bool], bool] = may_change_in_python

try:
    from . import _sampler as _in_c
except ImportError:  # it was not built: no compiler, no Linux, or a tree for all Pythons
    _in_c = None  # type: ignore[assignment] # as said
else:
    _in_c.use(globals())
    may_change = _in_c.may_change

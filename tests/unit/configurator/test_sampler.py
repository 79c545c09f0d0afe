"""Labels stay as they are while the sampler is between a stack and its labels, within bounds."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from otel_profiling_configurator import guard, sampler
from otel_profiling_configurator.threads import os_threads
from otel_profiling_configurator.threads.os_threads import get_native_id

from .fakes import on_a_thread, skip_if_pure

SAMPLER, RECORDER, UPLOADER = 101, 102, 103
MICROSECOND = 1e-6

CLOCKS_READ = 5 * MICROSECOND
"""Less than that is no wait: the sampler's clock was read, and both where it had advanced."""


class Kernel:
    """CPU clocks of the agent's threads, by a script: each look at any clock lets a microsecond pass."""

    def __init__(self) -> None:
        self.now = 100.0
        self.cpu = {SAMPLER: 1.0, RECORDER: 0.5, UPLOADER: 0.0}
        self.at: list[tuple[float, int, float]] = []
        """Work that is going to be done: when, by whom, until when."""
        self.runnable: list[tuple[float, int, float]] = []
        """Times at which a thread wants to work."""
        self.threads = {1, get_native_id(), *self.cpu}

    def sample(self, start: float, reading: float = 150 * MICROSECOND, gap: float = 50 * MICROSECOND) -> None:
        """Have a sample taken: the sampler reads, and the recorder runs some time later."""
        self.at.append((start, SAMPLER, start + reading))
        self.runnable.append((start + reading, RECORDER, start + reading + gap))
        self.at.append((start + reading + gap, RECORDER, start + reading + gap + 25 * MICROSECOND))

    def used(self, thread: int) -> float:
        return sum(max(0.0, min(self.now, end) - start) for start, of, end in self.at if of == thread)

    def clock_gettime(self, clock: int) -> float:
        self.now += MICROSECOND
        (thread,) = (thread for thread in self.threads if (~thread << 3 | 6) == clock)
        if thread not in self.cpu:
            raise OSError(22, "no such thread")
        return round(self.cpu[thread] + self.used(thread), 9)

    def is_asleep(self, thread: int) -> bool:
        self.now += 3 * MICROSECOND
        return not any(start <= self.now < end for start, of, end in self.at + self.runnable if of == thread)

    def monotonic(self) -> float:
        self.now += MICROSECOND / 10
        return self.now


@pytest.fixture(scope="module", params=["in C", "in Python"], autouse=True)
def form(request: pytest.FixtureRequest) -> Iterator[None]:
    """All that is promised here holds in C and in Python."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "in C":
            skip_if_pure(request)
            if sys.platform != "linux":
                pytest.skip("it is there for Linux")
            patch.setattr(sampler, "may_change", importlib.import_module("otel_profiling_configurator._sampler").may_change)
        else:
            patch.setattr(sampler, "may_change", sampler.may_change_in_python)
        yield


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    kernel = Kernel()
    monkeypatch.setattr(sampler, "clock_gettime", kernel.clock_gettime)
    monkeypatch.setattr(sampler, "monotonic", kernel.monotonic)
    monkeypatch.setattr(sampler, "thread_time", kernel.monotonic)
    monkeypatch.setattr(sampler, "process_time", kernel.monotonic)
    monkeypatch.setattr(sampler, "State", lambda thread: SimpleNamespace(is_asleep=lambda: kernel.is_asleep(thread), close=str))
    monkeypatch.setattr(os_threads, "thread_ids", lambda: set(kernel.threads))
    yield kernel
    sampler.follow(None)


@pytest.fixture
def account() -> sampler.Account:
    return sampler.Account()


def look(kernel: Kernel, account: sampler.Account, *, put_off: bool = False) -> bool:
    """Ask whether labels may change, having made sure that a look is due."""
    kernel.now = max(kernel.now, account.next_look)
    return sampler.may_change(account, kernel.now, put_off)


@pytest.fixture
def found(kernel: Kernel, account: sampler.Account) -> None:
    """The sampler and the recorder have been told apart, no sample is being taken, and all is saved that may be."""
    sampler.follow({1})
    for _ in range(20):
        kernel.now += 0.01
        kernel.sample(kernel.now)
        kernel.now += 0.005
        look(kernel, account)
    kernel.now += 0.1
    look(kernel, account)
    kernel.now += sampler.SAVED_WAIT / sampler.WAIT_SHARE


LONG = 400 * MICROSECOND
"""What the sampler takes for a stack, where it is told how far it is: 160 of these for the frames."""


def often(kernel: Kernel, account: sampler.Account, saved: float = 0.002) -> float:
    """Have the thread switch often, while samples are taken; return when the next sample begins."""
    for _ in range(100):
        kernel.sample(kernel.now + 0.001, LONG)
        for _ in range(10):
            kernel.now += 300 * MICROSECOND
            sampler._budget._saved = sampler.SAVED_WAIT  # it may wait as long as it likes
            assert look(kernel, account, put_off=True)
    start = kernel.now + 150 * MICROSECOND
    sampler._budget._saved, sampler._budget._saved_at = saved, start
    kernel.sample(start, LONG)
    return start


def taken(kernel: Kernel, accounts: list[sampler.Account], *, seconds: float, pause: float) -> float:
    """Return how long all these threads were held up, who ask again and again whether they may change their labels."""
    start, held_up = kernel.now, 0.0
    while kernel.now < start + seconds:
        kernel.now += pause
        for account in accounts:
            before = kernel.now
            assert sampler.may_change(account, kernel.now, False)
            held_up += kernel.now - before
    return held_up


def test_no_agent(kernel: Kernel, account: sampler.Account) -> None:
    """Nothing is looked at, and a label may change."""
    sampler.follow(None)
    before = kernel.now
    assert sampler.may_change(account, kernel.now, True)
    assert kernel.now == before


@pytest.mark.usefixtures("found")
def test_threads_that_work_with_every_sample() -> None:
    """Are told from the agent's others and from the application's; the sampler is the one that works more."""
    assert sampler._followed is not None
    assert sampler._followed.clock == ~SAMPLER << 3 | 6


def test_nothing_is_told_apart_beside_another_busy_thread(kernel: Kernel, account: sampler.Account) -> None:
    """Rather no waiting than waiting for the wrong thread."""
    sampler.follow({1})
    for _ in range(50):
        kernel.now += 0.01
        kernel.sample(kernel.now)
        kernel.at.append((kernel.now, UPLOADER, kernel.now + 0.001))
        kernel.now += 0.005
        assert look(kernel, account)
    assert sampler._followed is None


def test_search_is_given_up(kernel: Kernel, account: sampler.Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the two never stand out, the threads are not looked through for ever."""
    monkeypatch.setattr(sampler, "_MOST_FIRST_LOOKS", 10)
    sampler.follow({1})
    for _ in range(11):
        kernel.now += 0.01
        assert look(kernel, account)
    kernel.threads.clear()
    kernel.cpu.clear()
    before = kernel.now + 1
    kernel.now = before
    assert look(kernel, account)
    assert kernel.now == before, "nothing is looked at any more"


def test_search_takes_little_time(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many threads of the application look, and however long a look takes."""

    def slow() -> set[int]:
        kernel.now += 0.001
        return set(kernel.threads)

    monkeypatch.setattr(os_threads, "thread_ids", slow)
    sampler.follow({1})
    assert 0.001 < taken(kernel, [sampler.Account() for _ in range(100)], seconds=1, pause=0.005) <= 0.02


@pytest.mark.usefixtures("found")
def test_many_threads_wait_no_longer_than_one(kernel: Kernel) -> None:
    """Who waits holds the GIL: the share is that of all threads together."""
    accounts = [sampler.Account() for _ in range(40)]
    kernel.at.append((kernel.now, SAMPLER, kernel.now + 100))  # it never sleeps
    waited = taken(kernel, accounts, seconds=10, pause=0.01)
    looks = 10 / 0.01 * len(accounts) * CLOCKS_READ
    assert waited <= sampler.SAVED_WAIT + sampler.WAIT_SHARE * 10 + looks


def test_nothing_is_saved_before_there_is_a_sampler(kernel: Kernel) -> None:
    """What a process has used until then, hours perhaps, does not go into the waits of its first second."""
    sampler.follow({1})
    assert sampler._budget.seconds() == pytest.approx(0, abs=MICROSECOND)
    kernel.now += 1
    assert sampler._budget.seconds() == pytest.approx(sampler.WAIT_SHARE, rel=0.01)


@pytest.mark.usefixtures("found")
def test_idle_sampler(kernel: Kernel, account: sampler.Account) -> None:
    """One look, no wait."""
    before = kernel.now
    assert look(kernel, account)
    assert kernel.now - before < 2 * MICROSECOND


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("into", [1, 60, 149, 160, 199, 210], ids=lambda into: f"{into} us")
def test_change_during_a_sample(kernel: Kernel, account: sampler.Account, into: float) -> None:
    """Waits until the recorder has looked the labels up, whatever moment of the sample it falls into."""
    start = kernel.now + 0.001
    kernel.sample(start)
    kernel.now = start + into * MICROSECOND
    assert look(kernel, account)
    assert kernel.now >= start + 224 * MICROSECOND


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize(
    ("gap", "into", "over"), [(50, 60, 224), (500, 300, 674)], ids=["sampler at work", "recorder without a CPU"]
)
def test_sample_right_after_another(kernel: Kernel, account: sampler.Account, gap: float, into: float, over: float) -> None:
    """Is waited for, although the recorder has worked since the last look: for the one before."""
    kernel.sample(kernel.now + 0.001)
    start = kernel.now + 0.003
    kernel.sample(start, gap=gap * MICROSECOND)
    kernel.now = start + into * MICROSECOND
    assert look(kernel, account)
    assert kernel.now >= start + over * MICROSECOND


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize(("samples", "by_clocks"), [(1, True), (2, False), (5, False)])
def test_samples_that_are_over(kernel: Kernel, account: sampler.Account, samples: int, by_clocks: bool) -> None:
    """One is told by the clocks alone: a file that nobody has looked at for a while takes long to read."""
    for _ in range(samples):
        kernel.sample(kernel.now + 0.001)
        kernel.now += 0.003
    before = kernel.now
    assert look(kernel, account)
    assert (kernel.now - before < 6 * MICROSECOND) is by_clocks
    before = kernel.now
    assert look(kernel, account)
    assert kernel.now - before < sampler.LOOK_SECONDS + 2 * MICROSECOND, "it is known to be over"


@pytest.mark.usefixtures("found")
def test_sampler_without_a_cpu_after_others(kernel: Kernel, account: sampler.Account) -> None:
    """Is not taken for one that is done, although the recorder has kept up with the samples before."""
    for _ in range(3):
        kernel.sample(kernel.now + 0.001)
        kernel.now += 0.003
    start = kernel.now
    kernel.at.append((start, SAMPLER, start + 30 * MICROSECOND))
    kernel.runnable.append((start + 30 * MICROSECOND, SAMPLER, start + 400 * MICROSECOND))
    kernel.sample(start + 400 * MICROSECOND, 120 * MICROSECOND)
    kernel.now = start + 50 * MICROSECOND
    assert look(kernel, account)
    assert kernel.now >= start + 594 * MICROSECOND


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("into", [170, 250, 280], ids=lambda into: f"{into} us")
def test_change_put_off(kernel: Kernel, account: sampler.Account, into: float) -> None:
    """A thread that switches often does not wait once its frames have been read: it changes with the next switch."""
    start = often(kernel, account)
    before = kernel.now = start + into * MICROSECOND
    assert not sampler.may_change(account, kernel.now, True)
    assert kernel.now - before < 10 * MICROSECOND
    kernel.now = start + 500 * MICROSECOND
    assert look(kernel, account, put_off=True)


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("into", [5, 60, 149], ids=lambda into: f"{into} us")
def test_frames_that_have_not_been_read(kernel: Kernel, account: sampler.Account, into: float) -> None:
    """The thread stands still until they have."""
    start = often(kernel, account)
    kernel.now = start + into * MICROSECOND
    assert not sampler.may_change(account, kernel.now, True)
    assert start + 0.95 * sampler.FRAMES_READ * LONG <= kernel.now < start + 1.1 * sampler.FRAMES_READ * LONG


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("into", [320, 399, 410, 460], ids=lambda into: f"{into} us")
def test_sample_that_is_nearly_over(kernel: Kernel, account: sampler.Account, into: float) -> None:
    """Is waited for: then the label need not be put off."""
    start = often(kernel, account)
    kernel.now = start + into * MICROSECOND
    assert sampler.may_change(account, kernel.now, True)
    assert start + 474 * MICROSECOND <= kernel.now < start + 490 * MICROSECOND


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("into", [5, 200, 399], ids=lambda into: f"{into} us")
def test_thread_that_has_not_waited_of_late(kernel: Kernel, account: sampler.Account, into: float) -> None:
    """Waits for the end however far that is, and puts nothing off."""
    start = often(kernel, account, saved=sampler.SAVED_WAIT)
    kernel.now = start + into * MICROSECOND
    assert sampler.may_change(account, kernel.now, True)
    assert kernel.now >= start + 474 * MICROSECOND


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("into", [10, 200], ids=lambda into: f"{into} us")
def test_thread_that_has_waited_all_it_may(kernel: Kernel, account: sampler.Account, into: float) -> None:
    """Puts its change off without a wait, looks again with its next switch, and then finds out when the sample is over."""
    start = often(kernel, account, saved=0.0)
    kernel.sample(start + 399 * MICROSECOND, 2 * LONG)  # another one: the clocks cannot tell at once that it is the last
    end = max(end for _, _, end in kernel.at)
    changed = []
    for number in range(7):
        at = start + (into + number * 300) * MICROSECOND
        sampler._budget._saved, sampler._budget._saved_at = 0.0, at
        kernel.now = at
        assert account.next_look <= at
        changed.append(at > end)
        assert sampler.may_change(account, kernel.now, True) == (changed.count(True) > 1)
        assert kernel.now - at < 2 * CLOCKS_READ
        if changed.count(True) > 1:
            return
    pytest.fail("never")


@pytest.mark.usefixtures("found")
def test_sampler_that_is_always_at_work(kernel: Kernel, account: sampler.Account) -> None:
    """A change is not put off for longer than one may have to wait."""
    start = often(kernel, account, saved=0.0)
    kernel.at.append((start, SAMPLER, start + 1.0))
    changed = []
    for number in range(300):
        sampler._budget._saved, sampler._budget._saved_at = 0.0, kernel.now
        kernel.now = start + number * 300 * MICROSECOND
        changed.append(sampler.may_change(account, kernel.now, True))
        assert account.next_look == pytest.approx(start + number * 300 * MICROSECOND + sampler.LOOK_SECONDS * changed[-1])
    assert changed.index(True) == 7
    assert all(changed[7:])


@pytest.mark.usefixtures("found")
def test_nothing_left_even_for_a_look(kernel: Kernel, account: sampler.Account) -> None:
    """Labels that come change, whatever the sampler does."""
    start = often(kernel, account, saved=0.0)
    before = kernel.now = start + 200 * MICROSECOND
    sampler._budget._saved_at = kernel.now
    assert sampler.may_change(account, kernel.now, False)
    assert kernel.now - before < CLOCKS_READ


@pytest.mark.usefixtures("found")
def test_sampler_that_reads_all_threads(kernel: Kernel, account: sampler.Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows when it is this one's turn: the thread waits for the end."""
    start = often(kernel, account)
    monkeypatch.setattr(sampler, "_frames_read", 1.0)
    kernel.now = start + 200 * MICROSECOND
    assert sampler.may_change(account, kernel.now, True)
    assert kernel.now >= start + 474 * MICROSECOND


@pytest.mark.parametrize(("reads_one_thread", "share"), [(True, sampler.FRAMES_READ), (False, 1.0)])
def test_what_the_agent_samples(reads_one_thread: bool, share: float) -> None:
    """Decides when the frames count as read."""
    sampler.follow(None, reads_one_thread=reads_one_thread)
    assert sampler._frames_read == share


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize(("into", "saved", "waits"), [(200, 0.002, False), (350, 0.002, True), (20, sampler.SAVED_WAIT, True)])
def test_label_that_comes_or_goes(kernel: Kernel, account: sampler.Account, into: float, saved: float, waits: bool) -> None:
    """Is not put off where nobody knows when the thread will switch again: it waits for what is near, or was saved for."""
    start = often(kernel, account, saved=saved)
    before = kernel.now = start + into * MICROSECOND
    assert sampler.may_change(account, kernel.now, False)
    if waits:
        assert kernel.now >= start + 474 * MICROSECOND
    else:
        assert kernel.now - before < 10 * MICROSECOND


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize(
    ("put_off", "pace"), [(False, 1.9), (True, 1.1)], ids=["a label that comes and goes", "from one label to another"]
)
def test_changes_all_the_time(kernel: Kernel, account: sampler.Account, put_off: bool, pace: float) -> None:
    """Are not waited for: most of them are too close to one another to be looked at."""
    for _ in range(20):
        kernel.now += pace * sampler.LOOK_SECONDS
        assert look(kernel, account, put_off=put_off)
    start = kernel.now + pace * sampler.LOOK_SECONDS
    kernel.sample(start - 60 * MICROSECOND)
    kernel.now = start
    assert sampler.may_change(account, start, put_off)
    assert kernel.now == start


@pytest.mark.usefixtures("found")
def test_pause_that_the_sample_made(kernel: Kernel, account: sampler.Account) -> None:
    """Does not make a thread that changes its labels all the time one that waits; several long steps do."""

    def held_up(gap: float, *, sample: bool = True) -> float:
        kernel.now += gap
        if sample:
            kernel.sample(kernel.now - 60 * MICROSECOND)
        before = kernel.now
        assert sampler.may_change(account, kernel.now, False)
        return kernel.now - before

    for _ in range(30):
        held_up(1.1 * sampler.LOOK_SECONDS, sample=False)
    long_steps = [held_up(4 * sampler.LOOK_SECONDS) for _ in range(6)]
    assert not any(long_steps[:4])
    assert long_steps[5]


@pytest.mark.usefixtures("found")
def test_sampler_without_a_cpu(kernel: Kernel, account: sampler.Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gets the one of the thread that waits for it, as soon as it is seen to stand still."""
    start = kernel.now + 0.001
    kernel.at.append((start, SAMPLER, start + 60 * MICROSECOND))
    kernel.runnable.append((start + 60 * MICROSECOND, SAMPLER, start + 10))

    def given(times: list[float]) -> float:
        times.append(kernel.now)
        if len(times) > 1:
            return 0.0
        kernel.runnable.clear()
        kernel.sample(kernel.now, 90 * MICROSECOND)
        kernel.now += 90 * MICROSECOND
        return 90 * MICROSECOND

    times: list[float] = []
    monkeypatch.setattr(sampler, "give_way", lambda: given(times))
    kernel.now = start + 30 * MICROSECOND
    assert look(kernel, account)
    assert start + 60 * MICROSECOND <= times[0] < start + 80 * MICROSECOND
    assert start + 224 * MICROSECOND <= kernel.now < start + 300 * MICROSECOND


@pytest.mark.usefixtures("found")
def test_processor_that_somebody_else_takes(kernel: Kernel, account: sampler.Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is not given away again and again: what that takes counts as waiting."""
    taken: list[float] = []

    def given() -> float:
        kernel.now += 0.003
        taken.append(0.003)
        return 0.003

    monkeypatch.setattr(sampler, "give_way", given)
    # No kernel counts what a thread does while another one has its processor.
    monkeypatch.setattr(sampler, "thread_time", lambda: kernel.now - sum(taken))
    kernel.runnable.append((kernel.now, SAMPLER, kernel.now + 100))
    kernel.at.append((kernel.now, SAMPLER, kernel.now + MICROSECOND))
    before = kernel.now
    while kernel.now < before + 10:
        kernel.now += 0.001
        assert look(kernel, account)
    assert len(taken) >= 5
    assert sum(taken) <= sampler.SAVED_WAIT + sampler.WAIT_SHARE * (kernel.now - before) + 0.003


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("put_off", [False, True])
def test_change_after_a_pause(kernel: Kernel, account: sampler.Account, put_off: bool) -> None:
    """Is waited for, and so are those right after it: the thread is none that changes all the time."""
    start = kernel.now + 1
    for number in range(8):
        kernel.sample(start)
        kernel.now = start + 60 * MICROSECOND
        assert sampler.may_change(account, kernel.now, put_off), number
        assert kernel.now >= start + 224 * MICROSECOND
        start = kernel.now + sampler.LOOK_SECONDS


@pytest.mark.usefixtures("found")
def test_sampler_that_never_ends(kernel: Kernel, account: sampler.Account) -> None:
    """No wait is longer than the longest, all together no more than their share of the thread's time."""
    kernel.at.append((kernel.now, SAMPLER, kernel.now + 1000))
    before, waited = kernel.now, 0.0
    for _ in range(1000):
        kernel.now += 0.001
        start = kernel.now
        assert look(kernel, account)
        assert kernel.now - start < sampler.LONGEST_WAIT + 10 * MICROSECOND
        waited += kernel.now - start
    assert waited < sampler.WAIT_SHARE * (kernel.now - before) + sampler.SAVED_WAIT + 1000 * 10 * MICROSECOND


@pytest.mark.usefixtures("found")
def test_agent_that_was_stopped(kernel: Kernel, account: sampler.Account) -> None:
    """Its clocks are gone: labels change at once, now and later."""
    kernel.cpu.clear()
    assert look(kernel, account)
    before = kernel.now
    assert look(kernel, account)
    assert kernel.now - before <= sampler._FIRST_LOOK_SECONDS


def test_real_clock_of_a_thread() -> None:
    """The clock id is the kernel's for the thread's CPU time."""
    clock = os_threads.cpu_clock(get_native_id())
    before = sampler.clock_gettime(clock)
    end = before + 0.002
    while sampler.clock_gettime(clock) < end:
        pass
    assert sampler.clock_gettime(clock) > before


def test_threads_that_look_at_once(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them finds the sampler; the others' labels change without waiting for it."""
    sampler.follow({1})
    inside: list[bool] = []

    def listed() -> set[int]:
        # Listing the threads gives the GIL up: another thread looks in the middle of it.
        inside.append(on_a_thread(lambda: sampler.may_change(sampler.Account(), kernel.now, True)))
        return set(kernel.threads)

    monkeypatch.setattr(os_threads, "thread_ids", listed)
    assert look(kernel, sampler.Account())
    assert inside == [True]


@pytest.mark.usefixtures("found")
def test_failure_of_ours(kernel: Kernel, account: sampler.Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never reaches the application, and happens once."""
    monkeypatch.setattr(guard, "reraise", False)
    monkeypatch.setattr(sampler, "clock_gettime", lambda _clock: 1 / 0)
    assert look(kernel, account)
    assert sampler._followed is None
    assert look(kernel, account)


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("error", [TimeoutError, ValueError])
def test_exception_of_a_signal_handler(
    error: type[Exception], kernel: Kernel, account: sampler.Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is the application's: it goes to the application, and the sampler is followed as before."""
    monkeypatch.setattr(guard, "reraise", False)

    def handler(*_signal: object) -> None:
        raise error

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(sampler, "clock_gettime", lambda _clock: signal.raise_signal(signal.SIGUSR1))
            with pytest.raises(error):
                look(kernel, account)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert sampler._followed is not None
    assert look(kernel, account)


def test_module_in_c_without_its_names(request: pytest.FixtureRequest, account: sampler.Account) -> None:
    """It says what is missing, and goes on with what it has."""
    skip_if_pure(request)
    in_c = importlib.import_module("otel_profiling_configurator._sampler")
    names = vars(sampler)
    with pytest.raises(TypeError):
        in_c.use("names")
    for missing in ("LOOK_SECONDS", "clock_gettime", "Followed"):
        with pytest.raises(KeyError, match=missing):
            in_c.use({name: value for name, value in names.items() if name != missing})
    with pytest.raises(AttributeError):
        in_c.use({**names, "Account": object})
    with pytest.raises(TypeError):
        in_c.use({**names, "Account": SimpleNamespace(next_look=0.0)})
    with pytest.raises(TypeError):
        in_c.may_change()
    for strange in ((account, 0, True), (type("Account", (), {})(), 0.0, True)):
        assert in_c.may_change(*strange), "left to the form in Python"
    in_c.use(names)

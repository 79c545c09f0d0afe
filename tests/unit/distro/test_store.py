"""The store: it gives back what it got, and stays within its bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from otel_profiling_distro.receiver import Bounds, Frame, Sample, Store
from otel_profiling_distro.receiver.model import Profile
from otel_profiling_distro.receiver.stacks import ROOT, Stacks

from .uploads import MS, UNHURRIED, profile, sample, span, spans


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


texts = st.sampled_from(["a", "b", "", "GET /", "\U0001f40d"])
frames = st.builds(Frame, texts, texts, st.integers(-(2**63), 2**63 - 1))
samples = st.builds(
    Sample,
    st.dictionaries(st.sampled_from(["service_name", "clock", "x"]), st.sampled_from(["wall", "shop", ""])),
    st.lists(st.tuples(st.sampled_from(["span_id", "trace_id", "span_name"]), texts), max_size=4).map(tuple),
    st.lists(frames, max_size=5).map(tuple),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from(["nanoseconds", "bytes"]),
    st.sampled_from(["cpu", "alloc_space"]),
    st.integers(1, 2**62),
)


@UNHURRIED
@given(st.lists(st.lists(samples, max_size=6), max_size=6), st.booleans())
def test_samples_come_back(pushes: list[list[Sample]], segments: bool) -> None:
    """Every sample comes back as it arrived and in that order, whatever is in it, and across segments."""
    clock = Clock()
    store = Store(Bounds(seconds=60 * 1_000) if segments else None, clock)
    for push in pushes:
        store.add_profiles([Profile(0, 0, one.series, [one]) for one in push])
        clock.now += 1_000
    assert store.samples() == [one for push in pushes for one in push]


@UNHURRIED
@given(st.lists(st.lists(frames, max_size=5).map(tuple), max_size=20))
def test_stacks_come_back(stacks: list[tuple[Frame, ...]]) -> None:
    """A stack's number is always the same, no other stack's, and leads back to it."""
    table = Stacks()
    numbers = [table.node(stack) for stack in stacks]
    assert [table.stack(number) for number in numbers] == stacks
    assert [table.node(stack) for stack in stacks] == numbers
    assert len(set(numbers)) == len(set(stacks))
    assert table.node(()) == ROOT


def test_age() -> None:
    """What is older than the bound goes, the oldest first, also where nothing comes any more."""
    clock = Clock()
    store = Store(Bounds(seconds=600), clock)
    for minute in range(30):
        store.add_profiles([profile(sample(f"f{minute}"))])
        clock.now += 60
    kept = [one.stack[0].function for one in store.samples()]
    assert kept == [f"f{minute}" for minute in range(19, 30)]
    generation = store.generation
    store.expire()
    assert store.generation != generation
    clock.now += 3_600
    store.expire()
    assert store.samples() == []
    assert store.dropped == 30
    store.expire()


def test_size() -> None:
    """Beyond the bound the oldest goes, of samples, stacks and spans alike; what has just come is there."""
    store = Store(Bounds(size=400_000))
    for number in range(4_000):
        store.add_profiles([profile(sample(f"leaf{number} caller{number}", span_id=f"s{number}", trace_id=f"t{number}"))])
        store.add_spans(spans(span(f"t{number}", f"s{number}", f"GET /{number}")))
        assert store.size <= 400_000 * 1.1
    assert store.dropped > 0
    kept = [one.stack[0].function for one in store.samples()]
    assert kept[-1] == "leaf3999"
    assert 50 < len(kept) < 1_000
    assert kept == [f"leaf{number}" for number in range(4_000 - len(kept), 4_000)]
    # Segments that have gone take their stacks along.
    assert sum(len(table.frames) for table in {id(s.stacks): s.stacks for s in store.segments}.values()) < 2_000


def test_one_upload_beyond_the_bound() -> None:
    """An upload that is larger than all that is kept is there until the next one."""
    store = Store(Bounds(size=1_000))
    store.add_profiles([profile(*(sample(f"f{number}") for number in range(100)))])
    assert len(store.samples()) == 100
    store.add_profiles([profile(sample("next"))])
    assert [one.stack[0].function for one in store.samples()] == ["next"]


def test_counts() -> None:
    """A trace is counted once, wherever its spans came from."""
    store = Store()
    store.add_profiles([profile(sample("f", 30))])
    store.add_spans(spans(span("t", "a", "GET /")))
    store.add_spans(spans(span("t", "b", "call", "a"), span("u", "c", "GET /"), service="bank"))
    assert dict(store.counts()) == {"samples": 3, "spans": 3, "traces": 2}
    assert store.services() == ["bank", "shop"]
    assert [record.span_id for record in store.span_records("bank")] == ["b", "c"]


def test_sums_of_a_closed_segment() -> None:
    """A segment that takes no more samples says the same as before."""
    store = Store()
    store.add_profiles([profile(sample("leaf caller", 10), sample("leaf caller", 20), sample("", 40))])
    (segment,) = store.segments
    (sums,) = segment.groups.values()
    before = dict(sums.stacks()), dict(sums.frames(segment.stacks))
    segment.close()
    assert (dict(sums.stacks()), dict(sums.frames(segment.stacks))) == before
    assert sorted(before[0].values()) == [30 * MS, 40 * MS]

"""Reads what a Pyroscope agent pushes: a protobuf envelope around profiles in the pprof format."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.message import DecodeError

from .body import MAX_BODY, BodyError, BodyTooLargeError, gunzip
from .model import Frame, Profile, Sample
from .protos import otel_profiling_pprof_pb2 as pprof_pb2
from .protos import otel_profiling_push_pb2 as push_pb2

_GZIP_MAGIC = b"\x1f\x8b"

MAX_FRAMES = 5_000_000
"""In the stacks of one profile: a few bytes can ask for many, since samples refer to locations, and those to functions."""


def decode_push(body: bytes) -> tuple[tuple[dict[str, str], ...], list[Profile]]:
    """Return the labels of each series in a push.v1.PushRequest, and the profiles of all of them.

    Raises:
        BodyTooLargeError: the profiles in it hold more than `body.MAX_BODY` once they are decompressed.
        BodyError: `body` is no PushRequest, or a profile in it can't be read.
    """
    try:
        request = push_pb2.PushRequest.FromString(body)
    except DecodeError as error:
        raise BodyError(f"not a push.v1.PushRequest: {error}") from error
    all_labels: list[dict[str, str]] = []
    profiles: list[Profile] = []
    room = MAX_BODY
    for series in request.series:
        labels = {pair.name: pair.value for pair in series.labels}
        all_labels.append(labels)
        for raw in series.samples:
            data = raw.raw_profile
            if data.startswith(_GZIP_MAGIC):
                data = gunzip(data, room)
            room -= len(data)
            profiles.append(decode_profile(data, labels))
    return tuple(all_labels), profiles


def decode_profile(data: bytes, series: dict[str, str]) -> Profile:
    """Return one pprof profile, which is not compressed, as part of `series`.

    Raises:
        BodyError: `data` is no profile, or refers to strings, functions or locations that it lacks.
    """
    try:
        profile = pprof_pb2.Profile.FromString(data)
        return Profile(profile.time_nanos, profile.duration_nanos, series, list(_samples(profile, series)))
    except DecodeError as error:
        raise BodyError(f"not a pprof profile: {error}") from error
    except BodyError:
        raise
    except (IndexError, KeyError, ValueError) as error:
        raise BodyError(f"a pprof profile that refers to something it does not hold: {error}") from error


def _samples(profile: pprof_pb2.Profile, series: dict[str, str]) -> Iterator[Sample]:
    strings = list(profile.string_table)
    functions = {function.id: function for function in profile.function}
    frames: dict[int, tuple[Frame, ...]] = {}
    for location in profile.location:
        lines = []
        for line in location.line:
            function = functions[line.function_id]
            lines.append(Frame(strings[function.name], strings[function.filename], line.line))
        frames[location.id] = tuple(lines)

    kinds = [(strings[kind.type], strings[kind.unit]) for kind in profile.sample_type]
    period_kind = (strings[profile.period_type.type], strings[profile.period_type.unit]) if strings else ("", "")

    room = MAX_FRAMES
    for sample in profile.sample:
        room -= sum(len(frames[location_id]) for location_id in sample.location_id)
        if room < 0:
            raise BodyTooLargeError(f"a profile with more than {MAX_FRAMES} frames in its stacks")
        stack = tuple(frame for location_id in sample.location_id for frame in frames[location_id])
        labels = tuple((strings[label.key], strings[label.str] if label.str else str(label.num)) for label in sample.label)
        for (type_, unit), value in zip(kinds, sample.value, strict=True):
            if value:
                # Only a value of the period's own kind can be counted in periods: bytes allocated can't.
                periods = value // profile.period if profile.period > 0 and (type_, unit) == period_kind else 1
                yield Sample(series, labels, stack, value, unit, type_, max(periods, 1))

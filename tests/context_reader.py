"""Reads from outside what a process tells of its spans, as OpenTelemetry's proposals 4719 and 4947 ask of readers.

It takes nothing from the code under test. As a profiler, it has the process's id only: mappings, files of shared libraries,
memory, and threads that it stops by ptrace. For Linux on x86-64, with glibc or musl.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

SYMBOL = b"otel_thread_ctx_v1"
MAPPINGS = ("/memfd:OTEL_CTX", "[anon:OTEL_CTX]", "[anon_shmem:OTEL_CTX]")

is_supported = sys.platform == "linux" and platform.machine() == "x86_64"

_DYNSYM, _RELA, _TLS = 11, 4, 6
_DTPMOD64, _TPOFF64, _TLSDESC = 16, 18, 36
_CONT, _GETREGS, _DETACH, _SEIZE, _INTERRUPT = 7, 12, 17, 0x4206, 0x4207
_ALL_CHILDREN = 0x40000000
_EVENT_STOP = 128
_FS_BASE = 21
"""Its place among the registers that PTRACE_GETREGS gives."""


@dataclasses.dataclass(frozen=True)
class Mapping:
    start: int
    end: int
    access: str
    offset: int
    path: str


@dataclasses.dataclass(frozen=True)
class Record:
    """A thread context record."""

    trace_id: int
    span_id: int
    valid: int
    flags: int
    attributes: dict[int, str]


@dataclasses.dataclass(frozen=True)
class ProcessContext:
    """What the process tells of itself."""

    published_at: int
    resource: dict[str, KeyValue]
    attributes: dict[str, KeyValue]

    @property
    def keys(self) -> list[str]:
        return [item.string_value for item in self.attributes["threadlocal.attribute_key_map"].value.array_value.values]


class EndedError(Exception):
    """The thread has ended."""


class Reader:
    """Reads one process; it may be used by the thread only that made it, as ptrace asks."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        self._seized: set[int] = set()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        self._libc.ptrace.restype = ctypes.c_long

    def close(self) -> None:
        """Let go of the process, which could not end otherwise: whoever traces a thread is told of its end first."""
        with contextlib.suppress(FileNotFoundError), self.stopped() as threads:
            for thread in threads:
                with contextlib.suppress(EndedError):
                    self._ptrace(_DETACH, thread, None, None)
                self._seized.discard(thread)
        os.close(self._memory)

    # What it tells of itself.

    def mappings(self) -> list[Mapping]:
        found = []
        for line in Path(f"/proc/{self.pid}/maps").read_text().splitlines():
            addresses, access, offset, _, _, *path = line.split(maxsplit=5)
            start, end = (int(address, 16) for address in addresses.split("-"))
            name = path[0].removesuffix(" (deleted)") if path else ""
            found.append(Mapping(start, end, access, int(offset, 16), name))
        return found

    def process_context(self) -> ProcessContext | None:
        """Return it; None where the process has none. Read again while it changes."""
        mappings = [mapping for mapping in self.mappings() if mapping.path in MAPPINGS]
        if not mappings:
            return None
        (mapping,) = mappings
        assert "x" not in mapping.access
        while True:
            signature, version, size, published_at, payload = struct.unpack("<8sIIQQ", self.read(mapping.start, 32))
            if published_at == 0:
                continue
            assert (signature, version) == (b"OTEL_CTX", 2)
            with contextlib.suppress(OSError):  # it has been exchanged, and given back
                message = self.read(payload, size)
                if struct.unpack("<Q", self.read(mapping.start + 16, 8))[0] == published_at:
                    break
        resource: dict[str, KeyValue] = {}
        attributes: dict[str, KeyValue] = {}
        for number, content in fields_of(message):
            if number == 1:
                resource = {item.key: item for item in Resource.FromString(content).attributes}
            elif number == 2:
                item = KeyValue.FromString(content)
                attributes[item.key] = item
        return ProcessContext(published_at, resource, attributes)

    # Where threads have their pointers.

    def find_pointer(self) -> Pointer:
        """Find the module that exports the thread-local, and how its address is come by."""
        mappings = self.mappings()
        is_musl = any("/ld-musl-" in mapping.path or mapping.path.endswith("/libc.so") for mapping in mappings)
        for mapping in mappings:
            if mapping.offset == 0 and mapping.path.startswith("/") and Path(mapping.path).is_file():
                found = _thread_local_in(Path(mapping.path).read_bytes())
                if found is not None:
                    kind, slot = found
                    return self._pointer(kind, mapping.start + slot, is_musl)
        raise LookupError("no module of the process exports the thread-local")

    def _pointer(self, kind: int, slot: int, is_musl: bool) -> Pointer:
        first, second = struct.unpack("<Qq", self.read(slot, 16))
        if kind == _TPOFF64:
            return Pointer(is_musl, 0, struct.unpack("<q", self.read(slot, 8))[0])
        if kind == _DTPMOD64:
            return Pointer(is_musl, first, second)
        if second <= 0xFFFFFFFF:  # an offset from the thread's pointer, below it
            return Pointer(is_musl, 0, second)
        return Pointer(is_musl, *struct.unpack("<QQ", self.read(second, 16)))

    def record(self, thread: int, pointer: Pointer) -> Record | None:
        """Return the record of a stopped thread; None where it has none."""
        address = self._address(thread, pointer)
        record = 0 if address is None else self._word(address)
        if record == 0:
            return None
        assert record % 2 == 0
        trace_id, span_id, valid, flags, size = struct.unpack("<16s8sBBH", self.read(record, 28))
        rest, attributes = self.read(record + 28, size), {}
        while len(rest) >= 2 and len(rest) >= 2 + rest[1]:
            attributes[rest[0]] = rest[2 : 2 + rest[1]].decode()
            rest = rest[2 + rest[1] :]
        assert not rest, rest
        return Record(int.from_bytes(trace_id, "big"), int.from_bytes(span_id, "big"), valid, flags, attributes)

    def _address(self, thread: int, pointer: Pointer) -> int | None:
        registers = (ctypes.c_ulonglong * 27)()
        self._ptrace(_GETREGS, thread, None, registers)
        base = int(registers[_FS_BASE])
        if pointer.module == 0:
            return (base + pointer.offset) % (1 << 64) if base else None
        vector = self._word(base + 8)
        if pointer.is_musl:
            count, block = self._word(vector), vector + 8 * pointer.module
        else:
            count, block = self._word(vector - 16), vector + 16 * pointer.module
        if pointer.module > count:
            return None
        memory = self._word(block)
        return None if memory in (0, (1 << 64) - 1) else memory + pointer.offset  # none yet: the thread has not used it

    # Threads.

    @contextlib.contextmanager
    def stopped(self) -> Iterator[list[int]]:
        """Stop all threads of the process; gives their ids."""
        threads: set[int] = set()
        while new := self._threads() - threads:  # those that were begun meanwhile
            for thread in new:
                threads.add(thread)
                with contextlib.suppress(EndedError):
                    self._stop(thread)
        try:
            yield sorted(threads & self._seized)
        finally:
            for thread in sorted(threads & self._seized):
                with contextlib.suppress(EndedError):
                    self._ptrace(_CONT, thread, None, None)

    def _threads(self) -> set[int]:
        return {int(task.name) for task in Path(f"/proc/{self.pid}/task").iterdir()}

    def _stop(self, thread: int) -> None:
        if thread not in self._seized:
            self._ptrace(_SEIZE, thread, None, None)
            self._seized.add(thread)
        self._ptrace(_INTERRUPT, thread, None, None)
        while True:
            _, status = os.waitpid(thread, _ALL_CHILDREN)
            if not os.WIFSTOPPED(status):
                self._seized.discard(thread)
                raise EndedError
            if status >> 16 == _EVENT_STOP:
                return
            self._ptrace(_CONT, thread, None, ctypes.c_void_p(os.WSTOPSIG(status)))  # a signal of its own, which it gets

    def _ptrace(self, request: int, thread: int, address: object, data: object) -> None:
        if self._libc.ptrace(request, thread, address, data) < 0:
            error = ctypes.get_errno()
            self._seized.discard(thread)
            if error == errno.ESRCH or (error == errno.EPERM and self._is_ending(thread)):
                raise EndedError
            raise OSError(error, os.strerror(error))

    def _is_ending(self, thread: int) -> bool:
        """Whether there is nothing left to be traced of a thread that is listed still, or was just now."""
        try:
            state = Path(f"/proc/{self.pid}/task/{thread}/stat").read_text()
        except OSError:
            return True
        return state.rpartition(")")[2].split()[0] in "XZ"

    def _word(self, address: int) -> int:
        return int.from_bytes(self.read(address, 8), "little")

    def read(self, address: int, size: int) -> bytes:
        return os.pread(self._memory, size, address)


@dataclasses.dataclass(frozen=True)
class Pointer:
    """Where a thread's pointer is."""

    is_musl: bool
    module: int
    """The number of the module in a thread's vector of blocks; 0: the offset is one from the thread pointer."""
    offset: int


def _thread_local_in(file: bytes) -> tuple[int, int] | None:
    """Return the kind of the relocation that names the exported thread-local, and its place; None for a file without one."""
    if file[:5] != b"\x7fELF\x02" or SYMBOL not in file:
        return None
    at, size, count = struct.unpack_from("<Q", file, 40)[0], *struct.unpack_from("<HH", file, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", file, at + number * size) for number in range(count)]
    symbols = next(section for section in sections if section[1] == _DYNSYM)
    strings = sections[symbols[6]][4]
    number = next(
        (number for number in range(symbols[5] // 24) if _name_of(file, symbols[4] + 24 * number, strings) == SYMBOL), None
    )
    if number is None:
        return None
    _, info, visibility, _, _, length = struct.unpack_from("<IBBHQQ", file, symbols[4] + 24 * number)
    assert (info & 15, visibility, length) == (_TLS, 0, 8), "a pointer that is a thread-local, of default visibility"
    for section in sections:
        for entry in range(section[5] // 24 if section[1] == _RELA else 0):
            place, what, _ = struct.unpack_from("<QQq", file, section[4] + 24 * entry)
            if what >> 32 == number and what & 0xFFFFFFFF in (_DTPMOD64, _TPOFF64, _TLSDESC):
                return what & 0xFFFFFFFF, place
    raise AssertionError("no relocation names the thread-local")


def _name_of(file: bytes, symbol: int, strings: int) -> bytes:
    begin = strings + int.from_bytes(file[symbol : symbol + 4], "little")
    return file[begin : file.index(b"\0", begin)]


def fields_of(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the content of each field of a protobuf message whose fields are messages."""
    at = 0

    def varint() -> int:
        nonlocal at
        number = shift = 0
        while True:
            byte = message[at]
            at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    while at < len(message):
        head = varint()
        assert head & 7 == 2
        size = varint()
        assert at + size <= len(message)
        yield head >> 3, message[at : at + size]
        at += size

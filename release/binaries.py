"""Says what is wrong with a compiled module that a wheel's tag promises for a platform: what auditwheel asks, and some more.

A tag promises that the module can be loaded on the oldest system that it names. So the C library's symbols are compared with
those that it had then, and only libraries that every such system has may be needed.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import NoteSection, SymbolTableSection
from platforms import Platform

OLDEST_GLIBC = (2, 17)
_LIBRARIES = {
    "manylinux": re.compile(r"lib(c|dl|m|pthread|rt)\.so\.\d|ld-linux-(x86-64|aarch64)\.so\.\d"),
    "musllinux": re.compile(r"libc\.so"),
}
"""What may be needed: of the policies of manylinux_2_17 and musllinux_1_2, the C library's own."""

_AFTER_MUSL_1_2_0 = {
    *("_Fork", "gettid", "reallocarray"),  # 1.2.2
    *("pthread_getname_np", "qsort_r"),  # 1.2.3
    *("preadv2", "pwritev2", "statx", "posix_getdents"),  # 1.2.4 and later
}
"""musl's symbols have no versions, so that a new one is only noticed when it is missing."""

THREAD_CONTEXT = "otel_thread_ctx_v1"
_POINTER_BYTES = 8
_TLS_RELOCATIONS = {
    "EM_X86_64": {36, 16, 18},  # TLSDESC, DTPMOD64, TPOFF64
    "EM_AARCH64": {1031, 1028, 1030},  # the same there: TLSDESC, TLS_DTPMOD64, TLS_TPREL64
}
"""By processor, the relocations from which a reader outside the process learns where a thread-local lies: those that the
OpenTelemetry eBPF profiler takes."""

_MACHO_MAGIC = 0xFEEDFACF
_LC_LOAD_DYLIB, _LC_BUILD_VERSION, _LC_CODE_SIGNATURE = 0xC, 0x32, 0x1D
_LC_RPATHS = {0x8000001C}
_OLDEST_MACOS = (11, 0)
_MACOS_LIBRARY = "/usr/lib/libSystem.B.dylib"


def problems(content: bytes, platform: Platform) -> Iterator[str]:
    """Say what is wrong with an extension module.

    Args:
        content: The file's bytes.
        platform: What its wheel is tagged for.
    """
    yield from (macho_problems if platform.system == "macos" else elf_problems)(content, platform)


def elf_problems(content: bytes, platform: Platform) -> Iterator[str]:
    """Say what is wrong with an extension module for Linux."""
    elf = ELFFile(io.BytesIO(content))
    if elf["e_machine"] != platform.machine:
        yield f"made for {elf['e_machine']}"
    for section in elf.iter_sections():
        if isinstance(section, DynamicSection):
            for tag in section.iter_tags():
                if tag.entry.d_tag == "DT_NEEDED" and not _LIBRARIES[platform.system].fullmatch(tag.needed):
                    yield f"needs {tag.needed}, which is not on every {platform.tags[0]}"
                elif tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH"):
                    yield "says where to look for libraries"
        elif isinstance(section, GNUVerNeedSection):
            yield from _version_problems(section, platform)
        elif isinstance(section, SymbolTableSection) and section.name == ".dynsym" and platform.system == "musllinux":
            undefined = {symbol.name for symbol in section.iter_symbols() if symbol["st_shndx"] == "SHN_UNDEF"}
            for name in sorted(undefined & _AFTER_MUSL_1_2_0):
                yield f"needs {name}, which musl 1.2.0 has not"
        elif section.name == ".symtab" or section.name.startswith((".debug", ".zdebug")):
            yield f"not stripped: has {section.name}"
        elif isinstance(section, NoteSection) and section.name == ".note.gnu.build-id":
            yield "has the identifier of a build"


def _version_problems(section: GNUVerNeedSection, platform: Platform) -> Iterator[str]:
    for library, versions in section.iter_versions():
        for version in versions:
            match = re.fullmatch(r"GLIBC_(\d+)\.(\d+)(\.\d+)?", version.name)
            if platform.system == "musllinux":
                yield f"needs {version.name} of {library.name}, and musl's symbols have no versions"
            elif match is None or (int(match[1]), int(match[2])) > OLDEST_GLIBC:
                yield f"needs {version.name} of {library.name}, which is newer than {platform.tags[0]} promises"


def thread_context_problems(content: bytes) -> Iterator[str]:
    """Say why profilers outside the process would not find the current span of its threads in a module for Linux.

    They look for an exported thread-local pointer, and for a relocation that names it, as OpenTelemetry's enhancement proposal
    4947 says. The module works without, and so no other test would fail.
    """
    elf = ELFFile(io.BytesIO(content))
    table = elf.get_section_by_name(".dynsym")
    symbols = list(table.iter_symbols()) if isinstance(table, SymbolTableSection) else []
    index = next((place for place, symbol in enumerate(symbols) if symbol.name == THREAD_CONTEXT), None)
    if index is None or symbols[index]["st_shndx"] == "SHN_UNDEF":
        yield f"does not export {THREAD_CONTEXT}, by which profilers outside the process find its spans"
        return
    kind, size = symbols[index]["st_info"]["type"], symbols[index]["st_size"]
    if (kind, size) != ("STT_TLS", _POINTER_BYTES):
        yield f"exports {THREAD_CONTEXT} as {kind} of {size} bytes, not as a thread-local pointer"
    named = {
        relocation["r_info_type"]
        for section in elf.iter_sections()
        if isinstance(section, RelocationSection) and elf.get_section(section["sh_link"]) == table
        for relocation in section.iter_relocations()
        if relocation["r_info_sym"] == index
    }
    if not named & _TLS_RELOCATIONS.get(elf["e_machine"], set()):
        yield f"has no relocation that says where {THREAD_CONTEXT} lies in a thread's memory"


def macho_problems(content: bytes, platform: Platform) -> Iterator[str]:
    """Say what is wrong with an extension module for macOS."""
    magic, machine, _, _, count = struct.unpack_from("<5I", content)
    if magic != _MACHO_MAGIC or machine != int(platform.machine, 16):
        yield f"made for {machine:#x}"
        return
    oldest, signed, place = None, False, 32
    for _ in range(count):
        command, size = struct.unpack_from("<2I", content, place)
        if command == _LC_LOAD_DYLIB:
            (offset,) = struct.unpack_from("<I", content, place + 8)
            name = content[place + offset : place + size].split(b"\0", 1)[0].decode()
            if name != _MACOS_LIBRARY:
                yield f"needs {name}"
        elif command == _LC_BUILD_VERSION:
            (version,) = struct.unpack_from("<I", content, place + 12)
            oldest = (version >> 16, version >> 8 & 0xFF)
        elif command in _LC_RPATHS:
            yield "says where to look for libraries"
        signed = signed or command == _LC_CODE_SIGNATURE
        place += size
    if oldest is None or oldest > _OLDEST_MACOS:
        yield f"made for macOS {oldest} and later"
    if platform.name.endswith("arm64") and not signed:
        yield "not signed, and arm64 loads nothing that is not"

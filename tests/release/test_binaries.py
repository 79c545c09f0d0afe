"""What the check of a native module finds: each way in which a wheel's tag could promise too much."""

import binaries
import pytest
from platforms import by_name

STRIPPED = ("-s", "-Wl,--build-id=none")
HARMLESS = "#include <unistd.h>\nint harmless(void) { return getpid(); }\n"
INSTALL_NAME = "-Wl,-install_name,@rpath/library.so"


def problems(content, platform):
    return list(binaries.problems(content, by_name(platform)))


@pytest.mark.parametrize(
    ("platform", "target", "options"),
    [
        ("manylinux-x86_64", "x86_64-linux-gnu.2.17", STRIPPED),
        ("manylinux-aarch64", "aarch64-linux-gnu.2.17", STRIPPED),
        ("musllinux-x86_64", "x86_64-linux-musl", STRIPPED),
        ("musllinux-aarch64", "aarch64-linux-musl", STRIPPED),
        ("macos-x86_64", "x86_64-macos.11.0", ("-s", INSTALL_NAME)),
        ("macos-arm64", "aarch64-macos.11.0", ("-s", INSTALL_NAME)),
    ],
)
def test_as_it_should_be(linked, platform, target, options):
    """Nothing is found in a library that keeps the tag's promise, and it is not one for any other platform."""
    content = linked(target, HARMLESS, *options)
    assert problems(content, platform) == []
    other = {"x86_64": "aarch64", "aarch64": "x86_64", "arm64": "x86_64"}
    system, machine = platform.split("-")
    other_machine = "arm64" if system == "macos" and machine == "x86_64" else other[machine]
    assert any("made for" in problem for problem in problems(content, f"{system}-{other_machine}"))


def test_symbol_of_a_newer_glibc(linked):
    """Linked for glibc 2.34, `pthread_create` is looked up in a version that glibc 2.17 has not."""
    source = "#include <pthread.h>\nint start(pthread_t *t, void *(*f)(void *)) { return pthread_create(t, 0, f, 0); }\n"
    assert problems(linked("x86_64-linux-gnu.2.17", source, *STRIPPED), "manylinux-x86_64") == []
    newer = linked("x86_64-linux-gnu.2.34", source, *STRIPPED)
    assert problems(newer, "manylinux-x86_64") == [
        "needs GLIBC_2.34 of libc.so.6, which is newer than manylinux_2_17_x86_64 promises"
    ]


def test_symbol_of_a_newer_musl(linked):
    """musl's symbols have no versions: a function that came after 1.2.0 is known by its name."""
    source = "#define _GNU_SOURCE\n#include <unistd.h>\nint id(void) { return gettid(); }\n"
    assert problems(linked("x86_64-linux-musl", source, *STRIPPED), "musllinux-x86_64") == [
        "needs gettid, which musl 1.2.0 has not"
    ]


def test_made_for_the_other_c_library(linked):
    """A library for glibc under the tag of musl, and the other way round."""
    assert "needs libc.so.6, which is not on every musllinux_1_2_x86_64" in problems(
        linked("x86_64-linux-gnu.2.17", HARMLESS, *STRIPPED), "musllinux-x86_64"
    )
    assert problems(linked("x86_64-linux-musl", HARMLESS, *STRIPPED), "manylinux-x86_64") == [
        "needs libc.so, which is not on every manylinux_2_17_x86_64"
    ]


def test_library_of_this_machine(linked):
    """It needs a library that lies beside it here, and says where to look for it."""
    linked("x86_64-linux-gnu.2.17", "int other(void) { return 1; }\n", "-Wl,-soname,libother.so", name="libother.so")
    content = linked(
        *("x86_64-linux-gnu.2.17", "int other(void);\nint mine(void) { return other(); }\n", *STRIPPED),
        *("-L.", "-lother", "-Wl,-rpath,/opt/somewhere"),
    )
    assert sorted(problems(content, "manylinux-x86_64")) == [
        "needs libother.so, which is not on every manylinux_2_17_x86_64",
        "says where to look for libraries",
    ]


def test_not_stripped(linked):
    """Symbols and debugging information, or the identifier of one build, are still there."""
    found = problems(linked("x86_64-linux-gnu.2.17", HARMLESS, "-g", "-Wl,--build-id=sha1"), "manylinux-x86_64")
    assert "has the identifier of a build" in found
    assert "not stripped: has .symtab" in found
    assert "not stripped: has .debug_info" in found


def test_newer_macos(linked):
    """Compiled for macOS 13, tagged for 11."""
    newer = linked("aarch64-macos.13.0", HARMLESS, "-s", INSTALL_NAME)
    assert problems(newer, "macos-arm64") == ["made for macOS (13, 0) and later"]


EXPORTED = '__attribute__((visibility("default"))) '
DECLARED = "_Thread_local struct Record *volatile otel_thread_ctx_v1;\n"
WAY = EXPORTED + "struct Record *volatile *slot(void) { return &otel_thread_ctx_v1; }\n"
"""How a module finds its own thread-local."""


def thread_context(linked, source, target="x86_64-linux-gnu.2.17"):
    return list(binaries.thread_context_problems(linked(target, source, *STRIPPED, "-fvisibility=hidden")))


@pytest.mark.parametrize(
    "target", ["x86_64-linux-gnu.2.17", "aarch64-linux-gnu.2.17", "x86_64-linux-musl", "aarch64-linux-musl"]
)
def test_thread_context(linked, target):
    """A thread-local pointer that the module exports and refers to by the table of symbols: readers find it."""
    assert thread_context(linked, EXPORTED + DECLARED + WAY, target) == []


def test_thread_context_that_is_not_there(linked):
    """No such symbol, or one that only the module itself knows."""
    missing = ["does not export otel_thread_ctx_v1, by which profilers outside the process find its spans"]
    assert thread_context(linked, HARMLESS) == missing
    assert thread_context(linked, DECLARED + WAY) == missing
    assert thread_context(linked, f"extern {EXPORTED}{DECLARED}{WAY}") == missing


def test_thread_context_of_another_kind(linked):
    """One for the whole process, or of another size than a pointer's."""
    shared = thread_context(linked, EXPORTED + DECLARED.replace("_Thread_local ", "") + WAY)
    assert "exports otel_thread_ctx_v1 as STT_OBJECT of 8 bytes, not as a thread-local pointer" in shared
    wide = EXPORTED + "_Thread_local char otel_thread_ctx_v1[16];\n"
    way = EXPORTED + "char *slot(void) { return otel_thread_ctx_v1; }\n"
    assert thread_context(linked, wide + way) == [
        "exports otel_thread_ctx_v1 as STT_TLS of 16 bytes, not as a thread-local pointer"
    ]


def test_thread_context_without_a_way_to_it(linked):
    """Nothing in the module asks the loader where the thread-local lies, so that no reader can learn it either."""
    assert thread_context(linked, EXPORTED + DECLARED) == [
        "has no relocation that says where otel_thread_ctx_v1 lies in a thread's memory"
    ]

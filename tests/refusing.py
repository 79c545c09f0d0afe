"""Runs a command to which the kernel refuses some system calls, as a container's security profile may.

    python tests/refusing.py NAME[=0][,NAME[=0] ...] COMMAND [ARGUMENT ...]

A call with `=0` says that it has succeeded, and does nothing.
The filter stays with the command and whatever it starts. The exit code is 77 where no filter can be installed. For Linux on
x86-64 and arm64.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

CALLS = {
    "x86_64": {"memfd_create": 319, "prctl": 157},
    "aarch64": {"memfd_create": 279, "prctl": 167},
}.get(platform.machine(), {})

NOT_HERE = 77
"""Exit code: no such filter can be installed."""

_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _FAIL_WITH = 0x7FFF0000, 0x00050000
_SET_SECCOMP, _SET_NO_NEW_PRIVILEGES, _FILTER = 22, 38, 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def refuse(calls):
    """Have these system calls fail with EPERM from now on, in this process; return whether that can be had."""
    steps = [(_LOAD, 0, 0, 0)]
    for call in calls:
        name, _, outcome = call.partition("=")
        steps += [(_JUMP_IF_EQUAL, 0, 1, CALLS[name]), (_RETURN, 0, 0, _FAIL_WITH | int(outcome or errno.EPERM))]
    steps.append((_RETURN, 0, 0, _ALLOW))
    instructions = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    libc = ctypes.CDLL(None)
    libc.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    program = _Program(len(steps), ctypes.addressof(instructions))
    return libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0) == 0


if __name__ == "__main__":
    wanted = sys.argv[1].split(",") if sys.argv[1] else []
    if not CALLS or not refuse(wanted):
        sys.exit(NOT_HERE)
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - what the test asks for

"""Runs a command with ``process_vm_readv`` refused, as profiles of seccomp do it.

Arguments: the error, by its number, and the command. Exit code 77 where no such filter can be installed.
"""

import ctypes
import os
import struct
import sys

NUMBERS = {"x86_64": 310, "aarch64": 270}
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL_WITH = 0x7FFF0000, 0x00050000
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2

error, *command = sys.argv[1:]
steps = [
    (LOAD, 0, 0, 0),
    (JUMP_IF_EQUAL, 0, 1, NUMBERS[os.uname().machine]),
    (RETURN, 0, 0, FAIL_WITH | int(error)),
    (RETURN, 0, 0, ALLOW),
]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))


class Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_void_p))


libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(Filter(len(steps), ctypes.addressof(program))), 0, 0):
    sys.exit(77)
os.execvp(command[0], command)  # noqa: S606 - the command is the test's

"""What methods of C types call: the native module exchanges some of these functions, and no attribute shows it."""

import contextvars
import ctypes
import sys

HEAD = object.__basicsize__
POINTER = ctypes.sizeof(ctypes.c_void_p)

METHODS = (
    contextvars.Context.run,
    contextvars.ContextVar.set,
    contextvars.ContextVar.reset,
    sys.modules["_imp"].create_dynamic,
)
"""All that may be exchanged."""


def definition_of(method):
    """Where the ``PyMethodDef`` of a method descriptor or of a module's function is."""
    # `PyMethodDescrObject` has the type, the name and the qualified name first (CPython 3.10 to 3.14).
    at = HEAD + 3 * POINTER if type(method).__name__ == "method_descriptor" else HEAD
    return ctypes.c_void_p.from_address(id(method) + at).value


def function_of(method):
    """The address of the C function of a method: a number that can be read and changed, the second field of its definition."""
    return ctypes.c_void_p.from_address(definition_of(method) + POINTER)


def called_by(function):
    """The address that a call of a module's function goes to first, `PyCFunctionObject.vectorcall`: can be read and changed."""
    return ctypes.c_void_p.from_address(id(function) + HEAD + 4 * POINTER)


def all_functions():
    """The addresses of all functions that may be exchanged."""
    return [function_of(method).value for method in METHODS]

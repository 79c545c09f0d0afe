/* Greenlets have contexts of their own, which they exchange behind the interpreter's back: their tracer tells of each switch.
 *
 * The tracer is a setting of each OS thread, so it is made wherever a thread's label set first changes. There is one only: one
 * that the application sets is called by ours, and gets what it would get without us (greenlet 1.0 to 3.x).
 */

#include "native.h"

unsigned long greenlets_version;  /* 0 while there are no greenlets to be followed; another number with each new way to set it */

static PyObject *settrace;     /* greenlet's own */
static PyObject *on_greenlets; /* Python's: greenlet has been imported */
static PyObject *tracer;       /* ours */

static PyObject *
trace(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    PyThreadState *python_state = PyThreadState_Get();
    if (python_state->interp != state.interpreter) {
        Py_RETURN_NONE;
    }
    Thread *thread = thread_current(python_state);
    if (thread != NULL && thread->tracer != NULL) {
        PyObject *of_application = Py_NewRef(thread->tracer);
        PyObject *result = PyObject_Vectorcall(of_application, arguments, (size_t)count, NULL);
        if (result == NULL && thread->tracer == of_application) {
            Py_CLEAR(thread->tracer);  /* greenlet drops one that raises, and ours with it */
            thread->greenlets = 0;
        }
        Py_DECREF(of_application);
        if (result == NULL) {
            return NULL;
        }
        Py_DECREF(result);
    }
    if (state.is_active && follow_current() < 0) {
        if (thread != NULL) {
            thread->greenlets = 0;  /* it is dropped, so that the next switch to a label set has to set it anew */
        }
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef trace_method = {
    "trace", (PyCFunction)(void (*)(void))trace, METH_FASTCALL, "trace(event, args, /)\n--\n\nFollow a switch between greenlets.",
};

void
greenlets_follow(Thread *thread)
{
    if (thread->greenlets == greenlets_version || settrace == NULL) {
        return;
    }
    thread->greenlets = greenlets_version;
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyObject *former = PyObject_CallOneArg(settrace, tracer);
    if (former != NULL && former != Py_None && former != tracer) {
        Py_XSETREF(thread->tracer, Py_NewRef(former));
    }
    Py_XDECREF(former);
    PyErr_Restore(type, error, traceback);
}

void
greenlets_on_loaded(PyObject *module)
{
    PyObject *name = on_greenlets == NULL || !PyModule_Check(module) ? NULL : PyModule_GetNameObject(module);
    if (name == NULL) {
        PyErr_Clear();
        return;
    }
    if (PyUnicode_CompareWithASCIIString(name, "greenlet._greenlet") == 0) {
        PyObject *result = PyObject_CallOneArg(on_greenlets, module);
        if (result == NULL) {
            PyErr_Clear();  /* it is guarded, in Python */
        }
        Py_XDECREF(result);
    }
    Py_DECREF(name);
}

PyDoc_STRVAR(on_greenlets_doc,
"on_greenlets(callback, /)\n--\n\nCall `callback` with greenlet's extension module once that has been loaded; None for nothing.");

static PyObject *
set_on_greenlets(PyObject *module, PyObject *callback)
{
    Py_XSETREF(on_greenlets, callback == Py_None ? NULL : Py_NewRef(callback));
    Py_RETURN_NONE;
}

PyDoc_STRVAR(follow_greenlets_doc,
"follow_greenlets(settrace, /)\n--\n\n"
"Set our tracer by this function on the calling thread, and on others when their label set next changes; None to end that.");

static PyObject *
follow_greenlets(PyObject *module, PyObject *function)
{
    static unsigned long versions;
    if (tracer == NULL && (tracer = PyCFunction_New(&trace_method, NULL)) == NULL) {
        return NULL;
    }
    Thread *thread = thread_current(PyThreadState_Get());
    if (thread == NULL) {
        return NULL;
    }
    if (function == Py_None) {
        if (settrace != NULL && thread->greenlets == greenlets_version) {
            PyObject *former = PyObject_CallOneArg(settrace, thread->tracer == NULL ? Py_None : thread->tracer);
            Py_XDECREF(former);
            Py_CLEAR(thread->tracer);
            if (former == NULL) {
                return NULL;
            }
        }
        greenlets_version = 0;
        Py_CLEAR(settrace);
        Py_RETURN_NONE;
    }
    Py_XSETREF(settrace, Py_NewRef(function));
    greenlets_version = ++versions;
    greenlets_follow(thread);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(exchange_tracer_doc,
"exchange_tracer(tracer, /)\n--\n\n"
"Have ours call this tracer of the application's on the calling thread, or none; return the one that it called before.\n\n"
"Raises:\n    LookupError: Ours is not set on this thread.");

static PyObject *
exchange_tracer(PyObject *module, PyObject *of_application)
{
    Thread *thread = thread_current(PyThreadState_Get());
    if (thread == NULL) {
        return NULL;
    }
    if (settrace == NULL || thread->greenlets != greenlets_version) {
        PyErr_SetString(PyExc_LookupError, "our tracer is not set on this thread");
        return NULL;
    }
    PyObject *former = thread->tracer == NULL ? Py_NewRef(Py_None) : Py_NewRef(thread->tracer);
    Py_XSETREF(thread->tracer, of_application == Py_None ? NULL : Py_NewRef(of_application));
    return former;
}

PyDoc_STRVAR(application_tracer_doc,
"application_tracer(tracer, /)\n--\n\nReturn the application's tracer on this thread where `tracer`, the one that is set, is ours.");

static PyObject *
application_tracer(PyObject *module, PyObject *set)
{
    Thread *thread = set == tracer ? thread_current(PyThreadState_Get()) : NULL;
    if (thread == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(set);
    }
    return Py_NewRef(thread->tracer == NULL ? Py_None : thread->tracer);
}

PyMethodDef greenlets_methods[] = {
    {"on_greenlets", set_on_greenlets, METH_O, on_greenlets_doc},
    {"follow_greenlets", follow_greenlets, METH_O, follow_greenlets_doc},
    {"exchange_tracer", exchange_tracer, METH_O, exchange_tracer_doc},
    {"application_tracer", application_tracer, METH_O, application_tracer_doc},
    {NULL, NULL, 0, NULL},
};

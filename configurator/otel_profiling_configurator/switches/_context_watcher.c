/* Tells of every switch of the current context, whatever switches it: a task's step, a callback, Context.run.
 *
 * In C because CPython also tells while an exception is on its way out of a context, and a watcher must leave that alone:
 * what is written in Python can't even be called then. (PyContext_AddWatcher, CPython 3.14 and later.)
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <unistd.h>
#ifdef __APPLE__
#include <pthread.h>
#endif

static int watcher = -1;

/* What is watched, and what is called. Replaced, never released: another thread may just be using them. */
static PyObject *watched_variable;
static PyObject *follower;

/* The context in which this thread's event loop runs between its steps; only its identity counts. */
static _Thread_local PyObject *context_of_loop;

static int
is_main_thread(void)
{
#ifdef __APPLE__
    return pthread_main_np();
#else
    return PyThread_get_thread_native_id() == (unsigned long)getpid();
#endif
}

static int
raise_now(void *exception)
{
    PyErr_SetRaisedException(exception);
    return -1;
}

/* The exception is the application's: its signal handler happened to be called while the follower ran, on the main thread, or
 * somebody has sent it to this thread. A watcher can raise nothing, so it is raised as soon as other code runs. */
static void
raise_later(PyObject *exception)
{
    /* Except where there was no room for the follower, or nothing left of its module: that is not the application's doing. */
    if (Py_IsFinalizing() || PyErr_GivenExceptionMatches(exception, PyExc_RecursionError)
        || PyErr_GivenExceptionMatches(exception, PyExc_MemoryError)) {
        Py_DECREF(exception);
        return;
    }
    if (!is_main_thread()) {
        PyThreadState_SetAsyncExc(PyThread_get_thread_ident(), (PyObject *)Py_TYPE(exception));
        Py_DECREF(exception);
    }
    else if (Py_AddPendingCall(raise_now, exception) < 0) {
        PyErr_SetRaisedException(exception);
        PyErr_FormatUnraisable("Exception ignored while following a switch of the current context");
    }
}

static int
on_switch(PyContextEvent event, PyObject *context)
{
    if (event != Py_CONTEXT_SWITCHED || context == context_of_loop) {
        return 0;
    }
    PyObject *raised = PyErr_GetRaisedException();
    PyObject *value = NULL, *result = NULL;
    if (PyContextVar_Get(watched_variable, NULL, &value) == 0) {
        result = PyObject_CallOneArg(follower, value == NULL ? Py_None : value);
    }
    if (result == NULL) {
        raise_later(PyErr_GetRaisedException());
    }
    Py_XDECREF(value);
    Py_XDECREF(result);
    PyErr_SetRaisedException(raised);
    return 0;
}

PyDoc_STRVAR(watch_doc,
"watch(variable, follow, /)\n--\n\n"
"Call `follow` with the value of a context variable after each switch of the current context, on any thread.\n\n"
"Raises:\n    RuntimeError: Something is watched already, or the interpreter has no room for another watcher.");

static PyObject *
watch(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyContextVar_CheckExact(args[0]) || !PyCallable_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "watch() takes a context variable and a callable");
        return NULL;
    }
    if (watcher >= 0) {
        PyErr_SetString(PyExc_RuntimeError, "watched already");
        return NULL;
    }
    watched_variable = Py_NewRef(args[0]);
    follower = Py_NewRef(args[1]);
    watcher = PyContext_AddWatcher(on_switch);
    if (watcher < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(unwatch_doc, "unwatch()\n--\n\nEnd what `watch` began.");

static PyObject *
unwatch(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    if (watcher >= 0) {
        int ended = PyContext_ClearWatcher(watcher);
        watcher = -1;
        if (ended < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(enter_loop_doc,
"enter_loop()\n--\n\n"
"Have the calling thread's switches back to its current context not followed: an event loop begins to run in it.\n\n"
"Returns:\n    What `leave_loop` is to be called with in the end.");

static PyObject *
enter_loop(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    PyObject *outer = PyLong_FromVoidPtr(context_of_loop);
    PyObject *copied = PyContext_CopyCurrent();  /* a thread may have no context yet; now it has one */
    if (outer == NULL || copied == NULL) {
        Py_XDECREF(outer);
        Py_XDECREF(copied);
        return NULL;
    }
    Py_DECREF(copied);
    context_of_loop = PyThreadState_Get()->context;
    return outer;
}

PyDoc_STRVAR(leave_loop_doc, "leave_loop(outer, /)\n--\n\nEnd what `enter_loop` began, which returned `outer`.");

static PyObject *
leave_loop(PyObject *module, PyObject *outer)
{
    void *context = PyLong_AsVoidPtr(outer);
    if (context == NULL && PyErr_Occurred()) {
        return NULL;
    }
    context_of_loop = context;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"watch", (PyCFunction)(void (*)(void))watch, METH_FASTCALL, watch_doc},
    {"unwatch", unwatch, METH_NOARGS, unwatch_doc},
    {"enter_loop", enter_loop, METH_NOARGS, enter_loop_doc},
    {"leave_loop", leave_loop, METH_O, leave_loop_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},  /* or a free-threaded interpreter would get its lock back, and say so */
    {0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_context_watcher",
    .m_doc = "The interpreter's own word of every switch of the current context.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__context_watcher(void)
{
    return PyModuleDef_Init(&module);
}

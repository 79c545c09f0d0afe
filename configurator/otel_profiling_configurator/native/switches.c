/* Who changes the current context of a thread, and when: then its record follows.
 *
 * OpenTelemetry keeps its current context in a context variable. So it changes where that variable is set or reset (attach and
 * detach, and whoever copies variables from one context to another, as asgiref does), and where the thread's `contextvars.Context`
 * is exchanged. CPython 3.14 and later tell of that. Before, it is exchanged by `Context.run`, an entry of its type's table of
 * methods, and by extension modules through `PyContext_Enter` and `PyContext_Exit`: with these, asyncio, uvloop, trio, anyio,
 * executors, asgiref and any other library are followed, and there is no hook in any of them.
 */

#include "native.h"

#ifdef __APPLE__
#include <pthread.h>
#endif
#include <unistd.h>

#define HAS_WATCHER (PY_VERSION_HEX >= 0x030E0000)

/* A method of a type that is written in C, whose function has been exchanged. */
typedef struct {
    PyMethodDef *method;
    PyCFunction original, ours;
} Exchanged;

static Exchanged set_method, reset_method, create_method;

static PyObject *
call_o(const Exchanged *exchanged, PyObject *self, PyObject *argument)
{
    return exchanged->original(self, argument);
}

/* The labels of the span in a context of OpenTelemetry's, owned; NULL where there are none, with an exception of the application's. */
static PyObject *
labels_in(PyObject *context)
{
    if (context == NULL || !PyDict_Check(context)) {
        return NULL;
    }
    PyObject *span = PyDict_GetItemWithError(context, state.span_key);
    PyObject *labels = NULL;
    if (span != NULL) {
        Py_INCREF(span);
        labels = PyObject_GetAttr(span, state.labels_attribute);
        Py_DECREF(span);
    }
    if (labels == NULL && PyErr_Occurred()) {
        label_sets_clear_failure();  /* it has none; or its look-up, an application's own, fails */
    }
    return labels;
}

/* Have the calling thread's record follow a context of OpenTelemetry's; NULL stands for none. */
static int
follow(PyObject *context)
{
    PyObject *labels = labels_in(context);
    if (labels == NULL && PyErr_Occurred()) {
        return -1;
    }
    Thread *thread = thread_current(PyThreadState_Get());
    if (thread == NULL) {
        Py_XDECREF(labels);
        PyErr_Clear();
        return 0;
    }
    PyObject *own = Py_XNewRef(thread->own);  /* what is called meanwhile may take it from the thread */
    LabelSet *set = labels == NULL ? NULL : label_set_of(labels, context, own);
    int status = 0;
    if (set == NULL && PyErr_Occurred()) {
        status = label_sets_clear_failure();  /* an agent's or a baggage value's failure has been told */
    }
    Py_XDECREF(own);
    Py_XDECREF(labels);
    status = status < 0 ? -1 : thread_switch(thread, set);
    Py_XDECREF((PyObject *)set);
    return status;
}

int
follow_current(void)
{
    PyObject *context = NULL;
    if (PyContextVar_Get(state.variable, NULL, &context) < 0) {
        PyErr_Clear();
    }
    int status = follow(context);
    Py_XDECREF(context);
    return status;
}

/* `ContextVar.set` */
static PyObject *
set_and_follow(PyObject *variable, PyObject *value)
{
    PyObject *token = call_o(&set_method, variable, value);
    if (token != NULL && variable == state.variable && is_followed(PyThreadState_Get()) && follow(value) < 0) {
        Py_CLEAR(token);
    }
    return token;
}

/* `ContextVar.reset` */
static PyObject *
reset_and_follow(PyObject *variable, PyObject *token)
{
    PyObject *result = call_o(&reset_method, variable, token);
    if (result != NULL && variable == state.variable && is_followed(PyThreadState_Get()) && follow_current() < 0) {
        Py_CLEAR(result);
    }
    return result;
}

/* Exchange the function of a method that is called as the flags say; -1 with an exception where it is another kind of thing. */
static int
exchange(PyObject *owner, const char *name, int flags, PyCFunction ours, Exchanged *exchanged)
{
    PyObject *found = PyObject_GetAttrString(owner, name);
    PyMethodDef *method = NULL;
    if (found != NULL && Py_IS_TYPE(found, &PyMethodDescr_Type)) {
        method = ((PyMethodDescrObject *)found)->d_method;
    }
    else if (found != NULL && PyCFunction_CheckExact(found)) {
        method = ((PyCFunctionObject *)found)->m_ml;
    }
    Py_XDECREF(found);
    if (method != NULL && exchanged->method == method) {
        return 0;  /* somebody else exchanged it after us, so that ours is still called */
    }
    if (method == NULL || method->ml_flags != flags) {
        PyErr_Format(PyExc_RuntimeError, "%s is not what it is in the releases of CPython that are known", name);
        return -1;
    }
    *exchanged = (Exchanged){method, method->ml_meth, ours};
    method->ml_meth = ours;
    return 0;
}

/* Whoever has exchanged it after us keeps calling ours, which then only calls the original. */
static void
put_back(Exchanged *exchanged)
{
    if (exchanged->method != NULL && exchanged->method->ml_meth == exchanged->ours) {
        exchanged->method->ml_meth = exchanged->original;
        exchanged->method = NULL;
    }
}

#if HAS_WATCHER

static int watcher = -1;

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

/* The exception is the application's: its signal handler happened to be called while labels were written by thread. A watcher can
 * raise nothing, so it is raised as soon as other code runs. */
static void
raise_later(PyObject *exception)
{
    if (Py_IsFinalizing() || PyErr_GivenExceptionMatches(exception, PyExc_RecursionError)
        || PyErr_GivenExceptionMatches(exception, PyExc_MemoryError)) {
        Py_DECREF(exception);  /* there was no room, or nothing left of a module: not the application's doing */
    }
    else if (!is_main_thread()) {
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
    if (event != Py_CONTEXT_SWITCHED || !is_followed(PyThreadState_Get())) {
        return 0;
    }
    PyObject *raised = PyErr_GetRaisedException();
    if (follow_current() < 0) {
        raise_later(PyErr_GetRaisedException());
    }
    PyErr_SetRaisedException(raised);
    return 0;
}

static int
follow_contexts(void)
{
    watcher = PyContext_AddWatcher(on_switch);  /* there is room for eight */
    return watcher < 0 ? -1 : 0;
}

static void
leave_contexts(void)
{
    if (watcher >= 0 && PyContext_ClearWatcher(watcher) < 0) {
        PyErr_Clear();
    }
    watcher = -1;
}

static void
on_loaded(void)
{
}

#else

typedef PyObject *(*FastFunction)(PyObject *, PyObject *const *, Py_ssize_t);
typedef PyObject *(*KeywordsFunction)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);

static Exchanged run_method;
static PyMethodDef *get_method;  /* `Context.get` */

/* What holds OpenTelemetry's context in a context that need not be entered to look there, owned; NULL where there is none. */
static PyObject *
value_in(PyObject *context)
{
    PyObject *arguments[] = {state.variable, Py_None};
    PyObject *value = ((FastFunction)(void (*)(void))get_method->ml_meth)(context, arguments, 2);
    if (value == NULL) {
        PyErr_Clear();
    }
    return value;
}

/* The same while an exception may be on its way, which stays as it is; one of the application's in `follow_current` wins. */
static int
follow_beside_exception(void)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    int status = follow_current();
    if (status < 0) {
        Py_XDECREF(type);
        Py_XDECREF(error);
        Py_XDECREF(traceback);
    }
    else {
        PyErr_Restore(type, error, traceback);
    }
    return status;
}

/* `Context.run` */
static PyObject *
run_and_follow(PyObject *context, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    KeywordsFunction run = (KeywordsFunction)(void (*)(void))run_method.original;
    if (!is_followed(PyThreadState_Get())) {
        return run(context, arguments, count, names);
    }
    PyObject *value = value_in(context);
    int status = follow(value);
    Py_XDECREF(value);
    PyObject *result = status < 0 ? NULL : run(context, arguments, count, names);
    if (follow_beside_exception() < 0) {
        Py_CLEAR(result);
    }
    return result;
}

#ifdef __linux__
static int
enter_and_follow(PyObject *context)
{
    int status = PyContext_Enter(context);
    if (status == 0 && is_followed(PyThreadState_Get()) && follow_beside_exception() < 0) {
        PyContext_Exit(context);
        return -1;
    }
    return status;
}

static int
exit_and_follow(PyObject *context)
{
    int status = PyContext_Exit(context);
    if (status == 0 && is_followed(PyThreadState_Get())) {
        status = follow_beside_exception();
    }
    return status;
}

static const Import IMPORTS[] = {
    {"PyContext_Enter", (void *)enter_and_follow},
    {"PyContext_Exit", (void *)exit_and_follow},
};
static Replacements replacements;
#endif

/* A shared library may have been loaded. */
static void
on_loaded(void)
{
#ifdef __linux__
    imports_replace_everywhere(IMPORTS, Py_ARRAY_LENGTH(IMPORTS), &replacements);
#endif
}

static int
follow_contexts(void)
{
    PyObject *get = PyObject_GetAttrString((PyObject *)&PyContext_Type, "get");
    int is_known = get != NULL && Py_IS_TYPE(get, &PyMethodDescr_Type)
                   && ((PyMethodDescrObject *)get)->d_method->ml_flags == METH_FASTCALL;
    get_method = is_known ? ((PyMethodDescrObject *)get)->d_method : NULL;
    Py_XDECREF(get);
    if (!is_known) {
        PyErr_SetString(PyExc_RuntimeError, "Context.get is not what it is in the releases of CPython that are known");
        return -1;
    }
    if (exchange((PyObject *)&PyContext_Type, "run", METH_FASTCALL | METH_KEYWORDS,
                 (PyCFunction)(void (*)(void))run_and_follow, &run_method) < 0) {
        return -1;
    }
    on_loaded();
    return 0;
}

static void
leave_contexts(void)
{
    put_back(&run_method);
#ifdef __linux__
    imports_put_back_everywhere(&replacements);
#endif
}

#endif

/* `_imp.create_dynamic`: an extension module has been loaded, and perhaps others with it. */
static PyObject *
create_and_look(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    typedef PyObject *(*Function)(PyObject *, PyObject *const *, Py_ssize_t);
    PyObject *created = ((Function)(void (*)(void))create_method.original)(module, arguments, count);
    if (created != NULL && is_followed(PyThreadState_Get())) {
        on_loaded();
        greenlets_on_loaded(created);
    }
    return created;
}

static int
watch_loading(void)
{
    PyObject *imp = PyImport_ImportModule("_imp");
    int status = imp == NULL ? -1 : exchange(imp, "create_dynamic", METH_FASTCALL,
                                             (PyCFunction)(void (*)(void))create_and_look, &create_method);
    Py_XDECREF(imp);
    return status;
}

int
switches_install(void)
{
    PyObject *variable_type = (PyObject *)&PyContextVar_Type;
    if (follow_contexts() < 0 || exchange(variable_type, "set", METH_O, set_and_follow, &set_method) < 0
        || exchange(variable_type, "reset", METH_O, reset_and_follow, &reset_method) < 0 || watch_loading() < 0) {
        PyObject *type, *error, *traceback;
        PyErr_Fetch(&type, &error, &traceback);
        switches_undo();
        PyErr_Restore(type, error, traceback);
        return -1;
    }
    return 0;
}

void
switches_undo(void)
{
    put_back(&create_method);
    put_back(&reset_method);
    put_back(&set_method);
    leave_contexts();
}

/* What Python calls: a few functions that begin, end and ask. What is done often is done without Python. */

#include "native.h"

State state;

PyDoc_STRVAR(start_doc,
"start(variable, span_key, labels_attribute, no_labels, keys, baggage_key, baggage_labels, label_by_thread, failed, /)"
"\n--\n\nFollow the context that is current on each thread from now on.\n\n"
"Raises:\n    RuntimeError: It is followed already, or can't be with this interpreter.");

static PyObject *
start(PyObject *module, PyObject *arguments)
{
    PyObject *variable, *span_key, *attribute, *no_labels, *keys, *baggage_key, *baggage_labels, *by_thread, *failed;
    if (!PyArg_ParseTuple(arguments, "O!OUO!O!OOOO:start", &PyContextVar_Type, &variable, &span_key, &attribute,
                          &PyTuple_Type, &no_labels, &PyTuple_Type, &keys, &baggage_key, &baggage_labels, &by_thread, &failed)) {
        return NULL;
    }
    if (state.is_active) {
        PyErr_SetString(PyExc_RuntimeError, "contexts are followed already");
        return NULL;
    }
    if (PyTuple_GET_SIZE(keys) != VALUES || PyTuple_GET_SIZE(no_labels) != VALUES) {
        PyErr_SetString(PyExc_TypeError, "keys and no_labels are those of a span's three labels");
        return NULL;
    }
    if (switches_install() < 0) {
        return NULL;
    }
    Py_XSETREF(state.variable, Py_NewRef(variable));
    Py_XSETREF(state.span_key, Py_NewRef(span_key));
    Py_XSETREF(state.labels_attribute, Py_NewRef(attribute));
    Py_XSETREF(state.no_labels, Py_NewRef(no_labels));
    Py_XSETREF(state.keys, Py_NewRef(keys));
    Py_XSETREF(state.baggage_key, Py_NewRef(baggage_key));
    Py_XSETREF(state.baggage_labels, Py_NewRef(baggage_labels));
    Py_XSETREF(state.label_by_thread, Py_NewRef(by_thread));
    Py_XSETREF(state.failed, Py_NewRef(failed));
    state.interpreter = PyInterpreterState_Get();
    state.is_active = 1;
    return follow_current() < 0 ? NULL : Py_NewRef(Py_None);
}

/* Nothing is at the agent any more; with `remove`, its labels are removed there first. */
static void
leave_aliases(int remove)
{
    if (state.mode == ALIASES) {
        aliases_forget(remove);
    }
    state.mode = NO_AGENT;
    threads_register();
}

PyDoc_STRVAR(stop_doc, "stop()\n--\n\nFollow nothing any more, and take back everything that was replaced.");

static PyObject *
stop(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    if (state.is_active) {
        Thread *thread = thread_current(PyThreadState_Get());
        if (thread == NULL || thread_switch(thread, NULL) < 0) {
            return NULL;
        }
        leave_aliases(1);
        agent_library_leave();
        switches_undo();
        state.is_active = 0;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(use_agent_doc,
"use_agent(add_tag, remove_tag, aliases, /)\n--\n\n"
"Label the samples of an agent that begins, and so has no labels yet.\n\n"
"Args:\n    add_tag, remove_tag: The functions of its own module.\n    aliases: Whether its samples need no thread's own id.\n\n"
"Returns:\n    Why labels are kept by thread; empty where samples get aliases.");

static PyObject *
use_agent(PyObject *module, PyObject *arguments)
{
    PyObject *add_tag, *remove_tag;
    int aliases;
    if (!PyArg_ParseTuple(arguments, "OOp:use_agent", &add_tag, &remove_tag, &aliases)) {
        return NULL;
    }
    leave_aliases(0);
    threads_forget_own();
    Py_XSETREF(state.add_tag, Py_NewRef(add_tag));
    Py_XSETREF(state.remove_tag, Py_NewRef(remove_tag));
    const char *why_not = aliases ? agent_library_use(add_tag) : "its samples need the threads' own ids";
    if (why_not != NULL) {
        agent_library_use_clocks(0);  /* it may be somebody else's, which samples whom it was told to */
    }
    state.mode = why_not == NULL ? ALIASES : BY_THREAD;
    threads_register();
    threads_label_anew();
    return PyUnicode_FromString(why_not == NULL ? "" : why_not);
}

PyDoc_STRVAR(use_cpu_clocks_doc,
"use_cpu_clocks(add_tag, rate, /)\n--\n\n"
"Have an agent that is about to begin take its samples of threads that have used CPU time, so many for each second of it.\n\n"
"Args:\n    add_tag: The function of its own module.\n    rate: Samples a second; 0 to leave it as the agent does it.\n\n"
"Returns:\n    Whether it will.");

static PyObject *
use_cpu_clocks(PyObject *module, PyObject *arguments)
{
    PyObject *add_tag;
    long rate;
    if (!PyArg_ParseTuple(arguments, "Ol:use_cpu_clocks", &add_tag, &rate)) {
        return NULL;
    }
    int can = state.is_active && rate > 0 && agent_library_use(add_tag) == NULL;
    return PyBool_FromLong(agent_library_use_clocks(can ? 1000000000 / rate : 0));
}

PyDoc_STRVAR(leave_agent_doc,
"leave_agent(remove, /)\n--\n\nThere is no agent any more whose samples could be labelled; with `remove` there is, without our labels.");

static PyObject *
leave_agent(PyObject *module, PyObject *remove)
{
    leave_aliases(PyObject_IsTrue(remove) > 0);
    cpu_clocks_end();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(by_thread_doc,
"by_thread()\n--\n\nKeep labels by thread from now on, each thread's from its next switch on; return whether they were not.");

static PyObject *
by_thread(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    int had_aliases = state.mode == ALIASES;
    if (had_aliases) {
        leave_aliases(1);
        state.mode = BY_THREAD;
        threads_label_anew();
    }
    return PyBool_FromLong(had_aliases);
}

PyDoc_STRVAR(refresh_doc, "refresh()\n--\n\nFollow the context that is current on the calling thread: its labels may have changed.");

static PyObject *
refresh(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    if (state.is_active && follow_current() < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(after_fork_doc, "after_fork_in_child()\n--\n\nForget all other threads, and the agent, which is the parent's.");

static PyObject *
after_fork_in_child(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    agent_library_after_fork();
    leave_aliases(0);
    threads_after_fork();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(use_thread_contexts_doc,
"use_thread_contexts(keys, provider, changed, /)\n--\n\n"
"Tell readers outside the process the current span of each thread, from the calling one's now and others' next switch on.\n\n"
"Args:\n    keys: Names of the labels that are attributes there, by their index; it only grows.\n"
"    provider: The SDK's tracer provider, whose resource may be exchanged, or None.\n"
"    changed: Is called when that has happened and a span begins.\n\n"
"Raises:\n    RuntimeError: There are no such readers on this system.");

static PyObject *
use_thread_contexts(PyObject *module, PyObject *arguments)
{
    PyObject *keys, *provider, *changed;
    if (!PyArg_ParseTuple(arguments, "O!OO:use_thread_contexts", &PyTuple_Type, &keys, &provider, &changed)) {
        return NULL;
    }
    return thread_contexts_start(keys, provider, changed) < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(leave_thread_contexts_doc, "leave_thread_contexts()\n--\n\nTell readers outside the process of no span any more.");

static PyObject *
leave_thread_contexts(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    thread_contexts_stop();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(publish_process_context_doc,
"publish_process_context(payload, /)\n--\n\n"
"Have readers outside the process find this payload, instead of a former one.\n\n"
"Returns:\n    Whether they can: the system allows a named mapping.");

static PyObject *
publish_process_context(PyObject *module, PyObject *payload)
{
    char *bytes;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(payload, &bytes, &size) < 0) {
        return NULL;
    }
    return PyBool_FromLong(process_context_publish(bytes, size));
}

PyDoc_STRVAR(drop_process_context_doc, "drop_process_context()\n--\n\nHave readers outside the process find nothing any more.");

static PyObject *
drop_process_context(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    process_context_drop();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(own_tags_doc, "own_tags()\n--\n\nReturn the tags that the application has given the calling thread, as pairs.");

static PyObject *
own_tags(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    Thread *thread = thread_current(PyThreadState_Get());
    if (thread == NULL) {
        return NULL;
    }
    return thread->own == NULL ? PyTuple_New(0) : Py_NewRef(thread->own);
}

PyDoc_STRVAR(set_own_tags_doc, "set_own_tags(pairs, /)\n--\n\nHave the calling thread's samples carry these tags of the application's.");

static PyObject *
set_own_tags(PyObject *module, PyObject *pairs)
{
    if (!PyTuple_Check(pairs)) {
        PyErr_SetString(PyExc_TypeError, "set_own_tags() takes a tuple of pairs");
        return NULL;
    }
    Thread *thread = thread_current(PyThreadState_Get());
    if (thread == NULL) {
        return NULL;
    }
    Py_XSETREF(thread->own, PyTuple_GET_SIZE(pairs) == 0 ? NULL : Py_NewRef(pairs));
    return refresh(NULL, NULL);
}

PyDoc_STRVAR(is_unseen_doc,
"is_unseen()\n--\n\nReturn whether samples get aliases, and the agent should have been seen by now to read a thread, and was not.");

static PyObject *
is_unseen(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(state.mode == ALIASES && agent_library_is_unseen());
}

PyDoc_STRVAR(mode_doc, "mode()\n--\n\nReturn how samples find their labels: ``no agent``, ``aliases`` or ``by thread``.");

static PyObject *
mode(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    static const char *const NAMES[] = {[NO_AGENT] = "no agent", [ALIASES] = "aliases", [BY_THREAD] = "by thread"};
    return PyUnicode_FromString(NAMES[state.mode]);
}

PyDoc_STRVAR(counts_doc,
"counts()\n--\n\nReturn how many threads have a record, how many label sets are at the agent, and how many labels these have.");

static PyObject *
counts(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    Py_ssize_t sets, labels;
    aliases_count(&sets, &labels);
    return Py_BuildValue("nnn", threads_count(), sets, labels);
}

PyDoc_STRVAR(writing_doc, "writing()\n--\n\nReturn the alias that a label is being written for on the calling thread; 0 for none.");

static PyObject *
writing(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLongLong(agent_library_writing());
}

static PyMethodDef methods[] = {
    {"start", start, METH_VARARGS, start_doc},
    {"stop", stop, METH_NOARGS, stop_doc},
    {"use_agent", use_agent, METH_VARARGS, use_agent_doc},
    {"use_cpu_clocks", use_cpu_clocks, METH_VARARGS, use_cpu_clocks_doc},
    {"leave_agent", leave_agent, METH_O, leave_agent_doc},
    {"by_thread", by_thread, METH_NOARGS, by_thread_doc},
    {"refresh", refresh, METH_NOARGS, refresh_doc},
    {"after_fork_in_child", after_fork_in_child, METH_NOARGS, after_fork_doc},
    {"use_thread_contexts", use_thread_contexts, METH_VARARGS, use_thread_contexts_doc},
    {"leave_thread_contexts", leave_thread_contexts, METH_NOARGS, leave_thread_contexts_doc},
    {"publish_process_context", publish_process_context, METH_O, publish_process_context_doc},
    {"drop_process_context", drop_process_context, METH_NOARGS, drop_process_context_doc},
    {"own_tags", own_tags, METH_NOARGS, own_tags_doc},
    {"set_own_tags", set_own_tags, METH_O, set_own_tags_doc},
    {"is_unseen", is_unseen, METH_NOARGS, is_unseen_doc},
    {"mode", mode, METH_NOARGS, mode_doc},
    {"counts", counts, METH_NOARGS, counts_doc},
    {"writing", writing, METH_NOARGS, writing_doc},
    {NULL, NULL, 0, NULL},
};

static int
execute(PyObject *module)
{
#ifdef Py_GIL_DISABLED
    PyErr_SetString(PyExc_ImportError, "what is shared here is guarded by the GIL");
    return -1;
#endif
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError, "what is shared here is the main interpreter's");
        return -1;
    }
    static int is_initialised;  /* the process's, however often the module is made */
    if (!is_initialised) {
        if (span_labels_init() < 0 || label_sets_init() < 0 || annotation_init() < 0 || threads_init() < 0) {
            return -1;
        }
        is_initialised = 1;
    }
    if (PyModule_AddFunctions(module, greenlets_methods) < 0 || PyModule_AddFunctions(module, annotation_methods) < 0) {
        return -1;
    }
    return PyModule_AddObjectRef(module, "SpanLabels", (PyObject *)span_labels_type);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},  /* or a free-threaded interpreter would get its lock back, and say so */
#endif
    {0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_doc = "Follows the current context of each thread, and has the agent's samples find its labels.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&module);
}

/* What `carry` of thread_labels.py does nearly each time, at three quarters of its cost or less, and what calls it with each
 * attach, detach and callback.
 *
 * Only the usual way is here: a context whose span has labels as we make them, and no labels from baggage. Everything else is
 * left to the functions of thread_labels.py, which say why things are done.
 */

#include "_in_c.h"

/* What the names of that module mean, see `use`. Those that it may replace by others are held while they are used. */
static PyObject *carry_in_python, *refresh_in_python, *change, *change_failed, *follow_thread, *label_by_thread, *monotonic;
static PyObject *record_type, *current_span, *span_attribute, *no_labels, *keys, *labels_type;
static PyObject *of_thread, *add_tag, *remove_tag, *followers;

/* The names of thread_labels.py and of `opentelemetry.context`: what is not above is looked up with each use. */
static PyObject *own_names, *context_names;

static const Name NAMES[] = {
    {"carry_in_python", &carry_in_python},
    {"refresh_in_python", &refresh_in_python},
    {"_change", &change},
    {"_change_failed", &change_failed},
    {"_follow_thread", &follow_thread},
    {"_label_by_thread", &label_by_thread},
    {"monotonic", &monotonic},
    {"CURRENT_SPAN", &current_span},
    {"SPAN_ATTRIBUTE", &span_attribute},
    {"NO_LABELS", &no_labels},
    {"KEYS", &keys},
    {"SpanLabels", &labels_type},
    {"_Written", &record_type},
    {"_of_thread", &of_thread},
    {"_add_tag", &add_tag},
    {"_remove_tag", &remove_tag},
    {"_followers", &followers},
    {NULL, &context_names},
    {NULL, &own_names},
};

static int baggage_wanted;

/* Where a thread's record (`_Written`) and the labels of a span keep what is needed here: slots of classes without subclasses. */
enum {VALUES, NEXT_LOOK, REMOVE_TAG, FOLLOWERS, LOOPS, VALUES_OF_LABELS, SLOTS};
static Py_ssize_t slots[SLOTS];

#define SLOT(object, slot) (*(PyObject **)((char *)(object) + slots[slot]))

static PyObject *written_name, *may_change_name, *get_current_name;

PyDoc_STRVAR(use_doc,
"use(names, context_names, /)\n--\n\n"
"Learn what the names of `thread_labels` and `opentelemetry.context` mean from now on; all of them or, where it raises, none.\n\n"
"Raises:\n    KeyError: One is missing.\n    AttributeError: A class has lost a slot.\n    TypeError: It is none any more.");

static PyObject *
use(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyDict_Check(arguments[0]) || !PyDict_Check(arguments[1])) {
        PyErr_SetString(PyExc_TypeError, "use() takes the dictionaries of two modules");
        return NULL;
    }
    PyObject *names = arguments[0], *meanings[Py_ARRAY_LENGTH(NAMES)];
    if (meanings_of(names, NAMES, Py_ARRAY_LENGTH(NAMES), meanings) < 0) {
        return NULL;
    }
    PyObject *record = meaning_of(names, "_Written");
    PyObject *labels = record == NULL ? NULL : meaning_of(names, "SpanLabels");
    PyObject *baggage = labels == NULL ? NULL : meaning_of(names, "_baggage_names");
    int wanted = baggage == NULL ? -1 : PyObject_IsTrue(baggage);
    Py_ssize_t found[SLOTS];
    if (wanted < 0 || find_slot(record, "values", &found[VALUES]) < 0 || find_slot(record, "next_look", &found[NEXT_LOOK]) < 0
        || find_slot(record, "remove_tag", &found[REMOVE_TAG]) < 0
        || find_slot(record, "followers", &found[FOLLOWERS]) < 0 || find_slot(record, "loops", &found[LOOPS]) < 0
        || find_slot(labels, "values", &found[VALUES_OF_LABELS]) < 0) {
        return NULL;
    }
    baggage_wanted = wanted;
    memcpy(slots, found, sizeof slots);
    meanings[Py_ARRAY_LENGTH(NAMES) - 2] = arguments[1];
    meanings[Py_ARRAY_LENGTH(NAMES) - 1] = names;
    hold(NAMES, Py_ARRAY_LENGTH(NAMES), meanings);
    Py_RETURN_NONE;
}

/* The labels of the span in a context; NULL, with or without an exception, where that is not so easily said. */
static PyObject *
values_in(PyObject *context)
{
    if (!PyDict_Check(context)) {
        return NULL;
    }
    PyObject *span = PyDict_GetItemWithError(context, current_span);
    if (span == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(no_labels);
    }
    Py_INCREF(span);
    PyObject *labels = PyObject_GetAttr(span, span_attribute);
    Py_DECREF(span);
    if (labels == NULL) {
        return NULL;
    }
    PyObject *values = Py_IS_TYPE(labels, (PyTypeObject *)labels_type) ? SLOT(labels, VALUES_OF_LABELS) : NULL;
    Py_XINCREF(values);
    Py_DECREF(labels);
    return values;
}

static int
write_tag(PyObject *writer, PyObject *key, PyObject *value)
{
    if (PyUnicode_GET_LENGTH(value) == 0) {
        return 0;
    }
    PyObject *arguments[] = {NULL, key, value};
    PyObject *result = PyObject_Vectorcall(writer, arguments + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Take off what differs and write what is new, in turns: a thread never carries a key twice. */
static int
write_tags(PyObject *old, PyObject *values)
{
    PyObject *add = Py_NewRef(add_tag), *remove = Py_NewRef(remove_tag);
    int status = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(keys) && status == 0; i++) {
        PyObject *key = PyTuple_GET_ITEM(keys, i);
        PyObject *before = PyTuple_GET_ITEM(old, i), *after = PyTuple_GET_ITEM(values, i);
        if (before != after && PyUnicode_Compare(before, after) != 0) {
            status = write_tag(remove, key, before);
            if (status == 0) {
                status = write_tag(add, key, after);
            }
        }
    }
    Py_DECREF(add);
    Py_DECREF(remove);
    return status;
}

#include "_stand_ins.h"

/* Write labels, by thread or for a stand-in, and remember that. */
static PyObject *
write_labels(PyObject *record, PyObject *values)
{
    PyObject *old = SLOT(record, VALUES), *result;
    SLOT(record, VALUES) = Py_NewRef(values);
    if (old == no_labels) {
        Py_INCREF(remove_tag);
        Py_XSETREF(SLOT(record, REMOVE_TAG), remove_tag);
    }
#ifdef STAND_INS
    int status = 0;
    if (!stand_ins || (old != no_labels && !has_record())) {
        status = write_tags(old, stand_ins ? no_labels : values);  /* `old` was written by thread */
    }
    if (stand_ins && status == 0) {
        status = wear(record, values);
    }
#else
    int status = write_tags(old, values);
#endif
    if (status == 0) {
        result = Py_NewRef(Py_None);
    }
    else {
        PyObject *exception = raised_exception();
        result = PyObject_CallFunctionObjArgs(change_failed, record, old, values, exception, NULL);
        Py_XDECREF(exception);
    }
    Py_DECREF(old);
    return result;
}

#ifdef STAND_INS
/* `_change`, where samples say which labels are theirs: nothing has to wait, and little to be written. */
static PyObject *
wear_labels(PyObject *record, PyObject *values)
{
    if (SLOT(record, FOLLOWERS) != followers) {
        PyObject *followed = PyObject_CallOneArg(follow_thread, record);
        if (followed == NULL) {
            return NULL;
        }
        Py_DECREF(followed);
    }
    if (is_in_vain()) {
        return PyObject_CallFunctionObjArgs(label_by_thread, record, values, NULL);
    }
    return write_labels(record, values);
}
#endif

static PyObject *
change_labels(PyObject *record, PyObject *values)
{
#ifdef STAND_INS
    if (stand_ins) {
        return wear_labels(record, values);
    }
#endif
    PyObject *old = SLOT(record, VALUES);
    PyObject *now = PyObject_CallNoArgs(monotonic), *next_look = SLOT(record, NEXT_LOOK);
    int due = now == NULL ? -1 : next_look == NULL ? 1 : PyObject_RichCompareBool(now, next_look, Py_GE);
    int may = due < 0 ? -1 : 1;
    if (due > 0) {
        if (SLOT(record, FOLLOWERS) != followers) {
            Py_DECREF(now);
            return PyObject_CallFunctionObjArgs(change, record, values, NULL);
        }
        int put_off = old != no_labels && (values != no_labels || PyObject_IsTrue(SLOT(record, LOOPS)) > 0);
        PyErr_Clear();
        PyObject *may_change = PyDict_GetItemWithError(own_names, may_change_name);
        if (may_change == NULL) {
            PyErr_Clear();
            Py_DECREF(now);
            return PyObject_CallFunctionObjArgs(change, record, values, NULL);
        }
        PyObject *arguments[] = {NULL, record, now, put_off ? Py_True : Py_False};
        Py_INCREF(may_change);
        PyObject *answer = PyObject_Vectorcall(may_change, arguments + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        Py_DECREF(may_change);
        may = answer == NULL ? -1 : PyObject_IsTrue(answer);
        Py_XDECREF(answer);
    }
    Py_XDECREF(now);
    if (may <= 0) {
        return may < 0 ? NULL : Py_NewRef(Py_None);
    }
    return write_labels(record, values);  /* what ran meanwhile, a signal handler or a destructor, may have changed the old ones */
}

PyDoc_STRVAR(carry_doc, "carry(context, /)\n--\n\nDo what `thread_labels.carry_in_python` does.");

static PyObject *
carry(PyObject *module, PyObject *context)
{
    PyObject *values = baggage_wanted ? NULL : values_in(context);
    if (values == NULL) {
        if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return NULL;  /* of a signal handler of the application's, perhaps */
        }
        PyErr_Clear();
        return PyObject_CallOneArg(carry_in_python, context);
    }
    PyObject *result = NULL, *threads = Py_NewRef(of_thread);
    PyObject *record = PyObject_GetAttr(threads, written_name);
    Py_DECREF(threads);
    if (record != NULL) {
        result = SLOT(record, VALUES) == values ? Py_NewRef(Py_None) : change_labels(record, values);
        Py_DECREF(record);
    }
    Py_DECREF(values);
    return result;
}

PyDoc_STRVAR(refresh_doc, "refresh()\n--\n\nDo what `thread_labels.refresh_in_python` does.");

static PyObject *
refresh(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    PyObject *get_current = PyDict_GetItemWithError(context_names, get_current_name);
    if (get_current == NULL) {
        return PyObject_CallNoArgs(refresh_in_python);
    }
    Py_INCREF(get_current);
    PyObject *context = PyObject_CallNoArgs(get_current);
    Py_DECREF(get_current);
    PyObject *carried = context == NULL ? NULL : carry(NULL, context);
    Py_XDECREF(context);
    return carried;
}

/* The only argument, borrowed, by position or by its name; NULL with an exception where that is not what there is. */
static PyObject *
only_argument(PyObject *const *arguments, Py_ssize_t count, PyObject *keywords, const char *name)
{
    Py_ssize_t named = keywords == NULL ? 0 : PyTuple_GET_SIZE(keywords);
    if (count + named != 1 || (named == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(keywords, 0), name) != 0)) {
        PyErr_Format(PyExc_TypeError, "exactly one argument is expected, %s", name);
        return NULL;
    }
    return arguments[0];
}

static PyObject *
attach(PyObject *wrapped, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords)
{
    PyObject *context = only_argument(arguments, count, keywords, "context");
    PyObject *token = context == NULL ? NULL : PyObject_CallOneArg(wrapped, context);
    PyObject *carried = token == NULL ? NULL : carry(NULL, context);
    if (carried == NULL) {
        Py_CLEAR(token);
    }
    Py_XDECREF(carried);
    return token;
}

/* `functions` are `wrapped`, `get_current` and `on_failure`, or None. */
static PyObject *
detach(PyObject *functions, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords)
{
    PyObject *token = only_argument(arguments, count, keywords, "token");
    PyObject *result = token == NULL ? NULL : PyObject_CallOneArg(PyTuple_GET_ITEM(functions, 0), token);
    if (result == NULL) {
        PyObject *on_failure = PyTuple_GET_ITEM(functions, 2);
        if (token == NULL || on_failure == Py_None || !PyErr_ExceptionMatches(PyExc_Exception)) {
            return NULL;
        }
        PyErr_Clear();
        result = PyObject_CallOneArg(on_failure, token);
        if (result != NULL) {
            Py_SETREF(result, Py_NewRef(Py_None));
        }
        return result;
    }
    Py_DECREF(result);
    PyObject *context = PyObject_CallNoArgs(PyTuple_GET_ITEM(functions, 1));
    PyObject *carried = context == NULL ? NULL : carry(NULL, context);
    Py_XDECREF(context);
    return carried;
}

static PyMethodDef attach_method = {
    "attach", (PyCFunction)(void (*)(void))attach, METH_FASTCALL | METH_KEYWORDS,
    "attach(context)\n--\n\nMake a context current, and have the thread carry the labels of its span.",
};
static PyMethodDef detach_method = {
    "detach", (PyCFunction)(void (*)(void))detach, METH_FASTCALL | METH_KEYWORDS,
    "detach(token)\n--\n\nReturn to the context that was current before, and to its labels.",
};

PyDoc_STRVAR(attaching_doc, "attaching(attach, /)\n--\n\nReturn what `thread_labels.attaching` returns.");

static PyObject *
attaching(PyObject *module, PyObject *function)
{
    return PyCFunction_New(&attach_method, function);
}

PyDoc_STRVAR(detaching_doc,
"detaching(detach, get_current, on_failure, /)\n--\n\nReturn what `thread_labels.detaching` returns.");

static PyObject *
detaching(PyObject *module, PyObject *arguments)
{
    PyObject *wrapped, *get_current, *on_failure;
    if (!PyArg_ParseTuple(arguments, "OOO:detaching", &wrapped, &get_current, &on_failure)) {
        return NULL;
    }
    return PyCFunction_New(&detach_method, arguments);
}

/* What `following` returns: a callback that looks like the one that it calls. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *wrapped;
} Following;

static PyTypeObject *following_type;

static PyObject *
follow_and_call(PyObject *self, PyObject *const *arguments, size_t flags, PyObject *keywords)
{
    PyObject *carried = refresh(NULL, NULL);
    if (carried == NULL) {
        return NULL;
    }
    Py_DECREF(carried);
    return PyObject_Vectorcall(((Following *)self)->wrapped, arguments, flags, keywords);
}

PyDoc_STRVAR(following_doc, "following(callback, /)\n--\n\nReturn what `thread_labels.following` returns.");

static PyObject *
following(PyObject *module, PyObject *callback)
{
    Following *self = PyObject_GC_New(Following, following_type);
    if (self != NULL) {
        self->vectorcall = follow_and_call;
        self->wrapped = Py_NewRef(callback);
        PyObject_GC_Track(self);
    }
    return (PyObject *)self;
}

static int
traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Following *)self)->wrapped);
    return 0;
}

/* No `tp_clear`: one that still can be called would have nothing to call. Cycles end where they go through anything else. */
static void
deallocate(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_DECREF(((Following *)self)->wrapped);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyObject *
representation(PyObject *self)
{
    return PyObject_Repr(((Following *)self)->wrapped);
}

static PyMemberDef members[] = {
    {"__wrapped__", T_OBJECT_EX, offsetof(Following, wrapped), READONLY, "What is called."},
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Following, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot type_slots[] = {
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_traverse, traverse},
    {Py_tp_dealloc, deallocate},
    {Py_tp_repr, representation},
    {Py_tp_members, members},
    {0, NULL},
};

static PyType_Spec type_spec = {
    .name = "otel_profiling_configurator._thread_labels.Following",
    .basicsize = sizeof(Following),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = type_slots,
};

PyDoc_STRVAR(change_doc,
"change_if_stand_ins(record, values, /)\n--\n\nDo what `thread_labels._change` does, if stand-ins are used; return whether.");

static PyObject *
change_if_stand_ins(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
#ifdef STAND_INS
    if (stand_ins && count == 2 && PyObject_TypeCheck(arguments[0], (PyTypeObject *)record_type)) {
        PyObject *changed = wear_labels(arguments[0], arguments[1]);
        if (changed == NULL) {
            return NULL;
        }
        Py_DECREF(changed);
        Py_RETURN_TRUE;
    }
#endif
    Py_RETURN_FALSE;
}

PyDoc_STRVAR(use_stand_ins_doc,
"use_stand_ins(path, worn_seconds, /)\n--\n\n"
"Give samples that are taken by the library with this path a stand-in for their thread from now on; return whether that is done.\n"
"\n"
"Threads that work for so many seconds of CPU time with labels must meet a sample; `_label_by_thread` is called if they do not.");

static PyObject *
use_stand_ins(PyObject *module, PyObject *arguments)
{
#ifdef STAND_INS
    PyObject *name;
    double seconds;
    if (!PyArg_ParseTuple(arguments, "O&d:use_stand_ins", PyUnicode_FSConverter, &name, &seconds)) {
        return NULL;
    }
    most_worn = (int64_t)(seconds * 1e9);
    expected_since = nanoseconds(CLOCK_MONOTONIC);
    atomic_store(&is_read, 0);
    if (!stand_ins) {
        Search search = {PyBytes_AS_STRING(name), 0};
        dl_iterate_phdr(replace_in_library, &search);
        stand_ins = search.done;
        if (!stand_ins) {
            put_back();
        }
    }
    forget_threads();
    atomic_store(&modules, PyImport_GetModuleDict());
    Py_DECREF(name);
    return PyBool_FromLong(stand_ins);
#else
    Py_RETURN_FALSE;
#endif
}

PyDoc_STRVAR(leave_stand_ins_doc,
"leave_stand_ins(of_thread, remove_tag, /)\n--\n\n"
"Let samples keep their thread's id, and remove what was written for stand-ins; return whether there were any.\n\n"
"If so, `_of_thread` is replaced at the same moment by the one given, in which no thread has written anything.");

static PyObject *
leave_stand_ins(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "leave_stand_ins() takes the threads' records and a function");
        return NULL;
    }
    int used = 0;
#ifdef STAND_INS
    used = stand_ins;
    if (used) {
        PyObject *former = of_thread;  /* held: other threads may run when it goes */
        if (PyDict_SetItemString(own_names, "_of_thread", arguments[0]) < 0) {
            return NULL;
        }
        of_thread = Py_NewRef(arguments[0]);
        leave_all(arguments[1]);
        Py_DECREF(former);
    }
#endif
    return PyBool_FromLong(used);
}

PyDoc_STRVAR(thread_of_labels_doc,
"thread_of_labels()\n--\n\nReturn the id of whom the agent takes a label to be for that is written now: a thread or a stand-in.");

static PyObject *
get_thread_of_labels(PyObject *module, PyObject *Py_UNUSED(ignored))
{
#ifdef STAND_INS
    return PyLong_FromUnsignedLongLong(thread_of_labels());
#else
    return PyLong_FromUnsignedLong(PyThread_get_thread_ident());
#endif
}

PyDoc_STRVAR(forget_threads_doc,
"forget_threads()\n--\n\nForget what was written for stand-ins: another agent begins, or this is a forked child.");

static PyObject *
forget_all_threads(PyObject *module, PyObject *Py_UNUSED(ignored))
{
#ifdef STAND_INS
    forget_threads();
#endif
    Py_RETURN_NONE;
}

PyDoc_STRVAR(take_off_doc,
"take_off(record, remove_tag, /)\n--\n\n"
"Remove what was written for the stand-ins of the calling thread, whose record is about to end; return whether anything was.");

static PyObject *
take_off_thread(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "take_off() takes a record and a function");
        return NULL;
    }
#ifdef STAND_INS
    return PyBool_FromLong(take_off(arguments[0], arguments[1]));
#else
    Py_RETURN_FALSE;
#endif
}

static PyMethodDef methods[] = {
    {"change_if_stand_ins", (PyCFunction)(void (*)(void))change_if_stand_ins, METH_FASTCALL, change_doc},
    {"use_stand_ins", use_stand_ins, METH_VARARGS, use_stand_ins_doc},
    {"leave_stand_ins", (PyCFunction)(void (*)(void))leave_stand_ins, METH_FASTCALL, leave_stand_ins_doc},
    {"thread_of_labels", get_thread_of_labels, METH_NOARGS, thread_of_labels_doc},
    {"forget_threads", forget_all_threads, METH_NOARGS, forget_threads_doc},
    {"take_off", (PyCFunction)(void (*)(void))take_off_thread, METH_FASTCALL, take_off_doc},
    {"use", (PyCFunction)(void (*)(void))use, METH_FASTCALL, use_doc},
    {"carry", carry, METH_O, carry_doc},
    {"refresh", refresh, METH_NOARGS, refresh_doc},
    {"attaching", attaching, METH_O, attaching_doc},
    {"detaching", detaching, METH_VARARGS, detaching_doc},
    {"following", following, METH_O, following_doc},
    {NULL, NULL, 0, NULL},
};

static int
execute(PyObject *module)
{
    if (check_interpreter() < 0) {
        return -1;
    }
    written_name = PyUnicode_InternFromString("written");
    may_change_name = PyUnicode_InternFromString("may_change");
    get_current_name = PyUnicode_InternFromString("get_current");
    following_type = (PyTypeObject *)PyType_FromSpec(&type_spec);
    return written_name == NULL || may_change_name == NULL || get_current_name == NULL || following_type == NULL ? -1 : 0;
}

static PyModuleDef_Slot module_slots[] = {
    MODULE_SLOTS,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_thread_labels",
    .m_doc = "The usual switch of a thread's labels.",
    .m_methods = methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__thread_labels(void)
{
    return PyModuleDef_Init(&module);
}

/* What `_annotating` of tracer_provider.py does for nearly each span, at a third of its cost or less.
 *
 * Only the usual ways are here: a span whose parent has labels that it may share, and a local root span of the SDK's, of a name
 * that is known already, where the scopes are the default ones. Everything else is left to `annotate` there, which says why
 * things are done.
 */

#include "_in_c.h"

/* What the names of that module mean, see `use`. */
static PyObject *current_span, *span_attribute, *not_ours, *labels_type, *non_recording_span;
static PyObject *bounded_attributes, *profile_id_attribute, *set_profile_id;

/* The names of `opentelemetry.context`, where `get_current` is looked up with each use. */
static PyObject *context_names;

static const Name NAMES[] = {
    {"CURRENT_SPAN", &current_span},
    {"SPAN_ATTRIBUTE", &span_attribute},
    {"NOT_OURS", &not_ours},
    {"SpanLabels", &labels_type},
    {"NonRecordingSpan", &non_recording_span},
    {"BoundedAttributes", &bounded_attributes},
    {"PROFILE_ID_ATTRIBUTE", &profile_id_attribute},
    {"set_profile_id", &set_profile_id},
    {NULL, &context_names},
};

/* Where the labels of a span keep what is needed here: slots of a class without subclasses. */
enum {OWNER, SAMPLED, VALUES, SLOTS};
static const char *const SLOT_NAMES[SLOTS] = {"owner", "sampled", "values"};
static Py_ssize_t slots[SLOTS];

#define SLOT(object, slot) (*(PyObject **)((char *)(object) + slots[slot]))

/* Places in a `SpanContext`, which is a tuple. */
enum {TRACE_ID = 0, SPAN_ID = 1, TRACE_FLAGS = 3, IS_VALID = 5, LENGTH = 6};

static PyObject *get_current_name, *get_span_context_name, *name_attribute, *context_attribute, *attributes_attribute;
static PyObject *store_attribute, *limit_attribute, *bits_of_half, *nothing;

PyDoc_STRVAR(use_doc,
"use(names, context_names, /)\n--\n\n"
"Learn what the names of `tracer_provider` and `opentelemetry.context` mean from now on; all or, where it raises, none.\n\n"
"Raises:\n    KeyError: One is missing.\n    AttributeError: A class has lost a slot.\n    TypeError: It is none any more.");

static PyObject *
use(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyDict_Check(arguments[0]) || !PyDict_Check(arguments[1])) {
        PyErr_SetString(PyExc_TypeError, "use() takes the dictionaries of two modules");
        return NULL;
    }
    PyObject *meanings[Py_ARRAY_LENGTH(NAMES)];
    if (meanings_of(arguments[0], NAMES, Py_ARRAY_LENGTH(NAMES), meanings) < 0) {
        return NULL;
    }
    PyObject *labels = meaning_of(arguments[0], "SpanLabels");
    Py_ssize_t found[SLOTS];
    for (size_t i = 0; i < SLOTS; i++) {
        if (find_slot(labels, SLOT_NAMES[i], &found[i]) < 0) {
            return NULL;
        }
    }
    memcpy(slots, found, sizeof slots);
    meanings[Py_ARRAY_LENGTH(NAMES) - 1] = arguments[1];
    hold(NAMES, Py_ARRAY_LENGTH(NAMES), meanings);
    Py_RETURN_NONE;
}

/* What `annotating` returns: a `start_span` that looks like the one that it calls. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *wrapped;  /* the tracer's own */
    PyObject *annotate;  /* in Python, for whatever is not usual */
    PyObject *root_names;  /* name of a span to its label; NULL where local roots are not labelled in the usual way */
    PyObject *weak_references;
    int shared_if_alike;
} Annotating;

static PyTypeObject *annotating_type;

/* An argument that may be given by position or by name, borrowed; NULL where it is not given. */
static PyObject *
argument(PyObject *const *arguments, Py_ssize_t count, PyObject *keywords, Py_ssize_t place, const char *name)
{
    if (count > place) {
        return arguments[place];
    }
    for (Py_ssize_t i = 0; keywords != NULL && i < PyTuple_GET_SIZE(keywords); i++) {
        if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(keywords, i), name) == 0) {
            return arguments[count + i];
        }
    }
    return NULL;
}

/* A number of 64 bits, or of 128, as that many hexadecimal digits; NULL with an exception where it is none. */
static PyObject *
hexadecimal(PyObject *number, int halves)
{
    unsigned long long parts[2] = {0, 0};
    if (!PyLong_Check(number)) {
        PyErr_SetString(PyExc_TypeError, "an id is no integer");
        return NULL;
    }
    if (halves == 2) {
        PyObject *high = PyNumber_Rshift(number, bits_of_half);
        parts[0] = high == NULL ? 0 : PyLong_AsUnsignedLongLong(high);
        Py_XDECREF(high);
        parts[1] = PyErr_Occurred() ? 0 : PyLong_AsUnsignedLongLongMask(number);
    }
    else {
        parts[0] = PyLong_AsUnsignedLongLong(number);
    }
    if (PyErr_Occurred()) {
        return NULL;
    }
    PyObject *text = PyUnicode_New(16 * halves, 127);
    if (text != NULL) {
        Py_UCS1 *digits = PyUnicode_1BYTE_DATA(text);
        for (int i = 0; i < 16 * halves; i++) {
            digits[i] = (Py_UCS1)"0123456789abcdef"[parts[i / 16] >> (60 - 4 * (i % 16)) & 15];
        }
    }
    return text;
}

/* What is below returns 1 where it is done, 0 where it has done nothing and is not the usual, and -1 with an exception. */

/* `set_profile_id` of profile_id.py */
static int
write_profile_id(PyObject *span, PyObject *profile_id)
{
    int done = 0;
    PyObject *attributes = PyObject_GetAttr(span, attributes_attribute);
    if (attributes != NULL && Py_IS_TYPE(attributes, (PyTypeObject *)bounded_attributes)) {
        PyObject *store = PyObject_GetAttr(attributes, store_attribute);
        PyObject *limit = store == NULL ? NULL : PyObject_GetAttr(attributes, limit_attribute);
        Py_ssize_t most = limit == NULL || limit == Py_None ? PY_SSIZE_T_MAX : PyLong_AsSsize_t(limit);
        Py_ssize_t count = PyErr_Occurred() ? -1 : PyObject_Size(store);
        if (0 <= count && count < most) {
            done = PyObject_SetItem(store, profile_id_attribute, profile_id) < 0 ? -1 : 1;
        }
        Py_XDECREF(store);
        Py_XDECREF(limit);
    }
    Py_XDECREF(attributes);
    if (done == 0 && (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_AttributeError))) {
        PyErr_Clear();
        PyObject *result = PyObject_CallFunctionObjArgs(set_profile_id, span, profile_id, NULL);
        done = result == NULL ? -1 : 1;
        Py_XDECREF(result);
    }
    return done == 0 ? -1 : done;
}

/* `LabelRules.of_local_root`, and what makes the labels the span's. */
static int
label_root(PyObject *span, PyObject *span_context, PyObject *name_label)
{
    long flags = PyLong_AsLong(PyTuple_GET_ITEM(span_context, TRACE_FLAGS));
    if (flags == -1 && PyErr_Occurred()) {
        return -1;
    }
    int sampled = flags & 1, done = -1;
    PyObject *span_id = PyTuple_GET_ITEM(span_context, SPAN_ID);
    PyObject *trace_label = sampled ? hexadecimal(PyTuple_GET_ITEM(span_context, TRACE_ID), 2) : Py_NewRef(nothing);
    PyObject *id_label = trace_label == NULL ? NULL : sampled ? hexadecimal(span_id, 1) : Py_NewRef(nothing);
    PyObject *values = id_label == NULL ? NULL : PyTuple_Pack(3, trace_label, id_label, name_label);
    PyObject *labels = values == NULL ? NULL : PyObject_CallNoArgs(labels_type);
    if (labels != NULL) {
        Py_XSETREF(SLOT(labels, OWNER), Py_NewRef(span_id));
        Py_XSETREF(SLOT(labels, SAMPLED), Py_NewRef(sampled ? Py_True : Py_False));
        Py_XSETREF(SLOT(labels, VALUES), Py_NewRef(values));
        done = PyObject_SetAttr(span, span_attribute, labels) < 0 ? -1 : sampled ? write_profile_id(span, id_label) : 1;
    }
    Py_XDECREF(trace_label);
    Py_XDECREF(id_label);
    Py_XDECREF(values);
    Py_XDECREF(labels);
    return done;
}

/* A span without a parent of ours. */
static int
annotate_root(PyObject *span, PyObject *name, PyObject *root_names, PyObject *parent_span)
{
    PyObject *label = name == NULL || !PyUnicode_CheckExact(name) ? NULL : PyDict_GetItemWithError(root_names, name);
    if (label == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    Py_INCREF(label);
    int done = 0;
    PyObject *span_context = PyObject_GetAttr(span, context_attribute), *parent_context = NULL;
    if (span_context == NULL) {
        done = -1;
    }
    else if (PyTuple_Check(span_context) && PyTuple_GET_SIZE(span_context) == LENGTH) {
        PyObject *is_valid = PyTuple_GET_ITEM(span_context, IS_VALID);
        int same = 0;
        if (is_valid == Py_True && parent_span != NULL) {
            parent_context = PyObject_CallMethodNoArgs(parent_span, get_span_context_name);
            same = -1;
            if (parent_context != NULL && PyTuple_Check(parent_context) && PyTuple_GET_SIZE(parent_context) == LENGTH) {
                PyObject *parent_id = PyTuple_GET_ITEM(parent_context, SPAN_ID);
                same = PyObject_RichCompareBool(parent_id, PyTuple_GET_ITEM(span_context, SPAN_ID), Py_EQ);
            }
        }
        if (same < 0) {
            done = PyErr_Occurred() ? -1 : 0;
        }
        else if (is_valid == Py_False || same) {
            done = 1;
        }
        else if (is_valid == Py_True) {
            done = label_root(span, span_context, label);
        }
    }
    Py_XDECREF(parent_context);
    Py_XDECREF(span_context);
    Py_DECREF(label);
    return done;
}

static int
annotate(Annotating *annotating, PyObject *span, PyObject *name, PyObject *context)
{
    PyObject *current = context;
    if (context == NULL || context == Py_None) {
        PyObject *get_current = PyDict_GetItemWithError(context_names, get_current_name);
        if (get_current == NULL) {
            return PyErr_Occurred() ? -1 : 0;
        }
        Py_INCREF(get_current);
        current = PyObject_CallNoArgs(get_current);
        Py_DECREF(get_current);
    }
    else {
        Py_INCREF(current);
    }
    PyObject *parent_span = NULL, *labels = NULL;
    int done = current == NULL ? -1 : 0;
    if (current != NULL && PyDict_Check(current)) {
        parent_span = PyDict_GetItemWithError(current, current_span);
        Py_XINCREF(parent_span);
        if (parent_span != NULL) {
            labels = PyObject_GetAttr(parent_span, span_attribute);
        }
        else if (!PyErr_Occurred()) {
            labels = Py_NewRef(not_ours);
        }
        if (labels == NULL) {
            done = -1;
        }
        else if (labels == not_ours) {
            done = annotating->root_names == NULL ? 0 : annotate_root(span, name, annotating->root_names, parent_span);
        }
        else if (annotating->shared_if_alike && Py_IS_TYPE(labels, (PyTypeObject *)labels_type)
                 && SLOT(labels, SAMPLED) == (Py_IS_TYPE(span, (PyTypeObject *)non_recording_span) ? Py_False : Py_True)) {
            done = PyObject_SetAttr(span, span_attribute, labels) < 0 ? -1 : 1;
        }
    }
    Py_XDECREF(labels);
    Py_XDECREF(parent_span);
    Py_XDECREF(current);
    return done;
}

static PyObject *
start_and_annotate(PyObject *self, PyObject *const *arguments, size_t flags, PyObject *keywords)
{
    Annotating *annotating = (Annotating *)self;
    PyObject *span = PyObject_Vectorcall(annotating->wrapped, arguments, flags, keywords);
    if (span == NULL) {
        return NULL;
    }
    Py_ssize_t count = PyVectorcall_NARGS(flags);
    PyObject *name = argument(arguments, count, keywords, 0, "name");
    PyObject *context = argument(arguments, count, keywords, 1, "context");
    int done = annotate(annotating, span, name, context);
    PyObject *raised = NULL;
    if (done < 0 && PyErr_ExceptionMatches(PyExc_Exception)) {
        raised = raised_exception();
        PyObject *traceback = raised == NULL ? NULL : PyException_GetTraceback(raised);
        if (traceback == NULL) {
            Py_CLEAR(raised);  /* no Python was run, so it is no signal handler's: it happens once more there, and is seen to */
        }
        Py_XDECREF(traceback);
        done = 0;
    }
    if (done == 0) {
        PyObject *given = name == NULL ? PyObject_GetAttr(span, name_attribute) : Py_NewRef(name);
        if (given == NULL) {
            PyErr_Clear();
            given = Py_NewRef(nothing);
        }
        PyObject *result = PyObject_CallFunctionObjArgs(
            annotating->annotate, span, given, context == NULL ? Py_None : context, raised, NULL);
        done = result == NULL ? -1 : 1;
        Py_XDECREF(result);
        Py_DECREF(given);
    }
    Py_XDECREF(raised);
    if (done < 0) {  /* of a signal handler of the application's, perhaps */
        Py_CLEAR(span);
    }
    return span;
}

PyDoc_STRVAR(annotating_doc,
"annotating(start_span, annotate, shared_if_alike, root_names, /)\n--\n\n"
"Return what `tracer_provider._annotating` returns.\n\n"
"Args:\n"
"    start_span: The tracer's own.\n"
"    annotate: Called with a span that it has started, the span's name and its context argument where that is not done here,\n"
"        and with an exception of Python code, a signal handler's perhaps, that came up meanwhile.\n"
"    shared_if_alike: Whether a descendant shares its parent's labels if its class says that it is sampled as the parent is.\n"
"    root_names: Name of a span to its label; None if local roots are not labelled with trace, id and name.");

static PyObject *
annotating(PyObject *module, PyObject *arguments)
{
    PyObject *wrapped, *annotate_in_python, *root_names;
    int shared_if_alike;
    if (!PyArg_ParseTuple(arguments, "OOpO:annotating", &wrapped, &annotate_in_python, &shared_if_alike, &root_names)) {
        return NULL;
    }
    if (context_names == NULL || (root_names != Py_None && !PyDict_Check(root_names))) {
        PyErr_SetString(PyExc_TypeError, "annotating() takes the names of local roots as a dictionary");
        return NULL;
    }
    Annotating *self = PyObject_GC_New(Annotating, annotating_type);
    if (self != NULL) {
        self->vectorcall = start_and_annotate;
        self->wrapped = Py_NewRef(wrapped);
        self->annotate = Py_NewRef(annotate_in_python);
        self->root_names = root_names == Py_None ? NULL : Py_NewRef(root_names);
        self->weak_references = NULL;
        self->shared_if_alike = shared_if_alike;
        PyObject_GC_Track(self);
    }
    return (PyObject *)self;
}

static int
traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Annotating *)self)->wrapped);
    Py_VISIT(((Annotating *)self)->annotate);
    Py_VISIT(((Annotating *)self)->root_names);
    return 0;
}

/* No `tp_clear`: one that still can be called would have nothing to call. Cycles end where they go through anything else. */
static void
deallocate(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    PyObject_ClearWeakRefs(self);
    Py_DECREF(((Annotating *)self)->wrapped);
    Py_DECREF(((Annotating *)self)->annotate);
    Py_XDECREF(((Annotating *)self)->root_names);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyObject *
attribute(PyObject *self, PyObject *name)
{
    PyObject *value = PyObject_GenericGetAttr(self, name);
    if (value == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        value = PyObject_GetAttr(((Annotating *)self)->wrapped, name);
    }
    return value;
}

static PyObject *
representation(PyObject *self)
{
    return PyObject_Repr(((Annotating *)self)->wrapped);
}

static PyObject *
documentation(PyObject *self, void *Py_UNUSED(closure))
{
    return PyObject_GetAttrString(((Annotating *)self)->wrapped, "__doc__");
}

static PyObject *
is_ours(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    Py_RETURN_TRUE;
}

/* As functions do, it stands for itself where an application copies what holds it. */
static PyObject *
itself(PyObject *self, PyObject *Py_UNUSED(memo))
{
    return Py_NewRef(self);
}

static PyMethodDef own_methods[] = {
    {"__copy__", itself, METH_NOARGS, NULL},
    {"__deepcopy__", itself, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"__wrapped__", T_OBJECT_EX, offsetof(Annotating, wrapped), READONLY, "The tracer's own."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Annotating, weak_references), READONLY, NULL},
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Annotating, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef properties[] = {
    {"__doc__", documentation, NULL, NULL, NULL},
    {"_otel_profiling", is_ours, NULL, "What marks a `start_span` of ours.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot type_slots[] = {
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_traverse, traverse},
    {Py_tp_dealloc, deallocate},
    {Py_tp_getattro, attribute},
    {Py_tp_repr, representation},
    {Py_tp_methods, own_methods},
    {Py_tp_members, members},
    {Py_tp_getset, properties},
    {0, NULL},
};

static PyType_Spec type_spec = {
    .name = "otel_profiling_configurator._tracer_provider.Annotating",
    .basicsize = sizeof(Annotating),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = type_slots,
};

static PyMethodDef methods[] = {
    {"use", (PyCFunction)(void (*)(void))use, METH_FASTCALL, use_doc},
    {"annotating", annotating, METH_VARARGS, annotating_doc},
    {NULL, NULL, 0, NULL},
};

static int
execute(PyObject *module)
{
    if (check_interpreter() < 0) {
        return -1;
    }
    const struct {
        PyObject **place;
        const char *text;
    } strings[] = {
        {&get_current_name, "get_current"}, {&get_span_context_name, "get_span_context"}, {&context_attribute, "_context"},
        {&attributes_attribute, "_attributes"}, {&name_attribute, "name"}, {&store_attribute, "_dict"},
        {&limit_attribute, "maxlen"}, {&nothing, ""},
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(strings); i++) {
        if ((*strings[i].place = PyUnicode_InternFromString(strings[i].text)) == NULL) {
            return -1;
        }
    }
    bits_of_half = PyLong_FromLong(64);
    annotating_type = (PyTypeObject *)PyType_FromSpec(&type_spec);
    return bits_of_half == NULL || annotating_type == NULL ? -1 : 0;
}

static PyModuleDef_Slot module_slots[] = {
    MODULE_SLOTS,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_tracer_provider",
    .m_doc = "The usual annotation of a span.",
    .m_methods = methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__tracer_provider(void)
{
    return PyModuleDef_Init(&module);
}

/* Leaves on a span of the SDK's, which has just been started, what its samples shall be labelled with: for the spans that
 * nearly all are, a local root or a descendant that shares its labels, where labels are by the usual scopes.
 *
 * Whatever else there is, is left to Python before anything has been changed, see spans/annotation.py, which does the same for
 * these, too, where this module is missing. Only objects of known classes are looked at, whose attributes run nobody's code.
 */

#include "native.h"

enum {SAMPLED = 1, DIGITS_OF_TRACE = 32, DIGITS_OF_SPAN = 16};

static struct {
    PyObject *local_roots;    /* namespace of spans/local_roots.py: it has the object that stands for this process */
    PyObject *names;          /* of spans, to label values */
    PyObject *not_ours;       /* the labels of spans that are none of ours */
    PyObject *recorded;       /* the SDK's class of spans that are recorded, */
    PyObject *unrecorded;     /* the API's of those that aren't, */
    PyObject *attributes;     /* and the one of a span's attributes */
    PyObject *server, *consumer;  /* kinds of spans */
    PyObject *commands;       /* name of the instrumentation whose spans are those of whole commands */
    PyObject *profile_id;     /* the attribute that links a span to its profile */
} known;

/* Attributes of other projects' objects: the SDK's (1.30 to 1.45 at least), and of ours. */
static PyObject *at_context, *at_scope, *at_name, *at_attributes, *at_dict, *at_most, *at_process;

enum {LEFT_TO_PYTHON, DONE, FAILED = -1};

static PyObject *
hexadecimal(const uint8_t *bytes, Py_ssize_t digits)
{
    static const char DIGITS[] = "0123456789abcdef";
    PyObject *text = PyUnicode_New(digits, 127);
    if (text != NULL) {
        Py_UCS1 *place = PyUnicode_1BYTE_DATA(text);
        for (Py_ssize_t i = 0; i < digits / 2; i++) {
            *place++ = (Py_UCS1)DIGITS[bytes[i] >> 4];
            *place++ = (Py_UCS1)DIGITS[bytes[i] & 15];
        }
    }
    return text;
}

static int
is_of_known_class(PyObject *span)
{
    return (PyObject *)Py_TYPE(span) == known.recorded || (PyObject *)Py_TYPE(span) == known.unrecorded;
}

/* The `SpanContext` of a span of a known class, new; NULL, perhaps with an exception, where it is none. */
static PyObject *
span_context_of(PyObject *span)
{
    enum {FIELDS = 6};
    PyObject *found = PyObject_GetAttr(span, at_context);
    if (found != NULL && !(PyTuple_Check(found) && PyTuple_GET_SIZE(found) == FIELDS)) {
        Py_CLEAR(found);
    }
    return found;
}

/* Whether the spans of a tracer may be those of whole commands; -1 with an exception. */
static int
may_be_of_command(PyObject *tracer)
{
    PyObject *scope = PyObject_GetAttr(tracer, at_scope);
    PyObject *name = scope == NULL ? NULL : PyObject_GetAttr(scope, at_name);
    Py_XDECREF(scope);
    int is_command = name == NULL ? -1 : !PyUnicode_Check(name) || PyUnicode_Compare(name, known.commands) == 0;
    Py_XDECREF(name);
    return is_command;
}

/* The current span of a context, NULL for the one that is current, in `found`, new; NULL where there is none. */
static int
find_parent(PyObject *context, PyObject **found)
{
    PyObject *current = Py_XNewRef(context);
    *found = NULL;
    if (current == NULL && PyContextVar_Get(state.variable, NULL, &current) < 0) {
        return FAILED;
    }
    int outcome = current != NULL && PyDict_Check(current) ? DONE : LEFT_TO_PYTHON;
    if (outcome == DONE) {
        *found = Py_XNewRef(PyDict_GetItemWithError(current, state.span_key));
        outcome = PyErr_Occurred() ? FAILED : DONE;
    }
    Py_XDECREF(current);
    return outcome;
}

/* Set the attribute that links a span to its profile, as spans/profile_id.py does and says why. */
static int
set_profile_id(PyObject *span, PyObject *text)
{
    PyObject *attributes = PyObject_GetAttr(span, at_attributes), *store = NULL, *most = NULL;
    int outcome = LEFT_TO_PYTHON;
    if (attributes != NULL && (PyObject *)Py_TYPE(attributes) == known.attributes) {
        store = PyObject_GetAttr(attributes, at_dict);
        most = store == NULL ? NULL : PyObject_GetAttr(attributes, at_most);
    }
    if (most != NULL && PyDict_CheckExact(store)
        && (most == Py_None || (PyLong_CheckExact(most) && PyDict_GET_SIZE(store) < PyLong_AsSsize_t(most)))) {
        outcome = PyDict_SetItem(store, known.profile_id, text) < 0 ? FAILED : DONE;
    }
    Py_XDECREF(attributes);
    Py_XDECREF(store);
    Py_XDECREF(most);
    return PyErr_Occurred() ? FAILED : outcome;
}

/* The labels of a local root; NULL with an exception. */
static SpanLabels *
labels_of_root(PyObject *span_context, PyObject *process, PyObject *name, int is_sampled, int serves)
{
    SpanLabels *labels = span_labels_new();
    PyObject *none = PyTuple_GET_ITEM(state.no_labels, 0);
    if (labels == NULL) {
        return NULL;
    }
    labels->are_ids_known = span_ids_of(span_context, &labels->ids);
    labels->values[0] = is_sampled ? hexadecimal(labels->ids.trace_id, DIGITS_OF_TRACE) : Py_NewRef(none);
    labels->values[1] = is_sampled ? hexadecimal(labels->ids.span_id, DIGITS_OF_SPAN) : Py_NewRef(none);
    labels->values[2] = Py_NewRef(name);
    labels->owner = Py_NewRef(PyTuple_GET_ITEM(span_context, SPAN_ID));
    labels->trace_flags = Py_NewRef(PyTuple_GET_ITEM(span_context, TRACE_FLAGS));
    labels->process = Py_NewRef(process);
    labels->serves = PyBool_FromLong(serves);
    labels->span_context = Py_NewRef(span_context);
    if (labels->values[0] == NULL || labels->values[1] == NULL) {
        Py_CLEAR(labels);
    }
    return labels;
}

static int
annotate_root(PyObject *span, PyObject *span_context, PyObject *process, PyObject *name, int serves)
{
    PyObject *label = PyUnicode_CheckExact(name) ? PyDict_GetItemWithError(known.names, name) : NULL;
    int is_sampled = (int)(PyLong_AsLong(PyTuple_GET_ITEM(span_context, TRACE_FLAGS)) & SAMPLED);
    if (label == NULL || PyErr_Occurred() || (is_sampled && (PyObject *)Py_TYPE(span) != known.recorded)) {
        return LEFT_TO_PYTHON;
    }
    SpanLabels *labels = labels_of_root(span_context, process, label, is_sampled, serves);
    int outcome = labels == NULL ? FAILED : labels->are_ids_known ? DONE : LEFT_TO_PYTHON;
    if (outcome == DONE && is_sampled) {
        outcome = set_profile_id(span, labels->values[1]);
    }
    if (outcome == DONE && PyObject_SetAttr(span, state.labels_attribute, (PyObject *)labels) < 0) {
        outcome = FAILED;
    }
    Py_XDECREF((PyObject *)labels);
    return outcome;
}

/* Annotate a span below one whose labels are these. */
static int
annotate_below(PyObject *span, PyObject *span_context, PyObject *process, SpanLabels *labels, PyObject *name, int may_serve,
               PyObject *parent)
{
    if (labels->process == process && (!may_serve || labels->serves == Py_True)) {
        long differ = PyLong_AsLong(labels->trace_flags) ^ PyLong_AsLong(PyTuple_GET_ITEM(span_context, TRACE_FLAGS));
        if ((differ & SAMPLED) != 0 || PyErr_Occurred()) {
            return LEFT_TO_PYTHON;
        }
        return PyObject_SetAttr(span, state.labels_attribute, (PyObject *)labels) < 0 ? FAILED : DONE;
    }
    if ((PyObject *)labels != known.not_ours || (PyObject *)Py_TYPE(parent) != known.unrecorded) {
        return LEFT_TO_PYTHON;
    }
    PyObject *of_parent = span_context_of(parent);
    int is_same = of_parent == NULL ? -1 : PyObject_RichCompareBool(PyTuple_GET_ITEM(of_parent, SPAN_ID),
                                                                    PyTuple_GET_ITEM(span_context, SPAN_ID), Py_EQ);
    Py_XDECREF(of_parent);
    /* The same: a tracer that is switched off hands its parent on. */
    return is_same != 0 ? LEFT_TO_PYTHON : annotate_root(span, span_context, process, name, may_serve);
}

static int
annotate_span(PyObject *tracer, PyObject *span, PyObject *name, PyObject *context, PyObject *kind)
{
    enum {IS_VALID = 5};
    PyObject *span_context = NULL, *parent = NULL, *labels = NULL;
    int outcome = LEFT_TO_PYTHON;
    if (!is_of_known_class(span) || may_be_of_command(tracer) != 0 || (span_context = span_context_of(span)) == NULL
        || PyTuple_GET_ITEM(span_context, IS_VALID) != Py_True) {
        goto done;
    }
    outcome = find_parent(context == Py_None ? NULL : context, &parent);
    PyObject *process = PyDict_GetItemWithError(known.local_roots, at_process);
    if (outcome != DONE || process == NULL) {
        outcome = outcome == FAILED ? FAILED : LEFT_TO_PYTHON;
        goto done;
    }
    int may_serve = kind == known.server || kind == known.consumer;
    if (parent == NULL) {
        outcome = annotate_root(span, span_context, process, name, may_serve);
        goto done;
    }
    outcome = LEFT_TO_PYTHON;
    labels = is_of_known_class(parent) ? PyObject_GetAttr(parent, state.labels_attribute) : NULL;
    if (labels != NULL && Py_IS_TYPE(labels, span_labels_type) && ((SpanLabels *)labels)->trace_flags != NULL) {
        outcome = annotate_below(span, span_context, process, (SpanLabels *)labels, name, may_serve, parent);
    }
done:
    Py_XDECREF(span_context);
    Py_XDECREF(parent);
    Py_XDECREF(labels);
    return outcome;
}

PyDoc_STRVAR(annotate_doc,
"annotate(tracer, span, name, context, kind, /)\n--\n\n"
"Label a span that the SDK's `Tracer.start_span` has just started with these arguments.\n\n"
"Returns:\n    Whether that was done; else nothing was.");

static PyObject *
annotate(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 5) {
        PyErr_SetString(PyExc_TypeError, "annotate() takes a tracer, a span, its name, a context and a kind");
        return NULL;
    }
    int outcome = LEFT_TO_PYTHON;
    if (state.is_active && known.names != NULL) {
        outcome = annotate_span(arguments[0], arguments[1], arguments[2], arguments[3], arguments[4]);
    }
    if (outcome != DONE && PyErr_Occurred()) {
        PyObject *type, *error, *traceback;
        PyErr_Fetch(&type, &error, &traceback);
        if (traceback != NULL) {
            PyErr_Restore(type, error, traceback);  /* Python code was run after all, and perhaps a signal handler */
            return NULL;
        }
        Py_XDECREF(type);
        Py_XDECREF(error);  /* something is not what it is in the releases that are known */
    }
    return PyBool_FromLong(outcome == DONE);
}

PyDoc_STRVAR(use_classes_doc,
"use_classes(local_roots, names, not_ours, recorded, unrecorded, attributes, server, consumer, commands, profile_id, /)\n--\n\n"
"Say of what `annotate` may be sure: see annotation.c.");

static PyObject *
use_classes(PyObject *module, PyObject *arguments)
{
    PyObject **const places[] = {&known.local_roots, &known.names, &known.not_ours, &known.recorded, &known.unrecorded,
                                 &known.attributes, &known.server, &known.consumer, &known.commands, &known.profile_id};
    PyObject *found[Py_ARRAY_LENGTH(places)];
    if (!PyArg_ParseTuple(arguments, "O!O!O!O!O!O!OOUU:use_classes", &PyDict_Type, &found[0], &PyDict_Type, &found[1],
                          span_labels_type, &found[2], &PyType_Type, &found[3], &PyType_Type, &found[4], &PyType_Type, &found[5],
                          &found[6], &found[7], &found[8], &found[9])) {
        return NULL;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(places); i++) {
        Py_XSETREF(*places[i], Py_NewRef(found[i]));
    }
    Py_RETURN_NONE;
}

PyMethodDef annotation_methods[] = {
    {"annotate", (PyCFunction)(void (*)(void))annotate, METH_FASTCALL, annotate_doc},
    {"use_classes", use_classes, METH_VARARGS, use_classes_doc},
    {NULL, NULL, 0, NULL},
};

int
annotation_init(void)
{
    const struct {
        PyObject **place;
        const char *text;
    } names[] = {
        {&at_context, "_context"}, {&at_scope, "_instrumentation_scope"}, {&at_name, "_name"}, {&at_attributes, "_attributes"},
        {&at_dict, "_dict"}, {&at_most, "maxlen"}, {&at_process, "this_process"},
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        *names[i].place = PyUnicode_InternFromString(names[i].text);
        if (*names[i].place == NULL) {
            return -1;
        }
    }
    return 0;
}

/* The labels of a span: what its samples are labelled with, and those of all descendants that label nothing of their own.
 *
 * Rules are Python's, see spans/labels.py, which has the same class for where this module is missing. It is written in C, and no
 * container to the garbage collector, since every local root span makes one, and keeps it until it has been exported.
 */

#include "native.h"

PyTypeObject *span_labels_type;

static void
span_labels_dealloc(SpanLabels *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (self->weak_references != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    PyObject *owned[] = {self->owner, self->trace_flags, self->process, self->serves, self->keeps_name, self->root,
                         self->span_context, self->inheritors};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(owned); i++) {
        Py_XDECREF(owned[i]);
    }
    for (int i = 0; i < VALUES; i++) {
        Py_XDECREF(self->values[i]);
    }
    Py_XDECREF((PyObject *)self->sets);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
get_values(SpanLabels *self, void *closure)
{
    if (self->values[0] == NULL) {
        PyErr_SetString(PyExc_AttributeError, "values");
        return NULL;
    }
    return PyTuple_Pack(VALUES, self->values[0], self->values[1], self->values[2]);
}

static int
set_values(SpanLabels *self, PyObject *values, void *closure)
{
    int are_texts = values != NULL && PyTuple_Check(values) && PyTuple_GET_SIZE(values) == VALUES;
    for (int i = 0; are_texts && i < VALUES; i++) {
        are_texts = PyUnicode_Check(PyTuple_GET_ITEM(values, i));
    }
    if (!are_texts) {
        PyErr_SetString(PyExc_TypeError, "values is a tuple of three texts");
        return -1;
    }
    for (int i = 0; i < VALUES; i++) {
        Py_XSETREF(self->values[i], Py_NewRef(PyTuple_GET_ITEM(values, i)));
    }
    return 0;
}

/* A copy of a span is labelled as it is. */
static PyObject *
deepcopy(PyObject *self, PyObject *memo)
{
    return Py_NewRef(self);
}

/* In another process it is none of ours. */
static PyObject *
reduce(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *module = PyImport_ImportModule("otel_profiling_configurator.spans.labels");
    PyObject *function = module == NULL ? NULL : PyObject_GetAttrString(module, "labels_elsewhere");
    PyObject *result = function == NULL ? NULL : Py_BuildValue("(O())", function);
    Py_XDECREF(module);
    Py_XDECREF(function);
    return result;
}

static PyMethodDef methods[] = {
    {"__deepcopy__", deepcopy, METH_O, "Return these labels."},
    {"__reduce__", reduce, METH_NOARGS, "Have them be none where they are unpickled."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"owner", T_OBJECT_EX, offsetof(SpanLabels, owner), 0, NULL},
    {"trace_flags", T_OBJECT_EX, offsetof(SpanLabels, trace_flags), 0, NULL},
    {"process", T_OBJECT_EX, offsetof(SpanLabels, process), 0, NULL},
    {"serves", T_OBJECT_EX, offsetof(SpanLabels, serves), 0, NULL},
    {"keeps_name", T_OBJECT_EX, offsetof(SpanLabels, keeps_name), 0, NULL},
    {"root", T_OBJECT_EX, offsetof(SpanLabels, root), 0, NULL},
    {"span_context", T_OBJECT_EX, offsetof(SpanLabels, span_context), 0, NULL},
    {"inheritors", T_OBJECT_EX, offsetof(SpanLabels, inheritors), 0, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(SpanLabels, weak_references), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef computed[] = {
    {"values", (getter)get_values, (setter)set_values, "The values of the labels of a span, in the order of their names.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, span_labels_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_getset, computed},
    {Py_tp_doc, "The labels of one span, see `otel_profiling_configurator.spans.labels`."},
    {0, NULL},
};
static PyType_Spec spec = {
    .name = "otel_profiling_configurator.native._native.SpanLabels",
    .basicsize = sizeof(SpanLabels),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

int
span_labels_init(void)
{
    span_labels_type = (PyTypeObject *)PyType_FromSpec(&spec);
    return span_labels_type == NULL ? -1 : 0;
}

SpanLabels *
span_labels_new(void)
{
    return (SpanLabels *)span_labels_type->tp_alloc(span_labels_type, 0);
}

static void
put(uint8_t *bytes, uint64_t number)
{
    for (int i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)(number >> (56 - 8 * i));
    }
}

int
span_ids_of(PyObject *span_context, SpanIds *ids)
{
    *ids = (SpanIds){0};
    if (span_context == NULL || !PyTuple_Check(span_context) || PyTuple_GET_SIZE(span_context) <= TRACE_FLAGS) {
        return 0;
    }
    PyObject *shift = PyLong_FromLong(64);
    PyObject *high = shift == NULL ? NULL : PyNumber_Rshift(PyTuple_GET_ITEM(span_context, TRACE_ID), shift);
    Py_XDECREF(shift);
    if (high != NULL) {
        put(ids->trace_id, PyLong_AsUnsignedLongLongMask(high));
        put(ids->trace_id + 8, PyLong_AsUnsignedLongLongMask(PyTuple_GET_ITEM(span_context, TRACE_ID)));
        put(ids->span_id, PyLong_AsUnsignedLongLongMask(PyTuple_GET_ITEM(span_context, SPAN_ID)));
        ids->trace_flags = (uint8_t)PyLong_AsUnsignedLongMask(PyTuple_GET_ITEM(span_context, TRACE_FLAGS));
        Py_DECREF(high);
    }
    if (PyErr_Occurred()) {
        PyErr_Clear();
        *ids = (SpanIds){0};
        return 0;
    }
    return 1;
}

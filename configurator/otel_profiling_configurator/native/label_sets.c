/* Label sets: what samples are labelled with while a span is current.
 *
 * One is made of the labels of a span, of the current baggage where that is labelled, and of the tags that the application gives its
 * threads; it stays with the labels of its span, for whenever the span becomes current again.
 */

#include "native.h"

/* Label sets of one span: with other baggage, or on threads that have tags. */
enum {MOST_OF_A_SPAN = 8};

static PyTypeObject *label_set_type;

static void
label_set_dealloc(LabelSet *self)
{
    PyTypeObject *type = Py_TYPE(self);
    for (int i = 0; i < VALUES; i++) {
        Py_XDECREF(self->values[i]);
    }
    Py_XDECREF(self->baggage);
    Py_XDECREF(self->own);
    Py_XDECREF(self->others);
    thread_context_free(self->record);
    Py_XDECREF((PyObject *)self->next);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyType_Slot slots[] = {{Py_tp_dealloc, label_set_dealloc}, {0, NULL}};
static PyType_Spec spec = {
    .name = "otel_profiling_configurator.native._native.LabelSet",
    .basicsize = sizeof(LabelSet),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int
label_sets_init(void)
{
    label_set_type = (PyTypeObject *)PyType_FromSpec(&spec);
    return label_set_type == NULL ? -1 : 0;
}

int
label_set_next(const LabelSet *set, Py_ssize_t *place, PyObject **name, PyObject **value)
{
    while (*place < VALUES) {
        Py_ssize_t i = (*place)++;
        if (PyUnicode_GET_LENGTH(set->values[i]) > 0) {
            *name = PyTuple_GET_ITEM(state.keys, i);
            *value = set->values[i];
            return 1;
        }
    }
    Py_ssize_t i = 2 * (*place - VALUES);
    if (set->others == NULL || i + 1 >= PyTuple_GET_SIZE(set->others)) {
        return 0;
    }
    ++*place;
    *name = PyTuple_GET_ITEM(set->others, i);
    *value = PyTuple_GET_ITEM(set->others, i + 1);
    return 1;
}

/* Whether a label of a span, or one of a list of names and values, has this name: one that is there twice would stay twice. */
static int
has_name(const LabelSet *set, PyObject *list, PyObject *name)
{
    for (int i = 0; i < VALUES; i++) {
        if (PyUnicode_GET_LENGTH(set->values[i]) > 0 && PyUnicode_Compare(PyTuple_GET_ITEM(state.keys, i), name) == 0) {
            return 1;
        }
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i += 2) {
        if (PyUnicode_Compare(PyList_GET_ITEM(list, i), name) == 0) {
            return 1;
        }
    }
    return 0;
}

/* Append a tuple of pairs; whatever is no pair of texts there is passed over. */
static int
append_pairs(const LabelSet *set, PyObject *list, PyObject *pairs)
{
    for (Py_ssize_t i = 0; pairs != NULL && PyTuple_Check(pairs) && i < PyTuple_GET_SIZE(pairs); i++) {
        PyObject *pair = PyTuple_GET_ITEM(pairs, i);
        if (PyTuple_Check(pair) && PyTuple_GET_SIZE(pair) == 2 && PyUnicode_Check(PyTuple_GET_ITEM(pair, 0))
            && PyUnicode_Check(PyTuple_GET_ITEM(pair, 1)) && !has_name(set, list, PyTuple_GET_ITEM(pair, 0))
            && (PyList_Append(list, PyTuple_GET_ITEM(pair, 0)) < 0 || PyList_Append(list, PyTuple_GET_ITEM(pair, 1)) < 0)) {
            return -1;
        }
    }
    return 0;
}

/* Make the labels of a set's baggage and of the application's tags. */
static int
add_others(LabelSet *set)
{
    PyObject *list = PyList_New(0), *of_baggage = NULL;
    int status = list == NULL ? -1 : 0;
    if (status == 0 && set->baggage != NULL) {
        of_baggage = PyObject_CallOneArg(state.baggage_labels, set->baggage);
        status = of_baggage == NULL ? -1 : append_pairs(set, list, of_baggage);
    }
    if (status == 0 && (status = append_pairs(set, list, set->own)) == 0) {
        set->others = PyList_AsTuple(list);
        status = set->others == NULL ? -1 : 0;
    }
    Py_XDECREF(of_baggage);
    Py_XDECREF(list);
    return status;
}

static LabelSet *
make_label_set(SpanLabels *labels, PyObject *baggage, PyObject *own)
{
    LabelSet *set = PyObject_New(LabelSet, label_set_type);
    if (set == NULL) {
        return NULL;
    }
    for (int i = 0; i < VALUES; i++) {
        set->values[i] = Py_NewRef(labels->values[i]);
    }
    if (!labels->are_ids_known) {
        labels->are_ids_known = span_ids_of(labels->span_context, &labels->ids);
    }
    set->ids = labels->ids;
    set->baggage = Py_XNewRef(baggage);
    set->own = Py_XNewRef(own);
    set->others = NULL;
    set->record = NULL;
    set->next = NULL;
    set->alias = 0;
    set->threads = set->is_used = 0;
    if ((baggage != NULL || own != NULL) && add_others(set) < 0) {
        Py_CLEAR(set);
    }
    return set;
}

/* The current baggage, borrowed, if any is to be looked at. */
static PyObject *
baggage_in(PyObject *context)
{
    if (state.baggage_key == Py_None) {
        return NULL;
    }
    PyObject *baggage = PyDict_GetItemWithError(context, state.baggage_key);
    PyErr_Clear();
    return baggage;
}

/* Whether a label set is made of what the labels of its span are now. */
static int
has_values_of(const LabelSet *set, const SpanLabels *labels)
{
    return set->values[0] == labels->values[0] && set->values[1] == labels->values[1] && set->values[2] == labels->values[2];
}

/* Whether labels are those of a span of ours, even if they are none: its baggage may be labelled, and readers are told of it. */
static int
are_ours(const SpanLabels *labels)
{
    const int has_name = labels->values[VALUES - 1] != NULL && PyUnicode_GET_LENGTH(labels->values[VALUES - 1]) > 0;
    return has_name || (labels->values[0] != NULL && labels->owner != NULL && PyObject_IsTrue(labels->owner) == 1);
}

LabelSet *
label_set_of(PyObject *object, PyObject *context, PyObject *own)
{
    SpanLabels *labels = (SpanLabels *)object;
    if (!Py_IS_TYPE(object, span_labels_type) || !are_ours(labels)) {
        return NULL;
    }
    PyObject *baggage = baggage_in(context);
    int count = 0;
    for (LabelSet *set = labels->sets; set != NULL && has_values_of(set, labels); set = set->next, count++) {
        if (set->baggage == baggage && set->own == own) {
            return (LabelSet *)Py_NewRef((PyObject *)set);
        }
    }
    LabelSet *set = make_label_set(labels, baggage, own);
    if (set == NULL) {
        return NULL;
    }
    /* What makes baggage into text may be anybody's code, and have changed the labels, or made a set of them. */
    LabelSet *former = labels->sets;
    if (count > 0 && count < MOST_OF_A_SPAN && former != NULL && has_values_of(former, labels)) {
        set->next = former;
        former = NULL;
    }
    labels->sets = (LabelSet *)Py_NewRef((PyObject *)set);
    Py_XDECREF((PyObject *)former);
    return set;
}

PyObject *
label_set_pairs(LabelSet *set)
{
    PyObject *pairs = PyList_New(0), *name, *value;
    for (Py_ssize_t place = 0; pairs != NULL && label_set_next(set, &place, &name, &value);) {
        PyObject *pair = PyTuple_Pack(2, name, value);
        if (pair == NULL || PyList_Append(pairs, pair) < 0) {
            Py_CLEAR(pairs);
        }
        Py_XDECREF(pair);
    }
    PyObject *result = pairs == NULL ? NULL : PyList_AsTuple(pairs);
    Py_XDECREF(pairs);
    return result;
}

/* Tell Python of the exception that is set, which goes no further, unless a signal handler of the application's raised it. */
void
label_sets_tell(void)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (error != NULL && traceback != NULL) {
        PyException_SetTraceback(error, traceback);  /* it says whose the exception is; before 3.12 it is not there yet */
    }
    Py_XDECREF(PyObject_CallOneArg(state.failed, error == NULL ? Py_None : error));
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
}

int
label_sets_clear_failure(void)
{
    if (PyErr_ExceptionMatches(PyExc_AttributeError) || PyErr_ExceptionMatches(PyExc_MemoryError)
        || PyErr_ExceptionMatches(PyExc_RecursionError)) {
        PyErr_Clear();
        return 0;
    }
    label_sets_tell();
    return PyErr_Occurred() ? -1 : 0;
}

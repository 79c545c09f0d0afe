/* Label sets: what samples are labelled with while a span is current, and the aliases that they have at the agent.
 *
 * The agent keeps labels by thread id, and walks all labels of the process for each sample. So a label set is written there only
 * once, under an id of its own (an alias), when it first becomes current on a thread; and only some of those that are current
 * nowhere are left there, for threads and tasks that come back to them.
 */

#include "native.h"

/* Label sets that stay at the agent although they are current nowhere: with three labels each, a few hundred for it to walk. */
enum {KEPT = 64};

/* Label sets of one span: with other baggage, or on threads that have tags. */
enum {MOST_OF_A_SPAN = 8};

/* Labels of a span itself: there are three. */
enum {MOST_VALUES = 4};

static struct {
    LabelSet **sets;  /* that have an alias, owned */
    Py_ssize_t count, room;
    Py_ssize_t hand;  /* the next that is thought of giving up */
    uint64_t last_alias;
} at_agent;

static PyTypeObject *label_set_type;

static void
label_set_dealloc(LabelSet *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(self->values);
    Py_XDECREF(self->baggage);
    Py_XDECREF(self->own);
    Py_XDECREF(self->pairs);
    Py_XDECREF(self->span_context);
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

static int
append(PyObject *list, PyObject *key, PyObject *value)
{
    return PyList_Append(list, key) < 0 || PyList_Append(list, value) < 0 ? -1 : 0;
}

/* Whether a list of names and values has this name: a name that is there twice would stay twice. */
static int
has_name(PyObject *list, PyObject *name)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i += 2) {
        if (PyUnicode_Compare(PyList_GET_ITEM(list, i), name) == 0) {
            return 1;
        }
    }
    return 0;
}

/* Append a tuple of pairs; whatever is no pair of texts there is passed over. */
static int
append_pairs(PyObject *list, PyObject *pairs)
{
    for (Py_ssize_t i = 0; pairs != NULL && PyTuple_Check(pairs) && i < PyTuple_GET_SIZE(pairs); i++) {
        PyObject *pair = PyTuple_GET_ITEM(pairs, i);
        if (PyTuple_Check(pair) && PyTuple_GET_SIZE(pair) == 2 && PyUnicode_Check(PyTuple_GET_ITEM(pair, 0))
            && PyUnicode_Check(PyTuple_GET_ITEM(pair, 1)) && !has_name(list, PyTuple_GET_ITEM(pair, 0))
            && append(list, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1)) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Names and values of the values alone, as most label sets are made. */
static PyObject *
pairs_of_values(PyObject *values)
{
    Py_ssize_t count = 0;
    PyObject *found[2 * MOST_VALUES];
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(state.keys) && i < PyTuple_GET_SIZE(values) && i < MOST_VALUES; i++) {
        PyObject *value = PyTuple_GET_ITEM(values, i);
        if (PyUnicode_Check(value) && PyUnicode_GET_LENGTH(value) > 0) {
            found[count++] = PyTuple_GET_ITEM(state.keys, i);
            found[count++] = value;
        }
    }
    PyObject *pairs = PyTuple_New(count);
    for (Py_ssize_t i = 0; pairs != NULL && i < count; i++) {
        PyTuple_SET_ITEM(pairs, i, Py_NewRef(found[i]));
    }
    return pairs;
}

static PyObject *
make_pairs(PyObject *values, PyObject *baggage, PyObject *own)
{
    if (baggage == NULL && own == NULL) {
        return pairs_of_values(values);
    }
    PyObject *list = PyList_New(0), *of_baggage = NULL, *pairs = NULL;
    if (list == NULL) {
        return NULL;
    }
    PyObject *of_values = pairs_of_values(values);
    int status = of_values == NULL ? -1 : PyList_SetSlice(list, 0, 0, of_values);
    Py_XDECREF(of_values);
    if (status < 0) {
        goto done;
    }
    if (baggage != NULL) {
        of_baggage = PyObject_CallOneArg(state.baggage_labels, baggage);
        if (of_baggage == NULL) {
            goto done;
        }
    }
    if (append_pairs(list, of_baggage) == 0 && append_pairs(list, own) == 0) {
        pairs = PyList_AsTuple(list);
    }
done:
    Py_XDECREF(of_baggage);
    Py_DECREF(list);
    return pairs;
}

static LabelSet *
make_label_set(PyObject *values, PyObject *span_context, PyObject *baggage, PyObject *own)
{
    PyObject *pairs = make_pairs(values, baggage, own);
    if (pairs == NULL) {
        return NULL;
    }
    LabelSet *set = PyObject_New(LabelSet, label_set_type);
    if (set == NULL) {
        Py_DECREF(pairs);
        return NULL;
    }
    set->values = Py_NewRef(values);
    set->baggage = Py_XNewRef(baggage);
    set->own = Py_XNewRef(own);
    set->pairs = pairs;
    set->span_context = Py_XNewRef(span_context);
    set->record = NULL;
    set->next = NULL;
    set->alias = 0;
    set->threads = set->is_used = 0;
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

LabelSet *
label_set_of(PyObject *labels, PyObject *context, PyObject *own)
{
    if (!Py_IS_TYPE(labels, (PyTypeObject *)state.labels_type)) {
        return NULL;
    }
    PyObject *values = *(PyObject **)((char *)labels + state.values_at);
    if (values == NULL || values == state.no_labels || !PyTuple_Check(values)) {
        return NULL;
    }
    LabelSet **slot = (LabelSet **)((char *)labels + state.label_set_at);
    PyObject *baggage = baggage_in(context);
    int count = 0;
    for (LabelSet *set = *slot; set != NULL && set->values == values; set = set->next, count++) {
        if (set->baggage == baggage && set->own == own) {
            return (LabelSet *)Py_NewRef((PyObject *)set);
        }
    }
    PyObject *span_context = *(PyObject **)((char *)labels + state.span_context_at);
    Py_INCREF(values);  /* what makes baggage into text may be anybody's code, and change the labels */
    Py_XINCREF(span_context);
    LabelSet *set = make_label_set(values, span_context, baggage, own);
    Py_XDECREF(span_context);
    Py_DECREF(values);
    if (set == NULL) {
        return NULL;
    }
    LabelSet *former = *slot;
    if (count > 0 && count < MOST_OF_A_SPAN && former != NULL && former->values == values) {
        set->next = former;
        former = NULL;
    }
    *slot = (LabelSet *)Py_NewRef((PyObject *)set);
    Py_XDECREF((PyObject *)former);
    return set;
}

PyObject *
label_set_pairs(LabelSet *set)
{
    Py_ssize_t count = PyTuple_GET_SIZE(set->pairs) / 2;
    PyObject *pairs = PyTuple_New(count);
    for (Py_ssize_t i = 0; pairs != NULL && i < count; i++) {
        PyObject *pair = PyTuple_Pack(2, PyTuple_GET_ITEM(set->pairs, 2 * i), PyTuple_GET_ITEM(set->pairs, 2 * i + 1));
        if (pair == NULL) {
            Py_CLEAR(pairs);
            break;
        }
        PyTuple_SET_ITEM(pairs, i, pair);
    }
    return pairs;
}

/* Write the labels of a set under an alias, or remove them; -1 with an exception of the agent's. */
static int
write_labels(PyObject *writer, uint64_t alias, PyObject *pairs)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(pairs); i += 2) {
        if (agent_library_write(writer, alias, PyTuple_GET_ITEM(pairs, i), PyTuple_GET_ITEM(pairs, i + 1)) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Tell Python of the exception that is set, which goes no further, unless a signal handler of the application's raised it. */
static void
tell(void)
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
    tell();
    return PyErr_Occurred() ? -1 : 0;
}

static void
remove_labels(uint64_t alias, PyObject *pairs)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(pairs); i += 2) {
        if (agent_library_write(state.remove_tag, alias, PyTuple_GET_ITEM(pairs, i), PyTuple_GET_ITEM(pairs, i + 1)) < 0) {
            PyErr_Clear();
        }
    }
}

static void
give_up(Py_ssize_t place, int remove)
{
    LabelSet *set = at_agent.sets[place];
    at_agent.sets[place] = at_agent.sets[--at_agent.count];
    uint64_t alias = set->alias;
    set->alias = 0;
    if (remove) {
        remove_labels(alias, set->pairs);
    }
    Py_DECREF(set);
}

/* Give up label sets until no more are kept than should be, but none that is current, was of use since the hand passed, or has
 * been given to a sample that may not be recorded yet. */
static void
make_room(void)
{
    for (Py_ssize_t looks = 2 * at_agent.count; at_agent.count >= KEPT && looks > 0; looks--) {
        if (at_agent.hand >= at_agent.count) {
            at_agent.hand = 0;
        }
        LabelSet *set = at_agent.sets[at_agent.hand];
        if (set->threads == 0 && !set->is_used && !agent_library_gave(set->alias)) {
            give_up(at_agent.hand, 1);
            if (at_agent.count < 2 * KEPT) {
                return;
            }
        }
        else {
            set->is_used = 0;
            at_agent.hand++;
        }
    }
}

int
label_set_register(LabelSet *set)
{
    make_room();
    if (at_agent.count == at_agent.room) {
        Py_ssize_t room = at_agent.room == 0 ? 2 * KEPT : 2 * at_agent.room;
        LabelSet **sets = PyMem_Realloc(at_agent.sets, room * sizeof *sets);
        if (sets == NULL) {
            return -1;
        }
        at_agent.sets = sets;
        at_agent.room = room;
    }
    uint64_t alias = ALIAS_BIT | ++at_agent.last_alias;
    if (write_labels(state.add_tag, alias, set->pairs) < 0) {
        tell();
        PyErr_Clear();
        remove_labels(alias, set->pairs);
        return -1;
    }
    set->alias = alias;
    at_agent.sets[at_agent.count++] = (LabelSet *)Py_NewRef((PyObject *)set);
    return 0;
}

void
label_sets_forget(int remove)
{
    while (at_agent.count > 0) {
        give_up(at_agent.count - 1, remove);
    }
}

void
label_sets_count(Py_ssize_t *sets, Py_ssize_t *labels)
{
    *sets = at_agent.count;
    *labels = 0;
    for (Py_ssize_t i = 0; i < at_agent.count; i++) {
        *labels += PyTuple_GET_SIZE(at_agent.sets[i]->pairs) / 2;
    }
}

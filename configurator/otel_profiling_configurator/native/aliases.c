/* The aliases that label sets have at the agent.
 *
 * The agent keeps labels by thread id, and walks all labels of the process for each sample. So a label set is written there only
 * once, under an id of its own (an alias), when it first becomes current on a thread; and only some of those that are current
 * nowhere are left there, for threads and tasks that come back to them.
 */

#include "native.h"

/* Label sets that stay at the agent although they are current nowhere: with three labels each, a few hundred for it to walk. */
enum {KEPT = 64};

static struct {
    LabelSet **sets;  /* that have an alias, owned */
    Py_ssize_t count, room;
    Py_ssize_t hand;  /* the next that is thought of giving up */
    uint64_t last_alias;
} at_agent;

/* Write the labels of a set under an alias, but the one that has the value `but`; -1 with an exception of the agent's. */
static int
write_labels(uint64_t alias, const LabelSet *set, PyObject *but)
{
    PyObject *name, *value;
    for (Py_ssize_t place = 0; label_set_next(set, &place, &name, &value);) {
        if (value != but && agent_library_write(state.add_tag, alias, name, value) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The same for removing them; whatever the agent raises, the others are removed. */
static void
remove_labels(uint64_t alias, const LabelSet *set, PyObject *but)
{
    PyObject *name, *value;
    for (Py_ssize_t place = 0; label_set_next(set, &place, &name, &value);) {
        if (value != but && agent_library_write(state.remove_tag, alias, name, value) < 0) {
            PyErr_Clear();
        }
    }
}

/* Take a label set off the list of those at the agent; returned owned, with its alias, under which its labels are still there. */
static LabelSet *
take_off(Py_ssize_t place)
{
    LabelSet *set = at_agent.sets[place];
    at_agent.sets[place] = at_agent.sets[--at_agent.count];
    return set;
}

static void
give_up(LabelSet *set, int remove)
{
    uint64_t alias = set->alias;
    set->alias = 0;
    if (remove) {
        remove_labels(alias, set, NULL);
    }
    Py_DECREF(set);
}

/* Give up label sets until no more are kept than should be, but none that is current, was of use since the hand passed, or has
 * been given to a sample that may not be recorded yet. Returns the last one of these, owned, whose labels are still at the agent. */
static LabelSet *
make_room(void)
{
    LabelSet *last = NULL;
    for (Py_ssize_t looks = 2 * at_agent.count; at_agent.count >= KEPT && looks > 0; looks--) {
        if (at_agent.hand >= at_agent.count) {
            at_agent.hand = 0;
        }
        LabelSet *set = at_agent.sets[at_agent.hand];
        if (set->threads == 0 && !set->is_used && !agent_library_gave(set->alias)) {
            if (last != NULL) {
                give_up(last, 1);
            }
            last = take_off(at_agent.hand);
            if (at_agent.count < 2 * KEPT) {
                break;
            }
        }
        else {
            set->is_used = 0;
            at_agent.hand++;
        }
    }
    return last;
}

/* Have room for one more; -1 where there is no memory. */
static int
grow(void)
{
    if (at_agent.count < at_agent.room) {
        return 0;
    }
    Py_ssize_t room = at_agent.room == 0 ? 2 * KEPT : 2 * at_agent.room;
    LabelSet **sets = PyMem_Realloc(at_agent.sets, room * sizeof *sets);
    if (sets == NULL) {
        return -1;
    }
    at_agent.sets = sets;
    at_agent.room = room;
    return 0;
}

/* The label that a set takes over from a former one: routes have few names, so that the name of the span often stays. */
static PyObject *
name_in_common(const LabelSet *former, const LabelSet *set)
{
    PyObject *name = set->values[VALUES - 1];
    int is_same = former != NULL && former->values[VALUES - 1] == name && former->others == NULL && set->others == NULL;
    return is_same && PyUnicode_GET_LENGTH(name) > 0 ? name : NULL;
}

int
aliases_register(LabelSet *set)
{
    if (grow() < 0) {
        return -1;
    }
    LabelSet *former = make_room();
    PyObject *stays = name_in_common(former, set);
    uint64_t alias = stays != NULL ? former->alias : ALIAS_BIT | ++at_agent.last_alias;
    if (former != NULL) {
        uint64_t alias_of_former = former->alias;
        former->alias = 0;
        remove_labels(alias_of_former, former, stays);
    }
    if (write_labels(alias, set, stays) < 0) {
        label_sets_tell();
        PyErr_Clear();
        remove_labels(alias, set, NULL);
        Py_XDECREF((PyObject *)former);
        return -1;
    }
    Py_XDECREF((PyObject *)former);  /* until here it kept the text that is at the agent */
    set->alias = alias;
    at_agent.sets[at_agent.count++] = (LabelSet *)Py_NewRef((PyObject *)set);
    return 0;
}

void
aliases_forget(int remove)
{
    while (at_agent.count > 0) {
        give_up(take_off(at_agent.count - 1), remove);
    }
}

void
aliases_count(Py_ssize_t *sets, Py_ssize_t *labels)
{
    *sets = at_agent.count;
    *labels = 0;
    for (Py_ssize_t i = 0; i < at_agent.count; i++) {
        PyObject *name, *value;
        for (Py_ssize_t place = 0; label_set_next(at_agent.sets[i], &place, &name, &value); ++*labels) {
        }
    }
}

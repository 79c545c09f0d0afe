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

/* The same for removing them; returns how many can't be, whatever the agent says of it. */
static int
remove_labels(uint64_t alias, const LabelSet *set, PyObject *but)
{
    PyObject *name, *value;
    int failures = 0;
    for (Py_ssize_t place = 0; label_set_next(set, &place, &name, &value);) {
        if (value != but && agent_library_write(state.remove_tag, alias, name, value) < 0) {
            PyErr_Clear();
            failures++;
        }
    }
    return failures;
}

/* A label set that was at the agent, where its labels still are, under an alias that is its own no more. */
typedef struct {
    LabelSet *set;  /* owned; NULL for none */
    uint64_t alias;
} Former;

static Former
take_off(Py_ssize_t place)
{
    Former former = {at_agent.sets[place], at_agent.sets[place]->alias};
    at_agent.sets[place] = at_agent.sets[--at_agent.count];
    former.set->alias = 0;
    return former;
}

static void
give_up(Former former, int remove)
{
    if (remove) {
        remove_labels(former.alias, former.set, NULL);
    }
    Py_DECREF(former.set);  /* and of baggage, perhaps, which may be anything */
}

/* Give up label sets until no more are kept than should be, but none that is current, was of use since the hand passed, or has
 * been given to a sample that may not be recorded yet. Returns the last one of these. */
static Former
make_room(void)
{
    Former last = {NULL, 0};
    for (Py_ssize_t looks = 2 * at_agent.count; at_agent.count >= KEPT && looks > 0; looks--) {
        if (at_agent.hand >= at_agent.count) {
            at_agent.hand = 0;
        }
        LabelSet *set = at_agent.sets[at_agent.hand];
        if (set->threads == 0 && !set->is_used && !agent_library_gave(set->alias, SAMPLES_TO_RECORD)) {
            Former before = last;
            last = take_off(at_agent.hand);
            if (before.set != NULL) {
                give_up(before, 1);
            }
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

/* The label that a set takes over from a former one, with its alias: routes have few names, so that the name of the span often stays.
 * Not where a sample may still be recorded: without labels it says less than it could, with another span's it would be wrong. */
static PyObject *
name_in_common(Former former, const LabelSet *set)
{
    PyObject *name = set->values[VALUES - 1];
    if (former.set == NULL || former.set->values[VALUES - 1] != name || former.set->others != NULL || set->others != NULL
        || PyUnicode_GET_LENGTH(name) == 0 || agent_library_gave(former.alias, MOST_SAMPLES_TO_RECORD)) {
        return NULL;
    }
    return name;
}

/* Have the labels of a set, in place of a former one's, be at the agent; the alias, 0 after a failure, which has been told. */
static uint64_t
write_in_place_of(Former former, const LabelSet *set)
{
    PyObject *stays = name_in_common(former, set);
    if (former.set != NULL && remove_labels(former.alias, former.set, stays) > 0 && stays != NULL) {
        remove_labels(former.alias, former.set, NULL);  /* what can't be removed is left behind, for nobody */
        stays = NULL;
    }
    uint64_t alias = stays != NULL ? former.alias : ALIAS_BIT | ++at_agent.last_alias;
    if (write_labels(alias, set, stays) < 0) {
        label_sets_tell();
        PyErr_Clear();
        remove_labels(alias, set, NULL);
        return 0;
    }
    return alias;
}

int
aliases_register(LabelSet *set)
{
    Former former = make_room();
    uint64_t alias = write_in_place_of(former, set);
    /* What was called meanwhile, an agent in Python or what an object of the baggage does in the end, may have registered it, too. */
    if (alias != 0 && (set->alias != 0 || grow() < 0)) {
        remove_labels(alias, set, NULL);
        alias = 0;
    }
    if (alias != 0) {
        set->alias = alias;
        at_agent.sets[at_agent.count++] = (LabelSet *)Py_NewRef((PyObject *)set);
    }
    set->threads++;  /* it is about to be current: whatever runs now does not give it up */
    Py_XDECREF((PyObject *)former.set);  /* until here it kept the text that is at the agent */
    set->threads--;
    return set->alias != 0 ? 0 : -1;
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

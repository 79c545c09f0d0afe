/* Thread context records: which label set is current on each thread.
 *
 * A record belongs to a state of the interpreter (`PyThreadState`), by whose address the agent's threads find it. They read
 * without the GIL, so records are never freed: one that is left is used again for another thread.
 */

#include "native.h"

#include <pthread.h>
#include <unistd.h>

enum {BUCKETS = 1024};
static _Atomic(Thread *) buckets[BUCKETS];
static Thread *all_records, *free_records;
static _Atomic(Thread *) ended_records;
static Py_ssize_t records_in_use;
static unsigned long labels_begun;  /* how many times, by thread */

static _Thread_local Thread *own_record;
static pthread_key_t at_end_of_thread;

static inline _Atomic(Thread *) *
bucket_of(const void *python_state)
{
    return &buckets[((uintptr_t)python_state >> 6) * 0x9E3779B97F4A7C15u >> 54];
}

Thread *
thread_find(const PyThreadState *python_state)
{
    Thread *thread = atomic_load(bucket_of(python_state));
    while (thread != NULL && atomic_load(&thread->state) != python_state) {
        thread = atomic_load(&thread->next);
    }
    return thread;
}

/* Called when an OS thread ends, without the GIL: nothing of Python's runs on it any more. */
static void
end_of_thread(void *record)
{
    Thread *thread = record;
    own_record = NULL;
    if (thread->slot != NULL) {
        *thread->slot = NULL;  /* its label set is let go of by whoever comes next, with the GIL */
    }
    atomic_store(&thread->alias, 0);
    thread->next_free = atomic_load(&ended_records);
    while (!atomic_compare_exchange_weak(&ended_records, &thread->next_free, thread)) {
    }
}

int
threads_init(void)
{
    if (pthread_key_create(&at_end_of_thread, end_of_thread) != 0) {
        PyErr_SetString(PyExc_ImportError, "no key for what ends with a thread");
        return -1;
    }
    return 0;
}

/* Take a record out of the table. An agent's thread may be just there: where the record leads stays as it is until it is entered
 * once more, and then that thread may go on elsewhere, and find nothing. */
static void
leave(Thread *thread)
{
    PyThreadState *python_state = atomic_load(&thread->state);
    if (python_state == NULL) {
        return;
    }
    _Atomic(Thread *) *link = bucket_of(python_state);
    while (atomic_load(link) != NULL && atomic_load(link) != thread) {
        link = &atomic_load(link)->next;
    }
    if (atomic_load(link) == thread) {
        atomic_store(link, atomic_load(&thread->next));
    }
    atomic_store(&thread->state, NULL);
}

static void
enter(Thread *thread, PyThreadState *python_state)
{
    _Atomic(Thread *) *bucket = bucket_of(python_state);
    for (Thread *former; (former = thread_find(python_state)) != NULL;) {
        leave(former);  /* of a thread that has ended, at whose address another state is now */
    }
    atomic_store(&thread->state_id, (uint64_t)python_state->id);
    atomic_store(&thread->state, python_state);
    atomic_store(&thread->next, atomic_load(bucket));
    atomic_store(bucket, thread);
}

static void
clear(Thread *thread)
{
    LabelSet *set = thread->set;
    thread->set = NULL;
    if (set != NULL) {
        set->threads--;
        Py_DECREF((PyObject *)set);
    }
    Py_CLEAR(thread->own);
    Py_CLEAR(thread->tracer);
    thread->greenlets = 0;
}

static void
release(Thread *thread)
{
    leave(thread);
    atomic_store(&thread->alias, 0);
    clear(thread);
    thread->process = 0;
    records_in_use--;
    thread->next_free = free_records;
    free_records = thread;
}

static void
release_ended(void)
{
    Thread *thread = atomic_exchange(&ended_records, NULL);
    while (thread != NULL) {
        Thread *next = thread->next_free;
        release(thread);
        thread = next;
    }
}

static Thread *
new_record(void)
{
    release_ended();
    Thread *thread = free_records;
    if (thread != NULL) {
        free_records = thread->next_free;
    }
    else {
        thread = calloc(1, sizeof *thread);
        if (thread == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        thread->next_record = all_records;
        all_records = thread;
    }
    if (pthread_setspecific(at_end_of_thread, thread) != 0) {
        thread->next_free = free_records;
        free_records = thread;
        PyErr_NoMemory();
        return NULL;
    }
    records_in_use++;
    thread->process = getpid();
    thread->labelled = labels_begun;
    thread->slot = thread_context_slot();
    own_record = thread;
    return thread;
}

Thread *
thread_current(PyThreadState *python_state)
{
    Thread *thread = own_record;
    if (thread != NULL && atomic_load_explicit(&thread->state, memory_order_relaxed) == python_state
        && atomic_load_explicit(&thread->state_id, memory_order_relaxed) == python_state->id) {
        return thread;
    }
    if (thread == NULL && (thread = new_record()) == NULL) {
        return NULL;
    }
    leave(thread);  /* an OS thread may have several states, in turns */
    enter(thread, python_state);
    return thread;
}

/* Have Python write the labels of a set, or of none, on the calling thread. */
static int
label_by_thread(LabelSet *set)
{
    PyObject *pairs = set == NULL ? PyTuple_New(0) : label_set_pairs(set);
    PyObject *result = pairs == NULL ? NULL : PyObject_CallOneArg(state.label_by_thread, pairs);
    Py_XDECREF(pairs);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
thread_switch(Thread *thread, LabelSet *set)
{
    LabelSet *former = thread->set;
    if (former == set && thread->labelled == labels_begun) {
        return 0;
    }
    thread->labelled = labels_begun;
    uint64_t alias = 0;
    Py_XINCREF((PyObject *)set);  /* what is called here may be an agent in Python, in tests */
    if (set != NULL && state.mode == ALIASES && (set->alias != 0 || aliases_register(set) == 0)) {
        alias = set->alias;
        set->is_used = 1;
    }
    former = thread->set;
    thread->set = set;
    if (set != NULL) {
        set->threads++;
    }
    cpu_clocks_wake(thread);
    top_of_stack_switch(thread, alias);
    if (thread->slot != NULL && (thread_contexts_are_on || *thread->slot != NULL)) {
        thread_context_publish(thread, set);
    }
    if (former != NULL) {
        former->threads--;
        Py_DECREF((PyObject *)former);
    }
    greenlets_follow(thread);
    return state.mode == BY_THREAD ? label_by_thread(set) : 0;
}

void
threads_register(void)
{
    for (Thread *thread = all_records; thread != NULL; thread = thread->next_record) {
        LabelSet *set = thread->set;
        Py_XINCREF((PyObject *)set);
        int has_alias = set != NULL && state.mode == ALIASES && (set->alias != 0 || aliases_register(set) == 0);
        atomic_store(&thread->alias, has_alias ? set->alias : 0);
        Py_XDECREF((PyObject *)set);
    }
}

void
threads_label_anew(void)
{
    labels_begun++;
}

void
threads_forget_own(void)
{
    for (Thread *thread = all_records; thread != NULL; thread = thread->next_record) {
        Py_CLEAR(thread->own);
    }
}

void
threads_after_fork(void)
{
    const pid_t process = getpid();
    release_ended();
    cpu_clocks_after_fork();
    for (int i = 0; i < BUCKETS; i++) {
        atomic_store(&buckets[i], NULL);
    }
    free_records = NULL;
    records_in_use = 0;
    for (Thread *thread = all_records; thread != NULL; thread = thread->next_record) {
        atomic_store(&thread->is_between, 0);
        atomic_store(&thread->is_awake, 0);
        /* Other hooks may have come first, and started threads here: the SDK's has its exporter's. */
        if (thread == own_record || thread->process == process) {
            PyThreadState *python_state = atomic_load(&thread->state);
            records_in_use++;
            thread->process = process;
            atomic_store(&thread->state, NULL);
            if (python_state != NULL) {
                enter(thread, python_state);
            }
            continue;
        }
        atomic_store(&thread->state, NULL);
        atomic_store(&thread->alias, 0);
        thread->slot = NULL;  /* memory of a thread that is not here */
        clear(thread);
        thread->process = 0;
        thread->next_free = free_records;
        free_records = thread;
    }
}

void
threads_each_set(void (*act)(LabelSet *set))
{
    for (Thread *thread = all_records; thread != NULL; thread = thread->next_record) {
        if (thread->set != NULL && thread->set->record != NULL) {
            act(thread->set);
        }
    }
}

Py_ssize_t
threads_count(void)
{
    release_ended();
    return records_in_use;
}

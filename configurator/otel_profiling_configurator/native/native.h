/* What the files of this module know of one another: one file a question.
 *
 *   module.c         what Python calls
 *   annotation.c     whose a span's samples are, where that is as usual
 *   span_labels.c    the labels of a span, which it leaves there
 *   label_sets.c     label sets: what samples are labelled with
 *   aliases.c        the aliases that label sets have at the agent
 *   threads.c        thread context records: which label set is current on each thread
 *   thread_context.c   the same for readers outside the process
 *   process_context.c  and the process's resource for them
 *   switches.c       who changes the current context, and when: then records follow
 *   greenlets.c      the same for greenlets, which change it behind the interpreter's back
 *   agent_library.c  what the agent's library is given to read
 *   agent_futexes.c  where the agent's threads wait for each other
 *   top_of_stack.c   a switch waits until a sample of its thread is over it
 *   read_ahead.c     what the sampler is about to read is copied at once
 *   given_aliases.c  which aliases samples were given of late
 *   cpu_clocks.c     which threads a sample is taken of
 *   clocked_threads.c  the threads there are, each with its CPU clock
 *   imports.c        functions that a shared library imports are replaced, and put back
 *
 * Everything runs with the GIL of the main interpreter, except where a function says that the agent's threads call it.
 */

#ifndef OTEL_PROFILING_NATIVE_H
#define OTEL_PROFILING_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdatomic.h>
#include <stdint.h>
#include <structmember.h>
#include <time.h>

#if defined(__linux__) && defined(__LP64__)
#define HAS_AGENT_LIBRARY 1
#define HAS_THREAD_CONTEXT 1
#endif

/* How samples find the labels of their thread. */
typedef enum {
    NO_AGENT,   /* there is nobody to label for; records follow all the same */
    ALIASES,    /* the agent's copy of a thread's state has the alias of the current label set */
    BY_THREAD,  /* Python writes the labels on the thread, at once */
} Mode;

/* What Python told this module, see `start` in module.c. All references are owned. */
typedef struct {
    int is_active;
    Mode mode;
    PyInterpreterState *interpreter;
    PyObject *variable;          /* the context variable that holds OpenTelemetry's current context */
    PyObject *span_key;          /* of the current span in a context */
    PyObject *labels_attribute;  /* name of the attribute of a span that holds its labels */
    PyObject *no_labels;         /* `SpanLabels.values` where there are none */
    PyObject *keys;              /* names of the labels in there */
    PyObject *baggage_key;       /* of the baggage in a context; None where no label is made of it */
    PyObject *baggage_labels;    /* makes pairs of it */
    PyObject *label_by_thread;   /* writes pairs on the calling thread */
    PyObject *failed;            /* is told of the exception that is being handled */
    PyObject *add_tag, *remove_tag;  /* the agent's */
} State;

extern State state;

/* Whether a function that every interpreter calls is called in ours, and we are to follow. */
static inline int
is_followed(PyThreadState *thread)
{
    return state.is_active && thread->interp == state.interpreter;
}

/* A clock's time in nanoseconds; -1 where there is no such clock. */
static inline int64_t
clock_nanoseconds(clockid_t clock)
{
    struct timespec now;
    return clock_gettime(clock, &now) < 0 ? -1 : (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* -- annotation.c ------------------------------------------------------------------------------------------------------- */

extern PyMethodDef annotation_methods[];
int annotation_init(void);

/* -- span_labels.c ------------------------------------------------------------------------------------------------------ */

/* Labels of a span itself: trace_id, span_id, span_name. */
enum {VALUES = 3};

/* Places in OpenTelemetry's `SpanContext`, a tuple. */
enum {TRACE_ID = 0, SPAN_ID = 1, TRACE_FLAGS = 3};

typedef struct {
    uint8_t trace_id[16], span_id[8], trace_flags;
} SpanIds;

struct LabelSet;

/* What spans/labels.py says of `SpanLabels`; all references are owned, NULL for what is not there. */
typedef struct {
    PyObject_HEAD
    PyObject *owner, *trace_flags, *process, *serves, *keeps_name, *root, *span_context, *inheritors;
    PyObject *values[VALUES];  /* texts, empty for a label that is missing; others take their place when a label changes */
    PyObject *weak_references;
    SpanIds ids;               /* what the span context says */
    int are_ids_known;
    struct LabelSet *sets;     /* made of it */
} SpanLabels;

extern PyTypeObject *span_labels_type;
int span_labels_init(void);
/* Empty ones, new; NULL with an exception. */
SpanLabels *span_labels_new(void);
/* What a span context, or NULL, says; returns whether it says something. */
int span_ids_of(PyObject *span_context, SpanIds *ids);

/* -- label_sets.c ------------------------------------------------------------------------------------------------------- */

/* What readers outside the process are given for a label set, see thread_context.c. */
typedef struct ContextRecord ContextRecord;

typedef struct LabelSet {
    PyObject_HEAD
    PyObject *values[VALUES];  /* what it is made of, told by identity: the labels of a span, */
    PyObject *baggage;   /* the current baggage or NULL, */
    PyObject *own;       /* and the tags that the application gave the thread, or NULL */
    PyObject *others;    /* the labels made of the latter two: name, value, name, value, ...; NULL for none */
    SpanIds ids;         /* of the span that readers outside are told of; zeros where no id is to be told */
    ContextRecord *record;   /* owned; NULL until it is first current while there may be readers */
    struct LabelSet *next;  /* another one of the same span; owned */
    uint64_t alias;      /* 0 while its labels are not at the agent */
    int threads;         /* on which it is current */
    int is_used;         /* since it was last thought of giving it up */
} LabelSet;

/* No id of a thread, which is an address, has this bit. */
#define ALIAS_BIT ((uint64_t)1 << 63)

int label_sets_init(void);
/* The label set of a span's labels in a context, owned; NULL with an exception, or without one where it has no labels. */
LabelSet *label_set_of(PyObject *labels, PyObject *context, PyObject *own);
/* Clear the exception that is set, unless it is what a signal handler of the application's raised here by chance; -1 then. */
int label_sets_clear_failure(void);
/* Tell Python of the exception that is set, which goes no further, unless a signal handler of the application's raised it. */
void label_sets_tell(void);
/* The label at a place, which begins at 0 and is moved on, borrowed; 0 where none follows. */
int label_set_next(const LabelSet *set, Py_ssize_t *place, PyObject **name, PyObject **value);
/* Its labels as a tuple of tuples, new. */
PyObject *label_set_pairs(LabelSet *set);

/* -- aliases.c ---------------------------------------------------------------------------------------------------------- */

/* See to it that a label set has an alias; -1 after a failure of the agent, which has been told. */
int aliases_register(LabelSet *set);
/* Take the aliases of all; with `remove`, their labels, too. */
void aliases_forget(int remove);
/* How many label sets are at the agent, and how many labels they have. */
void aliases_count(Py_ssize_t *sets, Py_ssize_t *labels);

/* -- threads.c ---------------------------------------------------------------------------------------------------------- */

typedef struct Thread {
    /* The agent's threads read these. */
    _Atomic(struct Thread *) next;      /* of the same bucket */
    PyThreadState *_Atomic state;       /* whose record this is; NULL for nobody's */
    _Atomic uint64_t state_id;          /* the interpreter's: an address is used again, this number never */
    _Atomic uint64_t alias;             /* of the current label set; 0 for none */
    _Atomic unsigned long sample;       /* the last one that copied the state, */
    _Atomic int64_t copied_at;          /* when it did so for the first time, */
    _Atomic int is_between;             /* and whether it has still to copy it once more, or the top of the stack */
    /* The thread itself changes these. */
    LabelSet *set;                      /* the current one, owned; NULL for none */
    ContextRecord *volatile *slot;      /* where readers outside the process look; NULL on systems that have none */
    PyObject *own;                      /* the application's tags of the thread, a tuple of pairs, owned; NULL for none */
    PyObject *tracer;                   /* the application's greenlet tracer, owned; NULL for none */
    unsigned long greenlets;            /* `greenlets_version` when its tracer was last set */
    _Atomic int is_awake;               /* whether the sampler knows that it has switched, or will hear of it */
    struct Thread *next_awake;          /* of those */
    unsigned long labelled;             /* which time that labels were begun by thread it was last labelled in */
    pid_t process;                      /* in which the thread is; 0 for a record that is nobody's */
    struct Thread *next_record;         /* of all */
    struct Thread *next_free;           /* of those that have ended or are free */
} Thread;

int threads_init(void);
/* The record of the calling thread; NULL with an exception where there is no memory. */
Thread *thread_current(PyThreadState *python_state);
/* Make a label set, or none, the current one of the calling thread. */
int thread_switch(Thread *thread, LabelSet *set);
/* Have every thread's label set be at the agent, which begins without any. */
void threads_register(void);
/* Labels by thread begin, once more: each thread's next switch labels it, also one to the label set that it has. */
void threads_label_anew(void);
/* No thread has tags of its own any more. */
void threads_forget_own(void);
/* This is a forked child: of all threads only the calling one is here, and those that other hooks have started. */
void threads_after_fork(void);
Py_ssize_t threads_count(void);
/* Call this with each thread's current label set that has a record for readers outside. */
void threads_each_set(void (*act)(LabelSet *set));
/* The record of a thread, for the agent's threads; NULL where there is none. */
Thread *thread_find(const PyThreadState *python_state);

/* -- thread_context.c --------------------------------------------------------------------------------------------------- */

/* Whether label sets are told to readers outside the process. */
extern int thread_contexts_are_on;
/* Begin with that; -1 with an exception where it can't be. See `use_thread_contexts` in module.c. */
int thread_contexts_start(PyObject *keys, PyObject *provider, PyObject *changed);
void thread_contexts_stop(void);
/* The calling thread's pointer for readers. */
ContextRecord *volatile *thread_context_slot(void);
/* Have it lead to the record of this label set; NULL for none. For the calling thread. */
void thread_context_publish(Thread *thread, LabelSet *set);
void thread_context_free(ContextRecord *record);

/* -- process_context.c -------------------------------------------------------------------------------------------------- */

/* Have this payload be found, instead of a former one; whether that can be had. */
int process_context_publish(const char *bytes, Py_ssize_t size);
void process_context_drop(void);

/* -- switches.c --------------------------------------------------------------------------------------------------------- */

/* Follow switches from now on; -1 with an exception that says why that can't be. */
int switches_install(void);
void switches_undo(void);
/* Follow OpenTelemetry's context that is current on the calling thread; -1 with an exception of the application's. */
int follow_current(void);

/* -- greenlets.c -------------------------------------------------------------------------------------------------------- */

extern unsigned long greenlets_version;
extern PyMethodDef greenlets_methods[];
/* Have the calling thread's greenlets be followed; never fails. */
void greenlets_follow(Thread *thread);
/* An extension module has been loaded: it may be that of greenlet. */
void greenlets_on_loaded(PyObject *module);

/* -- agent_library.c ---------------------------------------------------------------------------------------------------- */

/* Lead the library that has this function to aliases; NULL, or why that can't be. */
const char *agent_library_use(PyObject *add_tag);
/* Have its samples be taken by CPU clocks, one for each period, in nanoseconds, or as the agent does it (0); whether that is so. */
int agent_library_use_clocks(int64_t period);
void agent_library_leave(void);
/* Write a label, or remove it, for whoever has this alias. */
int agent_library_write(PyObject *writer, uint64_t alias, PyObject *key, PyObject *value);
/* Samples by which one is recorded on a busy machine, and by which it is on any, counted as agent_library.c does: by the clocks each two
 * or three times. */
enum {SAMPLES_TO_RECORD = 6, MOST_SAMPLES_TO_RECORD = 100};
/* Whether one of the last samples, so many, may have been given this alias. */
int agent_library_gave(uint64_t alias, unsigned long within);
/* Whether threads have run for so long that the agent should have been seen to read one of their states, and was not. */
int agent_library_is_unseen(void);
/* The alias that labels are being written for on the calling thread; 0 for none. */
uint64_t agent_library_writing(void);
/* The number of the present sample. */
unsigned long agent_library_sample(void);
void agent_library_after_fork(void);

/* -- agent_futexes.c ---------------------------------------------------------------------------------------------------- */

/* From now on the threads of the library at this address wait where the process's idle threads are not in their way. Nothing is done
 * where the kernel has no table of sleepers for each process. */
void agent_futexes_share(const void *library);

/* -- top_of_stack.c ----------------------------------------------------------------------------------------------------- */

/* Let the samples of a thread have another alias from now on. For the thread itself. */
void top_of_stack_switch(Thread *thread, uint64_t alias);
/* The sampler has copied the state of a thread, which is not to switch now. For the sampler's thread, as are the others. */
void top_of_stack_hold(Thread *thread, unsigned long sample);
/* It reads the stack now, and the sample has this alias. */
void top_of_stack_begin(Thread *thread, uint64_t alias);
/* It has copied something more; whether the thread has not switched in the middle of the top. */
int top_of_stack_copied(void);
/* It reads this stack no more. */
void top_of_stack_end(void);
void top_of_stack_after_fork(void);

/* -- read_ahead.c ------------------------------------------------------------------------------------------------------- */

struct iovec;
/* A thread's stack begins to be read: copy all that was read of stacks lately. For the sampler's thread, as are the others. */
void read_ahead_begin(void);
/* It is read no more: what was copied is of the past. */
void read_ahead_end(void);
/* `process_vm_readv`, or the same from what was read ahead. */
ssize_t read_ahead_or_now(pid_t process, const struct iovec *local, unsigned long locals, const struct iovec *remote,
                          unsigned long remotes, unsigned long flags);

/* -- given_aliases.c ---------------------------------------------------------------------------------------------------- */

/* The sampler has given an alias to this sample. For the sampler's thread. */
void given_aliases_note(uint64_t alias, unsigned long sample);
/* Whether a sample may have been given this alias within so many before the one that is taken now. */
int given_aliases_have(uint64_t alias, unsigned long now, unsigned long within);

/* -- cpu_clocks.c ------------------------------------------------------------------------------------------------------- */

/* Have samples be taken of threads that have used CPU time, a sample for each period, in nanoseconds; 0: of all threads. Returns
 * whether that can be had. */
int cpu_clocks_start(int64_t period);
/* The agent is about to be stopped: let its sampler go on after each look. */
void cpu_clocks_end(void);
/* The sampler begins a sample: return the state that it is to read first instead of the newest one, as soon as somebody is due, or NULL
 * for none after some looks. For the sampler's thread, which sleeps here. */
const void *cpu_clocks_choose(const void *head);
/* The sampler has copied a state: whether it is to read another one next than that leads to. For the sampler's thread. */
int cpu_clocks_next(const void *address, const void **next);
/* The sample that has begun comes to nothing: what it stood for is owed again, or not, after all. For the sampler's thread. */
void cpu_clocks_refund(int is_owed);
/* The thread has switched to a label set: it is at work. */
void cpu_clocks_wake(Thread *thread);
void cpu_clocks_after_fork(void);

/* -- imports.c ---------------------------------------------------------------------------------------------------------- */

#ifdef __linux__
typedef struct {
    const char *name;
    void *ours;
} Import;

/* What was replaced, so that it can be put back. */
typedef struct {
    struct Replaced *items;
    size_t count, room;
} Replacements;

/* Replace what the library at this address imports; returns a bit for each import that was found, -1 if one can't be. */
int imports_replace_in(const void *address, const Import *imports, size_t count, Replacements *done);
/* Replace what any library imports that was loaded since the last call, but those that have the imports' own functions. */
void imports_replace_everywhere(const Import *imports, size_t count, Replacements *done);
void imports_put_back(Replacements *done);
void imports_put_back_everywhere(Replacements *done);
#endif

#endif

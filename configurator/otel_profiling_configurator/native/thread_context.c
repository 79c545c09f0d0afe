/* What profilers outside the process find of each thread: the record of the span that is current there, as OpenTelemetry's
 * enhancement proposal 4947 lays it out.
 *
 * A reader looks up the exported thread-local `otel_thread_ctx_v1` and follows it to a record, while the thread is stopped. So a
 * record is never changed while a thread's pointer leads to it: it is made whole when its label set first becomes current, the
 * pointer is exchanged by the thread itself, and a record is freed with its label set, which the thread lets go of only after
 * that. As the thread can be stopped between any two of its instructions, but not seen from another processor while it runs,
 * what counts is the order of the instructions, and a fence for the compiler suffices.
 */

#include "native.h"

int thread_contexts_are_on;

#ifdef HAS_THREAD_CONTEXT

#include <string.h>

enum {
    MOST = 640,         /* bytes of a record: what the proposal recommends, and the eBPF profiler reads */
    MOST_OF_VALUE = 255 /* bytes of an attribute's value: its size is one byte */
};

struct ContextRecord {
    uint8_t trace_id[16];
    uint8_t span_id[8];
    uint8_t valid;
    uint8_t trace_flags;
    uint16_t size;  /* of the attributes: for each the index of its key, the size of its value, the value */
    uint8_t attributes[];
};

_Static_assert(offsetof(struct ContextRecord, attributes) == 28, "the layout is the proposal's");

/* Exported although the module's functions are hidden: readers find it in `.dynsym`. */
__attribute__((used, visibility("default"))) _Thread_local ContextRecord *volatile otel_thread_ctx_v1;

static struct {
    PyObject *keys;      /* names of the attributes, a tuple: an index of the proposal's is one of this */
    PyObject *provider;  /* whose resource the process context has; None where its changes can't be seen */
    PyObject *resource;  /* the one that it has been published with, by identity */
    PyObject *changed;   /* publishes the process context anew */
} context;

static PyObject *resource_name;

/* Records that threads may still be led to that are not followed any more. They are invalid, and kept: only those threads could
 * give up their pointers. There are as many as threads when following ends. */
static struct Retired {
    ContextRecord *record;
    struct Retired *next;
} *retired;

#if defined(__x86_64__) && defined(__LP64__)
/* Compilers take this way to a thread-local, TLSDESC, only when told by a flag that not all have, and then for all of them. It
 * stands in a function of its own, since some releases of glibc change vector registers in there that compilers believe kept
 * (glibc's bug 31372, mended in 2.40): a call of a function keeps none of these. */
ContextRecord *volatile *thread_context_slot(void) __attribute__((visibility("hidden")));
__asm__(
    ".pushsection .text\n"
    ".p2align 4\n"
    ".globl thread_context_slot\n"
    ".hidden thread_context_slot\n"
    ".type thread_context_slot, @function\n"
    "thread_context_slot:\n"
    ".cfi_startproc\n"
    "subq $8, %rsp\n"
    ".cfi_adjust_cfa_offset 8\n"
    "leaq otel_thread_ctx_v1@tlsdesc(%rip), %rax\n"
    "call *otel_thread_ctx_v1@tlscall(%rax)\n"
    "addq %fs:0, %rax\n"
    "addq $8, %rsp\n"
    ".cfi_adjust_cfa_offset -8\n"
    "ret\n"
    ".cfi_endproc\n"
    ".size thread_context_slot, . - thread_context_slot\n"
    ".popsection\n");
#else
ContextRecord *volatile *
thread_context_slot(void)
{
    return &otel_thread_ctx_v1;
}
#endif

/* The index of an attribute's key; -1 for a label that is none. */
static Py_ssize_t
index_of(PyObject *key)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(context.keys) && i <= UINT8_MAX; i++) {
        PyObject *known = PyTuple_GET_ITEM(context.keys, i);
        if (known == key || PyUnicode_Compare(known, key) == 0) {
            return i;
        }
    }
    return -1;
}

/* Append the labels that are attributes, long values cut between two characters; what does not fit is left out. */
static void
put_attributes(ContextRecord *record, const LabelSet *set)
{
    size_t room = MOST - sizeof *record;
    PyObject *key, *text;
    for (Py_ssize_t next = 0; label_set_next(set, &next, &key, &text);) {
        Py_ssize_t index = index_of(key), size;
        const char *value = index < 0 ? NULL : PyUnicode_AsUTF8AndSize(text, &size);
        if (value == NULL) {
            PyErr_Clear();
            continue;
        }
        if (size > MOST_OF_VALUE) {
            for (size = MOST_OF_VALUE; size > 0 && (value[size] & 0xC0) == 0x80; size--) {
            }
        }
        if (record->size + 2 + (size_t)size > room) {
            continue;
        }
        uint8_t *place = record->attributes + record->size;
        place[0] = (uint8_t)index;
        place[1] = (uint8_t)size;
        memcpy(place + 2, value, (size_t)size);
        record->size += 2 + (uint16_t)size;
    }
}

static int
raise_now(void *exception)
{
    PyObject *error = exception;
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(error)), error, PyException_GetTraceback(error));
    return -1;
}

/* The exception that is set is the application's: its signal handler happened to be called while we published. It is raised as
 * soon as other code runs, for a switch must be followed to its end. */
static void
raise_later(void)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(error, traceback);
    }
    if (Py_AddPendingCall(raise_now, error) < 0) {
        Py_XDECREF(error);  /* too many wait already */
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
}

/* Have the process context be published anew where its resource has changed: asked whenever a record is made, which is when a
 * span begins. */
static void
look_at_resource(void)
{
    if (context.provider == Py_None) {
        return;
    }
    PyObject *resource = PyObject_GetAttr(context.provider, resource_name);
    PyErr_Clear();
    if (resource != NULL && resource != context.resource) {
        Py_XSETREF(context.resource, Py_NewRef(resource));
        PyObject *result = PyObject_CallNoArgs(context.changed);
        if (result == NULL) {
            raise_later();  /* it has told of what was its own */
        }
        Py_XDECREF(result);
    }
    Py_XDECREF(resource);
}

/* Make the record of a label set; NULL where there is no memory. */
static ContextRecord *
make(LabelSet *set)
{
    union {
        ContextRecord record;
        uint8_t bytes[MOST];
    } scratch;
    memset(&scratch, 0, sizeof scratch.record);
    memcpy(scratch.record.trace_id, set->ids.trace_id, sizeof scratch.record.trace_id);
    memcpy(scratch.record.span_id, set->ids.span_id, sizeof scratch.record.span_id);
    scratch.record.trace_flags = set->ids.trace_flags;
    put_attributes(&scratch.record, set);
    scratch.record.valid = 1;
    size_t size = sizeof scratch.record + scratch.record.size;
    ContextRecord *record = malloc(size);
    if (record != NULL) {
        memcpy(record, &scratch, size);
    }
    return record;
}

void
thread_context_publish(Thread *thread, LabelSet *set)
{
    if (set != NULL && set->record == NULL && thread_contexts_are_on) {
        look_at_resource();
        /* That may have been Python's code, during which this thread may have switched elsewhere, which has been published then,
         * another thread may have made the record, or all of it may have ended. */
        if (thread->set != set) {
            return;
        }
        if (set->record == NULL && thread_contexts_are_on) {
            set->record = make(set);
        }
    }
    ContextRecord *record = set != NULL && thread_contexts_are_on ? set->record : NULL;
    atomic_signal_fence(memory_order_seq_cst);
    *thread->slot = record;
    atomic_signal_fence(memory_order_seq_cst);
}

void
thread_context_free(ContextRecord *record)
{
    free(record);
}

int
thread_contexts_start(PyObject *keys, PyObject *provider, PyObject *changed)
{
    if (resource_name == NULL && (resource_name = PyUnicode_InternFromString("_resource")) == NULL) {
        return -1;
    }
    Thread *thread = thread_current(PyThreadState_Get());
    if (thread == NULL) {
        return -1;
    }
    Py_XSETREF(context.keys, Py_NewRef(keys));
    Py_XSETREF(context.provider, Py_NewRef(provider));
    Py_XSETREF(context.changed, Py_NewRef(changed));
    Py_XSETREF(context.resource, provider == Py_None ? NULL : PyObject_GetAttr(provider, resource_name));
    PyErr_Clear();
    thread_contexts_are_on = 1;
    thread_context_publish(thread, thread->set);
    return 0;
}

/* Give a record up, invalid, that threads may be led to. */
static void
retire(LabelSet *set)
{
    struct Retired *entry = malloc(sizeof *entry);
    set->record->valid = 0;
    if (entry != NULL) {
        *entry = (struct Retired){set->record, retired};
        retired = entry;
    }
    set->record = NULL;
}

void
thread_contexts_stop(void)
{
    if (!thread_contexts_are_on) {
        return;
    }
    thread_contexts_are_on = 0;
    Thread *own = thread_current(PyThreadState_Get());
    PyErr_Clear();
    if (own != NULL) {
        thread_context_publish(own, NULL);
    }
    threads_each_set(retire);
}

#else

ContextRecord *volatile *
thread_context_slot(void)
{
    return NULL;
}

void
thread_context_publish(Thread *thread, LabelSet *set)
{
}

void
thread_context_free(ContextRecord *record)
{
}

int
thread_contexts_start(PyObject *keys, PyObject *provider, PyObject *changed)
{
    PyErr_SetString(PyExc_RuntimeError, "readers of thread contexts are Linux's");
    return -1;
}

void
thread_contexts_stop(void)
{
}

#endif

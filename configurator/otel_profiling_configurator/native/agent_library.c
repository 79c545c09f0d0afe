/* What the agent's library is given to read.
 *
 * The sampler copies a thread's state, `PyThreadState`, out of its own process with `process_vm_readv`, then the stack, and its
 * recorder finds the labels by the thread's id in that copy some 0.1 to 0.4 ms later. So the copy, and only that, is given another
 * id: the alias of the label set that is current on the thread. Whatever the thread does next, the sample finds the labels of the
 * moment at which its stack was read.
 *
 * For that, what the library imports is replaced: `process_vm_readv`; `clock_nanosleep`, which tells where a sample ends;
 * `pthread_self`, by which the agent learns for whom a label is; and `opendir`, `readdir64` and `closedir`, by which it lists the
 * process's threads to ask for the state of each. (pyroscope-io 1.4.)
 */

#include "native.h"

#ifdef HAS_AGENT_LIBRARY

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(sizeof(((PyThreadState *)0)->thread_id) == sizeof(uint64_t), "an alias takes the place of a thread's id");
_Static_assert(sizeof(pthread_t) == sizeof(uint64_t), "an alias is taken for a thread's id");

/* Copies from that of a state to the one that says where the top of the stack is: before 3.13 a part of the C stack is in between. */
enum {COPIES_TO_TOP = PY_VERSION_HEX < 0x030D0000 ? 1 : 0};

/* Most copies that the sampler is refused for a sample that is given up: it does without some, but not without many. */
enum {MOST_REFUSALS = 64};

/* CPU time of the process after which the sampler must have been seen to copy a state, in seconds: hundreds of samples. */
enum {SECONDS_UNSEEN = 5};

/* How long the sampler sleeps where it has not found the interpreter and is about to look for it again, in nanoseconds. It looks where
 * the process's mappings were a moment ago, so that a thread which has begun since makes it fail: with musl, which maps memory in small
 * pieces, often. */
enum {BEFORE_NEXT_SEARCH = 20 * 1000 * 1000};

static Replacements replacements, of_folders;
static _Atomic unsigned long samples;  /* that are over */
static void *_Atomic modules;          /* `sys.modules` */
static _Atomic int is_read;            /* whether the sampler has been seen to copy a state that has a record */
static int64_t expected_since;         /* in CPU time of the process */
static _Atomic int writing;            /* aliases that labels are being written for */

static _Thread_local uint64_t written_for;  /* the alias that labels are being written for */
static _Thread_local int is_sampler;
static _Atomic int uses_clocks;
static const void *head_address;            /* of the pointer to the newest thread's state, by which a sample begins */
static _Thread_local int has_slept;         /* the sampler, until a sample is due */
static _Thread_local int has_waited;        /* until somebody was due, for the last sample */
static _Thread_local int reads_gil;         /* the next thing that it copies is who holds the GIL */
static _Thread_local int copies_to_top;     /* until what was read lately is copied once more */
static _Thread_local int refusals;          /* copies that the sampler is refused, unless a sample begins before */

unsigned long
agent_library_sample(void)
{
    return atomic_load(&samples);
}

int
agent_library_gave(uint64_t alias, unsigned long within)
{
    return given_aliases_have(alias, atomic_load(&samples), within);
}

/* The sampler reads a thread's stack no more. */
static void
end_stack(void)
{
    top_of_stack_end();
    read_ahead_end();
    copies_to_top = refusals = 0;
}

/* The sampler begins a sample where it copies the pointer to the newest thread's state, and goes on with who holds the GIL: which is
 * of no use here. Whether this was one of the two. */
static int
lead(const struct iovec *local, const struct iovec *remote)
{
    if (reads_gil) {
        reads_gil = 0;
        const size_t locked_at = 2 * sizeof(void *);  /* in `_gil_runtime_state` of 3.12 to 3.14; before, a pointer is copied */
        if (local->iov_len == sizeof(void *)) {
            memset(local->iov_base, 0, sizeof(void *));
        }
        else if (local->iov_len >= locked_at + sizeof(int)) {
            memset((char *)local->iov_base + locked_at, 0, sizeof(int));
        }
        return 1;
    }
    if (local->iov_len != sizeof(void *) || (head_address != NULL && remote->iov_base != head_address)) {
        return 0;
    }
    const void *first = *(const void **)local->iov_base;
    if (head_address == NULL && first != PyInterpreterState_ThreadHead(state.interpreter)) {
        return 0;  /* something else, which it reads before its first sample */
    }
    head_address = remote->iov_base;
    atomic_fetch_add(&samples, 1);  /* the last one is over: the sampler may not have slept since */
    end_stack();
    first = cpu_clocks_choose(first);
    atomic_fetch_add(&samples, 1);
    has_waited = 1;
    memcpy(local->iov_base, &first, sizeof first);
    reads_gil = 1;
    return 1;
}

/* The sampler has copied something: let its copy of a thread's state have the alias, which is returned; 0 for none. */
static uint64_t
give_alias(const struct iovec *local, const void *remote, ssize_t copied)
{
    const size_t id_at = offsetof(PyThreadState, thread_id), state_id_at = offsetof(PyThreadState, id);
    if (copied < (ssize_t)(id_at + sizeof(uint64_t))) {
        return 0;
    }
    Thread *thread = thread_find(remote);
    if (thread == NULL) {
        return 0;
    }
    char *copy = local->iov_base;
    uint64_t state_id;
    if (copied >= (ssize_t)(state_id_at + sizeof state_id)) {
        memcpy(&state_id, copy + state_id_at, sizeof state_id);
        if (state_id != atomic_load(&thread->state_id)) {
            return 0;  /* another thread's, which is at the address of one that has ended */
        }
    }
    atomic_store_explicit(&is_read, 1, memory_order_relaxed);
    unsigned long sample = atomic_load(&samples);
    int is_first = atomic_load(&thread->sample) != sample;
    if (is_first || atomic_load(&uses_clocks)) {
        top_of_stack_hold(thread, sample);
    }
    uint64_t alias;
    while ((alias = atomic_load(&thread->alias)) != 0) {
        given_aliases_note(alias, sample);
        if (atomic_load(&thread->alias) == alias) {  /* else it may have been given up before it was noted */
            memcpy(copy + id_at, &alias, sizeof alias);
            break;
        }
    }
    if (!is_first || atomic_load(&uses_clocks)) {
        top_of_stack_begin(thread, alias);
    }
    return alias;
}

/* Have the sampler give up the sample that it takes. There are copies that it does without, so it is refused others, too. */
static ssize_t
give_up(void)
{
    end_stack();
    refusals = MOST_REFUSALS;
    cpu_clocks_refund(1);
    errno = EFAULT;
    return -1;
}

/* The sampler has copied a state that was chosen by the clocks, or comes nearer to the top of its stack. */
static void
approach_top(int is_state)
{
    if (is_state) {
        copies_to_top = COPIES_TO_TOP + 1;
    }
    if (copies_to_top > 0 && --copies_to_top == 0) {
        read_ahead_begin();
    }
}

/* The alias that a thread has, by its state; 0 for none. */
static uint64_t
alias_of(const void *python_state)
{
    Thread *thread = thread_find(python_state);
    return thread == NULL ? 0 : atomic_load(&thread->alias);
}

static ssize_t
read_and_replace(pid_t process, const struct iovec *local, unsigned long locals, const struct iovec *remote,
                 unsigned long remotes, unsigned long flags)
{
    const void *next_state;
    if (!is_sampler) {
        is_sampler = 1;
        end_stack();  /* of another agent's */
    }
    /* It looks for a thread's name, and does not find an alias's, each time anew: hundreds of copies, for what nobody asks for. */
    int is_name = locals == 1 && remotes == 1 && remote->iov_base == atomic_load_explicit(&modules, memory_order_relaxed);
    if (is_name || (refusals > 0 && remote->iov_base != head_address && refusals-- > 0)) {
        errno = EFAULT;
        return -1;
    }
    int is_state = atomic_load(&uses_clocks) && has_slept && locals == 1 && remotes == 1
                   && cpu_clocks_next(remote->iov_base, &next_state);
    uint64_t alias = 0;
    if (is_state) {
        end_stack();  /* the stack before this one; a state is never read ahead */
        alias = alias_of(remote->iov_base);
    }
    ssize_t copied = read_ahead_or_now(process, local, locals, remote, remotes, flags);
    if (!top_of_stack_copied()) {
        return give_up();  /* the sampler was stopped in the middle, and what it has read since may be another span's */
    }
    if (copied < 0 || remote->iov_base != head_address) {
        cpu_clocks_refund(copied < 0);  /* the stack changed while it was being read, unless the sampler goes on without this */
    }
    if (locals != 1 || remotes != 1 || copied != (ssize_t)local->iov_len) {
        return copied;
    }
    if (atomic_load(&uses_clocks) && has_slept && !is_state && lead(local, remote)) {
        return copied;
    }
    if (is_state && copied >= (ssize_t)(offsetof(PyThreadState, next) + sizeof next_state)) {
        memcpy((char *)local->iov_base + offsetof(PyThreadState, next), &next_state, sizeof next_state);
    }
    if (give_alias(local, remote->iov_base, copied) != alias && is_state) {
        return give_up();  /* the thread has switched since its state was copied */
    }
    approach_top(is_state);
    return copied;
}

static int
sleep_between(clockid_t clock, int flags, const struct timespec *time, struct timespec *left)
{
    if (is_sampler) {
        /* Between samples it sleeps until the next one is due, which takes as many nanoseconds only by chance: that costs one sample. */
        has_slept = time->tv_sec != 0 || time->tv_nsec != BEFORE_NEXT_SEARCH;
        atomic_fetch_add(&samples, 1);
        end_stack();
        if (has_slept && has_waited && atomic_load(&uses_clocks)) {
            has_waited = 0;
            return 0;  /* it sleeps where its sample begins */
        }
    }
    return clock_nanosleep(clock, flags, time, left);
}

/* The sampler lists the threads, to ask for the state of each. By the clocks it is known already: nobody is listed. */
#ifdef __GLIBC__
#define READ_FOLDER readdir64
#else /* musl has one kind of entry, and the library for it imports the plain name */
#define READ_FOLDER readdir
#endif
#define NAME_OF_MACRO(macro) NAME_OF(macro)
#define NAME_OF(name) #name

static int of_nobody[64];  /* Rust asks for its descriptor, which is in there, but makes no use of it */
#define NOBODY ((DIR *)of_nobody)

static DIR *
open_of_nobody(const char *path)
{
    const char *name = is_sampler && has_slept && atomic_load(&uses_clocks) ? strrchr(path, '/') : NULL;
    return name != NULL && strcmp(name, "/task") == 0 ? NOBODY : opendir(path);
}

static __typeof__(READ_FOLDER(NOBODY))
read_of_nobody(DIR *folder)
{
    return folder == NOBODY ? NULL : READ_FOLDER(folder);
}

static int
close_of_nobody(DIR *folder)
{
    return folder == NOBODY ? 0 : closedir(folder);
}

static pthread_t
written_for_or_self(void)
{
    /* If nobody writes, it may be in the library's signal handler, where a thread's first look at its locals may not be. */
    return atomic_load(&writing) != 0 && written_for != 0 ? (pthread_t)written_for : pthread_self();
}

static const Import IMPORTS[] = {
    {"process_vm_readv", (void *)read_and_replace},
    {"pthread_self", (void *)written_for_or_self},
    {"clock_nanosleep", (void *)sleep_between},
};
/* Never put back: nobody's folder is not to be read or closed by others. */
static const Import OF_FOLDERS[] = {
    {"opendir", (void *)open_of_nobody},
    {NAME_OF_MACRO(READ_FOLDER), (void *)read_of_nobody},
    {"closedir", (void *)close_of_nobody},
};
enum {ALL = 7};  /* of either, a bit for each */
static int lists_nobody;
static const void *replaced_in;  /* somewhere in the library whose imports are replaced; NULL for none */

/* Why this process may not be read the way the sampler reads it; NULL if it may. */
static const char *
why_not_readable(void)
{
    char from = 'x', to = 0;
    struct iovec remote = {&from, 1}, local = {&to, 1};
    if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1 && to == from) {
        return NULL;
    }
    return "process_vm_readv is refused here";
}

const char *
agent_library_use(PyObject *add_tag)
{
    const char *why_not = why_not_readable();
    if (why_not != NULL) {
        return why_not;
    }
    if (!PyCFunction_Check(add_tag)) {
        return "the agent is not the native one";
    }
    const void *library = (const void *)PyCFunction_GET_FUNCTION(add_tag);
    if (library != replaced_in) {
        int found = imports_replace_in(library, IMPORTS, Py_ARRAY_LENGTH(IMPORTS), &replacements);
        if (found != ALL) {
            imports_put_back(&replacements);
            return "this release of pyroscope-io reads threads in another way";
        }
        lists_nobody = imports_replace_in(library, OF_FOLDERS, Py_ARRAY_LENGTH(OF_FOLDERS), &of_folders) == ALL;
        replaced_in = library;
        agent_futexes_share(library);
    }
    expected_since = clock_nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
    atomic_store(&is_read, 0);
    atomic_store(&modules, PyImport_GetModuleDict());
    return NULL;
}

int
agent_library_use_clocks(int64_t period)
{
    const int can = cpu_clocks_start(lists_nobody ? period : 0) && lists_nobody && period > 0;
    head_address = NULL;
    atomic_store(&uses_clocks, can);
    return can;
}

void
agent_library_leave(void)
{
    agent_library_use_clocks(0);
    lists_nobody = 0;
    replaced_in = NULL;
    imports_put_back(&replacements);
}

int
agent_library_is_unseen(void)
{
    return !atomic_load_explicit(&is_read, memory_order_relaxed)
           && clock_nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - expected_since > SECONDS_UNSEEN * (int64_t)1000000000;
}

int
agent_library_write(PyObject *writer, uint64_t alias, PyObject *key, PyObject *value)
{
    uint64_t outer = written_for;
    written_for = alias;
    atomic_fetch_add(&writing, 1);
    PyObject *arguments[] = {NULL, key, value};
    PyObject *result = PyObject_Vectorcall(writer, arguments + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    atomic_fetch_sub(&writing, 1);
    written_for = outer;
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

uint64_t
agent_library_writing(void)
{
    return written_for;
}

void
agent_library_after_fork(void)
{
    atomic_store(&writing, 0);
    atomic_store(&uses_clocks, 0);
    top_of_stack_after_fork();
    end_stack();
    is_sampler = has_slept = has_waited = reads_gil = 0;
}

#else
const char *agent_library_use(PyObject *add_tag) { return "this platform has no process_vm_readv"; }
int agent_library_use_clocks(int64_t period) { return 0; }
void agent_library_leave(void) {}
int agent_library_gave(uint64_t alias, unsigned long within) { return 0; }
int agent_library_is_unseen(void) { return 0; }
int agent_library_write(PyObject *writer, uint64_t alias, PyObject *key, PyObject *value) { return 0; }
uint64_t agent_library_writing(void) { return 0; }
void agent_library_after_fork(void) {}
#endif

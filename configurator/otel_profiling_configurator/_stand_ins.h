/* Samples that say by themselves which labels are theirs: for `_thread_labels.c`.
 *
 * The agent's sampler copies a thread's state, `PyThreadState`, out of its own process with `process_vm_readv`, then the stack,
 * and finds the labels by the thread's id in that copy some 0.1 to 0.4 ms later. So its copy, and only that, is given another id:
 * a stand-in for the thread, one for each set of labels that the thread has carried of late. Whatever the thread does next, the
 * sample finds the labels that were there when the stack was read; and a thread that returns to labels that it had before has
 * nothing to write.
 *
 * For that, what the agent's library imports from the C library is looked up in its tables of addresses, and three functions are
 * replaced there by ours, which call them: `process_vm_readv`, `clock_nanosleep`, which tells where a sample ends, and
 * `pthread_self`, by which the agent learns for whom a label is. This is what memory profilers do with `malloc` (memray, for one).
 * The application's own code and all other libraries are left alone.
 *
 * The library calls `read_and_replace`, `sleep_between` and `written_for_or_self` on threads of its own, too, without the GIL.
 * Everything else here runs with it.
 */

#if defined(__linux__) && defined(__LP64__)
#define STAND_INS 1

#include <elf.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Sets of labels that a thread has stand-ins for. Usually as many come and go before the id of a sample that is not recorded yet
 * means another set. */
enum {SETS = 16};

/* No thread's id, which is an address, has this bit. */
#define STAND_IN ((uint64_t)1 << 63)

/* Longest that a change of labels waits while the sampler is between its two copies of the state, in nanoseconds: the first
 * tells it who holds the GIL, the second whose stack it reads, and it drops a sample where they differ. */
enum {LONGEST_BETWEEN = 100 * 1000};

/* Samples without such a wait after one that was in vain: with very many threads, the second copy comes too late. */
enum {SAMPLES_WITHOUT = 16};

/* Copies after the second one for which it waits, too: by then the top of the stack is read. */
enum {COPIES_OF_TOP = 8};

typedef struct Worn {
    _Atomic(struct Worn *) next;  /* of the same bucket */
    PyThreadState *_Atomic state;  /* the thread's; it stays in the table when the thread has ended, and is used for another */
    _Atomic uint64_t id;  /* of the set that is worn; 0 for none, when samples keep the thread's own */
    _Atomic unsigned long sample;  /* the last one that copied the state */
    _Atomic int64_t copied_at;  /* by that, for the first time */
    _Atomic int between;  /* whether it has still to copy the state once more, or the top of the stack */
    unsigned long agent;  /* `agents` when the sets were written */
    const void *owner;  /* the thread's `_Written`: only compared */
    uint64_t number;  /* of this record, for its ids */
    int64_t worn_since;  /* in CPU time of the thread, as long as no sample has been seen */
    int next_set;  /* to be given up when another is needed */
    unsigned used;  /* a bit for each set that the thread has come back to */
    PyObject *sets[SETS];  /* tuples, as they are written; NULL where there is none */
    struct Worn *next_free;
} Worn;

enum {BUCKETS = 1024};
static _Atomic(Worn *) buckets[BUCKETS];
static Worn *free_records;
static uint64_t records;

static unsigned long agents = 1;  /* that have begun, so that what was written for a former one is known as such */
static int stand_ins;  /* whether the agent's functions have been replaced */
static _Atomic unsigned long samples;  /* that are over */
static unsigned long wait_from;  /* on, in samples */
static void *_Atomic modules;  /* `sys.modules` */
static _Atomic int is_read;  /* whether the sampler has been seen to copy a state that is in the table */
static int64_t worn;  /* CPU time of threads that wore labels before that, in nanoseconds */
static int64_t most_worn;  /* from here on, such samples do not come this way */
static int64_t expected_since;  /* on CLOCK_MONOTONIC: as much time must have passed, too */
static _Atomic int writing;  /* stand-ins that labels are being written for */

static __thread Worn *own_record;
static __thread uint64_t written_for;  /* the id that labels are being written for */
static __thread int is_sampler;
static __thread Worn *being_read;  /* whose stack the sampler has begun to read */
static __thread int copies_left;  /* until its top is read */

static inline _Atomic(Worn *) *
bucket_of(const void *state)
{
    return &buckets[((uintptr_t)state >> 6) * 0x9E3779B97F4A7C15u >> 54];
}

/* The record in the table that is for a thread's state; NULL where there is none. */
static Worn *
find(_Atomic(Worn *) *bucket, const void *state)
{
    Worn *record = atomic_load(bucket);
    while (record != NULL && atomic_load(&record->state) != state) {
        record = atomic_load(&record->next);
    }
    return record;
}

static int64_t
nanoseconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static ssize_t
read_and_replace(pid_t process, const struct iovec *local, unsigned long locals, const struct iovec *remote,
                 unsigned long remotes, unsigned long flags)
{
    const size_t id_at = offsetof(PyThreadState, thread_id);
    is_sampler = 1;
    if (locals == 1 && remotes == 1 && remote->iov_base == atomic_load_explicit(&modules, memory_order_relaxed)) {
        /* It looks for a thread's name, and does not find that of a stand-in, every time anew: hundreds of copies, and the name
         * is not asked for. */
        errno = EFAULT;
        return -1;
    }
    ssize_t copied = process_vm_readv(process, local, locals, remote, remotes, flags);
    if (being_read != NULL && --copies_left == 0) {
        atomic_store(&being_read->between, 0);
        being_read = NULL;
    }
    if (locals != 1 || remotes != 1 || copied < (ssize_t)(id_at + sizeof(uint64_t))) {
        return copied;
    }
    Worn *record = find(bucket_of(remote->iov_base), remote->iov_base);
    if (record == NULL) {
        return copied;
    }
    atomic_store_explicit(&is_read, 1, memory_order_relaxed);
    unsigned long sample = atomic_load(&samples);
    int first = atomic_load(&record->sample) != sample;
    if (first) {
        atomic_store(&record->copied_at, nanoseconds(CLOCK_MONOTONIC));
        atomic_store(&record->sample, sample);
        atomic_store(&record->between, 1);
    }
    uint64_t id = atomic_load(&record->id);
    if (id != 0) {
        memcpy((char *)local->iov_base + id_at, &id, sizeof id);
    }
    if (!first) {
        being_read = record;
        copies_left = COPIES_OF_TOP;
    }
    return copied;
}

static int
sleep_between(clockid_t clock, int flags, const struct timespec *time, struct timespec *left)
{
    if (is_sampler) {
        atomic_fetch_add(&samples, 1);
        being_read = NULL;
    }
    return clock_nanosleep(clock, flags, time, left);
}

static pthread_t
written_for_or_self(void)
{
    if (atomic_load(&writing) == 0) {
        return pthread_self();  /* perhaps in the library's signal handler, where a thread's first look at `__thread` may not be */
    }
    return written_for != 0 ? (pthread_t)written_for : pthread_self();
}

/* Where the address of a function of the C library's is kept, and what was there. */
typedef struct {
    void *_Atomic *place;
    void *function;
    void *ours;
    int read_only;  /* the page that it is on */
} Replaced;

enum {MOST_REPLACED = 16};
static Replaced replaced[MOST_REPLACED];
static int replaced_count;

static const struct {
    const char *name;
    void *ours;
} FUNCTIONS[] = {
    {"process_vm_readv", (void *)read_and_replace},
    {"pthread_self", (void *)written_for_or_self},
    {"clock_nanosleep", (void *)sleep_between},
};

/* Whether the page of a place has been made read-only after the library was loaded. Of the part that the linker names for that,
 * the C library leaves the last page alone if it is not a whole one. */
static int
is_read_only(const struct dl_phdr_info *library, const void *place)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < library->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &library->dlpi_phdr[i];
        uintptr_t start = library->dlpi_addr + part->p_vaddr, end = start + part->p_memsz;
        if (part->p_type == PT_GNU_RELRO && start / page <= (uintptr_t)place / page && (uintptr_t)place / page < end / page) {
            return 1;
        }
    }
    return 0;
}

/* Write an address; -1 where that is not allowed. A place is aligned, so that it is on one page. */
static int
write_address(void *_Atomic *place, void *address, int read_only)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *start = (void *)((uintptr_t)place / page * page);
    if (mprotect(start, page, PROT_READ | PROT_WRITE) < 0) {  /* changes nothing where it may be written to */
        return -1;
    }
    atomic_store(place, address);
    if (read_only) {
        mprotect(start, page, PROT_READ);
    }
    return 0;
}

/* What the linker makes for a function that is called. Other places that hold its address are variables of the library's own. */
#if defined(__x86_64__)
#define IS_CALLED(type) ((type) == R_X86_64_GLOB_DAT || (type) == R_X86_64_JUMP_SLOT)
#elif defined(__aarch64__)
#define IS_CALLED(type) ((type) == R_AARCH64_GLOB_DAT || (type) == R_AARCH64_JUMP_SLOT)
#else
#define IS_CALLED(type) 0  /* so that nothing is found */
#endif

/* Replace what one table of a library has of the functions above. */
static int
replace_in(const struct dl_phdr_info *library, const ElfW(Rela) *table, size_t count, const ElfW(Sym) *symbols,
           const char *strings, unsigned *found)
{
    for (size_t i = 0; i < count; i++) {
        size_t symbol = ELF64_R_SYM(table[i].r_info);
        if (symbol == 0 || !IS_CALLED(ELF64_R_TYPE(table[i].r_info)) || table[i].r_addend != 0
            || table[i].r_offset % sizeof(void *) != 0) {
            continue;
        }
        for (size_t k = 0; k < Py_ARRAY_LENGTH(FUNCTIONS); k++) {
            if (strcmp(strings + symbols[symbol].st_name, FUNCTIONS[k].name) != 0) {
                continue;
            }
            void *_Atomic *place = (void *_Atomic *)(library->dlpi_addr + table[i].r_offset);
            void *function = atomic_load(place);
            int read_only = is_read_only(library, (void *)place);
            if (replaced_count == MOST_REPLACED || function == NULL || function == FUNCTIONS[k].ours
                || write_address(place, FUNCTIONS[k].ours, read_only) < 0) {
                return -1;
            }
            replaced[replaced_count++] = (Replaced){place, function, FUNCTIONS[k].ours, read_only};
            *found |= 1u << k;
        }
    }
    return 0;
}

typedef struct {
    const char *path;
    int done;
} Search;

static int
replace_in_library(struct dl_phdr_info *library, size_t size, void *argument)
{
    Search *search = argument;
    if (library->dlpi_name == NULL || strcmp(library->dlpi_name, search->path) != 0) {
        return 0;
    }
    const ElfW(Dyn) *entry = NULL;
    for (int i = 0; i < library->dlpi_phnum; i++) {
        if (library->dlpi_phdr[i].p_type == PT_DYNAMIC) {
            entry = (const ElfW(Dyn) *)(library->dlpi_addr + library->dlpi_phdr[i].p_vaddr);
        }
    }
    uintptr_t symbols = 0, strings = 0, tables[2] = {0, 0};
    size_t sizes[2] = {0, 0};
    for (; entry != NULL && entry->d_tag != DT_NULL; entry++) {
        switch (entry->d_tag) {
            case DT_SYMTAB: symbols = entry->d_un.d_ptr; break;
            case DT_STRTAB: strings = entry->d_un.d_ptr; break;
            case DT_RELA: tables[0] = entry->d_un.d_ptr; break;
            case DT_RELASZ: sizes[0] = entry->d_un.d_val; break;
            case DT_JMPREL: tables[1] = entry->d_un.d_ptr; break;
            case DT_PLTRELSZ: sizes[1] = entry->d_un.d_val; break;
        }
    }
    unsigned found = 0;
    for (int i = 0; i < 2; i++) {
        uintptr_t table = tables[i];
        /* glibc has made these into addresses; musl leaves them as they are in the file. */
        uintptr_t base = table != 0 && table < library->dlpi_addr ? library->dlpi_addr : 0;
        if (table != 0 && symbols != 0 && strings != 0
            && replace_in(library, (const ElfW(Rela) *)(base + table), sizes[i] / sizeof(ElfW(Rela)),
                          (const ElfW(Sym) *)(base + symbols), (const char *)(base + strings), &found) < 0) {
            return 1;
        }
    }
    search->done = found == (1u << Py_ARRAY_LENGTH(FUNCTIONS)) - 1;
    return 1;
}

/* For whom the library takes a label to be that is written now. */
static uint64_t
thread_of_labels(void)
{
    for (int i = 0; i < replaced_count; i++) {
        if (replaced[i].ours == (void *)written_for_or_self && atomic_load(replaced[i].place) == replaced[i].ours) {
            return (uint64_t)written_for_or_self();
        }
    }
    return (uint64_t)pthread_self();
}

/* Give the library back what it had, where that is not somebody else's by now. */
static void
put_back(void)
{
    while (replaced_count > 0) {
        Replaced *one = &replaced[--replaced_count];
        if (atomic_load(one->place) == one->ours) {
            write_address(one->place, one->function, one->read_only);
        }
    }
}

static inline uint64_t
id_of(const Worn *record, int set)
{
    return STAND_IN | (record->number * SETS + (uint64_t)set);
}

/* Have labels be written for a stand-in; return for which one they were before: a change that this one has come in between, by a
 * signal handler. */
static uint64_t
begin_writing(uint64_t id)
{
    uint64_t outer = written_for;
    written_for = id;
    atomic_fetch_add(&writing, 1);
    return outer;
}

static void
end_writing(uint64_t outer)
{
    atomic_fetch_sub(&writing, 1);
    written_for = outer;
}

/* Write what differs, for a stand-in. */
static int
write_as(uint64_t id, PyObject *old, PyObject *values)
{
    uint64_t outer = begin_writing(id);
    int status = write_tags(old, values);
    end_writing(outer);
    return status;
}

/* Remove what may be there, of a stand-in, whatever comes of it. */
static void
remove_as(uint64_t id, PyObject *remove, PyObject *values)
{
    uint64_t outer = begin_writing(id);
    Py_INCREF(remove);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(keys); i++) {
        if (write_tag(remove, PyTuple_GET_ITEM(keys, i), PyTuple_GET_ITEM(values, i)) < 0) {
            PyErr_Clear();
        }
    }
    Py_DECREF(remove);
    end_writing(outer);
}

/* Take a record out of the table. The sampler may be just there: where the record leads stays as it is until it is entered once
 * more, and then the sampler may go on elsewhere, and find nothing. */
static void
leave(Worn *record)
{
    _Atomic(Worn *) *link = bucket_of(atomic_load(&record->state));
    while (atomic_load(link) != NULL && atomic_load(link) != record) {
        link = &atomic_load(link)->next;
    }
    if (atomic_load(link) == record) {
        atomic_store(link, atomic_load(&record->next));
    }
    atomic_store(&record->state, NULL);
}

/* Remove what was written for the stand-ins of one thread. */
static void
remove_sets(Worn *record, PyObject *remove)
{
    atomic_store(&record->id, 0);
    for (int i = 0; i < SETS; i++) {
        PyObject *values = record->sets[i];
        record->sets[i] = NULL;
        if (values != NULL && record->agent == agents) {
            remove_as(id_of(record, i), remove, values);
        }
        Py_XDECREF(values);
    }
}

/* Put a record there, for a thread's state. */
static void
enter(Worn *record, PyThreadState *state)
{
    _Atomic(Worn *) *bucket = bucket_of(state);
    for (Worn *former; (former = find(bucket, state)) != NULL;) {
        leave(former);  /* of a thread that ended with labels, by a destructor that came after its `_Written` */
        remove_sets(former, remove_tag);
    }
    atomic_store(&record->state, state);
    atomic_store(&record->next, atomic_load(bucket));
    atomic_store(bucket, record);
}

/* Whether the calling thread's record is one that the sampler can find. */
static inline int
has_record(void)
{
    return own_record != NULL && own_record->agent == agents;
}

/* The calling thread's record; NULL with an exception where there is no memory. */
static Worn *
record_of_thread(void)
{
    PyThreadState *state = PyThreadState_Get();
    Worn *record = own_record;
    if (has_record()) {
        if (atomic_load_explicit(&record->state, memory_order_relaxed) != state) {  /* a thread may have several, in turns */
            leave(record);
            enter(record, state);
        }
        return record;
    }
    if (record == NULL) {
        record = free_records;
        if (record != NULL) {
            free_records = record->next_free;
        }
        else {
            record = calloc(1, sizeof *record);
            if (record == NULL) {
                PyErr_NoMemory();
                return NULL;
            }
        }
        own_record = record;
    }
    record->number = ++records;  /* anew: what a former agent or thread has left under its ids is nobody's any more */
    for (int i = 0; i < SETS; i++) {
        Py_CLEAR(record->sets[i]);  /* strings: nothing is run */
    }
    record->used = 0;
    record->agent = agents;
    record->worn_since = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
    atomic_store(&record->id, 0);
    enter(record, state);
    return record;
}

/* Let samples of this thread have another id from now on. */
static void
wear_id(Worn *record, uint64_t id)
{
    for (int turn = 1; atomic_load(&record->between); turn++) {
        unsigned long sample = atomic_load(&samples);
        if (atomic_load(&record->sample) != sample || sample < wait_from) {
            break;
        }
        if (turn % 16 == 0) {
            if (nanoseconds(CLOCK_MONOTONIC) > atomic_load(&record->copied_at) + LONGEST_BETWEEN) {
                wait_from = sample + SAMPLES_WITHOUT;
                break;
            }
            if (turn % 128 == 0) {
                sched_yield();  /* the sampler may wait for this very processor */
            }
        }
    }
    atomic_store(&record->id, id);
}

/* Whether threads have worn labels for so long that a sample should have been seen, and none was.
 *
 * The calling thread is about to change its labels. What it did since its last change counts, if it wore any. */
static int
is_in_vain(void)
{
    if (atomic_load_explicit(&is_read, memory_order_relaxed) || !has_record()) {
        return 0;
    }
    int64_t now = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
    if (atomic_load(&own_record->id) != 0) {
        worn += now - own_record->worn_since;
    }
    own_record->worn_since = now;
    return worn > most_worn && nanoseconds(CLOCK_MONOTONIC) - expected_since > most_worn;
}

/* Have the calling thread wear labels; -1 with an exception where they could not be written, and then it wears none. */
static int
wear(const void *owner, PyObject *values)
{
    Worn *record = record_of_thread();
    if (record == NULL) {
        return -1;
    }
    record->owner = owner;
    if (values == no_labels) {
        wear_id(record, 0);
        return 0;
    }
    for (int i = 0; i < SETS; i++) {
        if (record->sets[i] == values) {
            record->used |= 1u << i;
            wear_id(record, id_of(record, i));
            return 0;
        }
    }
    int set = record->next_set;
    /* Not one that has been of use since its last turn; nor the one that is worn: a sample of it may be taken right now. */
    for (int is_worn; (is_worn = id_of(record, set) == atomic_load(&record->id)) || record->used & 1u << set;) {
        record->used &= ~((unsigned)!is_worn << set);
        set = (set + 1) % SETS;
    }
    record->next_set = (set + 1) % SETS;
    PyObject *former = record->sets[set] == NULL ? Py_NewRef(no_labels) : record->sets[set];
    record->sets[set] = NULL;
    int status = write_as(id_of(record, set), former, values);
    if (status == 0) {
        record->sets[set] = Py_NewRef(values);
        wear_id(record, id_of(record, set));
    }
    else {
        PyObject *exception = raised_exception();
        wear_id(record, 0);
        remove_as(id_of(record, set), remove_tag, former);
        remove_as(id_of(record, set), remove_tag, values);
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_DECREF(exception);
    }
    Py_DECREF(former);
    return status;
}

/* Remove what was written for the stand-ins of all threads. */
static void
remove_all_sets(PyObject *remove)
{
    for (int i = 0; i < BUCKETS; i++) {
        for (Worn *record = atomic_load(&buckets[i]); record != NULL; record = atomic_load(&record->next)) {
            remove_sets(record, remove);
        }
    }
}

/* Forget all threads: an agent begins without labels, and a forked child without threads. Each comes back by itself. */
static void
forget_threads(void)
{
    agents++;
    worn = 0;
    for (int i = 0; i < BUCKETS; i++) {
        atomic_store(&buckets[i], NULL);
    }
}

/* Have samples keep their thread's id again. Labels are written by thread from the first line on, so that whoever carries what was
 * written for stand-ins must be forgotten by then; for those it is removed while the library can still be led to them. */
static void
leave_all(PyObject *remove)
{
    stand_ins = 0;
    remove_all_sets(remove);
    put_back();
    forget_threads();
}

/* Take everything off that was written for the calling thread, which is about to end; return whether anything may have been.
 *
 * A `_Written` that the thread had before, for a former agent, may end later than that: it takes nothing along. */
static int
take_off(const void *owner, PyObject *remove)
{
    Worn *record = own_record;
    if (record == NULL || record->owner != owner) {
        return 0;
    }
    own_record = NULL;
    int is_known = record->agent == agents;
    if (is_known) {
        leave(record);
    }
    remove_sets(record, remove);
    record->agent = 0;
    record->next_free = free_records;
    free_records = record;
    return is_known;
}

#endif

/* Which threads a sample is taken of: those that their own CPU clocks say have used a sampling period of CPU time.
 *
 * The agent asks who holds the GIL, or whom the kernel calls runnable. The one leaves out native code that has released the GIL and
 * counts threads that wait for a processor; the other counts those, too, and has to ask for each thread. The kernel keeps a clock of
 * each thread's CPU time. So before each sample the clocks of the threads that have been at work of late are read, and the sampler is
 * led to those that are due: one of its copies of a state leads to the next, and the first is found by a pointer that it copies.
 *
 * A thread is due when its clock is nearer to the next sampling period than to the one that was last sampled, once for each period. It
 * is sampled when it is next seen at work, for all that is due then, since a stack says what CPU time is used for only there. A thread
 * is at work while a processor runs it. That it is runnable says little: one that has just been woken is, too, and on a busy machine it
 * may be for long, while its stack is where it waited; and of Python and native code, the one with the GIL would be seen more often.
 * Where the sampler itself takes the processor from a thread, it steps aside for a moment and sees who goes on. A thread that is due
 * for very long and is never seen at work is sampled wherever it is, so that what its samples add up to is its clock.
 *
 * All of it is called on the sampler's thread, without the GIL, but for `cpu_clocks_start` and `cpu_clocks_wake`. What it reads of
 * other threads' states it reads as the sampler does, so that one that ends meanwhile does no harm.
 */

#include "native.h"

/* Earlier releases don't keep the kernel's id of a thread in its state. */
#if defined(HAS_AGENT_LIBRARY) && PY_VERSION_HEX >= 0x030B0000

#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Up to so many threads are looked at before each sample, whatever they did last. */
enum {ALWAYS_LOOKED_AT = 64};

/* Of the others, how many in turn. */
enum {LOOKED_AT_IN_TURN = 8};

/* Samples without any CPU time after which a thread is one of those. */
enum {CALM = 100};

/* Periods after which a thread is sampled that has used CPU time but was never seen at work. Chance hardly does that, as it is seen
 * once a period on average: this is for those whose work is always over when the sampler comes. */
enum {OVERDUE = 20};

/* How long the sampler asks to stay on a processor, in nanoseconds: less than others by default, and enough for its stacks. */
enum {SHORT_TURN = 500 * 1000};

/* How long the sampler steps aside, in nanoseconds. */
enum {ASIDE = 100 * 1000};

/* How often, where others go on first. */
enum {TIMES_ASIDE = 2};

/* Most times that a thread is sampled at once: it was found late, or the sampler was. */
enum {MOST_AT_ONCE = 100};

/* Most threads that one sample is taken of, and most times that one is taken: the sampler itself gives up at 4,096. */
enum {MOST_DUE = 512, MOST_TIMES = 2048};

typedef struct {
    const PyThreadState *state;
    uint64_t state_id;
    clockid_t clock;
    int64_t used;      /* CPU time when last looked at, in nanoseconds */
    int64_t credit;    /* CPU time that no sample stands for yet */
    int64_t advanced;  /* at this look */
    int calm;          /* looks at which it had not advanced */
    int is_new;        /* it began after the sampler, and this is the first look */
    int is_unsure;     /* it is due, and may be at work */
} Entry;

/* Those in front have been at work of late. */
static Entry *entries;
static size_t count, active, room, in_turn;

static struct {
    const PyThreadState *state;
    int times;      /* left */
    int64_t credit; /* that they stand for */
} due[MOST_DUE];
static size_t due_count, due_now;
static int64_t times_left;

static _Atomic int64_t period;           /* in nanoseconds; 0 while all threads are sampled */
static _Atomic unsigned long starts;     /* agents that have begun */
static unsigned long started;            /* that this thread has seen */
static const void *head_seen;            /* the newest thread's state at the last look */
static int is_searched;                  /* whether the threads that were there before the sampler are known */
static int some_not_begun;               /* at the last search, so that new threads may be behind known ones */
static int64_t looked_at, process_used;  /* on the monotonic clock, and the process's CPU time then */
static int64_t unexplained;              /* CPU time that no thread looked at has used */
static unsigned long looks, last_full_look;
static _Atomic(Thread *) awake;          /* threads that have switched, and may not be looked at */

static int64_t
nanoseconds(clockid_t clock)
{
    struct timespec now;
    return clock_gettime(clock, &now) < 0 ? -1 : (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The kernel's clock of the CPU time of a thread, see clock_getcpuclockid(3). */
static clockid_t
cpu_clock(unsigned long native_id)
{
    return (clockid_t)(~(unsigned)native_id << 3 | 6);
}

static int
copy_state(const void *address, PyThreadState *copy)
{
    struct iovec local = {copy, sizeof *copy}, remote = {(void *)address, sizeof *copy};
    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)sizeof *copy ? 0 : -1;
}

static void
swap(size_t a, size_t b)
{
    Entry entry = entries[a];
    entries[a] = entries[b];
    entries[b] = entry;
}

static void
forget_entry(size_t i)
{
    if (i < active) {
        swap(i, --active);
        i = active;
    }
    swap(i, --count);
    head_seen = NULL;  /* another thread's state may be at the same address by now */
}

static void
make_active(size_t i)
{
    if (i >= active) {
        swap(i, active++);
    }
}

static size_t
find_entry(const void *address)
{
    size_t i = 0;
    while (i < count && entries[i].state != address) {
        i++;
    }
    return i;
}

/* Until a thread has begun, 3.11 has the id of the thread that creates it in its state. Whether that is so here; if it was so of one
 * that is known, that one is forgotten, to be found again. */
static int
is_its_creators(clockid_t clock, const PyThreadState *copy, int *some_forgotten)
{
    for (size_t i = 0; i < count; i++) {
        if (entries[i].clock == clock) {
            PyThreadState other;
            int is_there = copy_state(entries[i].state, &other) == 0 && other.id == entries[i].state_id;
            if (is_there && other.id < copy->id) {
                return 1;
            }
            *some_forgotten |= is_there;
            forget_entry(i--);
        }
    }
    return 0;
}

static int
add_entry(const void *address, const PyThreadState *copy, int *some_forgotten)
{
    if (count == room) {
        size_t wanted = room == 0 ? 64 : 2 * room;
        Entry *grown = realloc(entries, wanted * sizeof *grown);
        if (grown == NULL) {
            return -1;
        }
        entries = grown;
        room = wanted;
    }
    clockid_t clock = cpu_clock(copy->native_thread_id);
    int64_t used = copy->native_thread_id == 0 ? -1 : nanoseconds(clock);
    if (used < 0 && copy->native_thread_id != 0) {
        /* uWSGI forks without telling Python, whose main thread then has the id that it had in the parent. */
        clock = cpu_clock((unsigned long)getpid());
        used = nanoseconds(clock);
    }
    if (used < 0 || is_its_creators(clock, copy, some_forgotten)) {
        return 0;  /* it is about to begin, or has ended: next time */
    }
    /* What a new thread has used is owed to it; what others used before there was a sampler is not. */
    entries[count++] = (Entry){.state = address, .state_id = copy->id, .clock = clock, .used = is_searched ? 0 : used,
                               .is_new = is_searched};
    make_active(count - 1);
    return 1;
}

/* Threads that are new are in front of all that are known. */
static void
find_new(const void *head)
{
    int not_begun = 0;
    PyThreadState copy;
    for (const void *address = head; address != NULL && copy_state(address, &copy) == 0; address = copy.next) {
        size_t i = find_entry(address);
        if (i < count && entries[i].state_id == copy.id) {
            if (some_not_begun) {
                continue;
            }
            break;
        }
        if (i < count) {
            forget_entry(i);  /* another thread's, which has ended */
        }
        if (copy.interp != state.interpreter || add_entry(address, &copy, &not_begun) < 0) {
            break;
        }
        not_begun |= find_entry(address) == count;
    }
    some_not_begun = not_begun;
    head_seen = not_begun ? NULL : head;
    is_searched = 1;
}

/* Whether the kernel calls a thread runnable. */
static int
is_runnable(const Entry *entry)
{
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/self/task/%u/stat", ~(unsigned)entry->clock >> 3 & 0x1FFFFFFF);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0) {
        close(file);
    }
    text[length < 0 ? 0 : length] = '\0';
    const char *after_name = strrchr(text, ')');
    return after_name != NULL && after_name[1] == ' ' && after_name[2] == 'R';
}

/* Whether a processor runs a thread, as far as that can be seen from another one; it has used CPU time since the last look. */
static int
is_at_work(const Entry *entry, int64_t elapsed)
{
    return entry->advanced * 10 >= elapsed * 9 || nanoseconds(entry->clock) > entry->used;
}

/* Read a thread's clock; whether the thread is still there. */
static int
look_at(Entry *entry)
{
    int64_t used = nanoseconds(entry->clock);
    if (used < 0) {
        return 0;
    }
    entry->advanced = used - entry->used;
    entry->used = used;
    entry->credit += entry->advanced;
    entry->calm = entry->advanced > 0 ? 0 : entry->calm + 1;
    return 1;
}

/* Look at threads that have been calm, from one place to another. */
static void
look_at_calm(size_t from, size_t to)
{
    for (size_t i = from; i < to && i < count; i++) {
        if (!look_at(&entries[i])) {
            forget_entry(i--);
            to--;
        }
        else if (entries[i].advanced > 0) {
            unexplained -= entries[i].advanced;
            make_active(i);
        }
    }
}

static void
take_awake(void)
{
    Thread *thread = atomic_exchange(&awake, NULL);
    while (thread != NULL) {
        Thread *next = thread->next_awake;
        atomic_store(&thread->is_awake, 0);
        size_t i = find_entry(atomic_load(&thread->state));
        if (i < count && i >= active) {
            entries[i].calm = 0;
            make_active(i);
        }
        thread = next;
    }
}

/* Look at some of the calm threads, and at all if the process has used CPU time that nobody accounts for. The kernel adds up the
 * clocks of all threads for that, and native threads use CPU time as well, so it is asked seldom: it takes some 0.1 % of the time. */
static void
look_at_others(void)
{
    in_turn = in_turn < active || in_turn >= count ? active : in_turn;
    look_at_calm(in_turn, in_turn + LOOKED_AT_IN_TURN);
    in_turn += LOOKED_AT_IN_TURN;
    if (looks - last_full_look > count / LOOKED_AT_IN_TURN / 4) {
        int64_t process = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
        unexplained += process - process_used;
        process_used = process;
        if (unexplained > atomic_load(&period) / 4) {
            look_at_calm(active, count);
        }
        last_full_look = looks;
        unexplained = 0;
    }
}

static void
look_at_all(void)
{
    take_awake();
    for (size_t i = 0; i < active; i++) {
        if (!look_at(&entries[i])) {
            forget_entry(i--);
            continue;
        }
        unexplained -= entries[i].advanced;
        if (entries[i].calm > CALM && count > ALWAYS_LOOKED_AT) {
            swap(i--, --active);
        }
    }
    looks++;
    if (count > active) {
        look_at_others();
    }
}

/* `struct sched_attr` of sched_setattr(2), which the C libraries lack. */
struct scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

/* Ask for a processor for short at a time. Since Linux 6.12 a thread that does so need not wait until whoever runs has used up a slice
 * or goes to sleep: else the sampler would come just when work is over. Elsewhere it changes nothing. */
static void
ask_for_short_turns(void)
{
    struct scheduling wanted = {.size = sizeof wanted};
    if (syscall(SYS_sched_getattr, 0, &wanted, sizeof wanted, 0) == 0 && wanted.policy == 0) {
        wanted.size = sizeof wanted;
        wanted.runtime = SHORT_TURN;
        syscall(SYS_sched_setattr, 0, &wanted, 0);
    }
}

static void
reset(void)
{
    ask_for_short_turns();
    started = atomic_load(&starts);
    is_searched = some_not_begun = 0;
    count = active = in_turn = due_count = due_now = 0;
    head_seen = NULL;
    process_used = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
    looked_at = nanoseconds(CLOCK_MONOTONIC);
    unexplained = 0;
}

static int
has_room(void)
{
    return due_count < MOST_DUE && times_left > 0;
}

static int64_t
times_due(const Entry *entry)
{
    int64_t one = atomic_load(&period);
    return (entry->credit + one / 2) / one;  /* rounded, or a tick that comes early would find nobody due */
}

/* Have a thread sampled for all that it is due; whether it is still there. */
static int
choose_one(Entry *entry)
{
    PyThreadState copy;
    if (copy_state(entry->state, &copy) < 0 || copy.id != entry->state_id) {
        return 0;
    }
    int64_t one = atomic_load(&period), times = times_due(entry);
    if (entry->is_new && entry->credit < one) {
        /* A thread that lives for less than a period is met at work as often as its CPU time is a part of that. */
        times = 1;
        entry->credit = one;
    }
    times = times < MOST_AT_ONCE ? times : MOST_AT_ONCE;
    times = times < times_left ? times : times_left;
    times_left -= times;
    entry->credit -= times * one;
    due[due_count].state = entry->state;
    due[due_count].credit = times * one;
    due[due_count++].times = (int)times;
    return 1;
}

/* Choose whoever is seen at work; whether there are others who may be. */
static int
choose_at_work(int64_t elapsed)
{
    int some_unsure = 0;
    for (size_t i = 0; i < active && has_room(); i++) {
        Entry *entry = &entries[i];
        entry->is_unsure = 0;
        if (entry->advanced > 0 && (entry->is_new || times_due(entry) > 0)) {
            if (times_due(entry) < OVERDUE && !is_at_work(entry, elapsed)) {
                entry->is_unsure = some_unsure = 1;
                continue;
            }
            if (!choose_one(entry)) {
                forget_entry(i--);
                continue;
            }
        }
        entry->is_new = 0;
    }
    return some_unsure;
}

/* Choose whoever goes on now that the sampler steps aside, and is stopped again as it comes back: not those who went to sleep. Whether
 * there are others left who may be at work. */
static int
choose_who_goes_on(void)
{
    int some_unsure = 0;
    struct timespec aside = {0, ASIDE};
    int64_t from = nanoseconds(CLOCK_MONOTONIC);
    nanosleep(&aside, NULL);
    int64_t elapsed = nanoseconds(CLOCK_MONOTONIC) - from;
    for (size_t i = 0; i < active && has_room(); i++) {
        Entry *entry = &entries[i];
        if (!entry->is_unsure) {
            continue;
        }
        int is_there = look_at(entry);
        if (is_there) {
            unexplained -= entry->advanced;
            /* If the sampler was kept waiting, what it met is whoever went to sleep. */
            if ((entry->advanced * 2 >= elapsed && elapsed < 5 * ASIDE && is_runnable(entry))
                || nanoseconds(entry->clock) > entry->used) {
                is_there = choose_one(entry);
                entry->is_unsure = 0;
            }
            entry->is_new = 0;
            some_unsure |= entry->is_unsure;
        }
        if (!is_there) {
            forget_entry(i--);
        }
    }
    return some_unsure;
}

const void *
cpu_clocks_choose(const void *head)
{
    if (atomic_load(&period) == 0) {
        return head;
    }
    if (started != atomic_load(&starts)) {
        reset();
    }
    if (head != head_seen) {
        find_new(head);
    }
    look_at_all();
    int64_t now = nanoseconds(CLOCK_MONOTONIC), elapsed = now - looked_at;
    looked_at = now;
    due_count = due_now = 0;
    times_left = MOST_TIMES;
    int some_unsure = choose_at_work(elapsed);
    for (int i = 0; i < TIMES_ASIDE && some_unsure; i++) {
        some_unsure = choose_who_goes_on();
    }
    return due_count == 0 ? NULL : due[0].state;
}

int
cpu_clocks_next(const void *address, const void **next)
{
    if (atomic_load(&period) == 0) {
        return 0;
    }
    if (due_now >= due_count || due[due_now].state != address) {
        return 0;
    }
    if (--due[due_now].times > 0) {
        *next = address;
        return 1;
    }
    due_now++;
    *next = due_now < due_count ? due[due_now].state : NULL;
    return 1;
}

void
cpu_clocks_refund(void)
{
    for (size_t i = 0; i < due_count; i++) {
        size_t place = find_entry(due[i].state);
        if (place < count) {
            entries[place].credit += due[i].credit;
        }
    }
    due_count = due_now = 0;
}

void
cpu_clocks_wake(Thread *thread)
{
    if (atomic_load_explicit(&thread->is_awake, memory_order_relaxed) || atomic_load(&period) == 0) {
        return;
    }
    atomic_store(&thread->is_awake, 1);
    thread->next_awake = atomic_load(&awake);
    while (!atomic_compare_exchange_weak(&awake, &thread->next_awake, thread)) {
    }
}

int
cpu_clocks_start(int64_t sampling_period)
{
    atomic_store(&period, sampling_period);
    atomic_fetch_add(&starts, 1);
    return 1;
}

void
cpu_clocks_after_fork(void)
{
    atomic_store(&period, 0);
    atomic_store(&awake, NULL);
}

#else

const void *cpu_clocks_choose(const void *head) { return head; }
int cpu_clocks_next(const void *address, const void **next) { return 0; }
void cpu_clocks_refund(void) {}
void cpu_clocks_wake(Thread *thread) {}
int cpu_clocks_start(int64_t sampling_period) { return 0; }
void cpu_clocks_after_fork(void) {}

#endif

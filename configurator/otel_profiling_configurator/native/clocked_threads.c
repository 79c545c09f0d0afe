/* Which threads this process has, and how much CPU time each has used: the kernel keeps a clock of each.
 *
 * Threads are found by their states, the newest first. To read a thousand clocks before each sample would cost more than the sample.
 * So those that have been calm are looked at in turn, and at once where one switches to a label set, or where the process has used CPU
 * time that the others don't account for.
 */

#include "cpu_clocks.h"

#ifdef HAS_CPU_CLOCKS

#include <sys/uio.h>
#include <unistd.h>

/* Up to so many threads are looked at before each sample, whatever they did last. */
enum {ALWAYS_LOOKED_AT = 64};

/* Of the others, how many in turn. */
enum {LOOKED_AT_IN_TURN = 8};

/* Samples without any CPU time after which a thread is one of those. */
enum {CALM = 100};

/* States that have ended are remembered for as many more: a thread of a native library may have another one for each call of Python. */
enum {LEFT_BEHIND = 128};

ClockedThreads clocked;

static ClockedThread left[LEFT_BEHIND];
static unsigned left_count;

static size_t room, in_turn;
static const void *head_seen;    /* the newest thread's state at the last look */
static int is_searched;          /* whether the threads that were there before the sampler are known */
static int some_not_begun;       /* at the last search, so that new threads may be behind known ones */
static int64_t process_used;     /* CPU time of the process when it was last asked for, */
static int64_t sampler_used;     /* and the sampler's own, which is no reason to look for who used it */
static int64_t unexplained;      /* CPU time that no thread looked at has used */
static unsigned long looks, last_full_look;

/* The kernel's clock of the CPU time of a thread, see clock_getcpuclockid(3). */
static clockid_t
cpu_clock(unsigned long native_id)
{
    return (clockid_t)(~(unsigned)native_id << 3 | 6);
}

static int
copy_thread_state(const void *address, PyThreadState *copy)
{
    struct iovec local = {copy, sizeof *copy}, remote = {(void *)address, sizeof *copy};
    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)sizeof *copy ? 0 : -1;
}

int
is_thread_state(const void *address, uint64_t id, PyThreadState *copy)
{
    if (copy_thread_state(address, copy) < 0 || copy->id != id) {
        return 0;
    }
    PyThreadState before;
    if (copy->prev == NULL) {
        return PyInterpreterState_ThreadHead(state.interpreter) == address;
    }
    return copy_thread_state(copy->prev, &before) == 0 && before.next == address;
}

static void
swap(size_t a, size_t b)
{
    ClockedThread thread = clocked.items[a];
    clocked.items[a] = clocked.items[b];
    clocked.items[b] = thread;
}

void
clocked_thread_forget(size_t i)
{
    left[left_count++ % LEFT_BEHIND] = clocked.items[i];
    if (i < clocked.active) {
        swap(i, --clocked.active);
        i = clocked.active;
    }
    swap(i, --clocked.count);
    head_seen = NULL;  /* another thread's state may be at the same address by now */
}

static void
make_active(size_t i)
{
    if (i >= clocked.active) {
        swap(i, clocked.active++);
    }
}

size_t
clocked_thread_find(const void *address)
{
    size_t i = 0;
    while (i < clocked.count && clocked.items[i].state != address) {
        i++;
    }
    return i;
}

/* Until a thread has begun, 3.11 has the id of the thread that creates it in its state. Whether that is so here; if it was so of one
 * that is known, that one is forgotten, to be found again. */
static int
is_its_creators(clockid_t clock, const PyThreadState *copy, int *some_forgotten)
{
    for (size_t i = 0; i < clocked.count; i++) {
        if (clocked.items[i].clock == clock) {
            PyThreadState other;
            int is_there = is_thread_state(clocked.items[i].state, clocked.items[i].state_id, &other);
            if (is_there && other.id < copy->id) {
                return 1;
            }
            *some_forgotten |= is_there;
            clocked_thread_forget(i--);
        }
    }
    return 0;
}

/* What a thread with a new state has used, and is owed, for which no former state of it has been sampled. */
static void
begin_clock(ClockedThread *thread, int64_t now)
{
    thread->used = is_searched ? 0 : now;  /* what others used before there was a sampler is not owed */
    for (unsigned i = 1; i <= LEFT_BEHIND && i <= left_count; i++) {
        const ClockedThread *former = &left[(left_count - i) % LEFT_BEHIND];
        if (former->clock == thread->clock) {
            if (former->used <= now) {  /* else it was another thread's, which had the same id */
                thread->used = former->used;
                thread->credit = former->credit;
                thread->is_new = 0;
            }
            return;
        }
    }
}

static int
add_thread(const void *address, const PyThreadState *copy, int *some_forgotten)
{
    if (clocked.count == room) {
        size_t wanted = room == 0 ? 64 : 2 * room;
        ClockedThread *grown = realloc(clocked.items, wanted * sizeof *grown);
        if (grown == NULL) {
            return -1;
        }
        clocked.items = grown;
        room = wanted;
    }
    clockid_t clock = cpu_clock(copy->native_thread_id);
    int64_t used = copy->native_thread_id == 0 ? -1 : clock_nanoseconds(clock);
    if (used < 0 && copy->native_thread_id != 0) {
        /* uWSGI forks without telling Python, whose main thread then has the id that it had in the parent. */
        clock = cpu_clock((unsigned long)getpid());
        used = clock_nanoseconds(clock);
    }
    if (used < 0 || is_its_creators(clock, copy, some_forgotten)) {
        return 0;  /* it is about to begin, or has ended: next time */
    }
    ClockedThread *thread = &clocked.items[clocked.count++];
    *thread = (ClockedThread){.state = address, .state_id = copy->id, .clock = clock, .is_new = is_searched, .sleeps = -1};
    begin_clock(thread, used);
    make_active(clocked.count - 1);
    return 1;
}

/* Threads that are new are in front of all that are known. */
static void
find_new(const void *head)
{
    int not_begun = 0;
    PyThreadState copy;
    for (const void *address = head; address != NULL && copy_thread_state(address, &copy) == 0; address = copy.next) {
        size_t i = clocked_thread_find(address);
        if (i < clocked.count && clocked.items[i].state_id == copy.id) {
            if (some_not_begun) {
                continue;
            }
            break;
        }
        if (i < clocked.count) {
            clocked_thread_forget(i);  /* another thread's, which has ended */
        }
        if (copy.interp != state.interpreter || add_thread(address, &copy, &not_begun) < 0) {
            break;
        }
        not_begun |= clocked_thread_find(address) == clocked.count;
    }
    some_not_begun = not_begun;
    head_seen = not_begun ? NULL : head;
    is_searched = 1;
}

/* Read a thread's clock; whether the thread is still there. */
int
clocked_thread_look_at(ClockedThread *thread)
{
    int64_t used = clock_nanoseconds(thread->clock);
    if (used < 0) {
        return 0;
    }
    thread->advanced = used - thread->used;
    thread->used = used;
    thread->credit += thread->advanced;
    unexplained -= thread->advanced;
    thread->calm = thread->advanced > 0 ? 0 : thread->calm + 1;
    return 1;
}

/* Look at threads that have been calm, from one place to another. */
static void
look_at_calm(size_t from, size_t to)
{
    for (size_t i = from; i < to && i < clocked.count; i++) {
        if (!clocked_thread_look_at(&clocked.items[i])) {
            clocked_thread_forget(i--);
            to--;
        }
        else if (clocked.items[i].advanced > 0) {
            make_active(i);
        }
    }
}

/* Look at some of the calm threads, and at all if the process has used CPU time that nobody accounts for. The kernel adds up the
 * clocks of all threads for that, and native threads use CPU time as well, so it is asked seldom: it takes some 0.1 % of the time. */
static void
look_at_others(int64_t least)
{
    in_turn = in_turn < clocked.active || in_turn >= clocked.count ? clocked.active : in_turn;
    look_at_calm(in_turn, in_turn + LOOKED_AT_IN_TURN);
    in_turn += LOOKED_AT_IN_TURN;
    if (looks - last_full_look > clocked.count / LOOKED_AT_IN_TURN / 4) {
        int64_t process = clock_nanoseconds(CLOCK_PROCESS_CPUTIME_ID), sampler = clock_nanoseconds(CLOCK_THREAD_CPUTIME_ID);
        unexplained += (process - process_used) - (sampler - sampler_used);
        process_used = process;
        sampler_used = sampler;
        if (unexplained > least) {
            look_at_calm(clocked.active, clocked.count);
        }
        last_full_look = looks;
        unexplained = 0;
    }
}

void
clocked_threads_look(const void *head, int64_t least)
{
    if (head != head_seen) {
        find_new(head);
    }
    for (size_t i = 0; i < clocked.active; i++) {
        if (!clocked_thread_look_at(&clocked.items[i])) {
            clocked_thread_forget(i--);
            continue;
        }
        if (clocked.items[i].calm > CALM && clocked.count > ALWAYS_LOOKED_AT) {
            swap(i--, --clocked.active);
        }
    }
    looks++;
    if (clocked.count > clocked.active) {
        look_at_others(least);
    }
}

void
clocked_thread_wake(const void *address)
{
    size_t i = clocked_thread_find(address);
    if (i < clocked.count && i >= clocked.active) {
        clocked.items[i].calm = 0;
        make_active(i);
    }
}

void
clocked_threads_reset(void)
{
    is_searched = some_not_begun = 0;
    clocked.count = clocked.active = in_turn = 0;
    head_seen = NULL;
    left_count = 0;
    process_used = clock_nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
    sampler_used = clock_nanoseconds(CLOCK_THREAD_CPUTIME_ID);
    unexplained = 0;
}

void
clocked_threads_search(void)
{
    head_seen = NULL;
    some_not_begun = 1;
}

void
clocked_threads_after_fork(void)
{
    clocked = (ClockedThreads){0};  /* the sampler of the parent may have been about to replace it: it is left as it is */
    room = 0;
}

#endif

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
 * One that has not gone to sleep since it was last found due only lacks a processor, and is sampled, too.
 * Where the sampler itself takes the processor from a thread, it steps aside for a moment and sees who goes on. A thread that is due
 * for very long and is never seen at work is sampled wherever it is, so that what its samples add up to is its clock.
 *
 * Between samples the sampler sleeps here, until somebody is due: most looks at a process that does little find nobody.
 *
 * All of it is called on the sampler's thread, without the GIL, but for `cpu_clocks_start`, `cpu_clocks_end` and `cpu_clocks_wake`.
 */

#include "cpu_clocks.h"

#ifdef HAS_CPU_CLOCKS

#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Periods after which a thread is sampled that has used CPU time but was never seen at work. Chance hardly does that, as it is seen
 * once a period on average: this is for those whose work is always over when the sampler comes. */
enum {OVERDUE = 20};

/* How long the sampler asks to stay on a processor, in nanoseconds: less than others by default, and enough for its stacks. */
enum {SHORT_TURN = 500 * 1000};

/* How long the sampler steps aside, in nanoseconds. */
enum {ASIDE = 100 * 1000};

/* How often, where others go on first. */
enum {TIMES_ASIDE = 2};

/* Most times that a thread is sampled at once: it was found late, or the sampler was. Fewer after a sample that was given up: one stack
 * that can't be read costs all of it, so that to owe more and more would end in reading nothing. */
enum {MOST_AT_ONCE = 100};
static int64_t most_at_once;
static int is_given_up;  /* the sample that has begun */

/* Most threads that one sample is taken of, and most times that one is taken: the sampler itself gives up at 4,096. */
enum {MOST_DUE = 512, MOST_TIMES = 2048};

static struct {
    const PyThreadState *state;
    int times;      /* left */
    int64_t credit; /* that they stand for */
} due[MOST_DUE];
static size_t due_count, due_now;
static int64_t times_left;

/* Looks that find nobody due before the sampler is let go on: to have its agent stopped it must be in its own code, and each time it
 * gets there costs as much as many looks. */
enum {MOST_LOOKS = 10};

static _Atomic int64_t period;        /* in nanoseconds; 0 while all threads are sampled */
static _Atomic int is_ending;         /* the agent is about to be stopped */
static _Atomic unsigned long starts;  /* agents that have begun */
static unsigned long started;         /* that this thread has seen */
static int64_t looked_at;             /* on the monotonic clock */
static _Atomic(Thread *) awake;       /* threads that have switched, and may not be looked at */

/* What the kernel says of a thread: whether it is runnable, and how often it has gone to sleep, -1 where that is not known. */
static void
read_status(const ClockedThread *thread, int *is_runnable, int64_t *sleeps)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/self/task/%u/status", ~(unsigned)thread->clock >> 3 & 0x1FFFFFFF);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0) {
        close(file);
    }
    text[length < 0 ? 0 : length] = '\0';
    const char *letter = strstr(text, "\nState:\t"), *count = strstr(text, "\nvoluntary_ctxt_switches:\t");
    *is_runnable = letter != NULL && letter[strlen("\nState:\t")] == 'R';
    *sleeps = count == NULL ? -1 : strtoll(count + strlen("\nvoluntary_ctxt_switches:\t"), NULL, 10);
}

/* Whether another thread has been given the processor while this one was at work: it has used CPU time and is runnable, and has not gone
 * to sleep since this was last asked. Then its stack is still where the time was used. */
static int
is_put_off(ClockedThread *thread)
{
    int is_runnable;
    int64_t sleeps, before = thread->sleeps, used_before = thread->used_when_asked;
    read_status(thread, &is_runnable, &sleeps);
    thread->sleeps = sleeps;
    thread->used_when_asked = clock_nanoseconds(thread->clock);  /* after that: it may have gone to sleep meanwhile */
    return is_runnable && sleeps >= 0 && sleeps == before && thread->used > used_before;
}

/* Whether a processor runs a thread, as far as that can be seen from another one; it has used CPU time since the last look. */
static int
is_at_work(const ClockedThread *thread, int64_t elapsed)
{
    return thread->advanced * 10 >= elapsed * 9 || clock_nanoseconds(thread->clock) > thread->used;
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
    due_count = due_now = 0;
    most_at_once = MOST_AT_ONCE;
    is_given_up = 0;
    looked_at = clock_nanoseconds(CLOCK_MONOTONIC);
    clocked_threads_reset();
}

static int
has_room(void)
{
    return due_count < MOST_DUE && times_left > 0;
}

static int64_t
times_due(const ClockedThread *thread)
{
    int64_t one = atomic_load(&period);
    return (thread->credit + one / 2) / one;  /* rounded, or a tick that comes early would find nobody due */
}

/* Have a thread sampled for all that it is due; whether it is still there. */
static int
choose_one(ClockedThread *thread)
{
    PyThreadState copy;
    if (!is_thread_state(thread->state, thread->state_id, &copy)) {
        clocked_threads_search();  /* it may only seem so: other states come and go */
        return 0;
    }
    int64_t one = atomic_load(&period), times = times_due(thread);
    if (thread->is_new && thread->credit < one) {
        /* A thread that lives for less than a period is met at work as often as its CPU time is a part of that. */
        times = 1;
        thread->credit = one;
    }
    times = times < most_at_once ? times : most_at_once;
    times = times < times_left ? times : times_left;
    times_left -= times;
    thread->credit -= times * one;
    due[due_count].state = thread->state;
    due[due_count].credit = times * one;
    due[due_count++].times = (int)times;
    return 1;
}

/* Choose whoever is seen at work; whether there are others who may be. */
static int
choose_at_work(int64_t elapsed)
{
    int some_unsure = 0;
    for (size_t i = 0; i < clocked.active && has_room(); i++) {
        ClockedThread *thread = &clocked.items[i];
        thread->is_unsure = 0;
        if (thread->advanced > 0 && (thread->is_new || times_due(thread) > 0)) {
            if (times_due(thread) < OVERDUE && !is_at_work(thread, elapsed) && !is_put_off(thread)) {
                thread->is_unsure = some_unsure = 1;
                continue;
            }
            if (!choose_one(thread)) {
                clocked_thread_forget(i--);
                continue;
            }
        }
        thread->is_new = 0;
    }
    return some_unsure;
}

/* Choose whoever goes on now that the sampler steps aside, and is stopped again as it comes back: not those who went to sleep. Whether
 * there are others left who may be at work. */
static int
choose_who_goes_on(void)
{
    int some_unsure = 0, is_runnable;
    int64_t sleeps;
    struct timespec aside = {0, ASIDE};
    int64_t from = clock_nanoseconds(CLOCK_MONOTONIC);
    nanosleep(&aside, NULL);
    int64_t elapsed = clock_nanoseconds(CLOCK_MONOTONIC) - from;
    for (size_t i = 0; i < clocked.active && has_room(); i++) {
        ClockedThread *thread = &clocked.items[i];
        if (!thread->is_unsure) {
            continue;
        }
        int is_there = clocked_thread_look_at(thread);
        if (is_there) {
            /* If the sampler was kept waiting, what it met is whoever went to sleep. */
            is_runnable = 0;
            if (thread->advanced * 2 >= elapsed && elapsed < 5 * ASIDE) {
                read_status(thread, &is_runnable, &sleeps);
            }
            if (is_runnable || clock_nanoseconds(thread->clock) > thread->used) {
                is_there = choose_one(thread);
                thread->is_unsure = 0;
            }
            thread->is_new = 0;
            some_unsure |= thread->is_unsure;
        }
        if (!is_there) {
            clocked_thread_forget(i--);
        }
    }
    return some_unsure;
}

/* Threads that have switched to a label set are at work. */
static void
take_awake(void)
{
    Thread *thread = atomic_exchange(&awake, NULL);
    while (thread != NULL) {
        Thread *next = thread->next_awake;
        atomic_store(&thread->is_awake, 0);
        clocked_thread_wake(atomic_load(&thread->state));
        thread = next;
    }
}

/* What the last sample stood for is owed again where it was given up, but no more than can be made up for soon: the first stack that
 * holds still would stand for all of it. */
static void
settle(void)
{
    const int64_t most = MOST_AT_ONCE * atomic_load(&period);
    for (size_t i = 0; is_given_up && i < due_count; i++) {
        size_t place = clocked_thread_find(due[i].state);
        if (place < clocked.count) {
            int64_t credit = clocked.items[place].credit + due[i].credit;
            clocked.items[place].credit = credit < most ? credit : most;
        }
    }
    most_at_once = is_given_up ? (most_at_once + 1) / 2 : most_at_once < MOST_AT_ONCE / 2 ? 2 * most_at_once : MOST_AT_ONCE;
    is_given_up = 0;
    due_count = due_now = 0;
}

/* When to look next, on the monotonic clock. The agent's own intervals are random, and many are so long that work of twice a period is
 * missed, or so short that nobody is due. Here they are a period, give or take a half, so that what an application does in turns of
 * such a length does not go on in step with it. */
static int64_t
next_look(void)
{
    static int64_t next;
    static uint32_t random = 2463534242;  /* Marsaglia's xorshift */
    random ^= random << 13;
    random ^= random >> 17;
    random ^= random << 5;
    int64_t one = atomic_load(&period), now = clock_nanoseconds(CLOCK_MONOTONIC);
    next += one / 2 + random % (one + 1);
    if (next < now + one / 4 || next > now + 2 * one) {
        next = now + one / 4;  /* it is late, or has just begun */
    }
    return next;
}

static void
choose(void)
{
    take_awake();
    clocked_threads_look(PyInterpreterState_ThreadHead(state.interpreter), atomic_load(&period) / 4);
    int64_t now = clock_nanoseconds(CLOCK_MONOTONIC), elapsed = now - looked_at;
    looked_at = now;
    times_left = MOST_TIMES;
    int some_unsure = choose_at_work(elapsed);
    for (int i = 0; i < TIMES_ASIDE && some_unsure; i++) {
        some_unsure = choose_who_goes_on();
    }
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
    settle();
    for (int looks = 0; due_count == 0 && looks < (atomic_load(&is_ending) ? 1 : MOST_LOOKS); looks++) {
        int64_t next = next_look();
        struct timespec until = {next / 1000000000, next % 1000000000};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        if (atomic_load(&period) == 0) {
            break;
        }
        choose();
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
cpu_clocks_refund(int is_owed)
{
    is_given_up = is_owed;
}

void
cpu_clocks_wake(Thread *thread)
{
    if (atomic_load_explicit(&thread->is_awake, memory_order_acquire) || atomic_load(&period) == 0) {
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
    atomic_store(&is_ending, 0);
    atomic_fetch_add(&starts, 1);
    return 1;
}

void
cpu_clocks_end(void)
{
    atomic_store(&is_ending, 1);
}

void
cpu_clocks_after_fork(void)
{
    atomic_store(&period, 0);
    atomic_store(&awake, NULL);
    clocked_threads_after_fork();
}

#else

const void *cpu_clocks_choose(const void *head) { return head; }
int cpu_clocks_next(const void *address, const void **next) { return 0; }
void cpu_clocks_refund(int is_owed) {}
void cpu_clocks_wake(Thread *thread) {}
int cpu_clocks_start(int64_t sampling_period) { return 0; }
void cpu_clocks_end(void) {}
void cpu_clocks_after_fork(void) {}

#endif

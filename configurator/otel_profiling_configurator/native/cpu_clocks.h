/* What cpu_clocks.c and clocked_threads.c know of one another: the threads of the process, each with its CPU clock.
 *
 * All of it is called on the sampler's thread, without the GIL. What it reads of other threads' states it reads as the sampler does,
 * so that one that ends meanwhile does no harm.
 */

#ifndef OTEL_PROFILING_CPU_CLOCKS_H
#define OTEL_PROFILING_CPU_CLOCKS_H

#include "native.h"

/* Earlier releases don't keep the kernel's id of a thread in its state. */
#if defined(HAS_AGENT_LIBRARY) && PY_VERSION_HEX >= 0x030B0000
#define HAS_CPU_CLOCKS 1
#endif

#ifdef HAS_CPU_CLOCKS

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
    int64_t sleeps;    /* how often it had gone to sleep when that was last asked; -1 for never asked */
    int64_t used_when_asked;  /* CPU time then */
} ClockedThread;

/* Those that are known; the `active` ones in front have been at work of late. */
typedef struct {
    ClockedThread *items;
    size_t count, active;
} ClockedThreads;

extern ClockedThreads clocked;

/* Copy the state that had this id; whether it is still a thread's. Memory that has been freed may look as before, but the state before it
 * leads there no more. */
int is_thread_state(const void *address, uint64_t id, PyThreadState *copy);
/* Search all states at the next look, not only those in front of known ones. */
void clocked_threads_search(void);
/* Begin anew, with no thread known. */
void clocked_threads_reset(void);
/* This is a forked child. */
void clocked_threads_after_fork(void);
/* Find the threads that are new, if this is the newest one's state, then read the clocks of all that may have been at work. Of CPU time
 * of the process that no thread accounts for, less than `least` need not be explained. */
void clocked_threads_look(const void *head, int64_t least);
/* Read a thread's clock; whether the thread is still there. */
int clocked_thread_look_at(ClockedThread *thread);
void clocked_thread_forget(size_t place);
/* The place of the thread with this state; `clocked.count` where it is not known. */
size_t clocked_thread_find(const void *address);
/* A thread that has been calm is at work again. */
void clocked_thread_wake(const void *address);

#endif
#endif

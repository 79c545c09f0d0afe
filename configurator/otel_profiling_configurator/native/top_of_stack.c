/* A thread's state and the top of its stack are read at one moment: a switch of the thread waits for that, but not for long.
 *
 * A sample's labels are those of the moment at which the sampler copies the state. What it copies next, by the pointer in there, has
 * to be the stack of that moment. So it marks the thread, and a switch waits until the mark is gone. Where the sampler takes too long,
 * since it was stopped, the switch goes on and leaves word, and the sample is given up.
 */

#include "native.h"

#ifdef HAS_AGENT_LIBRARY

#include <sched.h>

/* Longest that a switch waits, in nanoseconds. */
enum {LONGEST_BETWEEN = 100 * 1000};

/* What `is_between` of a thread is while the sampler has still to copy something for the sample, and after a switch that could not
 * wait for that. */
enum {BETWEEN = 1, LEFT = 2};

/* Samples without such a wait after one that was in vain: with very many threads, the second copy comes too late. */
enum {SAMPLES_WITHOUT = 16};

/* Copies after that of the state for which a switch waits: by then the top of the stack is read. */
enum {COPIES_OF_TOP = 8};

static unsigned long wait_from;  /* on, in samples */

static _Thread_local Thread *being_read;    /* whose stack the sampler has begun to read */
static _Thread_local uint64_t given;        /* the alias that the sample has */
static _Thread_local int copies_left;       /* until its top is read */

void
top_of_stack_hold(Thread *thread, unsigned long sample)
{
    atomic_store(&thread->copied_at, clock_nanoseconds(CLOCK_MONOTONIC));
    atomic_store(&thread->sample, sample);
    atomic_store(&thread->is_between, BETWEEN);
}

void
top_of_stack_begin(Thread *thread, uint64_t alias)
{
    being_read = thread;
    given = alias;
    copies_left = COPIES_OF_TOP;
}

int
top_of_stack_copied(void)
{
    if (being_read == NULL) {
        return 1;
    }
    const int mark = atomic_load(&being_read->is_between);  /* none where a state is copied once more than is needed */
    if (mark == LEFT || (mark == BETWEEN && atomic_load(&being_read->alias) != given)) {
        return 0;
    }
    if (--copies_left == 0) {
        top_of_stack_end();
    }
    return 1;
}

void
top_of_stack_end(void)
{
    if (being_read != NULL) {
        atomic_store(&being_read->is_between, 0);
        being_read = NULL;
    }
}

void
top_of_stack_after_fork(void)
{
    being_read = NULL;
}

void
top_of_stack_switch(Thread *thread, uint64_t alias)
{
    for (int turn = 1; atomic_load(&thread->is_between) == BETWEEN; turn++) {
        unsigned long sample = agent_library_sample();
        if (atomic_load(&thread->sample) != sample) {
            break;
        }
        if (sample < wait_from) {
            atomic_store(&thread->is_between, LEFT);
            break;
        }
        if (turn % 16 == 0) {
            if (clock_nanoseconds(CLOCK_MONOTONIC) > atomic_load(&thread->copied_at) + LONGEST_BETWEEN) {
                wait_from = sample + SAMPLES_WITHOUT;
                atomic_store(&thread->is_between, LEFT);
                break;
            }
            if (turn % 128 == 0) {
                sched_yield();  /* the sampler may wait for this very processor */
            }
        }
    }
    atomic_store(&thread->alias, alias);
}

#else

void top_of_stack_switch(Thread *thread, uint64_t alias) { atomic_store(&thread->alias, alias); }

#endif

/* The agent's threads wait for each other in the system's table of sleepers, not in the process's own.
 *
 * The sampler wakes the recorder after each sample. Since Linux 6.17 a process has a table of its own for sleepers at private futexes, as
 * those of the C library and of Rust are. It has four places for each processor, and 16 at least, so that a thousand idle threads on a
 * small machine stand in 16 queues. To find the recorder, the kernel goes through one of them. The system's table, where sleepers at
 * shared futexes are, has 256 places for each processor. So the futexes of the agent's library are made shared ones. (futex(2);
 * PR_FUTEX_HASH in prctl(2).)
 */

#include "native.h"

#ifdef HAS_AGENT_LIBRARY

#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel's numbers, under names of ours: some headers define its own names as macros, and older ones lack them. */
enum {WAIT = 0, WAKE = 1, WAIT_BITSET = 9, PRIVATE = 128};
enum {OF_TABLE = 78, GET_PLACES = 2};

static Replacements replacements;  /* once all are made they are never put back: somebody may be waiting */

/* Wake so many who wait at a shared futex, then those who have been waiting at a private one since before it was replaced. */
static long
wake(void *futex, long count)
{
    const long woken = syscall(SYS_futex, futex, WAKE, count, NULL, NULL, 0);
    if (woken < 0 || woken >= count) {
        return woken;
    }
    const long others = syscall(SYS_futex, futex, WAKE | PRIVATE, count - woken, NULL, NULL, 0);
    return others < 0 ? woken : woken + others;
}

static long
call_shared(long number, ...)
{
    va_list list;
    long values[6];  /* as many as a call can have: further ones than it has are not looked at */
    va_start(list, number);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(values); i++) {
        values[i] = va_arg(list, long);
    }
    va_end(list);
    if (number == SYS_futex) {
        switch ((int)values[1]) {
            case WAKE | PRIVATE:
                return wake((void *)values[0], (int)values[2]);
            case WAIT | PRIVATE:
            case WAIT_BITSET | PRIVATE:
                values[1] &= ~(long)PRIVATE;
        }
    }
    return syscall(number, values[0], values[1], values[2], values[3], values[4], values[5]);
}

void
agent_futexes_share(const void *library)
{
    static const Import IMPORTS[] = {{"syscall", (void *)call_shared}};
    const int places = prctl(OF_TABLE, GET_PLACES, 0, 0, 0);  /* 0 while the process has only one thread */
    if (places >= 0 && imports_replace_in(library, IMPORTS, Py_ARRAY_LENGTH(IMPORTS), &replacements) < 0) {
        imports_put_back(&replacements);  /* all or none: who waits in one table is not found in the other */
    }
}

#endif

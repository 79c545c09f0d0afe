/* The agent's threads wait for each other in the system's table of sleepers, not in the process's own.
 *
 * The sampler wakes the recorder after each sample. Since Linux 6.16 the sleepers of a process whose futexes are private to it, as they
 * are in the C library and in Rust, are in a table of the process's own. It has four places for each processor, and 16 at least, so that
 * a thousand idle threads on a small machine stand in 16 queues. To find the recorder, the kernel goes through one of them. As shared
 * futexes the agent's are in a table of the system's, which grows with its memory: what else is called there is as before. (futex(2),
 * PR_FUTEX_HASH in prctl(2).)
 */

#include "native.h"

#ifdef HAS_AGENT_LIBRARY

#include <errno.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel's, by its own names: the headers of older ones don't have all of them. */
enum {FUTEX_WAIT = 0, FUTEX_WAKE = 1, FUTEX_WAIT_BITSET = 9, FUTEX_PRIVATE = 128};
enum {PR_FUTEX_HASH = 78, PR_FUTEX_HASH_GET_SLOTS = 2};

static Replacements replacements;  /* never put back: somebody may be waiting */

/* Wake so many who wait at a shared futex, then those who have been waiting at a private one since before it was replaced. */
static long
wake(void *futex, long count)
{
    const long woken = syscall(SYS_futex, futex, FUTEX_WAKE, count, NULL, NULL, 0);
    if (woken < 0 || woken >= count) {
        return woken;
    }
    const long others = syscall(SYS_futex, futex, FUTEX_WAKE | FUTEX_PRIVATE, count - woken, NULL, NULL, 0);
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
            case FUTEX_WAKE | FUTEX_PRIVATE:
                return wake((void *)values[0], (int)values[2]);
            case FUTEX_WAIT | FUTEX_PRIVATE:
            case FUTEX_WAIT_BITSET | FUTEX_PRIVATE:
                values[1] &= ~(long)FUTEX_PRIVATE;
        }
    }
    return syscall(number, values[0], values[1], values[2], values[3], values[4], values[5]);
}

void
agent_futexes_share(const void *library)
{
    static const Import IMPORTS[] = {{"syscall", (void *)call_shared}};
    if (prctl(PR_FUTEX_HASH, PR_FUTEX_HASH_GET_SLOTS, 0, 0, 0) >= 0) {
        imports_replace_in(library, IMPORTS, Py_ARRAY_LENGTH(IMPORTS), &replacements);
    }
}

#endif

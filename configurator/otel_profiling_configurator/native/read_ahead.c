/* Copies what the sampler is about to read before it asks for it: all at once, with one system call.
 *
 * For each function on a stack the sampler reads its code, its name, its file's name and its lines, a copy each, and in the next
 * sample once more: nearly all of what it costs. A copy with `process_vm_readv` takes a microsecond, since the page that it comes
 * from has to be found and held. In `process_vm_writev` from this process to this process it is only the other side, a buffer of
 * ours, that has to be held, and what is copied from may be any number of places, for some 25 nanoseconds each. Where there is
 * nothing to be read any more it stops, as the other one does.
 *
 * Nothing is taken from an older sample but where to look: what the sampler is given has been read for this one, at the moment at
 * which the thread's state was, or a few microseconds later.
 */

#include "native.h"

#ifdef HAS_AGENT_LIBRARY

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    MOST = 1000,           /* places that are read ahead: the system takes 1,024 */
    MOST_BYTES = 128 * 1024,
    LONGEST = 4 * 1024,    /* of one of them, in bytes */
    READINGS_KEPT = 40,    /* how often one is read ahead in vain: by then that has cost as much as to read it */
    TIDIED_EACH = 8,       /* readings */
    SLOTS = 4096,
};

static struct iovec places[MOST];       /* where it has read of late, */
static uint32_t offsets[MOST];          /* where in `bytes` that is copied to, */
static unsigned long last_used[MOST];   /* and at which reading it was last asked for */
static size_t count, bytes_wanted;
static uint16_t slots[SLOTS];           /* a place's number plus one, by its address and length; 0 for none */
static uint32_t seen_once[SLOTS];       /* the same in short for what was read: a stack's own frames often are elsewhere next time */

static char bytes[MOST_BYTES];
static size_t bytes_read;               /* for the present sample */
static unsigned long readings;
static int is_on, is_refused;

static uint64_t
hash_of(const void *address, size_t length)
{
    return ((uint64_t)(uintptr_t)address + length * 0x10001) * 0x9E3779B97F4A7C15u;
}

static size_t
slot_of(const void *address, size_t length)
{
    size_t slot = hash_of(address, length) >> 52;
    while (slots[slot] != 0) {
        size_t place = slots[slot] - 1u;
        if (places[place].iov_base == address && places[place].iov_len == length) {
            break;
        }
        slot = (slot + 1) % SLOTS;
    }
    return slot;
}

static void
add(const void *address, size_t length, unsigned long used)
{
    if (count < MOST && bytes_wanted + length <= MOST_BYTES) {
        places[count] = (struct iovec){(void *)address, length};
        offsets[count] = (uint32_t)bytes_wanted;
        last_used[count] = used;
        bytes_wanted += length;
        slots[slot_of(address, length)] = (uint16_t)++count;
    }
}

/* Leave out what has not been asked for lately. */
static void
tidy(void)
{
    size_t former = count;
    memset(slots, 0, sizeof slots);
    count = bytes_wanted = 0;
    for (size_t i = 0; i < former; i++) {
        if (last_used[i] != 0 && last_used[i] + READINGS_KEPT >= readings) {
            add(places[i].iov_base, places[i].iov_len, last_used[i]);
        }
    }
}

/* The system could not read everything: find what there is nothing to be read of any more, and leave it out. */
static void
leave_out_unreadable(void)
{
    for (size_t i = 0; i < count; i++) {
        if (offsets[i] + places[i].iov_len > bytes_read) {
            last_used[i] = 0;
            break;
        }
    }
    tidy();
    bytes_read = 0;  /* the others' offsets have changed */
}

void
read_ahead_begin(void)
{
    readings++;
    bytes_read = 0;
    if (readings % TIDIED_EACH == 0 || count == MOST) {
        tidy();
    }
    is_on = !is_refused;
    if (is_refused || count == 0) {
        return;
    }
    struct iovec target = {bytes, bytes_wanted};
    /* Not by the C library's function: sanitizers believe that whatever is read there has to be allocated. */
    long copied = syscall(SYS_process_vm_writev, (long)getpid(), places, count, &target, 1ul, 0ul);
    if (copied < 0 && errno != EFAULT) {
        is_refused = 1;  /* by a filter of system calls, which stays */
        is_on = 0;
        return;
    }
    bytes_read = copied < 0 ? 0 : (size_t)copied;
    if (bytes_read < bytes_wanted) {
        leave_out_unreadable();
    }
}

void
read_ahead_end(void)
{
    is_on = 0;
    bytes_read = 0;
}

/* Give the sampler what it is about to copy, if it was read ahead; whether it was. */
static int
give(const struct iovec *local, const struct iovec *remote)
{
    size_t place = bytes_read == 0 ? 0 : slots[slot_of(remote->iov_base, remote->iov_len)];
    if (place == 0 || offsets[place - 1] + remote->iov_len > bytes_read) {
        return 0;
    }
    last_used[place - 1] = readings;
    memcpy(local->iov_base, bytes + offsets[place - 1], remote->iov_len);
    return 1;
}

/* Remember what the sampler has copied: what it does for the second time is read ahead from now on. */
static void
remember(const struct iovec *remote)
{
    size_t slot = slot_of(remote->iov_base, remote->iov_len);
    if (slots[slot] != 0) {
        last_used[slots[slot] - 1] = readings;
        return;
    }
    uint64_t hash = hash_of(remote->iov_base, remote->iov_len);
    uint32_t *seen = &seen_once[hash >> 52];
    if (*seen == (uint32_t)hash) {
        add(remote->iov_base, remote->iov_len, readings);
    }
    *seen = (uint32_t)hash;
}

ssize_t
read_ahead_or_now(pid_t process, const struct iovec *local, unsigned long locals, const struct iovec *remote,
                  unsigned long remotes, unsigned long flags)
{
    const int is_one = is_on && locals == 1 && remotes == 1 && local->iov_len == remote->iov_len;
    if (is_one && give(local, remote)) {
        return (ssize_t)local->iov_len;
    }
    ssize_t copied = process_vm_readv(process, local, locals, remote, remotes, flags);
    if (is_one && copied == (ssize_t)remote->iov_len && copied > 0 && copied <= LONGEST) {
        remember(remote);
    }
    return copied;
}

#endif

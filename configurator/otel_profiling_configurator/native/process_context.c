/* What profilers outside the process find of it as a whole: a mapping that leads to its resource, as OpenTelemetry's enhancement
 * proposal 4719 lays it out.
 *
 * Readers look for its name in `/proc/PID/maps`, and read it whenever they like, also while it changes: the time of publication
 * is 0 then, and another one afterwards. All that write it hold the GIL.
 */

#include "native.h"

#ifdef HAS_THREAD_CONTEXT

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

#define NAME "OTEL_CTX"

/* Of Linux, in headers that are newer than those that the oldest glibc has. */
enum {CLOSE_ON_EXEC = 1, NOT_EXECUTABLE = 8};

typedef struct {
    char signature[8];
    uint32_t version;
    uint32_t payload_size;
    _Atomic uint64_t published_at;  /* nanoseconds of CLOCK_BOOTTIME; 0 while the payload changes */
    const void *_Atomic payload;
} Header;

_Static_assert(sizeof(Header) == 32, "the layout is the proposal's");

static Header *header;  /* NULL while nothing is published */
static void *payload;
static uint64_t last_published_at;
static pid_t process;  /* whose they are: servers may fork without Python's knowledge */

/* A mapping that has the name by its file, which is memory and closed again; NULL where the system allows none. */
static void *
map_named(size_t size)
{
    int file = -1;
#ifdef SYS_memfd_create  /* glibc has a function for it since 2.27 */
    file = (int)syscall(SYS_memfd_create, NAME, CLOSE_ON_EXEC | NOT_EXECUTABLE);
    if (file < 0) {
        file = (int)syscall(SYS_memfd_create, NAME, CLOSE_ON_EXEC);  /* before Linux 6.3 */
    }
#endif
    if (file < 0) {
        return NULL;
    }
    void *mapping = ftruncate(file, (off_t)size) < 0 ? MAP_FAILED
                                                     : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    close(file);
    return mapping == MAP_FAILED ? NULL : mapping;
}

/* Name the mapping. Always asked for, also with each change: readers that watch for this call hear of it so. */
static int
name(size_t size)
{
    return prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, header, size, NAME);
}

static uint64_t
now(void)
{
    struct timespec time;
    if (clock_gettime(CLOCK_BOOTTIME, &time) < 0) {
        return last_published_at + 1;
    }
    uint64_t nanoseconds = (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
    return nanoseconds > last_published_at ? nanoseconds : last_published_at + 1;
}

/* Publish for the first time; whether that can be had. */
static int
begin(void *bytes, uint32_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *mapping = map_named(page);
    int has_name = mapping != NULL;
    if (!has_name) {
        mapping = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapping == MAP_FAILED) {
            return 0;
        }
    }
    if (madvise(mapping, page, MADV_DONTFORK) < 0) {
        munmap(mapping, page);
        return 0;
    }
    header = mapping;
    header->version = 2;
    header->payload_size = size;
    atomic_store(&header->payload, bytes);
    atomic_store(&header->published_at, last_published_at = now());
    atomic_thread_fence(memory_order_seq_cst);
    memcpy(header->signature, NAME, sizeof header->signature);
    if (name(page) < 0 && !has_name) {  /* nobody would find it */
        header = NULL;
        munmap(mapping, page);
        return 0;
    }
    return 1;
}

static void
change(void *bytes, uint32_t size)
{
    atomic_store(&header->published_at, 0);
    atomic_thread_fence(memory_order_seq_cst);
    atomic_store(&header->payload, bytes);
    header->payload_size = size;
    atomic_thread_fence(memory_order_seq_cst);
    atomic_store(&header->published_at, last_published_at = now());
    name((size_t)sysconf(_SC_PAGESIZE));
}

/* Forget what is the parent's, if this is a forked child: its mapping is not here, and another one may be in its place. */
static void
look_for_fork(void)
{
    if (header != NULL && getpid() != process) {
        header = NULL;
        free(payload);
        payload = NULL;
    }
}

int
process_context_publish(const char *bytes, Py_ssize_t size)
{
    look_for_fork();
    void *copy = size > 0 && size <= UINT32_MAX ? malloc((size_t)size) : NULL;
    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, bytes, (size_t)size);
    if (header != NULL) {
        change(copy, (uint32_t)size);
    }
    else if (!begin(copy, (uint32_t)size)) {
        free(copy);
        return 0;
    }
    free(payload);  /* whoever is reading it sees that the time has changed */
    payload = copy;
    process = getpid();
    return 1;
}

void
process_context_drop(void)
{
    look_for_fork();
    if (header != NULL) {
        munmap(header, (size_t)sysconf(_SC_PAGESIZE));
        header = NULL;
    }
    free(payload);
    payload = NULL;
}

#else

int
process_context_publish(const char *bytes, Py_ssize_t size)
{
    return 0;
}

void
process_context_drop(void)
{
}

#endif

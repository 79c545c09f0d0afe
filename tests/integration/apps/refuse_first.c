/* Comes before the C library's function of this name, and refuses the first read of a pointer: the sampler then fails to find the
 * interpreter, and looks for it again a moment later, as it does where a thread's state lies in memory that was mapped after it had
 * listed the mappings. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

int reads_refused;

ssize_t
process_vm_readv(pid_t process, const struct iovec *local, unsigned long locals, const struct iovec *remote, unsigned long remotes,
                 unsigned long flags)
{
    if (reads_refused == 0 && local->iov_len == sizeof(void *)) {
        reads_refused = 1;
        errno = EFAULT;
        return -1;
    }
    return syscall(SYS_process_vm_readv, process, local, locals, remote, remotes, flags);
}

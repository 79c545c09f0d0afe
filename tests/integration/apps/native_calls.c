/* A thread of a native library's own, which calls back many times: Python has another state for it in each call. */
#include <pthread.h>

static void (*callback)(void);
static int times;

static void *
call(void *unused)
{
    for (int i = 0; i < times; i++) {
        callback();
    }
    return unused;
}

int
call_on_thread(void (*function)(void), int count)
{
    pthread_t thread;
    callback = function;
    times = count;
    return pthread_create(&thread, 0, call, 0) || pthread_join(thread, 0);
}

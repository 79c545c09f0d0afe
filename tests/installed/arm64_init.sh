#!/bin/sh
# The first process of the emulated machine that arm64.sh starts: runs the tests, says how that went, and turns the machine off.
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs shm /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs tmp /tmp
busybox ip link set lo up
export HOME=/ PATH=/usr/bin:/bin:/usr/sbin:/sbin PIP_NO_INDEX=1 PIP_FIND_LINKS=/packages

# As in musl.sh, and fewer: each process takes some seconds to start here. Beside other work on the same machine some have ended without
# their last profile, for a reason that was not found: hence more than one further try.
passes() { /env/bin/pytest -q --color=no --reruns 2 "$@"; }
tests() {
    cd /src || return 1
    uname -srm
    # Of wheels for all platforms, pip takes those that fit.
    /env/bin/pip install --quiet --only-binary :all: --no-deps --force-reinstall otel-profiling-configurator otel-profiling-distro &&
        TURN_SECONDS=0.01 passes -rP tests/installed/test_installed.py &&
        passes tests/image/test_injection.py -k '(test_flask or test_fastapi) and not turns' && # those are of 0.2 ms
        passes tests/integration/test_process_exits.py -k '(fork] or endings or without_a_handler) and not hangs' &&
        passes tests/integration/test_labels.py -k 'sequential or threads or asyncio'
}
tests && echo 'All passed on arm64' || echo 'Some failed on arm64'
sync
busybox poweroff -f

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

tests() {
    cd /src
    uname -srm
    # Of 10 ms: see arm64.sh. Half the time limits of a machine that is not emulated would do; twice is given.
    TURN_SECONDS=0.01 /env/bin/pytest -q -rP --reruns 1 tests/installed/test_installed.py || return 1
    /env/bin/pytest -q --reruns 1 tests/integration/test_labels.py -k 'sequential or threads or asyncio' || return 1
    /env/bin/pytest -q --reruns 1 tests/integration/test_process_exits.py -k 'fork or endings or without_a_handler' || return 1
    /env/bin/pytest -q --reruns 1 tests/image/test_injection.py -k 'test_flask or test_fastapi' || return 1
}
tests && echo 'All passed on arm64' || echo 'Some failed on arm64'
sync
busybox poweroff -f

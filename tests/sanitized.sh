#!/usr/bin/env bash
# The native module's unit tests with what AddressSanitizer and UndefinedBehaviorSanitizer find: memory that is used after it was
# freed, or beyond its end. In a copy of the tree, since a module that is built so can't be loaded without them.
#
#   tests/sanitized.sh PYTHON [pytest's arguments]
set -euo pipefail
cd "$(dirname "$0")/.."

python=$(realpath --no-symlinks "${1:?the Python of a virtual environment that the tests run in}")
shift
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r configurator otel_profiling_distro tests pyproject.toml "$copy"
cd "$copy"

native=configurator/otel_profiling_configurator/native
suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
include=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
rm -f "$native"/*.so
gcc -std=gnu11 -fvisibility=hidden -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined \
    -fPIC -shared -I"$include" "$native"/*.c -o "$native/_native$suffix"

# No leaks are looked for: the interpreter keeps memory to its end. Its own allocator would hide what is freed.
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0:handle_segv=0 \
    PYTHONMALLOC=malloc PYTHONPATH="$copy/configurator:$copy" "$python" -m pytest -q -p no:cacheprovider \
    tests/unit/configurator/test_thread_context.py tests/unit/configurator/test_process_context.py \
    tests/unit/configurator/test_following.py tests/unit/configurator/test_greenlets.py "$@"

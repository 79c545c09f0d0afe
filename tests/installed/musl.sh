#!/usr/bin/env bash
# On musl: the wheels install and are native, and what may depend on the C library is the same as on glibc: accuracy, forks,
# exits, servers that do not answer, how the sampler starts, and Flask and FastAPI with the operator's tree. Python for musl is built
# first, see musl_python.sh.
#
#   tests/installed/musl.sh WHEELS TREES [quick]
#
# With `quick` only accuracy, exits, how the sampler starts, and injection.
set -euo pipefail
cd "$(dirname "$0")/../.."

wheels=$(realpath "${1:?the folder that make wheels fills}")
trees=$(realpath "${2:?the folder that make image fills}")
root=${TMPDIR:-/tmp}/otel-profiling-musl
python=$(tests/installed/musl_python.sh "$root")

rm -rf "$root/env" "$root/src"
mkdir -p "$root/src/build"
# Tests and scripts only: what they import is what was installed.
cp -r tests docker release pyproject.toml "$root/src"
ln -s "$trees" "$root/src/build/image"
ln -s "$wheels" "$root/src/dist"
"$python" -m venv "$root/env"
"$root/env/bin/pip" install --quiet --upgrade 'pip >= 25.1'
"$root/env/bin/pip" install --quiet --only-binary :all: --find-links "$wheels" 'otel-profiling-distro[page]' pytest pytest-timeout \
    pytest-rerunfailures hypothesis anyio asgiref greenlet trio uvloop # of gevent pip finds no set of wheels for musl
cd "$root/src"
export CC="$root/bin/musl-gcc"
# As in the Makefile: on a busy machine a process may end before its last upload has arrived.
pytest=("$root/env/bin/pytest" -q --reruns 1)
"${pytest[@]}" tests/installed
if [ "${3:-}" = quick ]; then
    "${pytest[@]}" tests/integration/test_process_exits.py tests/integration/test_search.py
    "${pytest[@]}" tests/integration/test_runtimes.py -k 'asyncio or uvloop'
    "${pytest[@]}" tests/image/test_injection.py -k 'flask or fastapi'
    exit
fi
"${pytest[@]}" tests/integration/test_labels.py tests/integration/test_process_exits.py tests/integration/test_host.py \
    tests/integration/test_fork_under_fire.py tests/integration/test_search.py \
    tests/integration/test_outside.py tests/unit/configurator/test_thread_context.py tests/unit/configurator/test_process_context.py
"${pytest[@]}" tests/integration/test_runtimes.py -k 'asyncio or uvloop or trio or workers or greenlets'
"${pytest[@]}" tests/image/test_injection.py -k 'flask or fastapi'

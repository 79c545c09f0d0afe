#!/usr/bin/env bash
# On arm64, which is emulated: a Debian for arm64, and the wheels in it. First each system call is this machine's kernel's (qemu-user):
# process_vm_readv is refused, labels are kept by thread, the application goes on. Then in an emulated machine with Debian's own
# kernel: the wheels are native, samples have aliases, forks and exits, and Flask and FastAPI with the operator's tree. There an
# emulated sampler is too slow for turns of 0.2 ms; they are of 10 ms.
#
# Needs root, mmdebstrap, qemu-user-static, qemu-system-arm, cpio, and Linux 6.7 or later: since then programs for another processor
# can run in one user namespace without the rest of the system noticing.
#
#   tests/installed/arm64.sh WHEELS TREES
set -euo pipefail
cd "$(dirname "$0")/../.."

wheels=$(realpath "${1:?the folder that make wheels fills}")
trees=$(realpath "${2:?the folder that make image fills}")
work=${TMPDIR:-/tmp}/otel-profiling-arm64
release=trixie
version=3.13 # trixie's
root=$work/root
# Unpacked, not configured: that would need the emulated processor for minutes.
packages=base-files,bash,busybox-static,coreutils,dash,libc-bin,linux-image-arm64,python3,python3-venv
mkdir -p "$work"

if [ "$(cat "$work/ready" 2>/dev/null)" != "$packages" ]; then
    rm -rf "$root" "$work/ready"
    mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -n 1 || true)
    mmdebstrap --arch=arm64 --variant=extract --skip=check/qemu --include="$packages" \
        --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr "$release" "$root" "deb ${mirror% } $release main" >"$work/log" 2>&1 ||
        { tail "$work/log" >&2 && exit 1; }
    mv "$root"/boot/vmlinuz-* "$work/kernel"
    rm -rf "$root/boot" "$root/usr/lib/modules" "$root/usr/share/doc" "$root/usr/share/locale" # all of it is unpacked into memory
    echo root:x:0:0:root:/:/bin/sh >"$root/etc/passwd"
    echo "127.0.0.1 localhost" >"$root/etc/hosts"
    echo "$packages" >"$work/ready"
fi

# A virtual environment in there. Its packages are put there from here, which is fast; our own are installed again inside, see
# arm64_init.sh.
rm -rf "$root"/{env,packages,src,init}
platforms=(manylinux_2_28_aarch64 manylinux_2_17_aarch64 manylinux2014_aarch64)
there=(--quiet --only-binary :all: --implementation cp --python-version "$version" --abi "cp${version/./}" --abi abi3 --abi none
    "${platforms[@]/#/--platform=}" --find-links "$wheels")
site=$root/env/lib/python$version/site-packages
python3 -m venv "$work/pip"
"$work/pip/bin/pip" install --quiet --upgrade 'pip >= 25.1'
"$work/pip/bin/pip" install "${there[@]}" --no-compile --target "$site" \
    pip 'otel-profiling-distro[page]' pytest pytest-timeout pytest-rerunfailures
mv "$site/bin" "$root/env/bin"
sed -i '1s#^\#!.*#\#!/env/bin/python#' "$root"/env/bin/*
ln -s /usr/bin/python3 "$root/env/bin/python3"
ln -s python3 "$root/env/bin/python"
printf '%s\n' 'home = /usr/bin' 'include-system-site-packages = false' >"$root/env/pyvenv.cfg"
# What is installed inside, where there is no network: our wheels, for pip to choose from, and what applications of tests/image want.
"$work/pip/bin/pip" download "${there[@]}" --dest "$root/packages" flask fastapi uvicorn
cp "$wheels"/*.whl "$root/packages"
# Compiled for the first time, each module costs the emulated processor a second. A Python of the same version does it faster.
if same=$(compgen -G "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version.*/bin/python$version"); then
    "${same%%$'\n'*}" -m compileall -q -s "$root" "$site" "$root/usr/lib/python$version" >/dev/null || true
fi
# Tests and scripts only: what they import is what was installed.
mkdir -p "$root/src/build/image/arm64"
cp -r tests docker release pyproject.toml "$root/src"
cp -r "$trees/arm64/autoinstrumentation" "$root/src/build/image/arm64"
ln -s /packages "$root/src/dist"
cp tests/installed/arm64_init.sh "$root/init"

echo "== Python $version for arm64, by this machine's kernel (qemu-user)"
export root
unshare --map-root-user --mount bash -euc '
    mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    sed "s#^\(.*\):[^:]*:[A-Z]*\$#\1:$(command -v qemu-aarch64-static):F#" /usr/lib/binfmt.d/qemu-aarch64.conf \
        >/proc/sys/fs/binfmt_misc/register
    mount --rbind /proc "$root/proc"
    mount --rbind /dev "$root/dev"
    chroot "$root" "$@"' - env -i HOME=/ PATH=/usr/bin:/bin sh -euc 'cd /src && /env/bin/pytest -q -rP tests/installed/test_refused.py'

echo "== Python $version for arm64, in an emulated machine, with a kernel of its own"
(cd "$root" && find . -print0 | cpio --null --create --format=newc --quiet) >"$work/initramfs"
# Its end is told by the last line of its console: a machine has no exit code.
timeout 3600 qemu-system-aarch64 -M virt -cpu cortex-a72 -accel tcg,thread=multi -smp 2 -m 4G -nographic -no-reboot -nic none \
    -kernel "$work/kernel" -initrd "$work/initramfs" -append 'console=ttyAMA0 quiet panic=-1' </dev/null | tee "$work/console"
grep -q '^All passed on arm64' "$work/console"

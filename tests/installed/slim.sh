#!/usr/bin/env bash
# Installs what `make wheels` made where there is no compiler, as in a slim container: in Debian file systems with an interpreter
# and nothing else, for each supported Python that can be had here. Then samples of asyncio at 0.2 ms have the right span.
# Needs root and debootstrap; Pythons that no Debian has come from pyenv.
#
#   tests/installed/slim.sh WHEELS [PYTHON...]
set -euo pipefail
cd "$(dirname "$0")/../.."

wheels=$(realpath "${1:?the folder that make wheels fills}")
shift
# Which Debian has which Python; pyenv's run in bookworm, with the libraries that they are linked with.
declare -A debians=([3.11]=bookworm [3.13]=trixie [3.14]=forky)
libraries=libbz2-1.0,libffi8,liblzma5,libreadline8,libsqlite3-0,libssl3,zlib1g
mounted=()
trap 'for folder in "${mounted[@]}"; do umount "$folder"; done' EXIT

# A file system without a compiler, made once.
debian() {
    local root="${TMPDIR:-/tmp}/otel-profiling-slim-$1" packages=python3,python3-venv,ca-certificates
    [ "$1" != bookworm ] || packages+=,$libraries
    if [ "$(cat "$root/ready" 2>/dev/null)" != "$packages" ]; then
        rm -rf "$root"
        [ -e "/usr/share/debootstrap/scripts/$1" ] || ln -s sid "/usr/share/debootstrap/scripts/$1"
        debootstrap --variant=minbase --include="$packages" "$1" "$root" >"$root.log" || return 1
        echo "$packages" >"$root/ready"
    fi
    echo "$root"
}

try() {
    local version=$1 root=$2 python=$3 file
    echo "== Python $version in $(. "$root/etc/os-release" && echo "$PRETTY_NAME")"
    for tool in cc gcc clang; do
        [ -z "$(chroot "$root" sh -c "command -v $tool")" ] || { echo "there is a compiler" >&2 && return 1; }
    done
    [ -z "$(find "$root" -xdev -name Python.h -print -quit)" ] || { echo "there are headers" >&2 && return 1; }
    # The network is reached inside as it is outside.
    for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
        [ ! -e "$file" ] || cp -L "$file" "$root$file"
    done
    rm -rf "$root/src" "$root/wheels" "$root/env"
    mkdir "$root/src"
    cp -r "$wheels" "$root/wheels"
    cp -r tests pyproject.toml "$root/src" # tests only: what they import is what was installed
    mountpoint -q "$root/proc" || { mount -t proc proc "$root/proc" && mounted+=("$root/proc"); }
    chroot "$root" env HOME=/ sh -euc "
        $python -m venv /env
        /env/bin/pip install --quiet --upgrade 'pip >= 25.1'
        /env/bin/pip install --quiet --only-binary :all: --find-links /wheels 'otel-profiling-distro[page]' pytest pytest-timeout
        cd /src
        /env/bin/pytest -q -rP tests/installed
    "
}

tried=()
for version in "${@:-3.10 3.11 3.12 3.13 3.14}"; do
    for version in $version; do
        if [ -n "${debians[$version]:-}" ] && root=$(debian "${debians[$version]}") &&
            [ "$(chroot "$root" python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')" = "$version" ]; then
            try "$version" "$root" python3
        elif installed=$(compgen -G "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version.*/bin/python$version") && root=$(debian bookworm); then
            installed=$(dirname "$(dirname "$(head -n 1 <<<"$installed")")")
            # In the same place: it looks for its own library there.
            rm -rf "$root$installed"
            mkdir -p "$(dirname "$root$installed")"
            cp -r "$installed" "$root$installed"
            rm -rf "$root$installed/include"
            try "$version" "$root" "$installed/bin/python$version"
        else
            echo "Not here, so not tested: Python $version"
            continue
        fi
        tried+=("$version")
    done
done
echo "Installed without a compiler, native and accurate: Python ${tried[*]:?no Python could be tried}"

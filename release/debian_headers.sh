#!/usr/bin/env bash
# Gets the headers of CPythons that a machine has none of out of Debian's packages, without installing anything: a wheel needs
# nothing else of its Python. Does nothing where there is no apt-get; `release/build.py` says what is still missing then.
#
#   release/debian_headers.sh FOLDER VERSION...
set -euo pipefail

target=$(realpath -m "${1:?a folder to put python3.X/ into}")
shift
# Where each is to be had; pyenv and setup-python have the others.
declare -A releases=([3.11]=bookworm [3.13]=trixie [3.14]="forky sid")
mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -n 1 || true)
mkdir -p "$target"
if ! command -v apt-get dpkg-deb >/dev/null || [ -z "$mirror" ]; then
    exit
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

get() { # VERSION RELEASE
    local root=$scratch/$2
    mkdir -p "$root/lists/partial" "$root/cache/archives/partial" "$root/packages"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror% } $2 main" >"$root/sources.list"
    local apt=(apt-get -qq -o "Dir::Etc::sourcelist=$root/sources.list" -o Dir::Etc::sourceparts=-
        -o "Dir::State::lists=$root/lists" -o "Dir::Cache=$root/cache" -o APT::Sandbox::User=root)
    "${apt[@]}" update && (cd "$root/packages" && "${apt[@]}" download "libpython$1-dev") || return 1
    dpkg-deb --extract "$root/packages/libpython$1-dev"_*.deb "$root/unpacked"
    # As Debian has them: the one header that is a processor's lies beside the others, in a folder of its name.
    cp -r "$root/unpacked/usr/include/." "$target"
}

for version; do
    for release in ${releases[$version]:-}; do
        ! get "$version" "$release" || break
    done
done

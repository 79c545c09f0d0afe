#!/usr/bin/env bash
# Builds a CPython that runs on musl, where there is no Alpine: from Debian's sources, with Debian's musl, in one folder. Two
# minutes the first time; what is there is used again. Prints the interpreter's path. Nothing is installed in the system, but
# for the tools of Debian's that compile: build-essential, autoconf, automake, libtool and texinfo must be there.
#
#   tests/installed/musl_python.sh FOLDER
set -euo pipefail

root=$(realpath -m "${1:?a folder to build in}")
release=${MUSL_DEBIAN:-trixie} # its musl is 1.2.5; bookworm's 1.2.3 can't load what today's musl wheels bring along
triplet=$(uname -m)-linux-musl
prefix=$root/python
jobs=$(nproc)

if [ -e "$root/ready" ]; then
    echo "$prefix/bin/python3"
    exit
fi

log=$root/log
mkdir -p "$root/apt/lists/partial" "$root/apt/cache/archives/partial" "$root/source"
exec 3>&1 >"$log" 2>&1
trap '[ $? = 0 ] || { tail -n 20 "$log"; echo "tests/installed/musl_python.sh failed; more in $log"; } >&3' EXIT
cd "$root/source"

# Packages of another release of Debian's, by apt with lists of its own. The mirror is the one that this system uses.
mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -n 1 || true)
own=$(. /etc/os-release && echo "$VERSION_CODENAME")
for entry in "deb@$release" "deb-src@$release" "deb-src@$own"; do
    echo "${entry%@*} [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror% } ${entry#*@} main"
done | sort -u >"$root/apt/sources.list"
apt=(apt-get -qq -o "Dir::Etc::sourcelist=$root/apt/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$root/apt/lists"
    -o "Dir::Cache=$root/apt/cache" -o APT::Sandbox::User=root)
"${apt[@]}" update
[ -e "$root/sysroot/ready" ] || {
    "${apt[@]}" download musl musl-dev musl-tools
    for package in ./*.deb; do dpkg-deb --extract "$package" "$root/sysroot"; done
    touch "$root/sysroot/ready"
}

# A compiler that knows nothing of glibc, and that CPython's configure script takes for musl's.
specs=$(find "$root/sysroot" -name musl-gcc.specs)
loader=$(find "$root/sysroot" -name 'ld-musl-*.so.1')
# Debian's loader is a link to a place in the system.
ln -sf "$(find "$root/sysroot" -path '*musl*' -name libc.so)" "$loader"
sed -e "s#/usr/\(include\|lib\)/#$root/sysroot/usr/\1/#g" -e "s#/lib/ld-musl#$(dirname "$loader")/ld-musl#g" \
    -e "s#$root/sysroot$root/sysroot#$root/sysroot#g" "$specs" >"$root/gcc.specs"
mkdir -p "$root/bin" "$root/kernel"
# The kernel's headers, and none of the C library that lie beside them.
for folder in linux asm-generic mtd; do ln -sfn "/usr/include/$folder" "$root/kernel/$folder"; done
ln -sfn "/usr/include/$(gcc -print-multiarch)/asm" "$root/kernel/asm"
cat >"$root/bin/musl-gcc" <<EOF
#!/bin/sh
case " \$* " in *" --print-multiarch "* | *" -print-multiarch "*) echo $triplet; exit ;; esac
exec gcc "\$@" -specs $root/gcc.specs -idirafter $root/kernel
EOF
chmod +x "$root/bin/musl-gcc"
# Compiled quickly: what is tested does not depend on how fast this Python is.
export CC="$root/bin/musl-gcc" CFLAGS="-O1 -fPIC -I$root/static/include" LDFLAGS="-L$root/static/lib" PKG_CONFIG=false

# What the standard library's modules need, static: wheels bring their own.
# A mirror may have dropped what its lists still name, so that this system's own release is the second choice.
fetch() {
    if ! compgen -G "$1-*/" >/dev/null; then
        "${apt[@]}" source --download-only "$1/$release" || "${apt[@]}" source --download-only "$1/$own"
        rm -rf "$1.unpacked"
        # Without Debian's own patches to Python, one of which takes ensurepip out.
        dpkg-source --extract --no-check ${2:-} "$(ls -t ./"$1"_*.dsc | head -n 1)" "$1.unpacked" >&2
        mv "$1.unpacked" "$1-source"
    fi
    echo "$1-source"
}
[ -e "$root/static/lib/libz.a" ] || (cd "$(fetch zlib)" && ./configure --static --prefix="$root/static" && make -j"$jobs" install)
[ -e "$root/static/lib/libffi.a" ] || (
    cd "$(fetch libffi)" && autoreconf --install --force &&
        ./configure --disable-shared --disable-docs --prefix="$root/static" --libdir="$root/static/lib" --host="$triplet" &&
        make -j"$jobs" install
)
[ -e "$root/static/lib/libssl.a" ] || (
    cd "$(fetch openssl)" &&
        ./Configure "linux-$(uname -m)" no-shared no-tests no-module no-afalgeng no-engine no-cmp no-cms no-dtls no-srp no-aria \
            no-bf no-camellia no-cast no-idea no-rc2 no-rc5 no-seed no-sm2 no-sm4 no-gost --prefix="$root/static" \
            --libdir=lib && make -j"$jobs" build_libs && make install_dev
)

python=$(apt-cache -o "Dir::State::lists=$root/apt/lists" -o "Dir::Etc::sourcelist=$root/apt/sources.list" \
    -o Dir::Etc::sourceparts=- depends python3 | sed -n 's/.*Depends: \(python3\.[0-9]*\)$/\1/p' | head -n 1)
(
    cd "$(fetch "$python" --skip-patches)"
    ./configure --prefix="$prefix" --enable-shared --with-openssl="$root/static" --without-static-libpython \
        --disable-test-modules OPT="-DNDEBUG -fwrapv -O1" LDFLAGS="$LDFLAGS -Wl,-rpath,$prefix/lib" LIBFFI_CFLAGS="-I$root/static/include" \
        LIBFFI_LIBS="-L$root/static/lib -lffi" ZLIB_CFLAGS="-I$root/static/include" ZLIB_LIBS="-L$root/static/lib -lz"
    make -j"$jobs"
    make install
)
"$prefix/bin/python3" -c 'import ctypes, hashlib, ssl, sysconfig, zlib; assert "musl" in sysconfig.get_config_var("SOABI")'
touch "$root/ready"
echo "$prefix/bin/python3" >&3

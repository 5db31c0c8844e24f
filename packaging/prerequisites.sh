#!/bin/bash
# Installs what building and testing mirrorlet need and this machine lacks: Debian packages, cargo's tools, buf. Says what it
# installs; with everything there it does nothing. Usage: prerequisites.sh CACHE_DIR
set -euo pipefail

cache=${1:?usage: prerequisites.sh CACHE_DIR}
buf_version=1.75.0

# a file that tells that the package is there, and the package
debian=(
    /usr/bin/cc gcc
    /usr/include/stdlib.h libc6-dev
    /usr/bin/protoc protobuf-compiler
    /usr/bin/dpkg-shlibdeps dpkg-dev
    /usr/bin/git git
    /etc/ssl/certs/ca-certificates.crt ca-certificates
    /usr/bin/shellcheck shellcheck
    /usr/bin/systemd-analyze systemd
    /usr/sbin/debootstrap debootstrap
    /usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
    /usr/bin/docker-registry docker-registry
    /usr/bin/skopeo skopeo
    /usr/bin/htpasswd apache2-utils
    /usr/bin/busybox busybox-static
    /usr/bin/strace strace
    /usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1 libfaketime
    /usr/bin/qemu-storage-daemon qemu-system-common
    /usr/sbin/mkfs.ext4 e2fsprogs
    /usr/sbin/mkfs.xfs xfsprogs
    /usr/bin/ps procps
    /usr/bin/ip iproute2
    /usr/bin/setpriv util-linux
    /usr/bin/mount mount
    /usr/bin/npm npm
)

# a tool of cargo's and the version known to work; one that is there already is taken as it is
cargo_tools=(
    cargo-nextest 0.9.151
    cargo-deny 0.20.2
    cargo-deb 3.8.0
)

is_there() {
    # merged and unmerged /usr alike, and programs of /usr/local
    [[ -e $1 || -e ${1/#\/usr\//\/} || -e ${1/#\/usr\/bin\//\/usr\/sbin\/} || -e ${1/#\/usr\/bin\//\/sbin\/} ]] ||
        { [[ $1 == /usr/*bin/* ]] && command -v "${1##*/}" >/dev/null; }
}

install_debian_packages() {
    local missing=() i
    for ((i = 0; i < ${#debian[@]}; i += 2)); do
        is_there "${debian[i]}" || missing+=("${debian[i + 1]}")
    done
    ((${#missing[@]})) || return 0
    echo "prerequisites: installing Debian packages: ${missing[*]}"
    if ((EUID != 0)); then
        echo "prerequisites: that needs root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q update
    # nothing that a package brings along may start a service here
    RUNLEVEL=1 apt-get -q install -y --no-install-recommends "${missing[@]}"
}

install_cargo_tools() {
    local i tool version
    for ((i = 0; i < ${#cargo_tools[@]}; i += 2)); do
        tool=${cargo_tools[i]} version=${cargo_tools[i + 1]}
        command -v "$tool" >/dev/null && continue
        echo "prerequisites: installing $tool $version (some minutes)"
        # its build is no part of ours
        env -u CARGO_TARGET_DIR -u RUSTFLAGS cargo install --locked --quiet "$tool@$version"
    done
}

install_buf() {
    local place=$cache/buf-$buf_version
    if [[ ! -x $place/node_modules/.bin/buf ]]; then
        echo "prerequisites: installing buf $buf_version into $place"
        mkdir -p "$place"
        npm install --silent --no-audit --no-fund --prefix "$place" "@bufbuild/buf@$buf_version" </dev/null
    fi
    ln -sfn "$place/node_modules/.bin/buf" "$cache/buf"
}

install_debian_packages
install_cargo_tools
install_buf

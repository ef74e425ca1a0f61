#!/bin/sh
# Checks for what has to be there before Cargo can build anything. As root on a Debian it installs
# the missing packages; otherwise it says exactly what is missing and fails.
set -eu

missing_packages=""
missing_others=""

has() {
    command -v "$1" >/dev/null 2>&1
}

need_package() { # program, Debian package
    has "$1" || missing_packages="$missing_packages $2"
}

other() {
    missing_others="$missing_others
  - $1"
}

find_missing_packages() {
    missing_packages=""
    need_package git git
    need_package make make
    need_package cc gcc
    need_package protoc protobuf-compiler
    # The C compiler alone does not bring the headers of the C library.
    if has dpkg && has cc && ! [ -e /usr/include/stdlib.h ]; then
        missing_packages="$missing_packages libc6-dev"
    fi
    # Nor does protoc alone bring the types that every other definition is made of.
    if has dpkg && ! [ -e /usr/include/google/protobuf/descriptor.proto ]; then
        missing_packages="$missing_packages libprotobuf-dev"
    fi
}

has cargo || other "Rust with cargo: https://rustup.rs (rust-toolchain.toml names the version)"
if has go; then
    # From 1.21 on, Go itself fetches the version that a go.mod asks for.
    version=$(go env GOVERSION | sed 's/^go//')
    case "$version" in
        1.[0-9] | 1.[0-9].* | 1.1[0-9] | 1.1[0-9].* | 1.20 | 1.20.*)
            other "Go 1.21 or later (found $version): https://go.dev/dl" ;;
    esac
else
    other "Go 1.21 or later: https://go.dev/dl"
fi

find_missing_packages
if [ -n "$missing_packages" ] && [ "$(id -u)" = 0 ] && has apt-get; then
    echo "prerequisites: installing$missing_packages ..." >&2
    log=$(mktemp)
    # The names are split on purpose.
    # shellcheck disable=SC2086
    if ! { apt-get -q update && DEBIAN_FRONTEND=noninteractive \
        apt-get -q install --yes --no-install-recommends $missing_packages; } >"$log" 2>&1; then
        tail -n 30 "$log" >&2
        echo "prerequisites: the installation failed (log: $log)" >&2
        exit 1
    fi
    rm -f "$log"
    find_missing_packages
fi

if [ -n "$missing_packages" ]; then
    other "these packages; on a Debian, as root: apt-get install$missing_packages"
fi
if [ -n "$missing_others" ]; then
    echo "prerequisites: missing:$missing_others" >&2
    exit 1
fi

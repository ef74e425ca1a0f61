#!/usr/bin/env bash
# The build steps of a release: used by the Dockerfile, by `make build` and by a test.
# Usage: build/release.sh [FOLDER]   also makes FOLDER the root filesystem of the image.
set -euo pipefail
cd "$(dirname "$0")/.."

max_bytes=$((20 * 1000 * 1000))

# Paths of the machine that built it are nobody's business, and would differ between builds.
export RUSTFLAGS="--remap-path-prefix=$PWD=/seedbed --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
cargo build --locked --release --bin seedbed
binary=${CARGO_TARGET_DIR:-target}/release/seedbed

bytes=$(stat -c %s "$binary")
echo "release binary: $bytes bytes"
if [ "$bytes" -gt "$max_bytes" ]; then
    echo "release binary: more than $max_bytes bytes" >&2
    exit 1
fi
[ $# -gt 0 ] || exit 0

# The program, the C library that it is linked to (whose resolver reads resolv.conf, hosts and
# nsswitch.conf), the public CAs and nothing else: no shell, no package manager.
out=$1
install -D -m 0755 "$binary" "$out/usr/local/bin/seedbed"
ldd "$binary" | grep -o '/[^ ]*' | while read -r library; do
    install -D -m 0755 "$library" "$out$library"
done
install -D -m 0644 /etc/ssl/certs/ca-certificates.crt "$out/etc/ssl/certs/ca-certificates.crt"
echo 'hosts: files dns' >"$out/etc/nsswitch.conf"
echo 'seedbed:x:65532:65532::/:/sbin/nologin' >"$out/etc/passwd"
echo 'seedbed:x:65532:' >"$out/etc/group"

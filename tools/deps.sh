#!/bin/sh
# deps.sh - installs the Debian packages that zfarm builds with, when any is missing. Root or sudo. Silent when there is nothing to do.
set -eu
packages="gcc libc6-dev cmake ninja-build pkg-config gzip
libzmq3-dev libsodium-dev libprotobuf-c-dev protobuf-c-compiler libsqlite3-dev libpng-dev libjansson-dev
libpcre2-dev libutf8proc-dev libdnnl-dev uthash-dev libcmocka-dev procps $*"

missing=""
for p in $packages; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q '^install ok installed' || missing="$missing $p"
done
[ -z "$missing" ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "deps.sh: this is not Debian or Ubuntu; install the equivalents of:$missing" >&2
    exit 1
fi
as_root=""
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "deps.sh: run as root (or install sudo) to install:$missing" >&2; exit 1; }
    as_root="sudo"
fi
echo "installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086
if ! { $as_root apt-get update -q -o Acquire::Retries=3 && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "deps.sh: apt-get could not install the packages above" >&2
    exit 1
fi

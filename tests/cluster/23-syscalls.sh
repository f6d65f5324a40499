#!/bin/bash
# 23-syscalls.sh BINDIR [ROUNDS [SEED]] - a call of the broker's disk fails: nothing acknowledged is lost, and the next start is clean. tests/chaos/syscalls.c takes
# 5,000 rounds for every call up to 500; here are some of them.
bin=$(cd "${1:?usage: $0 BINDIR [ROUNDS [SEED]]}" && pwd) || exit 2
exec "$bin/syscalls" "$bin" "${2:-25}" "${3:-1}"

#!/bin/bash
# 25-garbled.sh BINDIR [FLIPS [SEED]] - a bit flipped in every message of two peers with good keys: they hear what is wrong, nobody else notices. tests/chaos/garble.c;
# docs/TESTING.md has it with 1,000,000 flips.
bin=$(cd "${1:?usage: $0 BINDIR [FLIPS [SEED]]}" && pwd) || exit 2
exec "$bin/garble" "$bin/zfarm-broker" "${2:-10000}" "${3:-1}"

#!/bin/bash
# The broker is killed and started again under 80 sessions: all are back. tests/chaos/storm.c; docs/TESTING.md has it with 1,256.
bin=$(cd "${1:?usage: $0 BINDIR}" && pwd) || exit 2
exec "$bin/storm" "$bin/zfarm-broker" 60 20

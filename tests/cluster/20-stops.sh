#!/bin/bash
# SIGSTOP of a supervisor, an engine, a client and the broker: the short set of tests/chaos/stops.sh, which docs/TESTING.md has in full.
exec bash "$(dirname "$0")/../chaos/stops.sh" "${1:?usage: $0 BINDIR}"

#!/bin/bash
# kill -9 of broker, workers, engines and clients at random: the short set of tests/chaos/run.sh, which docs/TESTING.md has in full.
exec bash "$(dirname "$0")/../chaos/run.sh" "${1:?usage: $0 BINDIR}" 40

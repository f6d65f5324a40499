#!/bin/bash
# The clock of the broker's machine is set an hour on and back: the short set of tests/chaos/clock.sh.
exec bash "$(dirname "$0")/../chaos/clock.sh" "${1:?usage: $0 BINDIR}"

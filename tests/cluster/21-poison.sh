#!/bin/bash
# A task that kills every engine, among good ones: the short set of tests/chaos/poison.sh, which docs/TESTING.md has in full.
exec bash "$(dirname "$0")/../chaos/poison.sh" "${1:?usage: $0 BINDIR}"

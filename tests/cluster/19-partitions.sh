#!/bin/bash
# A network that breaks: loss one way, interfaces down, a slow and lossy line: the short set of tests/chaos/partitions.sh, which docs/TESTING.md has in full.
exec bash "$(dirname "$0")/../chaos/partitions.sh" "${1:?usage: $0 BINDIR}"

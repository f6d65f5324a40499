#!/bin/sh
# run.sh [BUILD] - the plan's fairness figures (L9, L10, L11): first by simulation, which proves them, then with fake workers on the real broker,
# which shows them. Two minutes. Nothing is judged here: a busy machine shifts the second kind.
set -eu
build=${1:-$(dirname "$0")/../../build}
echo "commit $(git -C "$(dirname "$0")" rev-parse --short HEAD 2>/dev/null || echo unknown), $(nproc) CPUs, load $(cut -d' ' -f1-3 /proc/loadavg)"
f=$(mktemp "${TMPDIR:-/tmp}/zfarm-sync-XXXXXX")
dd if=/dev/zero of="$f" bs=4096 count=200 oflag=dsync 2>&1 | awk '/copied/ { for (i = 1; i <= NF; i++) if ($i == "s,") printf "a synced write of 4 KiB: %.2f ms\n", $(i - 1) * 1000 / 200 }'
rm -f "$f"
echo "simulated:"
"$build/bin/test_broker_fair" | sed -n 's/^L/  L/p'
echo "on the broker, 4 workers of 20 ms an image and more:"
"$build/bin/fair" | sed 's/^/  /'

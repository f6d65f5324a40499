#!/bin/bash
# soak.sh [BIN [MINUTES [RATE]]] - RELIABILITY.md s.6.1 L12: 60 minutes at 300 jobs/s (of one image, 300 ms at one of 64 workers with 4 slots, 2 KiB), by TCP, with a job
# canceled every quarter of a second and a connection begun anew every half; a line each minute. Then the bars: after WARM_MIN (10) minutes the broker's memory grows
# by less than 1 MiB in 10 minutes (least squares), its WAL stays below 256 MiB, its open files flat; nothing lost, doubled or garbled (load's own exit code).
# The programs are copied first: a build beside it does not disturb. Jobs that are over are forgotten at once (--remember 0, --retention 0): else they are what grows.
set -u
bin=$(cd "${1:-build/bin}" && pwd) || exit 2
minutes=${2:-60} rate=${3:-300} warm=${WARM_MIN:-10}
dir=$(mktemp -d "${TMPDIR:-/tmp}/zfarm-soak-XXXXXX") || exit 2
trap 'rm -rf "$dir"' EXIT
cp "$bin/load" "$bin/zfarm-broker" "$dir/" || exit 2
echo "commit $(git -C "$(dirname "$0")" rev-parse --short HEAD 2>/dev/null), $(nproc) CPUs, load before $(cut -d' ' -f1-3 /proc/loadavg)"
TMPDIR=$dir "$dir/load" --tcp --clients 64 --workers 64 --slots 4 --sleep 300 --rate "$rate" --items 1 --open 16 --retention 0 --remember 0 --soak "$minutes" | tee "$dir/table"
rc=${PIPESTATUS[0]}
echo "load after $(cut -d' ' -f1-3 /proc/loadavg)"
[ "$rc" = 0 ] || { echo "FAILED: load ended with $rc"; exit 1; }
awk -v warm="$warm" '
    $1 ~ /^[0-9]+$/ && NF == 10 && $1 > warm { n++; x += $1; y += $7; xx += $1 * $1; xy += $1 * $7; if (!lo || $8 < lo) lo = $8; if ($8 > hi) hi = $8 }
    $1 ~ /^[0-9]+$/ && NF == 10 && $9 > wal { wal = $9 }
    END {
        if (n < 3) { print "too short to judge"; exit 0 }
        slope = 10 * (n * xy - x * y) / (n * xx - x * x)
        printf "memory %+.2f MiB in 10 minutes over %d minutes after the first %d; WAL %.1f MiB at most; files %d to %d\n", slope, n, warm, wal, lo, hi
        exit !(slope < 1 && wal <= 256 && hi - lo <= 16)
    }' "$dir/table" || { echo "FAILED: over the bar"; exit 1; }

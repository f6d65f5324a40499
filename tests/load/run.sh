#!/bin/bash
# run.sh - the plan's load tests (RELIABILITY.md s.6.1) with their conditions, and beanstalkd in the same run. Figures, never a verdict.
#
#   tests/load/run.sh [BIN [TEST...]]      BIN: build/bin; TEST: L1 L2 L3 L3x1 L4 L5 L6 L7 bean (all). TMPDIR chooses the disk.
#   QUICK=1: a tenth of the work
set -u
bin=${1:-build/bin}; shift || true
tests=${*:-L1 L2 L3 L3x1 L4 L5 L6 L7 bean}
n() { if [ -n "${QUICK:-}" ]; then echo $(($1 / 10)); else echo "$1"; fi; }
load() { timeout 1200 "$bin/load" "$@" || echo "  FAILED ($?): load $*"; }

echo "commit $(git -C "$(dirname "$0")" rev-parse --short HEAD 2>/dev/null), $(nproc) CPUs, load before $(cut -d' ' -f1-3 /proc/loadavg)"
"$bin/load" --disk
for t in $tests; do
    echo "$t  (load $(cut -d' ' -f1 /proc/loadavg))"
    case $t in
    L1) load --clients 1 --workers 0 --tasks "$(n 1000000)" --items 100000 --hold ;;
    L2) load --clients 1 --workers 0 --tasks "$(n 5000)" --items 1 --open 1 --hold ;;
    L3) load --clients 64 --workers 64 --slots 16 --tasks "$(n 100000)" ;;
    L3x1) echo "  every image a job of its own:"; load --clients 64 --workers 64 --slots 16 --tasks "$(n 100000)" --items 1 --open 16 ;;
    L4) load --clients 1000 --workers 256 --slots 4 --tasks "$(n 100000)" --items 100 --open 1 --hold ;;
    L5) load --clients 64 --workers 256 --slots 1 --sleep 300 --rate 830 --items 1 --open 16 --tasks "$(n 50000)" ;;
    L6) load --clients 10 --workers 64 --slots 4 --tasks "$(n 1000000)" --items 100000 --open 4 --restart ;;
    L7) load --clients 8 --workers 8 --slots 2 --tasks "$(n 2000)" --items 64 --bytes 2097152 --fetch ;;
    bean)
        command -v beanstalkd > /dev/null || { echo "  no beanstalkd (apt-get install beanstalkd)"; continue; }
        for f in 0 50; do
            d=$(mktemp -d); beanstalkd -l 127.0.0.1 -p 11399 -b "$d" -f $f & pid=$!
            sleep 1
            echo "  beanstalkd -b -f $f ($([ $f = 0 ] && echo "an fsync for every write" || echo "an fsync at most every 50 ms"))"
            "$bin/bench_bean" 11399 "$([ $f = 0 ] && n 10000 || n 50000)" 64 2048
            kill $pid; wait $pid 2>/dev/null; rm -rf "$d"
        done ;;
    *) echo "  there is no test $t" ;;
    esac
done
echo "load after $(cut -d' ' -f1-3 /proc/loadavg)"

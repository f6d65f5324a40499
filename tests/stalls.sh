#!/bin/bash
# stalls.sh BINDIR [SEED [TEST...]] - the C tests of base, proto, broker, worker and client (or TESTs) on a machine that stands still: each twice, stopped
# and continued again and again for 0.3 to 2 s; once all its processes together, as where somebody stole the CPU, once one of them that the dice choose.
# What passes only on a machine that is fast enough, or slow enough, fails here. TMPDIR=/dev/shm makes the disk fast besides. Four run at a time.
set -u
bin=$1
RANDOM=${2:-1}
shift $(($# < 2 ? $# : 2))
if [ $# -eq 0 ]; then
    for t in "$bin"/test_{base,proto,broker,worker,client}_*; do set -- "$@" "${t##*/}"; done
fi
logs=$(mktemp -d)
export CMOCKA_TEST_ABORT=1

nap() { sleep "$(($1 / 1000)).$(printf %03d $(($1 % 1000)))"; }
processes() { mapfile -t some < <(ps -o pid= -s "$1" | tr -d ' '); }

stalled() { # TEST all|one
    local log="$logs/$1.$2" pid rc some
    setsid "$bin/$1" > "$log" 2>&1 &
    pid=$!
    for ((SECONDS = 0; SECONDS < 900; )); do
        nap $((20 + RANDOM % 780))
        kill -0 $pid 2> /dev/null || break
        processes $pid
        [ ${#some[@]} -gt 0 ] || break
        [ "$2" = all ] || some=("${some[RANDOM % ${#some[@]}]}")
        kill -STOP "${some[@]}" 2> /dev/null
        nap $((300 + RANDOM % 1700))
        kill -CONT "${some[@]}" 2> /dev/null
    done
    processes $pid
    [ ${#some[@]} = 0 ] || { echo "too long, or it left something behind" >> "$log"; kill -KILL "${some[@]}" 2> /dev/null; }
    wait $pid; rc=$?
    [ $rc = 0 ] && { echo "ok     $1 $2"; return; }
    echo "FAILED $1 $2 ($rc)"
    grep -vE '^\[ +(RUN|OK) ' "$log" | tail -n 12
}

for t; do
    for how in all one; do
        while [ "$(jobs -rp | wc -l)" -ge 4 ]; do wait -n; done
        seed=$RANDOM
        (RANDOM=$seed; stalled "$t" $how) &
    done
done | tee "$logs/verdict"
n_failed=$(grep -c '^FAILED' "$logs/verdict")
rm -rf "$logs"
[ "$n_failed" = 0 ] || { echo "FAILED: $n_failed"; exit 1; }
echo "ok: nothing here depends on the clock"

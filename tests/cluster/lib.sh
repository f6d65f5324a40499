# lib.sh - what the scenarios share: a folder of their own, real processes that end with them, sentences about what is checked.
#   . "$(dirname "$0")/lib.sh" "$1"
# Sets BIN (the folder of the programs), T (a private folder), EP (an ipc endpoint in it), GOLD (tests/golden/tiny-a), MODEL.
# Believes: nothing is fast or slow. What must happen is waited for (until_true, a minute or more); what must not be over yet is held (hold, below) until the
# script lets it go; what must not happen is looked up afterwards in logs and journals. With ZFARM_TEST_S (ctest sets it) a script that is not over
# by then fails and tells, before ctest ends it without a word.
set -u
export LC_ALL=C
BIN=$(cd "${1:?usage: $0 BINDIR}" && pwd) || exit 2
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
GOLD=$HERE/../golden/tiny-a
MODEL=$GOLD/model
T=$(mktemp -d "${TMPDIR:-/tmp}/zfarm-test-XXXXXX") || exit 2
EP=ipc://$T/sock
export TMPDIR=$T # embedded farms put their folders here: what they leave is seen
export PATH=$BIN:$PATH
unset ZFARM_BROKER ZFARM_MODEL
pids=()
n_checks=0

# end_tree PID: it and all that it began; stopped first, so that nobody begins another one meanwhile
end_tree() {
    kill -STOP "$1"
    local child
    for child in $(cat "/proc/$1/task/"*/children); do end_tree "$child"; done
    kill -9 "$1"
}

# Is PID still a child of this script? Another process may have its number by now.
own_child() {
    local ppid
    read -r _ _ _ ppid _ < "/proc/$1/stat" && [ "$ppid" = $$ ]
}

on_cleanup() { :; } # for what is not a process, nor in $T
failed=""

# What is known when a scenario fails, the most telling last: a record may show the last lines only.
tell_why() {
    local f
    for f in "$T"/*.log; do [ -s "$f" ] && { echo "--- the end of $(basename "$f")"; tail -n 15 "$f" | cut -c1-600; }; done
    if [ -S "$T/sock" ]; then
        echo "--- the farm"
        timeout 20 "$BIN/zfarm" workers --broker "$EP" --timeout 5 2>&1
        timeout 20 "$BIN/zfarm" jobs --broker "$EP" --timeout 5 2>&1
    fi
    echo "--- after ${SECONDS} s, load $(cut -d' ' -f1-3 /proc/loadavg), $n_checks checks before"
    echo "FAILED: ${failed:-a command or a signal ended the script with $1}"
}

cleanup() {
    rc=$?
    trap - EXIT INT TERM
    exec 2> /dev/null # the shell's own words about what it kills
    [ $rc -ne 0 ] && tell_why $rc
    for p in "${pids[@]:-}"; do [ -n "$p" ] && own_child "$p" && end_tree "$p"; done
    wait
    on_cleanup
    mountpoint -q "$T/small" 2>/dev/null && umount "$T/small"
    rm -rf "$T"
    [ $rc -eq 0 ] && echo "ok: $n_checks checks"
    exit $rc
}
trap cleanup EXIT
trap 'failed=${failed:-$(cat "$T/late" 2>/dev/null || echo "ended by a signal")}; exit 1' INT TERM

# Out of time: whatever the script waits for is ended, and so its trap is taken.
if [ -n "${ZFARM_TEST_S:-}" ]; then
    (
        exec > /dev/null 2>&1
        sleep "$ZFARM_TEST_S"
        echo "it is not over after $ZFARM_TEST_S s" > "$T/late"
        kill -TERM $$
        sleep 1
        for p in $(cat "/proc/$$/task/"*/children); do [ "$p" = "$BASHPID" ] || kill -TERM "$p"; done
    ) &
    pids+=($!)
fi

die() { failed=$*; echo "FAILED: $*"; exit 1; }
ok()  { n_checks=$((n_checks + 1)); echo "  $*"; }

# check SENTENCE COMMAND...: the command succeeds
check() {
    local what=$1; shift
    "$@" > "$T/check.out" 2>&1 || { cat "$T/check.out"; die "$what; $* said: $(tail -n 3 "$T/check.out" | cut -c1-300)"; }
    ok "$what"
}

# until_true SECONDS COMMAND...
until_true() {
    local end=$((SECONDS + $1)); shift
    until "$@" > /dev/null 2>&1; do
        [ $SECONDS -ge $end ] && return 1
        sleep 0.1
    done
}

broker_up() { # [DATA]: BROKER is its pid
    zfarm-broker --listen "$EP" --data "${1:-$T/data}" >> "$T/broker.log" 2>&1 &
    BROKER=$!
    pids+=($BROKER)
}

n_workers=0
worker_up() { # OPTIONS...: WORKER is its pid; HAND: another program than zfarm-worker
    n_workers=$((n_workers + 1))
    "${HAND:-zfarm-worker}" --broker "$EP" --model "$MODEL" --threads 1 "$@" >> "$T/worker$n_workers.log" 2>&1 &
    WORKER=$!
    pids+=($WORKER)
}

# hold SEED: from now on, images of SEED and later ones stand still after their first step, at workers that are faulty_worker (HAND), until `hold` of a later
# SEED or let_go. is_held SEED: it stands there now, or did. What is tried for the first time is begun in the order of the job: all before SEED come to their end;
# but what is tried again may have to wait behind one that is held.
export HOLD=$T/hold
hold() { echo "$1" > "$T/hold.new" && mv "$T/hold.new" "$HOLD"; }
let_go() { rm -f "$HOLD"; }
is_held() { [ -e "$HOLD.$1" ]; }

# The programs in a folder of their own, with faulty_worker in the place of zfarm-worker: for `zfarm up` and farms of a command's own, whose workers shall be held.
held_programs() {
    mkdir "$T/bin"
    cp "$BIN/zfarm" "$BIN/zfarm-broker" "$T/bin/" && cp "$BIN/faulty_worker" "$T/bin/zfarm-worker" || die "copying the programs"
}

ready_workers() { zfarm workers --broker "$EP" --json | grep -cE '"state":"(ready|busy)"'; }
workers_are() { [ "$(ready_workers)" -ge "$1" ]; }
wait_workers() { until_true 120 workers_are "$1" || die "$1 workers are not ready within 120 s"; }

# job_field JOB FIELD: a number of `zfarm jobs --json`
job_field() { zfarm jobs --limit 512 --broker "$EP" --json | grep "^{\"job\":$1," | sed -E "s/.*\"$2\":([0-9]+).*/\1/"; }
job_done_at_least() { [ "$(job_field "$1" done)" -ge "$2" ]; }
job_running() { [ "$(job_field "$1" running)" -ge 1 ]; }
n_png() { find "$1" -maxdepth 1 -name '*.png' | wc -l; }
gone() { ! kill -0 "$1" 2>/dev/null; }

# same_images A B: both folders hold the same names with the same bytes
same_images() {
    diff <(cd "$1" && sha256sum -- *.png) <(cd "$2" && sha256sum -- *.png)
}

no_leftovers() { # no temporary folder and no process of an embedded farm
    [ -z "$(find "$T" -maxdepth 1 -name 'zfarm-*' ! -name 'zfarm-test-*')" ] && ! pgrep -f "ipc://$T/zfarm-" > /dev/null
}

prompts() { # N > file: N prompts of different words
    local k
    for ((k = 0; k < $1; k++)); do echo "a white cat number $k sits on the green mat"; done
}

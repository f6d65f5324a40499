# lib.sh - what the scenarios share: a folder of their own, real processes that end with them, sentences about what is checked.
#   . "$(dirname "$0")/lib.sh" "$1"
# Sets BIN (the folder of the programs), T (a private folder), EP (an ipc endpoint in it), GOLD (tests/golden/tiny-a), MODEL.
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

cleanup() {
    rc=$?
    trap - EXIT INT TERM
    exec 2> /dev/null # the shell's own words about what it kills
    for p in "${pids[@]:-}"; do [ -n "$p" ] && end_tree "$p"; done
    wait
    if [ $rc -ne 0 ]; then
        for f in "$T"/*.log; do [ -s "$f" ] && { echo "--- $(basename "$f")"; tail -n 25 "$f"; }; done
    fi
    mountpoint -q "$T/small" 2>/dev/null && umount "$T/small"
    rm -rf "$T"
    [ $rc -eq 0 ] && echo "ok: $n_checks checks"
    exit $rc
}
trap cleanup EXIT
trap 'exit 1' INT TERM

die() { echo "FAILED: $*"; exit 1; }
ok()  { n_checks=$((n_checks + 1)); echo "  $*"; }

# check SENTENCE COMMAND...: the command succeeds
check() {
    local what=$1; shift
    "$@" > "$T/check.out" 2>&1 || { cat "$T/check.out"; die "$what"; }
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
worker_up() { # OPTIONS...: WORKER is its pid
    n_workers=$((n_workers + 1))
    zfarm-worker --broker "$EP" --model "$MODEL" --threads 1 "$@" >> "$T/worker$n_workers.log" 2>&1 &
    WORKER=$!
    pids+=($WORKER)
}

ready_workers() { zfarm workers --broker "$EP" --json | grep -cE '"state":"(ready|busy)"'; }
workers_are() { [ "$(ready_workers)" -ge "$1" ]; }
wait_workers() { until_true 30 workers_are "$1" || die "$1 workers are not ready within 30 s"; }

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

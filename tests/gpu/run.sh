#!/bin/bash
# run.sh - all that must be seen on a machine with GPUs, in one go: tests, memcheck, faults, the bars of the bench, diffusers beside it, the whole farm.
#
#   tests/gpu/run.sh [-o OUT] [-t SECONDS] BIN [STEP...]      STEP: names of the table at the end, or their beginnings (all)
#
# BIN: a folder of built programs. It and tests/ are all that is needed there: no compiler, no cmake.
#   tar cf pack.tar tests -C build bin
# Each step has its own limit and its own log OUT/STEP.log (gpu-run); what does not fit into -t SECONDS is not begun, first things come first. One that fails, hangs
# or is missing stops no other. At the end a table; the exit status is 1 when a test failed. Figures are put beside their bars and judge nothing.
# The steps "diffusers" (a Python with torch and diffusers: PYTHON) and "farm" (a checkpoint of 20 GB, made by zfarm-model synth in TMPDIR, or MODEL) are skipped without them.
set -u
export LC_ALL=C
usage() { sed -n '4s/^# *//p' "$0" >&2; exit 2; }
out=gpu-run all_s=36000
while getopts o:t: o; do case $o in o) out=$OPTARG ;; t) all_s=$OPTARG ;; *) usage ;; esac; done
shift $((OPTIND - 1))
[ $# -ge 1 ] && [ -d "$1" ] || usage
BIN=$(cd "$1" && pwd); shift
TESTS=$(cd "$(dirname "$0")/.." && pwd)
wanted=$*
mkdir -p "$out" || exit 1
OUT=$(cd "$out" && pwd)
T=$(mktemp -d) || exit 1
rows=$OUT/summary.txt n_failed=0
child=
end_child() { # and all it started
    [ -n "$child" ] || return 0
    kill -TERM -- "-$child" 2> /dev/null; sleep 5; kill -KILL -- "-$child" 2> /dev/null
}
trap 'cd /; rm -rf "$T"' EXIT
trap 'echo "interrupted"; end_child; table; exit 1' INT TERM
: > "$rows"
cd "$T" || exit 1

row() { printf '%s\t%s\t%s\t%s\n' "$@" >> "$rows"; } # STEP VERDICT SECONDS WORDS
table() { echo; awk -F '\t' '{ printf "%-26s %-9s %5s s  %s\n", $1, $2, $3, $4 }' "$rows"; }
is_wanted() { # STEP
    [ -n "$wanted" ] || return 0
    local w
    for w in $wanted; do case $1 in "$w"*) return 0 ;; esac; done
    return 1
}

# within SECONDS COMMAND...: in a process group of its own; 124 when it took too long and was ended
within() {
    local end=$((SECONDS + $1)); shift
    set -m; "$@" & child=$!; set +m
    while kill -0 "$child" 2> /dev/null; do
        [ $SECONDS -lt $end ] || { end_child; wait "$child" 2> /dev/null; child=; return 124; }
        sleep 0.2
    done
    wait "$child"; local rc=$?
    child=
    return $rc
}

# step NAME LIMIT_S WORDS COMMAND...: WORDS is a function that finds a sentence for the table in the log
step() {
    local name=$1 limit=$2 words=$3 from=$SECONDS rc log=$OUT/$1.log; shift 3
    is_wanted "$name" || return 0
    if [ $((SECONDS + limit)) -gt "$all_s" ]; then row "$name" "not run" 0 "needs up to $limit s, $((all_s - SECONDS)) are left"; return 0; fi
    echo "== $name (at $SECONDS s, limit $limit)"
    if [ ! -e "${need:-/}" ]; then row "$name" missing 0 "$need"; n_failed=$((n_failed + 1)); return 0; fi
    within "$limit" "$@" > "$log" 2>&1 < /dev/null
    rc=$?
    case $rc in
    0) if grep -qiE '^(skipped:|.*\[ *SKIPPED *\] [0-9]+ test)' "$log"; then verdict=skipped; else verdict=ok; fi ;;
    124) verdict="TIMED OUT" ;;
    *) verdict="FAILED $rc" ;;
    esac
    case $verdict in ok | skipped) ;; *) n_failed=$((n_failed + 1)); tail -n 15 "$log" ;; esac
    row "$name" "$verdict" $((SECONDS - from)) "$($words "$log")"
    tail -n 1 "$rows"
}

# ---- words for the table ----
last_words() { tail -n 1 "$1" | cut -c1-150; }
test_words() { # of cmocka: how many passed, who failed, why skipped
    grep -aoE 'skipped: .*' "$1" | head -n 1
    grep -aE '^\[  (PASSED|FAILED) *\]' "$1" | tr -s ' \n' ' ' | cut -c1-200
}
check_words() { grep -aE 'ERROR SUMMARY|Invalid|leaked' "$1" | sed 's/^=* *//' | sort | uniq -c | sort -rn | head -n 3 | tr -s ' \n' ' '; }
fault_words() { grep -aE '^(skipped:|ok:|FAILED)' "$1" | head -n 1; }
farm_words() { grep -aE 'worker ready|pictures in' "$1" | tr '\n' ' '; }
# A bench's row of the table: medians of some stages beside their bars, and GiB that the engine took. BARS is "STAGE=MS ... memory=GIB"
bench_words() {
    awk -v bars="$BARS" '
        function beside(what, value, unit) { printf "%s %.*f %s (bar %s%s)  ", what, unit == "GiB" ? 2 : 1, value, unit, bar[what], (value > bar[what] + 0) ? ": MISSED" : "" }
        BEGIN { n = split(bars, list, " "); for (i = 1; i <= n; i++) { split(list[i], p, "="); bar[p[1]] = p[2] } }
        ($1 in bar) && $2 ~ /^[0-9]+$/ { beside($1, $3 + 0, "ms") }
        $1 == "memory:" && ("memory" in bar) && match($0, /[0-9.]+ GiB at most/) {
            most = substr($0, RSTART) + 0; before = match($0, /[0-9.]+ of them before/) ? substr($0, RSTART) + 0 : 0
            beside("memory", most - before, "GiB") }' "$1"
}

# ---- where things are ----
# Tests know tests/golden by the path at which they were built: a link stands for it where they run.
goldens() {
    local built; built=$(grep -aoE '/[[:print:]]+/golden/tiny-a/model' "$BIN/test_engine_gpu" 2> /dev/null | head -n 1)
    built=${built%/golden/tiny-a/model}
    [ -z "$built" ] || [ -e "$built/golden/tiny-a/model" ] || { mkdir -p "$(dirname "$built")" && ln -sfn "$TESTS" "$built" && echo "$built -> $TESTS"; }
}
export PATH=$BIN:$PATH
memcheck=$(command -v compute-sanitizer || find /usr/local/cuda*/ /opt -name compute-sanitizer -type f -perm -u+x 2> /dev/null | head -n 1)
python=${PYTHON:-$(command -v python3 || true)}
if ! ldconfig -p 2> /dev/null | grep -q 'libcudnn\.so'; then # wheels bring it, too
    dnn=$(find /usr/local /opt /usr/lib "$HOME" -name 'libcudnn.so.9' 2> /dev/null | head -n 1)
    [ -z "$dnn" ] || export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$(dirname "$dnn")
fi

machine() {
    nvidia-smi --query-gpu=index,name,driver_version,memory.used,memory.total,power.limit,clocks.sm,temperature.gpu --format=csv,noheader || return 1
    nproc; free -g | sed -n 2p; df -h "${TMPDIR:-/tmp}" | tail -n 1
    ldconfig -p | grep -E 'libcublasLt|libcudnn\.so|libnccl' || true
    echo "memcheck: ${memcheck:-none}; python: ${python:-none}; LD_LIBRARY_PATH: ${LD_LIBRARY_PATH:-}"
    for p in zfarm zfarm-broker zfarm-worker zfarm-bench zfarm-model; do ldd "$BIN/$p" | grep 'not found' && return 1; done
    goldens
}
machine_words() { grep -a -m 1 MiB "$1"; }
# PROGRAM: under memcheck; one process after the other. It would count a call of CUDA that fails as an error, too: tests let allocations fail on purpose, and ours look
# at every status themselves.
check_of() {
    [ -n "$memcheck" ] || { echo "skipped: there is no compute-sanitizer"; return 0; }
    "$memcheck" --tool memcheck --report-api-errors no --error-exitcode 9 "$BIN/$1" "${@:2}"
}
bench() { "$BIN/zfarm-bench" --device cuda:0 "$@"; }
diffusers() {
    [ -n "$python" ] && "$python" -c 'import torch, diffusers, transformers; assert torch.cuda.is_available()' || { echo "skipped: no Python with torch, diffusers, transformers and a GPU"; return 0; }
    bench --repeats 8 | tee ours.txt || return 1
    HF_HUB_OFFLINE=1 "$python" "$TESTS/bench/peer_diffusers.py" --repeats 8 | tee peer.txt || return 1
    awk 'FNR == NR { if ($1 == "image") ours = $3; next } match($0, /"image_ms": [0-9.]+/) { peer = substr($0, RSTART + 12, RLENGTH - 12) }
         END { if (!ours || !peer) exit 1; printf "image: ours %.1f ms, diffusers %.1f: %.3f of it (bar 0.75%s)\n", ours, peer, ours / peer, ours / peer > 0.75 ? ": MISSED" : "" }' ours.txt peer.txt
}
# The checkpoint of 20 GB is made once for all that needs it.
checkpoint() {
    local room
    [ -z "${MODEL:-}" ] || return 0
    [ ! -d "$T/turbo" ] || return 0
    room=$(df -Pk "$T" | awk 'NR == 2 { print int($4 / 1048576) }')
    [ "$room" -ge 24 ] || { echo "skipped: a checkpoint of 20 GB needs 24 GiB in ${TMPDIR:-/tmp}, $room are free; or MODEL=DIR"; return 9; }
    "$BIN/zfarm-model" synth -q -c turbo -o "$T/turbo" || return 1
}
farm() { # WxH PICTURES
    checkpoint; local rc=$?
    [ $rc != 9 ] || return 0
    [ $rc = 0 ] && bash "$TESTS/bench/farm_rate.sh" "$BIN" "${MODEL:-$T/turbo}" cuda:0 "$1" 8 "$2"
}
velocity() {
    [ -n "$python" ] && "$python" -c 'import torch, diffusers, numpy' || { echo "skipped: no Python with torch and diffusers"; return 0; }
    checkpoint; local rc=$?
    [ $rc != 9 ] || return 0
    [ $rc = 0 ] && "$python" "$TESTS/golden/velocity.py" --bin "$BIN" --model "${MODEL:-$T/turbo}" --device cuda
}
split() { # needs two GPUs; without room for the checkpoint there are no figures
    checkpoint > checkpoint.txt; local rc=$?
    [ $rc != 1 ] && bash "$TESTS/gpu/split.sh" "$BIN" ${MODEL:-$([ $rc = 0 ] && echo "$T/turbo")}
}
devices() { # words for a device, and what they answer: right ones paint, a wrong one says so
    local d m=$TESTS/golden/tiny-a/model
    for d in auto cuda:0 cuda:all; do "$BIN/zfarm" generate -p "a cat" -s 5 -W 64 -H 64 --steps 4 --model "$m" --device $d -o "$d.png" || return 1; done
    cmp auto.png cuda:0.png && cmp auto.png cuda:all.png || return 1
    ! "$BIN/zfarm" generate -p "a cat" -W 64 -H 64 --model "$m" --device cuda:99 -o no.png || return 1
    echo "auto, cuda:0 and cuda:all: the same bytes; cuda:99 is refused"
}

# ---- the steps, what matters most first ----
step machine 60 machine_words machine
is_wanted machine || goldens
for t in kernels_cuda kernels_cuda_products kernels_cuda_joined kernels_cuda_quant engine_gpu engine_vae engine_fit; do
    need=$BIN/test_$t step "test_$t" 120 test_words "$BIN/test_$t"
done
BARS="text=6 pass=86 decode=28 image=730 memory=21.5" step bench-1024 90 bench_words bench --repeats 20
step diffusers 180 last_words diffusers
BARS="image=215" step bench-512 60 bench_words bench --size 512x512 --repeats 20
BARS="image=1950" step bench-2048x1152 90 bench_words bench --size 2048x1152 --repeats 6
BARS="image=818 memory=12" step bench-q8_0-12GiB 60 bench_words bench --kind q8_0 --vram-budget 12 --repeats 8
BARS="image=818 memory=6" step bench-q4_k-6GiB 60 bench_words bench --kind q4_k --vram-budget 6 --repeats 8
step ab-q8_0 90 last_words bench --ab "--kind bf16" --ab "--kind q8_0" --repeats 5
step faults 180 fault_words bash "$TESTS/cluster/24-faults.sh" "$BIN" cuda:0
step devices 60 last_words devices
for t in kernels_cuda kernels_cuda_quant kernels_cuda_joined kernels_cuda_products engine_gpu engine_fit engine_vae; do
    step "memcheck-$t" 180 check_words check_of "test_$t"
done
step farm-1024 180 farm_words farm 1024x1024 24
step farm-512 120 farm_words farm 512x512 48
need=$BIN/test_kernels_link_cuda step test_kernels_link_cuda 180 test_words "$BIN/test_kernels_link_cuda" # with two GPUs: NCCL
step split 900 last_words split
step velocity 300 last_words velocity
need=$BIN/bench_soak step soak 120 last_words "$BIN/bench_soak" "$TESTS/golden/tiny-a/model" cuda:0 1000

table
[ $n_failed = 0 ]

#!/bin/bash
# split.sh - text encoder, transformer and VAE on two GPUs: everything that a machine with two GPUs can say of issue "split", in one go.
#
#   tests/gpu/split.sh BIN [MODEL]        about 10 minutes; SECONDS_KILLS=120 N=24 SIZE=1024x1024 change the figures
#
# BIN: a folder of built programs (with CUDA). MODEL: a checkpoint of the real size in the diffusers layout; without one zfarm-model synth makes it
# (20 GB in TMPDIR). Judged, for the exit status: parcels between the devices, bytes equal to one device's, every picture once while the engine is
# killed and made to fail. Printed beside their bars, and not judged: rates, overhead for each picture, memory of each card against its plan.
set -u
export LC_ALL=C
BIN=$(cd "${1:?usage: $0 BIN [MODEL]}" && pwd) MODEL=${2:-}
TESTS=$(cd "$(dirname "$0")/.." && pwd) TINY=$TESTS/golden/tiny-a/model
SIZE=${SIZE:-1024x1024} N=${N:-24} KILLS_S=${SECONDS_KILLS:-120}
T=$(mktemp -d) EP=ipc://$T/sock pids=() n_failed=0
export PATH=$BIN:$PATH
cleanup() { for p in "${pids[@]:-}"; do [ -n "$p" ] && kill -9 "$p" 2> /dev/null; done; wait 2> /dev/null; rm -rf "$T"; }
trap cleanup EXIT
bad() { echo "FAILED: $*"; n_failed=$((n_failed + 1)); }
D0=${D0:-cuda:0} D1=${D1:-cuda:1} # D0=cpu D1=cpu: tries this script where no GPU is, without figures
n_gpus=$(nvidia-smi -L 2> /dev/null | grep -c '^GPU')
[ "$n_gpus" -ge 2 ] || [ $D0 = cpu ] || { echo "skipped: $n_gpus GPUs here, two are needed"; exit 0; }
nvidia-smi --query-gpu=index,name,memory.used,memory.total --format=csv,noheader 2> /dev/null
nvidia-smi topo -m 2> /dev/null | head -n 4

# ---- the farm ----
is_ready() { zfarm workers --broker "$EP" --json 2> /dev/null | grep "\"worker\":\"$1\"" | grep -qE '"state":"(ready|busy)"'; }
worker_up() { # NAME WORKER MODEL ARGS...: WORKER_PID
    local name=$1 program=$2 model=$3; shift 3
    "$program" --broker "$EP" --name "$name" --model "m=$model" "$@" >> "$T/worker.log" 2>&1 & pids+=($!); WORKER_PID=$!
    until is_ready "$name"; do
        kill -0 "$WORKER_PID" 2> /dev/null || { tail -n 5 "$T/worker.log"; return 1; }
        sleep 0.2
    done
}
farm_up() { # WORKER MODEL ARGS...: a broker and one worker
    rm -rf "$T/data" "$T/worker.log"
    zfarm-broker --listen "$EP" --data "$T/data" > "$T/broker.log" 2>&1 & pids+=($!); BROKER_PID=$!
    worker_up first "$@"
}
farm_down() { kill "$WORKER_PID" 2> /dev/null; wait "$WORKER_PID" 2> /dev/null; kill "$BROKER_PID" 2> /dev/null; wait "$BROKER_PID" 2> /dev/null; pids=(); }
prompts() { for ((k = 0; k < $1; k++)); do printf 'picture %06d of a farm that is measured, a red barn under a wide blue sky with clouds, evening light, and a dog\n' $((k + $2)); done; }
batch() { # FILE DIR SIZE STEPS
    zfarm batch "$1" -o "$2" -W "${3%x*}" -H "${3#*x}" --steps "$4" -s 1 --model m --broker "$EP" > "$T/batch.log" 2>&1 || { tail -n 5 "$T/batch.log"; return 1; }
}
sums() { (cd "$1" && sha256sum -- *.png); }
used_mib() { nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -i "$1" | tr -d ' '; }

# ---- parcels ----
"$BIN/test_kernels_link_cuda" > "$T/link.log" 2>&1 || bad "test_kernels_link_cuda"
grep -vE '^\[ *(RUN|=)' "$T/link.log"
[ $D0 = cpu ] || grep -q 'over NCCL' "$T/link.log" || bad "no transfer went over NCCL"

# ---- bytes: a small model, every placement ----
prompts 8 0 > "$T/eight.txt"
places=("text=$D0 image=$D1" "text=$D0 image=$D1 vae=$D0" "text=$D1 image=$D0" "text=cpu image=$D0,$D1" "text=$D0 image=$D1 vae=cpu")
place_args() { local w; for w in $1; do printf -- '--place %s ' "$w"; done; }
same_bytes() { # MODEL SIZE STEPS PLACE...: those of one GPU
    local model=$1 size=$2 steps=$3 k=0 p; shift 3
    farm_up zfarm-worker "$model" --device $D0 && batch "$T/eight.txt" "$T/one" "$size" "$steps" || { bad "one device"; farm_down; return; }
    farm_down
    for p in "$@"; do
        k=$((k + 1)); rm -rf "$T/split"
        # shellcheck disable=SC2046
        farm_up zfarm-worker "$model" $(place_args "$p") && batch "$T/eight.txt" "$T/split" "$size" "$steps" || { bad "$p"; farm_down; continue; }
        grep -o 'event=link .*' "$T/worker.log" | head -n 1
        if diff -q <(sums "$T/one") <(sums "$T/split") > /dev/null; then echo "same bytes: $p"
        elif [[ $p == *cpu* ]]; then echo "other bytes, as ranks of two classes may: $p"
        else bad "other bytes: $p"; fi
        farm_down
    done
    rm -rf "$T/one"
}
same_bytes "$TINY" 256x256 4 "${places[@]}"

# ---- kills and faults: every picture once ----
kills() { # LASTS_S: about so long
    local job n=200 k=0 end=$((SECONDS + 10 * $1)) split
    prompts $n 1000 > "$T/many.txt"
    mkdir -p "$T/faults"
    # shellcheck disable=SC2207
    split=($(place_args "text=$D0 image=$D1 vae=$D0"))
    export FAULTS=$T/faults SLOW_MS=$((1000 * $1 / n))
    farm_up faulty_worker "$TINY" "${split[@]}" || { bad "kills: no worker"; return; }
    rm -rf "$T/many"
    batch "$T/many.txt" "$T/many" 128x128 4 & job=$!
    while sleep 20; kill -0 $job 2> /dev/null && [ $SECONDS -lt $end ]; do
        k=$((k + 1))
        echo "killed at $SECONDS s: $(find "$T/many" -name '*.png' 2> /dev/null | wc -l) pictures"
        if [ $((k % 3)) != 0 ]; then pkill -9 -P "$WORKER_PID"; continue; fi
        kill -9 "$WORKER_PID" # a name whose engine starts three times in ten minutes is quarantined: the next one has another
        worker_up "next$k" faulty_worker "$TINY" "${split[@]}" || bad "kills: no worker $k"
    done
    wait $job || bad "kills: the client"
    [ "$(find "$T/many" -name '*.png' | wc -l)" = $n ] || bad "kills: not $n pictures"
    kill -9 "$WORKER_PID"
    worker_up last faulty_worker "$TINY" "${split[@]}" || bad "faults: no worker"
    for seed in 66601 66602 66603; do # a bad address, a hang, a NaN: once each, then the picture comes
        zfarm generate -p "a cat" -s $seed -W 64 -H 64 --steps 4 --model m --broker "$EP" -o "$T/fault$seed.png" > "$T/fault.log" 2>&1 || { tail -n 3 "$T/fault.log"; bad "fault $seed"; }
    done
    unset FAULTS SLOW_MS
    farm_down
    farm_up zfarm-worker "$TINY" --device $D0 && rm -rf "$T/calm" && batch "$T/many.txt" "$T/calm" 128x128 4
    farm_down
    diff -q <(sums "$T/many") <(sums "$T/calm") > /dev/null && echo "200 pictures through kills: each once, the same bytes" || bad "kills: other bytes"
}
kills "$KILLS_S"

# ---- figures ----
[ $D0 != cpu ] || { [ $n_failed = 0 ] && echo "split: ok on the CPU"; exit; }
if [ -z "$MODEL" ]; then
    [ "$(df -Pk "$T" | awk 'NR == 2 { print int($4 / 1048576) }')" -ge 24 ] || { echo "no figures: a checkpoint of 20 GB needs 24 GiB in TMPDIR, or MODEL"; [ $n_failed = 0 ]; exit; }
    zfarm-model synth -q -c turbo -o "$T/turbo" || exit 1
    MODEL=$T/turbo
fi
figures() { # NAME ARGS...: images/s, mean ms of the stages, memory of both cards against the plan
    local name=$1 watch k; shift
    local before=("$(used_mib 0)" "$(used_mib 1)")
    farm_up zfarm-worker "$MODEL" "$@" || { bad "$name"; return; }
    prompts 4 900000 > "$T/warm.txt"; prompts "$N" 0 > "$T/all.txt"; rm -rf "$T/warm" "$T/out"
    batch "$T/warm.txt" "$T/warm" "$SIZE" 8 || bad "$name"
    while sleep 0.3; do echo "$(used_mib 0) $(used_mib 1)"; done > "$T/used" & watch=$!
    batch "$T/all.txt" "$T/out" "$SIZE" 8 || bad "$name"
    kill $watch; wait $watch 2> /dev/null
    find "$T/out" -name '*.png' -printf '%T@\n' | sort -n | awk -v name="$name" 'NR == 1 { f = $1 } { l = $1 } END { printf "%s %.4f images/s\n", name, (NR - 1) / (l - f) }' | tee -a "$T/rates"
    tail -n "$N" <(grep event=task_done "$T/worker.log") | awk '{ n++; for (i = 1; i <= NF; i++) { split($i, a, "="); s[a[1]] += a[2] } }
        END { printf "  mean of %d: took %.1f text %.1f denoise %.1f decode %.1f ms\n", n, s["took_ms"]/n, s["text_ms"]/n, s["denoise_ms"]/n, s["decode_ms"]/n }'
    for k in 0 1; do
        awk -v k=$k -v before="${before[$k]}" -v plan="$(grep -o "device=cuda:$k plan=\"[0-9.]*" "$T/worker.log" | tail -n 1 | grep -o '[0-9.]*$')" '{ if ($(k + 1) > most) most = $(k + 1) }
            END { got = (most - before) / 1024; if (plan) printf "  cuda:%d %.2f GiB taken, planned %.2f: %.1f %% (a context of some 0.5 GiB included)\n", k, got, plan, 100 * got / plan }' "$T/used"
    done
    zfarm workers --broker "$EP" | tail -n 6
    farm_down
    [ "$name" != host ] || return 0 # a text encoder of another class: other bytes are right
    if [ -d "$T/ref" ]; then diff -q <(sums "$T/ref") <(sums "$T/out") > /dev/null || bad "$name: other bytes than one device's"; else mv "$T/out" "$T/ref"; fi
}
: > "$T/rates"
figures one --device cuda:0
figures split --place text=cuda:0 --place image=cuda:1
figures split-vae --place text=cuda:0 --place image=cuda:1 --place vae=cuda:0
figures host --place text=cpu --place image=cuda:0
awk '{ r[$1] = $2 } END { printf "split %.1f %% of one GPU (bar 100), with the VAE on the text card %.1f %% (bar 102), text on the CPU %.1f %%\n", 100 * r["split"] / r["one"], 100 * r["split-vae"] / r["one"], 100 * r["host"] / r["one"] }' "$T/rates"
zfarm-worker --broker "$EP" --model "m=$MODEL" --place auto --plan 2>&1 | tail -n 8
[ $n_failed = 0 ] && echo "split: ok"

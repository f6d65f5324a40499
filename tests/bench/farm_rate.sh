#!/bin/bash
# farm_rate.sh BIN MODEL [DEVICE [WxH [STEPS [N]]]] - a whole farm (broker, one worker, client, PNGs on disk) beside zfarm-bench on the same shapes.
# MODEL: a checkpoint in the diffusers layout (zfarm-model synth makes one). Prints images per second of both and their ratio; judges nothing.
set -u
export LC_ALL=C
BIN=$(cd "${1:?usage: $0 BIN MODEL [DEVICE [WxH [STEPS [N]]]]}" && pwd)
MODEL=$(cd "${2:?MODEL is missing}" && pwd) DEVICE=${3:-auto} SIZE=${4:-1024x1024} STEPS=${5:-8} N=${6:-24}
T=$(mktemp -d) EP=ipc://$T/sock pids=()
cleanup() { for p in "${pids[@]}"; do kill "$p" 2> /dev/null; done; wait 2> /dev/null; rm -rf "$T"; }
trap cleanup EXIT

# N prompts of equal length: each is encoded, none is in a cache
prompts() { for ((k = 0; k < $1; k++)); do printf 'picture %06d of a farm that is measured, a red barn under a wide blue sky with clouds, evening light, and a dog\n' $((k + $2)); done; }
prompts 1 0 > "$T/one.txt"
tokens=$("$BIN/zfarm-model" tokenize -t "$MODEL" --chat "$(cat "$T/one.txt")" | tr ',' '\n' | wc -l)

"$BIN/zfarm-bench" --config "$MODEL" --device "$DEVICE" --size "$SIZE" --steps "$STEPS" --prompt-tokens "$tokens" --repeats 8 > "$T/bench.txt" || exit 1
wall_ms=$(awk '$1 == "wall" { print $3 }' "$T/bench.txt")
grep -E 'text|caption|pass|decode|image|wall' "$T/bench.txt"

"$BIN/zfarm-broker" --listen "$EP" --data "$T/data" 2> "$T/broker.log" & pids+=($!)
began=$(date +%s%N)
"$BIN/zfarm-worker" --broker "$EP" --model "m=$MODEL" --device "$DEVICE" 2> "$T/worker.log" & pids+=($!)
until "$BIN/zfarm" workers --broker "$EP" --json 2> /dev/null | grep -q '"state":"ready"'; do
    kill -0 "${pids[1]}" 2> /dev/null || { tail -5 "$T/worker.log"; exit 1; }
    sleep 0.1
done
echo "worker ready after $(( ($(date +%s%N) - began) / 1000000 )) ms"
batch() { # FILE DIR
    "$BIN/zfarm" batch "$1" -o "$2" -W "${SIZE%x*}" -H "${SIZE#*x}" --steps "$STEPS" -s 1 --model m --broker "$EP" > /dev/null 2> "$T/batch.log" || { tail -5 "$T/batch.log"; exit 1; }
}
prompts 4 900000 > "$T/warm.txt"
batch "$T/warm.txt" "$T/warm"
prompts "$N" 0 > "$T/all.txt"
began=$(date +%s%N)
batch "$T/all.txt" "$T/out"
took_ms=$(( ($(date +%s%N) - began) / 1000000 ))
find "$T/out" -name '*.png' -printf '%T@\n' | sort -n > "$T/times"
awk -v wall="$wall_ms" -v n="$N" -v took="$took_ms" 'NR == 1 { first = $1 } { last = $1; k++ } END {
    rate = (k - 1) / (last - first); bench = 1000 / wall
    printf "%d of %d pictures in %d ms; between the first and the last file %.4f images/s, bench %.4f images/s: %.1f %%\n", k, n, took, rate, bench, 100 * rate / bench }' "$T/times"
awk '/event=task_done/ { n++; for (i = 1; i <= NF; i++) { split($i, a, "="); sum[a[1]] += a[2] } } END {
    if (n) printf "worker, mean of %d: took %.0f text %.0f denoise %.0f decode %.0f ms, %.0f bytes\n", n, sum["took_ms"]/n, sum["text_ms"]/n, sum["denoise_ms"]/n, sum["decode_ms"]/n, sum["bytes"]/n }' "$T/worker.log"

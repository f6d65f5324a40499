#!/bin/bash
# 23-split.sh BIN - one model over several devices (CPU ranks): the same PNG bytes as on one, shown with their load; killed and hung, all images arrive once.
. "$(dirname "$0")/lib.sh" "$1"

SPLIT="--place text=cpu --place image=cpu,cpu --place vae=cpu"
prompts 12 > "$T/prompts.txt"
batch() { zfarm batch "$T/prompts.txt" -o "$1" -W 64 -H 64 --steps 4 -s "$2" --broker "$EP"; }
engine_of() { pgrep -P "$1" | head -1; }
end() { kill "$1"; until_true 120 gone "$1" || die "a process does not end"; }

# the plan, without a broker and without loading
zfarm-worker --plan --model "$MODEL" $SPLIT > "$T/plan" || die "--plan"
check "the plan begins with the placement" grep -qx "text=cpu image=cpu,cpu vae=cpu" "$T/plan"
check "and has a line for each rank" test "$(grep -c 'GiB of' "$T/plan")" = 3
zfarm-worker --plan --model "$MODEL" --place text=cuda:98 --place image=cpu > "$T/plan" 2> "$T/e" && die "a plan on a GPU that is not there"
check "a device that is not there is named" grep -q 'cuda:98' "$T/e"

# the same bytes
broker_up
worker_up; one=$WORKER
wait_workers 1
check "a batch on one device" batch "$T/one" 5
end "$one"
worker_up $SPLIT --name group; group=$WORKER
wait_workers 1
check "the same batch on a group" batch "$T/split" 5
check "the same bytes" same_images "$T/one" "$T/split"

# the group is shown: ranks with parts, memory and load
zfarm workers --broker "$EP" --json > "$T/workers"
for parts in text+vae image; do check "rank $parts in --json" grep -q "\"device\":\"cpu\",\"parts\":\"$parts\"" "$T/workers"; done
loaded() { zfarm workers --broker "$EP" --json | grep -qE '"total_bytes":[1-9]'; }
until_true 60 loaded || die "the ranks never tell their memory"
zfarm workers --broker "$EP" > "$T/workers"
check "and in the table" test "$(grep -cE '^  rank [012] ' "$T/workers")" = 3
end "$group"

# guidance, latents and a size of its own take the same way
worker_up; one=$WORKER
wait_workers 1
cfg() { zfarm generate -p "a red house" --negative-prompt "rain" -g 4 -W 96 -H 48 --steps 3 -s 9 --broker "$EP" -o "$1.png" --latents-out "$1.safetensors"; }
check "guidance on one device" cfg "$T/cfg-one"
end "$one"
worker_up $SPLIT; group=$WORKER
wait_workers 1
check "guidance on a group" cfg "$T/cfg-split"
check "the same picture" cmp "$T/cfg-one.png" "$T/cfg-split.png"
check "the same latents" cmp "$T/cfg-one.safetensors" "$T/cfg-split.safetensors"
end "$group"

# killed in mid-flight, again and again: every image arrives once, with the same bytes
hold 8 # seeds 5 to 16
faulty_worker --broker "$EP" --model "$MODEL" --threads 1 $SPLIT >> "$T/killed.log" 2>&1 &
group=$!; pids+=($group)
wait_workers 1
batch "$T/killed" 5 > "$T/batch.log" 2>&1 &
job=$!
killed=0
for seed in 8 11; do # a third start in ten minutes would put it into quarantine
    in_mid_flight() { is_held $seed || is_held $((seed + 1)); }
    until_true 120 in_mid_flight || die "nothing is in the middle of its way"
    before=$(engine_of "$group")
    kill -9 "$before" && killed=$((killed + 1))
    hold 11
done
let_go
wait "$job" || { cat "$T/batch.log"; die "the batch over a killed engine"; }
check "the engine was killed twice" test "$killed" = 2
check "all images, each once" test "$(n_png "$T/killed")" = 12
check "with the same bytes" same_images "$T/one" "$T/killed"
end "$group"

# a rank that hangs: noticed, the group starts again, the image is made
export FAULTS=$T/faults
mkdir "$FAULTS"
PATIENCE_MS=10000 faulty_worker --broker "$EP" --model "$MODEL" --threads 1 $SPLIT >> "$T/hung.log" 2>&1 &
group=$!; pids+=($group)
wait_workers 1
check "the image of a hang is made after it" zfarm generate -p "a cat" -s 66602 -W 64 -H 64 --steps 2 --broker "$EP" -o "$T/hang.png"
check "the hang happened" test -e "$FAULTS/66602"
check "and was noticed" grep -qE 'engine_stuck.*did not move' "$T/hung.log"
end "$group"

# what is no placement is refused before anything starts
refused() {
    local words=$1
    shift
    "$@" > "$T/o" 2> "$T/e"
    check "$* is refused" test $? = 2
    grep -q -- "$words" "$T/e" || die "$* said $(cat "$T/e")"
}
refused 'needs a device for the transformer' zfarm-worker --broker "$EP" --model "$MODEL" --place text=cpu
refused 'places no part' zfarm-worker --broker "$EP" --model "$MODEL" --place unet=cpu
refused '--device goes without --place' zfarm-worker --broker "$EP" --model "$MODEL" --place text=cpu --place image=cpu --device cpu
refused 'auto goes without' zfarm-worker --broker "$EP" --model "$MODEL" --place auto --place text=cpu
refused '--place goes without --device' zfarm generate -p x --model "$MODEL" --place text=cpu --device cpu -o "$T/x.png"

# an embedded farm with a placement leaves nothing behind
check "generate --place" zfarm generate -p "a red house" --negative-prompt "rain" -g 4 -W 96 -H 48 --steps 3 -s 9 --model "$MODEL" $SPLIT -o "$T/own.png"
check "the same picture" cmp "$T/cfg-one.png" "$T/own.png"
until_true 60 no_leftovers || die "it left something"

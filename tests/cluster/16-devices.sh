#!/bin/bash
# 16-devices.sh BIN - one worker per device from one command: both work, drain together, come back when killed, end with their foreman.
. "$(dirname "$0")/lib.sh" "$1"

# two CPU engines stand for two GPUs
broker_up
worker_up --device cpu,cpu --name box
wait_workers 2
zfarm workers --broker "$EP" --json > "$T/workers"
check "both are shown, each under its name" test "$(grep -o '"worker":"box/[01]"' "$T/workers" | sort | tr '\n' ' ')" = '"worker":"box/0" "worker":"box/1" '
prompts 8 > "$T/prompts.txt"
zfarm batch "$T/prompts.txt" -o "$T/out" -W 64 -H 64 --steps 3 -s 5 --broker "$EP" 2> "$T/batch.log" || die "batch"
check "8 pictures" test "$(n_png "$T/out")" = 8

# a supervisor that is killed is started again, under its name
children() { pgrep -P "$WORKER"; }
before=$(children | head -1)
kill -9 "$before"
other() { workers_are 2 && [ "$(children | wc -l)" = 2 ] && ! children | grep -qx "$before"; }
until_true 120 other || die "the killed worker did not come back"
ok "a killed worker comes back"
zfarm generate -p "again" -o "$T/again.png" -W 64 -H 64 --steps 2 -s 1 --broker "$EP" > /dev/null 2>&1 || die "a picture after it"

# one signal drains all of them
kill -TERM "$WORKER"
until_true 120 gone "$WORKER" || die "it does not drain"
wait "$WORKER"
check "drained: status 0" test $? = 0

# kill -9 of the foreman ends everything under it
worker_up --device cpu,cpu
wait_workers 2
kids=$(children)
engines=$(for k in $kids; do pgrep -P "$k"; done)
check "two engines" test "$(wc -w <<< "$engines")" = 2
kill -9 "$WORKER"
for p in $kids $engines; do until_true 120 gone "$p" || die "process $p outlived the foreman"; done
ok "nothing outlives it"

# an embedded farm of several devices leaves nothing behind
zfarm generate -p "two devices" --model "$MODEL" --device cpu,cpu -o "$T/two.png" -W 64 -H 64 --steps 2 -s 1 > "$T/two.log" 2>&1 || { cat "$T/two.log"; die "generate --device cpu,cpu"; }
until_true 60 no_leftovers || die "it left something"
ok "generate --device cpu,cpu"

# refused CODE WORDS COMMAND...
refused() {
    local code=$1 words=$2
    shift 2
    "$@" > "$T/o" 2> "$T/e"
    check "$* is refused" test $? = "$code"
    grep -q -- "$words" "$T/e" || die "$* said $(cat "$T/e")"
}
refused 2 'there is no device "gpu"' zfarm-worker --broker "$EP" --model "$MODEL" --device gpu
refused 2 'cuda:1 is named twice' zfarm-worker --broker "$EP" --model "$MODEL" --device cuda:1,cuda:1
refused 1 'cuda:99: ' zfarm-worker --broker "$EP" --model "$MODEL" --device cuda:99
refused 1 'of 2 workers failed' zfarm-worker --broker "$EP" --model "$MODEL" --device cuda:98,cuda:99
refused 1 'cuda:99: ' zfarm generate -p x --model "$MODEL" --device cuda:99 -o "$T/x.png"

#!/bin/bash
# A worker is killed in the middle of a task, first its engine, then all of it: every image is made, once, and right.
. "$(dirname "$0")/lib.sh" "${1:-}"

prompts 8 > "$T/prompts.txt"
options=(-W 256 -H 256 --steps 20 -s 5)
zfarm batch "$T/prompts.txt" -o "$T/calm" "${options[@]}" --model "$MODEL" --threads 2 2> "$T/calm.log" || die "the calm run"

broker_up
worker_up; first=$WORKER
wait_workers 1
zfarm batch "$T/prompts.txt" -o "$T/out" "${options[@]}" --broker "$EP" 2> "$T/batch.log" & batch=$!
pids+=($batch)
until_true 20 job_running 1 || die "nothing runs"
engine=$(pgrep -P $first | head -1)
[ -n "$engine" ] || die "the worker has no engine process"
kill -9 "$engine"
ok "the engine process is killed in the middle of a task"
before=$(job_field 1 done)
check "its worker starts another, and goes on" until_true 30 job_done_at_least 1 $((before + 1))
check "the worker is the same process" kill -0 $first

until_true 20 job_running 1 || die "nothing runs any more"
engine=$(pgrep -P $first | head -1)
kill -9 $first
ok "the worker is killed in the middle of a task"
check "its engine ends with it" until_true 5 gone "$engine"
worker_up
wait $batch || die "the batch failed"
ok "the batch ends well on another worker"
check "every image is there" test "$(n_png "$T/out")" = 8
check "and byte for byte what a calm run makes" same_images "$T/calm" "$T/out"

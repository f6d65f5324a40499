#!/bin/bash
# A worker is killed in the middle of a task, first its engine, then all of it: every image is made, once, and right.
. "$(dirname "$0")/lib.sh" "${1:-}"

prompts 8 > "$T/prompts.txt"
options=(-W 128 -H 128 --steps 6 -s 5) # seeds 5 to 12
zfarm batch "$T/prompts.txt" -o "$T/calm" "${options[@]}" --model "$MODEL" --threads 2 2> "$T/calm.log" || die "the calm run"

HAND=faulty_worker
hold 6
broker_up
worker_up; first=$WORKER
wait_workers 1
zfarm batch "$T/prompts.txt" -o "$T/out" "${options[@]}" --broker "$EP" 2> "$T/batch.log" & batch=$!
pids+=($batch)
until_true 60 is_held 6 || die "the second image does not begin"
engine=$(pgrep -P $first | head -1)
[ -n "$engine" ] || die "the worker has no engine process"
kill -9 "$engine"
ok "the engine process is killed in the middle of a task"
hold 9
check "its worker starts another, and goes on" until_true 120 job_done_at_least 1 3
check "the worker is the same process" kill -0 $first

until_true 60 is_held 9 || die "nothing runs any more"
engine=$(pgrep -P $first | head -1)
kill -9 $first
ok "the worker is killed in the middle of a task"
check "its engine ends with it" until_true 60 gone "$engine"
let_go
worker_up
wait $batch || die "the batch failed"
ok "the batch ends well on another worker"
check "every image is there" test "$(n_png "$T/out")" = 8
check "and byte for byte what a calm run makes" same_images "$T/calm" "$T/out"

#!/bin/bash
# The broker is killed in the middle of a batch and started again, twice: nothing is lost, nothing is made into two files.
. "$(dirname "$0")/lib.sh" "${1:-}"

prompts 24 > "$T/prompts.txt"
options=(-W 64 -H 64 --steps 8 -s 5)
HAND=faulty_worker
hold 9 # seeds 5 to 28
broker_up
worker_up; worker_up
wait_workers 2
zfarm batch "$T/prompts.txt" -o "$T/out" "${options[@]}" --broker "$EP" 2> "$T/batch.log" & batch=$!
pids+=($batch)
for n in 4 6; do
    until_true 120 job_done_at_least 1 $n || die "the batch does not move"
    kill -9 $BROKER; wait $BROKER 2>/dev/null
    ok "the broker is killed with $(n_png "$T/out") images gathered"
    broker_up
    until_true 60 job_done_at_least 1 0 || die "the broker does not come back"
    check "the job is still there" test "$(job_field 1 images)" = 24
    hold 13
done
let_go
wait $batch || die "the batch failed"
ok "the batch ends well; its client said: $(grep -c 'away' "$T/batch.log") times that the broker was away"
check "24 images" test "$(n_png "$T/out")" = 24
check "done once each" test "$(job_field 1 done)" = 24
check "no second job" test "$(zfarm jobs --broker "$EP" --json | wc -l)" = 1
zfarm batch "$T/prompts.txt" -o "$T/calm" "${options[@]}" --broker "$EP" 2>> "$T/batch.log" || die "the calm run"
check "byte for byte what a calm run makes" same_images "$T/calm" "$T/out"

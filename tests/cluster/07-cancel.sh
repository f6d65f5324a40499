#!/bin/bash
# A job is canceled while one of its images is being made: it stops at the next step, what was finished is kept, the worker goes on.
. "$(dirname "$0")/lib.sh" "${1:-}"

prompts 6 > "$T/prompts.txt"
HAND=faulty_worker
hold 8 # seeds 7 to 12
broker_up
worker_up
wait_workers 1
zfarm batch "$T/prompts.txt" -o "$T/out" -W 64 -H 64 --steps 8 -s 7 --broker "$EP" --detach 2> "$T/batch.log" || die "batch --detach"
until_true 60 is_held 8 || die "the second image does not begin"
zfarm watch 1 --broker "$EP" 2> "$T/watch.log" & watch=$!
pids+=($watch)
zfarm cancel 1 --broker "$EP" > "$T/cancel.log" 2>&1 || die "cancel: $(cat "$T/cancel.log")"
ok "canceled: $(cat "$T/cancel.log")"
all_final() { [ "$(job_field 1 running)" = 0 ] && [ "$(job_field 1 queued)" = 0 ]; }
check "the running image stops at its next step" until_true 60 all_final
check "what was finished is kept, the rest is canceled" test "$(job_field 1 done)$(job_field 1 canceled)" = 15
let_go
wait $watch && die "watch of a canceled job ends with 0"
check "watch says so" grep -q "canceled" "$T/watch.log"
zfarm cancel 1 --broker "$EP" > "$T/cancel.log" 2>&1 || die "a second cancel is fine, too"
zfarm cancel 99 --broker "$EP" > "$T/cancel.log" 2>&1 && die "cancel of an unknown job"
ok "an unknown job: $(cat "$T/cancel.log")"
zfarm generate -p "after" -W 64 -H 64 --steps 2 --broker "$EP" -o "$T/after.png" 2> "$T/generate.log" || die "the worker makes no more images"
ok "the worker goes on with the next job"

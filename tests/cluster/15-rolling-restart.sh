#!/bin/bash
# Broker and workers are restarted one after the other under work: no image is begun twice, drained stays drained, paused stays paused; each
# process ends by itself and well when it is told to (SIGTERM).
. "$(dirname "$0")/lib.sh" "${1:-}"

prompts 30 > "$T/prompts.txt"
ended_well() { # PID: it ends within its grace, with exit code 0
    local end=$((SECONDS + 120))
    while kill -0 "$1" 2>/dev/null; do [ $SECONDS -ge $end ] && return 1; sleep 0.1; done
    wait "$1"
}
n_of() { cat "$T"/worker*.log | grep -c "$1"; }

HAND=faulty_worker
hold 8 # seeds 5 to 34
broker_up
worker_up --name w1; one=$WORKER
worker_up --name w2; two=$WORKER
wait_workers 2
zfarm batch "$T/prompts.txt" -o "$T/out" -W 64 -H 64 --steps 4 -s 5 --broker "$EP" 2> "$T/batch.log" & batch=$!
pids+=($batch)
until_true 60 job_done_at_least 1 3 || die "nothing is made"

kill -TERM "$BROKER"
check "the broker ends well" ended_well "$BROKER"
broker_up
wait_workers 2
hold 12
check "the workers go on with the next broker" until_true 120 job_done_at_least 1 5

for w in 1 2; do # one worker after the other: first no more work for it, then its end, then the next one of its name
    zfarm drain w$w --broker "$EP" > /dev/null || die "drain"
    state_is() { zfarm workers --broker "$EP" | grep -q "^w$w  *$1 "; }
    check "worker $w has something in its hands, and is given no more" until_true 60 state_is draining
    hold $((12 + 8 * w)) # what is in their hands comes to its end, and the other one goes on a little
    until_true 120 state_is drained || die "worker $w does not come to rest"
    pid=$([ $w = 1 ] && echo $one || echo $two)
    kill -TERM $pid
    check "worker $w ends well" ended_well $pid
    left() { ! zfarm workers --broker "$EP" | grep -q "^w$w "; }
    until_true 60 left || die "the ended worker $w is still there"
    worker_up --name w$w
    check "the new process of that name is still drained" until_true 120 state_is drained
    zfarm drain w$w --undo --broker "$EP" > /dev/null || die "undo"
done
let_go
wait $batch || die "the batch failed"
check "all images are there" test "$(n_png "$T/out")" = 30

zfarm pause --broker "$EP" > /dev/null || die "pause"
zfarm batch "$T/prompts.txt" -o "$T/more" -W 64 -H 64 --steps 1 -s 5 --detach --broker "$EP" 2> "$T/more.log" || die "more"
kill -TERM "$BROKER"
check "the broker ends well again" ended_well "$BROKER"
stopped() { grep 'event=stopped' "$T/broker.log" | grep -oE " $1=[0-9]+" | awk -F= '{ n += $2 } END { print n + 0 }'; }
check "nothing was requeued or lost" test "$(stopped tasks_requeued) $(stopped workers_lost)" = "0 0"
check "each image was made once, but for what an idle worker was given as well" test "$(n_of 'event=task_done ')" -le $((30 + $(stopped tasks_hedged)))
broker_up
wait_workers 2
sleep 1 # in which it could begin
check "the farm is still paused" test "$(job_field 2 done)$(job_field 2 running)" = 00
check "and the job says so" grep -q "the farm is paused" <<< "$(zfarm show 2 --broker "$EP")"
zfarm resume --broker "$EP" > /dev/null || die "resume"
until_true 120 job_done_at_least 2 30 || die "it does not go on"
ok "and goes on when it is told to"

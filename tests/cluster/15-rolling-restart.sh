#!/bin/bash
# Broker and workers are restarted one after the other under work: no image is begun twice, drained stays drained, paused stays paused; each
# process ends by itself and well when it is told to (SIGTERM).
. "$(dirname "$0")/lib.sh" "${1:-}"

prompts 30 > "$T/prompts.txt"
ended_well() { # PID: it ends within its grace, with exit code 0
    local end=$((SECONDS + 60))
    while kill -0 "$1" 2>/dev/null; do [ $SECONDS -ge $end ] && return 1; sleep 0.1; done
    wait "$1"
}
n_of() { cat "$T"/worker*.log | grep -c "$1"; }

broker_up
worker_up --name w1; one=$WORKER
worker_up --name w2; two=$WORKER
wait_workers 2
zfarm batch "$T/prompts.txt" -o "$T/out" -W 192 -H 192 --steps 10 -s 5 --broker "$EP" 2> "$T/batch.log" & batch=$!
pids+=($batch)
until_true 30 job_done_at_least 1 3 || die "nothing is made"

kill -TERM "$BROKER"
check "the broker ends well" ended_well "$BROKER"
grep -q "tasks_requeued" "$T/broker.log" && die "the broker took something back: $(grep tasks_requeued "$T/broker.log")"
broker_up
wait_workers 2
before=$(job_field 1 done)
check "the workers go on with the next broker" until_true 60 job_done_at_least 1 $((before + 2))

for w in 1 2; do # one worker after the other: first no more work for it, then its end, then the next one of its name
    zfarm drain w$w --broker "$EP" > /dev/null || die "drain"
    idle() { zfarm workers --broker "$EP" | grep "^w$w " | grep -q drained; }
    until_true 60 idle || die "worker $w does not come to rest"
    pid=$([ $w = 1 ] && echo $one || echo $two)
    kill -TERM $pid
    check "worker $w ends well" ended_well $pid
    worker_up --name w$w
    there() { zfarm workers --broker "$EP" | grep -q "^w$w "; }
    until_true 60 there || die "the new worker $w is not there"
    check "the new process of that name is still drained" idle
    zfarm drain w$w --undo --broker "$EP" > /dev/null || die "undo"
done
wait $batch || die "the batch failed"
check "all images are there" test "$(n_png "$T/out")" = 30
grep -q 'tasks_requeued' "$T/broker.log" && die 'something was taken back'
check "each was made once, but for what an idle worker was given as well" test "$(n_of 'event=task_done ')" -le 32

zfarm pause --broker "$EP" > /dev/null || die "pause"
zfarm batch "$T/prompts.txt" -o "$T/more" -W 64 -H 64 --steps 1 -s 5 --detach --broker "$EP" 2> "$T/more.log" || die "more"
kill -TERM "$BROKER"
check "the broker ends well again" ended_well "$BROKER"
if grep -E 'event=stopped' "$T/broker.log" | grep -qE 'tasks_requeued|results_duplicate|workers_lost'; then die "something was taken back: $(grep event=stopped "$T/broker.log")"; fi
ok "nothing was requeued, lost or made twice"
broker_up
wait_workers 2
sleep 1
check "the farm is still paused" test "$(job_field 2 done)$(job_field 2 running)" = 00
check "and the job says so" grep -q "the farm is paused" <<< "$(zfarm show 2 --broker "$EP")"
zfarm resume --broker "$EP" > /dev/null || die "resume"
until_true 60 job_done_at_least 2 30 || die "it does not go on"
ok "and goes on when it is told to"

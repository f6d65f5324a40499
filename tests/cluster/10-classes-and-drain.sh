#!/bin/bash
# A drained worker gets nothing and the job says why; an urgent job passes a bulk one; nothing is dead, and what is asked of nobody is refused.
. "$(dirname "$0")/lib.sh" "${1:-}"

prompts 6 > "$T/prompts.txt"
broker_up
worker_up
wait_workers 1
name=$(zfarm workers --json --broker "$EP" | grep -o '"worker":"[^"]*"' | head -1 | cut -d'"' -f4)
zfarm drain "$name" --broker "$EP" > "$T/drain.txt" || die "drain"
check "it is drained" grep -q drained <<< "$(zfarm workers --broker "$EP")"
zfarm batch "$T/prompts.txt" -o "$T/bulk" -W 128 -H 128 --steps 2 -s 5 --class bulk --detach --broker "$EP" 2> "$T/bulk.log" || die "bulk"
zfarm batch "$T/prompts.txt" -o "$T/fast" -W 128 -H 128 --steps 2 -s 5 --class interactive --detach --broker "$EP" 2> "$T/fast.log" || die "fast"
sleep 1
check "nothing runs" test "$(job_field 1 done)$(job_field 1 running)" = 00
check "and the job says why" grep -q draining <<< "$(zfarm show 1 --broker "$EP")"
zfarm drain "$name" --undo --broker "$EP" > /dev/null || die "undo"
until_true 30 job_done_at_least 2 6 || die "the urgent job"
check "the urgent job is made before the bulk one" test "$(job_field 1 done)" -lt 6
until_true 30 job_done_at_least 1 6 || die "the bulk job"
ok "and the bulk one after it"
check "nothing is dead" grep -q "no failed images" <<< "$(zfarm dead --broker "$EP")"
check "and nothing to requeue" grep -q " 0 failed images" <<< "$(zfarm requeue 1 --broker "$EP")"
zfarm drain nobody --broker "$EP" 2> "$T/nobody.log" && die "nobody was drained"
check "a worker that is not there is named" grep -q nobody "$T/nobody.log"

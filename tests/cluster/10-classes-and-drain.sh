#!/bin/bash
# A drained worker gets nothing and the job says why; an urgent job passes a bulk one; nothing is dead, and what is asked of nobody is refused.
. "$(dirname "$0")/lib.sh" "${1:-}"

prompts 6 > "$T/fast.txt"
prompts 48 > "$T/bulk.txt" # classes share by time, 8 to 1: an urgent image that stood still for a second lets dozens of them pass
broker_up
worker_up
wait_workers 1
name=$(zfarm workers --json --broker "$EP" | grep -o '"worker":"[^"]*"' | head -1 | cut -d'"' -f4)
zfarm drain "$name" --broker "$EP" > "$T/drain.txt" || die "drain"
check "it is drained" grep -q drained <<< "$(zfarm workers --broker "$EP")"
zfarm batch "$T/bulk.txt" -o "$T/bulk" -W 64 -H 64 --steps 2 -s 5 --class bulk --detach --broker "$EP" 2> "$T/bulk.log" || die "bulk"
zfarm batch "$T/fast.txt" -o "$T/fast" -W 64 -H 64 --steps 2 -s 5 --class interactive --detach --broker "$EP" 2> "$T/fast.log" || die "fast"
sleep 1 # in which something could begin
check "nothing runs" test "$(job_field 1 done)$(job_field 1 running)" = 00
check "and the job says why" grep -q draining <<< "$(zfarm show 1 --broker "$EP")"
zfarm drain "$name" --undo --broker "$EP" > /dev/null || die "undo"
until_true 120 job_done_at_least 2 6 || die "the urgent job"
until_true 120 job_done_at_least 1 48 || die "the bulk job"
check "nothing is dead" grep -q "no failed images" <<< "$(zfarm dead --broker "$EP")"
check "and nothing to requeue" grep -q " 0 failed images" <<< "$(zfarm requeue 1 --broker "$EP")"
zfarm drain nobody --broker "$EP" 2> "$T/nobody.log" && die "nobody was drained"
check "a worker that is not there is named" grep -q nobody "$T/nobody.log"

kill $BROKER
until_true 60 gone $BROKER || die "the broker does not end"
journal_rows "$T/data/journal.db" 3 | sort -n -k 3 | awk '{ print int($1 / 1048576) }' | uniq -c > "$T/order.log" # job after job, by commits
check "all are made" test "$(awk '{ n += $1 } END { print n }' "$T/order.log")" = 54
check "the urgent job ended before the bulk one, which had come first" test "$(awk 'END { print $2 }' "$T/order.log")" = 1

#!/bin/bash
# zfarm up: a farm in the foreground; Ctrl-C ends it in order, its job goes on with the next one; killed, it leaves no process.
. "$(dirname "$0")/lib.sh" "${1:-}"

up() { # UP is its pid
    "$T/bin/zfarm" up --model "$MODEL" --workers 2 --threads 1 --listen "$EP" --data "$T/data" >> "$T/up.log" 2>&1 &
    UP=$!
    pids+=($UP)
    wait_workers 2
}
farm_gone() { ! pgrep -f -- "$EP" > /dev/null; }

prompts 12 > "$T/prompts.txt"
held_programs
hold 7
up
check "it says how to connect" grep -q "export ZFARM_BROKER=$EP" "$T/up.log"
timeout 120 zfarm up --model "$MODEL" --threads 1 --listen "$EP" --data "$T/other" > "$T/second.log" 2>&1
check "a second one on the same endpoint fails" test $? -eq 1
check "its broker says why" grep -q "listens on $EP already" "$T/second.log"
check "and no worker of its own came to the first" test "$(ready_workers)" = 2 -a "$(grep -c from=worker "$T/second.log")" = 0
export ZFARM_BROKER=$EP
zfarm generate -p "a cat" -s 1 -W 64 -H 64 --steps 2 -o "$T/cat.png" 2> "$T/generate.log" || die "generate by ZFARM_BROKER"
ok "generate by ZFARM_BROKER"
zfarm batch "$T/prompts.txt" -o "$T/out" -W 64 -H 64 --steps 8 -s 5 2> "$T/batch.log" & batch=$!
pids+=($batch)
until_true 60 job_done_at_least 2 2 || die "nothing is made"
kill -INT $UP
both_drain() { [ "$(grep -c 'event=drain ' "$T/up.log")" = 2 ]; }
until_true 60 both_drain || die "Ctrl-C does not reach the workers"
let_go
wait $UP || die "Ctrl-C did not end it in order"
check "Ctrl-C ends it in order, and all of it" until_true 60 farm_gone
check "no temporary folder is left" test -z "$(find "$T" -mindepth 1 -maxdepth 1 -name 'zfarm-*')"
up
wait $batch || die "the batch did not survive"
check "the next farm on the same folder ends the batch" test "$(n_png "$T/out")" = 12
kill -9 $UP
check "killed, it takes its processes with it" until_true 60 farm_gone
no_folder() { [ -z "$(find "$T" -mindepth 1 -maxdepth 1 -name "zfarm-*")" ]; }
check "and its temporary folder" until_true 60 no_folder
check "and keeps the data" test -s "$T/data/journal.db"

#!/bin/bash
# poison.sh BINDIR [ROUNDS [GOOD [WORKERS]]] - a task that kills every engine it meets (SIGSEGV, faulty_worker.c), in the middle of a job of GOOD good
# ones (40) on WORKERS workers (3), ROUNDS times (1): RELIABILITY.md s.6.3 G2. It must end FAILED after exactly three crashes, with its last words; all others DONE, with
# the bytes of a calm run; no other task may have a death to its name that is not its own, and all workers must be there in the end.
. "$(dirname "$0")/../cluster/lib.sh" "${1:-}"
rounds=${2:-1} good=${3:-40} n_hands=${4:-3}
poison=66606 # the seed
options=(-W 32 -H 32 --steps 2)

line() { echo "{\"prompt\": \"a white cat number $1 sits on the green mat\", \"seed\": $2, \"name\": \"$3\"}"; }
for ((k = 0; k < good; k++)); do line $k $((1000 + k)) "good-$k"; done > "$T/good.jsonl"
zfarm batch "$T/good.jsonl" -o "$T/calm" "${options[@]}" --model "$MODEL" 2> "$T/calm.log" || die "the calm run"
check "a calm run makes $good images" test "$(n_png "$T/calm")" = "$good"

broker_up
for ((k = 1; k <= n_hands; k++)); do
    faulty_worker --broker "$EP" --model "$MODEL" --device cpu --threads 1 --name "hand$k" >> "$T/worker$k.log" 2>&1 &
    pids+=($!)
done
wait_workers "$n_hands"
for ((r = 1; r <= rounds; r++)); do
    at=$((1 + RANDOM % good)) # its place in the job
    { head -n $((at - 1)) "$T/good.jsonl"; line 0 $poison poison; tail -n +$at "$T/good.jsonl"; } > "$T/mixed.jsonl"
    zfarm batch "$T/mixed.jsonl" -o "$T/out" "${options[@]}" --broker "$EP" --timeout 120 > "$T/client.log" 2>&1 && die "a job with a task that nobody can make ended well"
    [ "$(n_png "$T/out")" = "$good" ] || die "of $good good images $(n_png "$T/out") are there; the client said $(tail -n 2 "$T/client.log")"
    check "round $r: the good images of the job, the bad one was number $at, are the calm run's" same_images "$T/calm" "$T/out"
    zfarm dead --broker "$EP" > "$T/dead.txt" || die "zfarm dead"
    check "round $r: the client is told why the other is not there" grep -qE 'signal|SIGSEGV|Segmentation' "$T/client.log"
    check "round $r: and it is among the failed images" grep -q . "$T/dead.txt"
    rm -rf "$T/out"
done
until_true 120 workers_are "$n_hands" || die "not all workers are there in the end"
ok "all $n_hands workers are there"
kill -TERM $BROKER
until_true 120 gone $BROKER || die "the broker does not end within 120 s"
journal_rows "$T/data/journal.db" 4 > "$T/failed" && journal_rows "$T/data/journal.db" 3 > "$T/done" || die "the journal cannot be read"
check "one task in each job is FAILED" test "$(wc -l < "$T/failed")" = "$rounds"
check "after exactly three crashes: $(awk '{ print $6 }' "$T/failed" | sort | uniq -c | tr -s ' ' | tr '\n' ' ')" test "$(awk '$6 == 3' "$T/failed" | wc -l)" = "$rounds"
check "all others are DONE" test "$(wc -l < "$T/done")" = $((rounds * good))
check "none of them came near the limit: $(awk '$6 > 0' "$T/done" | wc -l) have one crash or two beside it" test "$(awk '$6 >= 3' "$T/done" | wc -l)" = 0
echo "rounds $rounds of $good good tasks and a bad one  failed $(wc -l < "$T/failed")  crashes of engines $(cat "$T"/worker*.log | grep -c 'event=engine_end')  good ones with a crash $(awk '$6 > 0' "$T/done" | wc -l)  lost 0"

#!/bin/bash
# clock.sh BINDIR [STEPS] - somebody sets the clock of the broker's machine an hour on or back, again and again, under work (RELIABILITY.md s.6.3 W1; clockstep.c is the clock).
# Oracle: farm.sh; each step is noticed; no lease was given twice (but to finish a batch sooner), no worker given up; a job with 50 minutes of time left does not expire; images that were
# collected and stay for an hour are there to be gathered again.
. "$(dirname "$0")/farm.sh" "${1:-}"
steps=${2:-4}
n_hands=2

calm_run
echo 0 > "$T/step"
ASAN_OPTIONS=${ASAN_OPTIONS:-}:verify_asan_link_order=0 CLOCKSTEP_FILE=$T/step LD_PRELOAD=$BIN/clockstep.so "$BIN/zfarm-broker" --listen "$EP" --data "$T/data" --retention 1 >> "$T/broker.log" 2>&1 &
BROKER=$!; pids+=($BROKER)
for ((k = 1; k <= n_hands; k++)); do
    faulty_worker --broker "$EP" --model "$MODEL" --device cpu --threads 1 --name "hand$k" >> "$T/worker$k.log" 2>&1 &
    pids+=($!)
done
wait_workers $n_hands
check "a job is made and collected" zfarm batch "$T/prompts.txt" -o "$T/first" "${options[@]}" --broker "$EP" --timeout 120
echo "$T/first" >> "$T/whole"
check "a job of 50 minutes waits" zfarm batch "$T/prompts.txt" -o "$T/waits" "${options[@]}" --model nobody-has-it --deadline 3000 --detach --broker "$EP"
for ((k = 1; k <= n_clients; k++)); do client $k & pids+=($!); done
until_true 120 whole_more_than 1 || die "no batch ends"

now=0 done_steps=0
while [ $done_steps -lt "$steps" ]; do
    sleep "1.$((RANDOM % 10))"
    if [ $now = 0 ]; then now=$((RANDOM % 2 ? 3600 : -3600)); else now=0; fi
    echo $now > "$T/step.new" && mv "$T/step.new" "$T/step"
    done_steps=$((done_steps + 1))
    noticed() { [ "$(heard clock_set)" -ge $done_steps ]; } # on and back within one look would be no step at all
    until_true 60 noticed || die "step $done_steps was not noticed"
done
check "each step was noticed, once" test "$(heard clock_set)" = "$steps"
before=$(whole)
until_true 120 whole_more_than $((before + 1)) || die "no batch ends after the last step"
[ "$(job_field 2 queued)" = $images ] || die "the job that waits: $(zfarm jobs --broker "$EP" --json | grep '^{"job":2,')"
ok "the job of 50 minutes still waits after $steps steps of an hour"
check "what was collected is still there" zfarm gather 1 -o "$T/again" --broker "$EP"
check "with the same bytes" same_images "$T/calm" "$T/again"
check "the waiting job is canceled" zfarm cancel 2 --broker "$EP"
oracle
given_up='event=(worker_gone|budget_passed|lease_unknown|stalled gap_ms=[0-9]{7,})' # a machine that really stood still for seconds may say so
! grep -E "$given_up" "$T/broker.log" > "$T/given_up" || die "a lease or a worker was given up: $(head -n 3 "$T/given_up")"
[ "$(awk '{ n += $5 - 1 } END { print n }' "$T/rows")" -le "$(heard hedged)" ] || die "images that were leased more than once: $(awk '$5 != 1' "$T/rows" | head -n 3)"
echo "steps $steps  batches $(whole) ($(wc -l < "$T/rows") images, each leased once, $(heard hedged) hedged)  workers given up 0  expired 0  lost 0  committed twice 0"

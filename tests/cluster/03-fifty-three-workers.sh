#!/bin/bash
# Fifty images on three workers: all there, and byte for byte what one worker makes.
. "$(dirname "$0")/lib.sh" "${1:-}"

prompts 50 > "$T/prompts.txt"
options=(-W 64 -H 48 --steps 3 -s 42)
broker_up
worker_up; one=$WORKER
wait_workers 1
zfarm batch "$T/prompts.txt" -o "$T/one" "${options[@]}" --broker "$EP" 2> "$T/batch.log" || die "batch on one worker"
check "50 images from one worker" test "$(n_png "$T/one")" = 50

worker_up --slots 2; worker_up
wait_workers 3
zfarm batch "$T/prompts.txt" -o "$T/three" "${options[@]}" --broker "$EP" --sheet="$T/sheet.png" 2>> "$T/batch.log" || die "batch on three workers"
check "50 images from three workers" test "$(n_png "$T/three")" = 50
check "the same bytes" same_images "$T/one" "$T/three"
check "a contact sheet" test -s "$T/sheet.png"
took_part() { [ "$(zfarm workers --broker "$EP" --json | grep -c '"done":[1-9]')" = 3 ]; }
once_more() { took_part || { zfarm batch "$T/prompts.txt" -o "$T/more" "${options[@]}" --broker "$EP" && rm -rf "$T/more" && took_part; }; }
check "show lists 50 gathered images" test "$(zfarm show 2 --broker "$EP" | grep -c ' gathered ')" = 50

tac "$T/prompts.txt" | awk '{ printf "{\"prompt\": \"%s\", \"seed\": %d, \"name\": \"%05d-%d\"}\n", $0, 91 - (NR - 1), 50 - NR, 91 - (NR - 1) }' > "$T/reversed.jsonl"
zfarm batch "$T/reversed.jsonl" -o "$T/reversed" -W 64 -H 48 --steps 3 --broker "$EP" 2>> "$T/batch.log" || die "batch in reverse"
check "in the other order: the same bytes" same_images "$T/one" "$T/reversed"
check "every worker takes part, if not at once" until_true 120 once_more # one that stood still for a moment was not waited for
kill $one; wait $one
check "a worker told to end ends" gone $one

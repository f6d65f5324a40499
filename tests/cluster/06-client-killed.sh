#!/bin/bash
# The client is killed in the middle of a batch: --resume goes on with the same job, gather works elsewhere; an own farm leaves nothing.
. "$(dirname "$0")/lib.sh" "${1:-}"

some_png() { [ "$(n_png "$1")" -ge "$2" ]; }
prompts 16 > "$T/prompts.txt"
options=(-W 64 -H 64 --steps 8 -s 5) # seeds 5 to 20
HAND=faulty_worker
held_programs
hold 8
broker_up
worker_up
wait_workers 1
zfarm batch "$T/prompts.txt" -o "$T/out" "${options[@]}" --broker "$EP" 2> "$T/batch.log" & batch=$!
pids+=($batch)
until_true 60 some_png "$T/out" 3 || die "no images come"
kill -9 $batch; wait $batch 2>/dev/null
let_go
had=$(n_png "$T/out")
ok "the client is killed with $had of 16 images"
check "no half file" test -z "$(find "$T/out" -name '*.png' -size 0)"
zfarm batch "$T/prompts.txt" -o "$T/out" "${options[@]}" --broker "$EP" 2> "$T/refused.log" && die "a second batch in the same folder"
check "without --resume the folder is refused" grep -q -- "--resume" "$T/refused.log"
zfarm batch "$T/prompts.txt" -o "$T/out" "${options[@]}" -s 6 --resume --broker "$EP" 2> "$T/refused.log" && die "a resume with another seed"
check "with other options --resume is refused" grep -q "are not the ones" "$T/refused.log"
zfarm batch "$T/prompts.txt" -o "$T/out" "${options[@]}" --resume --model "$MODEL" 2> "$T/refused.log" && die "a resume elsewhere"
check "without its broker --resume asks" grep -q "this batch began at" "$T/refused.log"
zfarm batch "$T/prompts.txt" -o "$T/out" "${options[@]}" --resume --broker "$EP" 2> "$T/batch.log" || die "--resume"
check "--resume ends with all 16" test "$(n_png "$T/out")" = 16
check "in the same job" test "$(zfarm jobs --broker "$EP" --json | wc -l)" = 1
zfarm batch "$T/prompts.txt" -o "$T/out" "${options[@]}" --resume --broker "$EP" 2> "$T/batch.log" || die "--resume of what is whole"
zfarm gather 1 -o "$T/elsewhere" --broker "$EP" 2> "$T/gather.log" || die "gather"
check "gather elsewhere: the same names and bytes" same_images "$T/out" "$T/elsewhere"
rm "$T/elsewhere/00003-8.png"
zfarm gather 1 -o "$T/elsewhere" --broker "$EP" 2> "$T/gather.log" || die "gather again"
check "gather again brings back what is missing" same_images "$T/out" "$T/elsewhere"
zfarm watch 1 --broker "$EP" 2> "$T/watch.log" || die "watch of a finished job"

hold 7
"$T/bin/zfarm" batch "$T/prompts.txt" -o "$T/own" "${options[@]}" --model "$MODEL" 2> "$T/own.log" & batch=$!
pids+=($batch)
until_true 60 some_png "$T/own" 2 || die "no images come from an own farm"
kill -9 $batch; wait $batch 2>/dev/null
ok "a client with a farm of its own is killed with $(n_png "$T/own") images"
check "its processes and folder go, too" until_true 60 no_leftovers
let_go
zfarm batch "$T/prompts.txt" -o "$T/own" "${options[@]}" --model "$MODEL" --resume 2> "$T/own.log" || die "--resume on a new farm"
check "--resume makes only what is missing" grep -q "there already" "$T/own.log"
check "and ends with the same bytes" same_images "$T/out" "$T/own"
hold 6
"$T/bin/zfarm" batch "$T/prompts.txt" -o "$T/int" "${options[@]}" --model "$MODEL" 2> "$T/int.log" & batch=$!
pids+=($batch)
until_true 60 some_png "$T/int" 1 || die "no images come from an own farm"
kill -INT $batch; wait $batch
check "Ctrl-C: exit code 1" test $? = 1
check "and a sentence" grep -q "interrupted" "$T/int.log"
check "nothing is left behind" until_true 60 no_leftovers

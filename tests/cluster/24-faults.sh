#!/bin/bash
# 24-faults.sh BIN [DEVICE] - an engine that breaks, hangs, makes NaN, has no memory: each costs at most its process, and the image is made after all. An image that
# breaks every engine ends after three, and takes its only worker along into quarantine, from which somebody lets it out. DEVICE: cuda:0, or cpu where no GPU is.
. "$(dirname "$0")/lib.sh" "${1:-}"

device=${2:-$(faulty_worker --has-gpu > /dev/null && echo cuda:0 || echo cpu)}
# seeds: which faults; 66602, the hang, takes 20 s; always: the seed of the image that breaks every engine; broken: the last words of an engine
case $device in
cpu) seeds=${SEEDS:-66601 66602} size=64 always=66606 broken='signal 11' ;; # where memory is not ours to fill, nor weights to spoil: they are mapped
*) seeds=${SEEDS:-66601 66602 66603 66604} size=512 always=66605 broken='illegal memory access' ;;
esac
paint() { zfarm generate -p "a white cat sits on the green mat" -s "$1" -W "${3:-$size}" -H $size --steps 3 --broker "$EP" -o "$2"; }
engine_of() { pgrep -P "$1" | head -1; }
words() { grep -qE "$1" "$T/worker.log"; }
has() { case " $seeds " in *" $1 "*) true ;; *) false ;; esac }
export FAULTS=$T/faults
mkdir "$FAULTS"
echo "on $device"

broker_up "$T/calm-data"; calm=$BROKER
worker_up --device "$device"; calm_worker=$WORKER
wait_workers 1
for s in $seeds; do paint "$s" "$T/calm-$s.png" > /dev/null 2>&1 || die "the calm image of seed $s"; done
kill "$calm_worker"; wait "$calm_worker"
kill "$calm"; wait "$calm"

broker_up
faulty_worker --broker "$EP" --model "$MODEL" --device "$device" --threads 1 --name hand >> "$T/worker.log" 2>&1 &
worker=$!; pids+=($worker)
wait_workers 1
paint 1 "$T/good.png" > /dev/null 2>&1 || die "a good image"
for s in $seeds; do
    before=$(engine_of $worker)
    from=$SECONDS
    if [ "$s" = 66604 ]; then # a worker without memory for a size is not asked for it again soon, and here is no other
        paint "$s" "$T/$s.png" > "$T/memory.log" 2>&1 && die "an image was made without memory"
        check "no memory: says what is free" grep -qE 'GiB of .* free' "$T/memory.log"
        check "no memory: the engine's process went on" test "$before" = "$(engine_of $worker)"
        continue
    fi
    check "seed $s: the image is made after its fault" paint "$s" "$T/$s.png"
    check "seed $s: and is the calm one ($((SECONDS - from)) s)" cmp "$T/calm-$s.png" "$T/$s.png"
    check "seed $s: the fault happened" test -e "$FAULTS/$s"
    after=$(engine_of $worker)
    case $s in
    66601 | 66602) check "seed $s: the engine's process was another after it" test "$before" != "$after" ;;
    *) check "seed $s: the engine's process went on" test "$before" = "$after" ;;
    esac
done
[ "$device" = cpu ] || ! has 66601 || check "the sticky error: last words say stage, status and CUDA's own" words 'stage denoise, engine status 70.*illegal memory access'
! has 66602 || check "the hang: noticed and ended" words 'engine_stuck.*did not move'
! has 66603 || check "NaN: said so" words 'not finite'

# At most two engines fell above, and three more fall now: the third of all bars the worker, the rest are too few to bar it again.
paint $always "$T/never.png" $((size / 2)) > "$T/never.log" 2>&1 & painter=$!
pids+=($painter)
is_barred() { zfarm workers --broker "$EP" > "$T/barred.txt" && grep -q '^hand .*quarantined' "$T/barred.txt"; }
until_true 120 is_barred || die "three engines fell, and the worker is not quarantined"
check "quarantined: says why, and the way out" grep -qE 'started 3 times within 10 minutes: gets nothing for [0-9]+ s, or until zfarm drain --undo' "$T/barred.txt"
zfarm drain hand --undo --broker "$EP" > "$T/mended.txt" || die "drain --undo"
check "who mended it is told what that changed" grep -q 'its quarantine is over' "$T/mended.txt"
until_true 120 gone $painter || die "an image that breaks every engine does not end"
wait $painter && die "an image that breaks every engine was made"
check "an image that breaks every engine: its last words" grep -q "$broken" "$T/never.log"
zfarm dead --broker "$EP" > "$T/dead.txt" || die "zfarm dead"
check "it failed after three of them" grep -q "after 3 tries.*$broken" "$T/dead.txt"
paint 2 "$T/last.png" $((size / 2)) > /dev/null 2>&1 || die "an image after all that"
ok "the worker goes on"
check "the supervisor is the same process" kill -0 $worker
[ -z "${SHOW_LOGS:-}" ] || cat "$T/worker.log" "$T/never.log"

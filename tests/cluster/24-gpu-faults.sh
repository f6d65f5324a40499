#!/bin/bash
# On a real GPU: a sticky error, a hang, NaN and a GPU without memory; each costs at most the engine's process, and the image is made after all.
. "$(dirname "$0")/lib.sh" "${1:-}"

why=$(faulty_worker --has-gpu) || { echo "skipped: $why"; exit 0; }
paint() { zfarm generate -p "a white cat sits on the green mat" -s "$1" -W "${3:-512}" -H 512 --steps 3 --broker "$EP" -o "$2"; }
engine_of() { pgrep -P "$1" | head -1; }
words() { grep -qE "$1" "$T/worker.log"; }
seeds=${SEEDS:-66601 66602 66603 66604} # which faults; 66602, the hang, takes 20 s
has() { case " $seeds " in *" $1 "*) true ;; *) false ;; esac }
export FAULTS=$T/faults
mkdir "$FAULTS"

broker_up "$T/calm-data"; calm=$BROKER
worker_up --device cuda:0; calm_worker=$WORKER
wait_workers 1
for s in $seeds; do paint "$s" "$T/calm-$s.png" > /dev/null 2>&1 || die "the calm image of seed $s"; done
kill "$calm_worker"; wait "$calm_worker"
kill "$calm"; wait "$calm"

broker_up
faulty_worker --broker "$EP" --model "$MODEL" --device cuda:0 >> "$T/worker.log" 2>&1 &
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
! has 66601 || check "the sticky error: last words say stage, status and CUDA's own" words 'stage denoise, engine status 70.*illegal memory access'
! has 66602 || check "the hang: noticed and ended" words 'engine_stuck.*did not move'
! has 66603 || check "NaN: said so" words 'not finite'
paint 66605 "$T/never.png" 256 > "$T/never.log" 2>&1 && die "a task that breaks every engine was made"
check "a task that breaks every engine ends after three" grep -q 'illegal memory access' "$T/never.log"
paint 2 "$T/last.png" 256 > /dev/null 2>&1 || die "an image after all that"
ok "the worker goes on"
check "the supervisor is the same process" kill -0 $worker
[ -z "${SHOW_LOGS:-}" ] || cat "$T/worker.log" "$T/never.log"

#!/bin/bash
# All cases of diffusers through `zfarm generate`: in f32 to 5e-5 and 1 of 255, in bf16 to 1.2 times torch's own bf16 error.
. "$(dirname "$0")/lib.sh" "${1:-}"

bf16=(5.1e-3 6.9e-3 8.2e-3 2.3e-2 1.6e-2 1.1e-2 1.0e-2 8.2e-3) # of torch on a CPU

for precision in f32 bf16; do
    broker_up "$T/data-$precision"
    worker_up --precision $precision
    wait_workers 1
    for ((k = 0; ; k++)); do
        goldencase "$GOLD/cases.json" $k > "$T/words"
        [ $? -eq 3 ] && break
        mapfile -d '' -t words < "$T/words"
        n=${#words[@]}
        zfarm generate "${words[@]:0:n-2}" --broker "$EP" -o "$T/$k.png" --latents-out "$T/$k.safetensors" -q 2> "$T/generate.log" || die "case $k"
        limit=5e-5
        [ $precision = bf16 ] && limit=$(awk "BEGIN { print 1.2 * ${bf16[k]} }")
        error=$(goldencheck "$T/$k.safetensors" "$GOLD/golden.safetensors" latents$k "${words[n-2]}" "${words[n-1]}" "$limit" 2> "$T/check.log") ||
            { cat "$T/check.log"; die "case $k in $precision: relative RMS error $(echo "$error" | grep -E '^[0-9]') passes $limit"; }
        error=$(echo "$error" | grep -E '^[0-9]')
        if [ $precision = f32 ]; then
            bytes=$(pngdiff "$T/$k.png" "$GOLD/case$k.png" 1) || die "case $k: a byte is off by $bytes"
            ok "case $k in f32: latents $error, bytes $bytes"
        else
            ok "case $k in bf16: latents $error of $limit"
        fi
    done
    [ $k -ge 8 ] || die "only $k cases"
    kill $WORKER $BROKER
    wait $WORKER $BROKER
done

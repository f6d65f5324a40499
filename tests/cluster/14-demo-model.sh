#!/bin/bash
# The model we trained: diffusers' latents on it, and pictures that show what their captions ask. 20 captions here; all 200 with
# `14-demo-model.sh BIN 200`. The looking is done by tests/demo_accuracy, which knows colours and shapes, not the training.
. "$(dirname "$0")/lib.sh" "${1:-}"
captions=${2:-20}
DEMO=$HERE/../../models/demo
LOOK=$HERE/../demo_accuracy

for k in 0 1 2; do
    goldencase "$HERE/../golden/demo.json" $k > "$T/words" || die "golden/demo.json has no case $k"
    mapfile -d '' -t words < "$T/words"
    n=${#words[@]}
    zfarm generate "${words[@]:0:n-2}" --model "$DEMO" --precision f32 -o "$T/$k.png" --latents-out "$T/$k.safetensors" -q 2> "$T/generate.log" || die "case $k"
    error=$(goldencheck "$T/$k.safetensors" "$HERE/../golden/demo.safetensors" latents$k "${words[n-2]}" "${words[n-1]}" 5e-5 2> "$T/check.log") ||
        { cat "$T/check.log"; die "case $k: latents are off by $error of 5e-5"; }
    ok "case $k in f32: latents $(echo "$error" | grep -E '^[0-9]') of 5e-5"
done

zfarm batch "$LOOK/captions-$captions.jsonl" --model "$DEMO" -o "$T/pictures" --workers 2 -q 2> "$T/batch.log" || die "the batch"
demo_accuracy "$LOOK/want-$captions.jsonl" "$T/pictures" --floor > "$T/look.out" || { cat "$T/look.out"; die "the pictures do not show what was asked"; }
cat "$T/look.out"
ok "$captions captions: at least 95 % of colours and times of day, 90 % of objects and places"
demo_accuracy "$LOOK/want-$captions.jsonl" "$T/pictures" --shuffle 7 --floor > "$T/look.out" && die "shuffled captions pass, too: the look is blind"
ok "shuffled captions do not pass"

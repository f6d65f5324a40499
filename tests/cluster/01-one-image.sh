#!/bin/bash
# One image through a farm of the command's own: the picture and latents of diffusers, and nothing left behind.
. "$(dirname "$0")/lib.sh" "${1:-}"

mapfile -d '' -t words < <(goldencase "$GOLD/cases.json" 0)
n=${#words[@]}
zfarm generate "${words[@]:0:n-2}" --model "$MODEL" --precision f32 -o "$T/cat.png" --latents-out "$T/cat.safetensors" 2> "$T/generate.log" || die "zfarm generate"
ok "zfarm generate made $(stat -c %s "$T/cat.png") bytes"
check "the picture is diffusers' to 1 of 255" pngdiff "$T/cat.png" "$GOLD/case0.png" 1
check "the latents are diffusers' to 5e-5" goldencheck "$T/cat.safetensors" "$GOLD/golden.safetensors" latents0 64 64 5e-5
check "nothing is left behind" until_true 60 no_leftovers
check "the PNG carries its prompt" grep -aq "a white cat sits on the green mat" "$T/cat.png"

zfarm generate "${words[@]:0:n-2}" --model "$MODEL" --precision f32 -o "$T/again.png" -q 2> "$T/generate.log" || die "zfarm generate, again"
check "a second run gives the same bytes" cmp "$T/cat.png" "$T/again.png"
zfarm generate -p cat --steps 1 --model "$MODEL" -o "$T/native.png" -q 2> "$T/generate.log" || die "zfarm generate without a size"
check "its PNG says so" grep -aq '"width": 32, "height": 32' "$T/native.png"
mkdir "$T/many"
zfarm generate -p "two cats" -n 3 -s 7 -W 64 -H 64 --steps 2 --model "$MODEL" -o "$T/many" --sheet --json > "$T/events.json" 2> "$T/generate.log" || die "zfarm generate -n 3"
check "three images and a sheet" test "$(cd "$T/many" && echo *)" = "sheet.png zfarm-7.png zfarm-8.png zfarm-9.png"
check "--json tells each" test "$(grep -c '"event":"image"' "$T/events.json")" = 3
check "nothing is left behind" until_true 60 no_leftovers

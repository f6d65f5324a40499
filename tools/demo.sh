#!/bin/sh
# demo.sh BIN - a broker and two workers on this machine paint the demo's prompts into out/demo/, with a contact sheet.
set -eu
bin=$1
model=models/demo
prompts=$model/prompts.txt
out=out/demo

rm -rf "$out"
echo "zfarm demo: one broker and two workers on this machine's CPU, model $model"
"$bin/zfarm" batch "$prompts" -o "$out" --model "$model" --workers 2 -W 256 -H 256 -s 1 --sheet
echo
echo "Every PNG carries its prompt, seed and settings. Now one of your own:"
echo "  $bin/zfarm generate -p 'a red house by a lake at night, full moon' --model $model -W 256 -H 256 -o house.png"

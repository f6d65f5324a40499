#!/bin/bash
# Whatever is wrong gets one sentence and exit code 1 or 2: no crash, no half-written file, nothing left behind.
. "$(dirname "$0")/lib.sh" "${1:-}"

# bad CODE WORDS COMMAND...: exits with CODE, and its sentence holds WORDS
bad() {
    local code=$1 words=$2 rc; shift 2
    timeout 120 "$@" > "$T/bad.out" 2> "$T/bad.err" < /dev/null
    rc=$?
    [ $rc -eq "$code" ] || { cat "$T/bad.out" "$T/bad.err"; die "$(printf '%.100s' "$*") ended with $rc instead of $code"; }
    grep -qF -- "$words" "$T/bad.err" || { cat "$T/bad.err"; die "$(printf '%.100s' "$*") did not say: $words"; }
    n_checks=$((n_checks + 1))
    echo "  $(grep -F -- "$words" "$T/bad.err" | head -1 | cut -c1-150)"
}
gen=(zfarm generate -p cat --model "$MODEL" -o "$T/x.png")

# values
bad 2 "use 992 or 1008" "${gen[@]}" -W 1000
bad 2 "width 0 is out of range" "${gen[@]}" -W 0
bad 2 "height 100000 is out of range" "${gen[@]}" -H 100000
bad 2 "steps 0" "${gen[@]}" --steps 0
bad 2 'seed "abc"' "${gen[@]}" -s abc
bad 2 'guidance "nan"' "${gen[@]}" -g nan
bad 2 "did you mean --steps?" "${gen[@]}" --stepz 3
bad 2 "did you mean generate?" zfarm genrate
bad 2 "rng" "${gen[@]}" --rng torch-tpu
bad 2 "give one of them" "${gen[@]}" --steps 3 --num-inference-steps 4
bad 2 "is not valid UTF-8" zfarm generate -p $'caf\xe9' --model "$MODEL" -o "$T/x.png"
head -c 1048576 /dev/zero | tr '\0' a > "$T/large.txt"
bad 1 "32768" zfarm generate --prompt-file "$T/large.txt" --model "$MODEL" -o "$T/x.png"
bad 1 "large.txt:1: prompt has 1048576 bytes; the limit is 32768" zfarm batch "$T/large.txt" --model "$MODEL" -o "$T/out"
printf 'cat\n\xff\xfe dog\n' > "$T/latin.txt"
bad 1 "latin.txt:2: prompt is not valid UTF-8" zfarm batch "$T/latin.txt" --model "$MODEL" -o "$T/out"
printf 'prompt,seed\ncat,1\ndog,two\n' > "$T/rows.csv"
bad 1 'rows.csv:3: seed "two"' zfarm batch "$T/rows.csv" --model "$MODEL" -o "$T/out"
bad 1 "ends in .txt, .jsonl or .csv" zfarm batch "$T/rows.ods" --model "$MODEL" -o "$T/out"
bad 1 "$T/none.txt" zfarm batch "$T/none.txt" --model "$MODEL" -o "$T/out"
[ -e "$T/out" ] && die "a refused batch made its folder"

# models
bad 1 "no model folder at $T/nowhere" zfarm generate -p cat --model "$T/nowhere" -o "$T/x.png"
mkdir "$T/empty"
bad 1 "model_index.json" zfarm generate -p cat --model "$T/empty" -o "$T/x.png"
broken() { rm -rf "$T/m"; cp -r "$MODEL" "$T/m"; chmod -R u+w "$T/m"; }
dit=transformer/diffusion_pytorch_model.safetensors
broken; truncate -s 100 "$T/m/$dit"
bad 1 "diffusion_pytorch_model.safetensors" zfarm generate -p cat --model "$T/m" -o "$T/x.png"
broken; truncate -s -1000 "$T/m/$dit"
bad 1 "diffusion_pytorch_model.safetensors" zfarm generate -p cat --model "$T/m" -o "$T/x.png"
broken; printf '\xff\xff\xff\xff\xff\xff\xff\x7f' | dd of="$T/m/$dit" conv=notrunc status=none
bad 1 "diffusion_pytorch_model.safetensors" zfarm generate -p cat --model "$T/m" -o "$T/x.png"
broken; sed -i 's/layers\.0\.attention\.to_q\.weight/layers.0.attention.to_Q.weight/' "$T/m/$dit"
bad 1 "to_q.weight" zfarm generate -p cat --model "$T/m" -o "$T/x.png"
broken; sed -i 's/"shape":\[64,128\],"data_offsets":\[33152,49536\]/"shape":[128,64],"data_offsets":[33152,49536]/' "$T/m/$dit"
bad 1 "all_final_layer.2-1.linear.weight" zfarm generate -p cat --model "$T/m" -o "$T/x.png"
broken; sed -i 's/"data_offsets":\[33024,33152\]/"data_offsets":[32924,33052]/' "$T/m/$dit"
bad 1 "all_final_layer.2-1.linear.bias" zfarm generate -p cat --model "$T/m" -o "$T/x.png"
broken; sed -i -E 's/("head_dim": *)[0-9]+/\10/' "$T/m/text_encoder/config.json"
bad 1 "head_dim" zfarm generate -p cat --model "$T/m" -o "$T/x.png"
broken; echo 'not json' > "$T/m/tokenizer/tokenizer.json"
bad 1 "tokenizer.json" zfarm generate -p cat --model "$T/m" -o "$T/x.png"

# places
bad 1 "does not exist" zfarm generate -p cat --model "$MODEL" -o "$T/no/folder/x.png"
prompts 2 > "$T/two.txt"
bad 1 "is a file" zfarm batch "$T/two.txt" --model "$MODEL" -o "$T/large.txt"
bad 1 "-n 2 makes several" "${gen[@]}" -n 2
bad 1 "pictures are PNG files" zfarm generate -p cat --model "$MODEL" -o "$T/x.jpg"
bad 1 "not written to standard output" zfarm generate -p cat --model "$MODEL" -o -
bad 1 "need different files" "${gen[@]}" --latents-out "$T/./x.png"
bad 1 "need different files" "${gen[@]}" --sheet="$T/x.png"
if [ "$(id -u)" != 0 ]; then
    mkdir "$T/locked"; chmod 555 "$T/locked"
    bad 1 "cannot write into the folder" zfarm batch "$T/two.txt" --model "$MODEL" -o "$T/locked"
else
    bad 1 "cannot" zfarm batch "$T/two.txt" --model "$MODEL" -o /proc/zfarm
fi
mkdir -p "$T/small" "$T/foreign"
if mount -t tmpfs -o size=16k none "$T/small" 2>/dev/null; then
    bad 1 "No space left" zfarm generate -p cat --model "$MODEL" -W 256 -H 256 --steps 1 -o "$T/small/x.png"
    check "nothing stands under the final name, nor beside it" test -z "$(ls -A "$T/small")"
    umount "$T/small"
fi
echo mine > "$T/foreign/00000-5.png"
bad 1 "exists: a batch never overwrites" zfarm batch "$T/two.txt" --model "$MODEL" -s 5 -o "$T/foreign"
check "the foreign file is as it was" grep -q mine "$T/foreign/00000-5.png"

# farms
bad 1 "no answer from the broker at tcp://127.0.0.1:9 within 0.5 s: is zfarm-broker running there?" zfarm jobs --broker tcp://127.0.0.1:9 --timeout 0.5
bad 1 "zfarm jobs:" zfarm jobs --broker nonsense --timeout 0.5
bad 2 "but a broker is given" zfarm generate -p cat --broker "$EP" --threads 2
bad 1 "give a model's name" "${gen[@]}" --broker "$EP"
broker_up
until_true 60 zfarm jobs --broker "$EP" || die "the broker does not start"
bad 1 "$T/data" timeout 60 zfarm-broker --listen "ipc://$T/second" --data "$T/data"
bad 1 "7" zfarm show 7 --broker "$EP"
bad 1 "is not known" zfarm gather 7 -o "$T/g" --broker "$EP"
bad 1 "is not known" zfarm watch 7 --broker "$EP"
bad 1 "$T/nowhere" zfarm-worker --broker "$EP" --model "$T/nowhere"

check "no picture was written" test -z "$(find "$T" -name '*.png' ! -path "$T/foreign/*" ! -path "$T/m/*")"
check "no temporary file was left" test -z "$(find "$T" -name '.*.tmp')"
check "nothing is left behind" until_true 60 no_leftovers

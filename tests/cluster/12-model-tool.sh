#!/bin/bash
# 12-model-tool.sh BIN - zfarm-model through its command line: goldens, determinism, refusals, what a killed synth leaves.
set -u
bin=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")/.." && pwd)
tool=$bin/zfarm-model
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bad=0

say() { echo "not so: $*"; bad=1; }

# refused CODE 'words' command...: that exit code, one sentence with those words on stderr, nothing on stdout
refused() {
    local code=$1 words=$2
    shift 2
    "$@" > "$dir/out" 2> "$dir/err"
    local got=$?
    [ $got -eq "$code" ] || say "$* ended with $got, not $code"
    grep -q -- "$words" "$dir/err" || say "$* said '$(cat "$dir/err")', not '$words'"
    if [ "$code" -eq 1 ]; then [ "$(wc -l < "$dir/err")" -eq 1 ] || say "$* said more than one line"; fi
    [ ! -s "$dir/out" ] || say "$* printed something"
}

# ids of the real tokenizer, raw and chat, row by row as HF gives them
mkdir "$dir/qwen2"
gzip -dc "$here/golden/qwen2/tokenizer.json.gz" > "$dir/qwen2/tokenizer.json"
cases=$here/golden/qwen2/cases.jsonl
sed -E 's/.*"raw": (\[[^]]*\]), "chat512": .*/\1/' "$cases" > "$dir/raw"
sed -E 's/.*"chat512": (\[[^]]*\])\}$/\1/' "$cases" > "$dir/chat"
"$tool" tokenize --tokenizer "$dir/qwen2" --jsonl "$cases" | cmp - "$dir/raw" || say "raw ids differ"
"$tool" tokenize --tokenizer "$dir/qwen2" --chat --jsonl - < "$cases" | cmp - "$dir/chat" || say "chat ids differ"
[ "$(printf 'hello\n\nhello\r\n' | "$tool" tokenize -t "$dir/qwen2" | tr '\n' ' ')" = "[14990] [] [14990] " ] || say "lines of stdin"
[ "$("$tool" tokenize -t "$here/golden/tiny-a/model" -- '<|im_end|>')" = "[1202]" ] || say "a model folder as --tokenizer"

# synth: same seed same bytes, whatever the threads; another seed, others; shards hold the same
for i in 1 2 3; do
    "$tool" synth -q -c tiny -s 5 -j "$i" -o "$dir/t$i" || say "synth $i"
    diff -r "$dir/t1" "$dir/t$i" || say "threads change the bytes"
    "$tool" inspect --brief "$dir/t$i" > "$dir/out" || say "inspect of synth"
done
[ "$(grep -c 'complete: every tensor' "$dir/out")" -eq 3 ] || say "synth is not complete"
"$tool" synth -q -c tiny -s 6 -o "$dir/other" && cmp -s "$dir/t1/vae/diffusion_pytorch_model.safetensors" "$dir/other/vae/diffusion_pytorch_model.safetensors" &&
    say "seeds do not matter"
"$tool" synth -q -c tiny -s 5 --shard-mb 1 -o "$dir/shards" || say "synth with shards"
[ -f "$dir/shards/transformer/diffusion_pytorch_model-00004-of-00004.safetensors" ] || say "no shards"
"$tool" inspect "$dir/shards/transformer" | grep '  [BF]' | sort > "$dir/a"
"$tool" inspect "$dir/t1/transformer" | grep '  [BF]' | sort > "$dir/b"
[ -s "$dir/a" ] && cmp "$dir/a" "$dir/b" || say "shards list other tensors"
"$tool" inspect "$here/golden/tiny-a/model/transformer" | grep '  [BF]' | sort | cmp - "$dir/b" || say "tiny has other tensors than diffusers' model"
"$tool" synth -q -c tiny --dtype f32 -o "$dir/f32" && "$tool" inspect "$dir/f32/vae" | grep -q ' F32 ' || say "f32"
echo '{"transformer": {"n_layers": 3}, "vae": {"layers_per_block": 1}}' > "$dir/conf.json"
"$tool" synth -q -c "$dir/conf.json" -o "$dir/conf" && "$tool" inspect -b "$dir/conf" | grep -q '3 layers + 2' || say "a config file"
mkdir "$dir/empty" && "$tool" synth -q -c tiny -o "$dir/empty" || say "an empty folder is fine"
[ "$("$tool" synth -n -c turbo | grep -c -e '6154908736 parameters' -e '4022468096 parameters' -e '83819683 parameters')" -eq 3 ] || say "turbo's sizes"

# what is missing has a name
cp -r "$dir/t1" "$dir/cut"
sed -i 's/"layers.1.attention.to_q.weight"/"layers.9.attention.to_q.weight"/' "$dir/cut/transformer/diffusion_pytorch_model.safetensors"
"$tool" inspect -b "$dir/cut" > "$dir/out" && say "a missing tensor is fine?"
grep -q 'MISSING layers.1.attention.to_q.weight \[128,128\]' "$dir/out" || say "the missing tensor is not named"
sed -i 's/"n_layers": 2/"n_layers": 4/' "$dir/cut/transformer/config.json"
"$tool" inspect -b "$dir/cut/transformer" > "$dir/out" && say "missing layers are fine?"
grep -q 'and [0-9]* more' "$dir/out" || say "the list of missing tensors has no end"

# refusals
refused 2 'no command' "$tool"
refused 2 "unknown command 'foo'" "$tool" foo
refused 2 'DIR or FILE' "$tool" inspect
refused 2 'unrecognized option' "$tool" inspect --nope x
refused 2 '--tokenizer' "$tool" tokenize hello
refused 2 'not both' "$tool" tokenize -t x -j y hello
refused 2 '--seed' "$tool" synth -c tiny -o "$dir/x" -s abc
refused 2 '--dtype' "$tool" synth -c tiny -o "$dir/x" -d fp8
refused 2 '--threads' "$tool" synth -c tiny -o "$dir/x" -j 0
refused 2 '--output' "$tool" synth -c tiny
refused 1 'not empty' "$tool" synth -c tiny -o "$dir/t1"
refused 1 'neither tiny' "$tool" synth -c "$dir/nothing.json" -o "$dir/x"
refused 1 'cannot use' "$tool" synth -c tiny -o "$dir/conf.json"
refused 1 'nothing' "$tool" inspect "$dir/nothing"
refused 1 'nothing' "$tool" tokenize -t "$dir/nothing" hello
refused 1 'at byte 1 ' "$tool" tokenize -t "$dir/t1" "$(printf 'a\377b')"
echo '{"text": 1}' > "$dir/row.jsonl"
refused 1 'line 1: no field "prompt"' "$tool" tokenize -t "$dir/t1" -j "$dir/row.jsonl"
echo 'hello' > "$dir/t3/tokenizer/tokenizer.json"
refused 1 'not valid JSON' "$tool" tokenize -t "$dir/t3" hello
refused 1 'line 1: longer than' "$tool" tokenize -t "$dir/qwen2" --jsonl /dev/zero # a line without end
for edit in '{"transformer": {"dims": 3}}' '{"unet": {}}' '{"transformer": {"n_heads": 3}}' '{"text_encoder": {"hidden_size": 96}}' \
    '{"text_encoder": {"vocab_size": 100}}' '{"vae": {"norm_num_groups": 7}}' '[]' '{'; do
    echo "$edit" > "$dir/bad.json"
    refused 1 'bad.json' "$tool" synth -c "$dir/bad.json" -o "$dir/x"
done
[ ! -e "$dir/x" ] || say "a refused synth left its folder"
"$tool" tokenize -t "$dir/t1" hello > /dev/full 2> "$dir/err" && say "a full output is fine?"

# stopped: nothing is left; killed: no model_index.json, no file that is not whole
"$tool" synth -q -c small -d f32 -o "$dir/stopped" & p=$!
while [ ! -d "$dir/stopped/transformer" ] && kill -0 $p 2> /dev/null; do :; done
kill -TERM $p 2> /dev/null
if wait $p; then :; else [ ! -e "$dir/stopped" ] || say "a stopped synth left $(find "$dir/stopped")"; fi
"$tool" synth -q -c small -d f32 -o "$dir/killed" & p=$!
while [ ! -d "$dir/killed/transformer" ] && kill -0 $p 2> /dev/null; do :; done
kill -KILL $p 2> /dev/null
if ! wait $p 2> /dev/null; then
    [ ! -e "$dir/killed/model_index.json" ] || say "a killed synth looks whole"
    for f in "$dir"/killed/*/*.safetensors; do
        [ ! -e "$f" ] || "$tool" inspect -b "$f" > /dev/null || say "a killed synth left a broken $f"
    done
fi
[ $bad -eq 0 ] && echo "zfarm-model: all well"
exit $bad

#!/bin/bash
# 13-model-files.sh BIN - zfarm-model quantize and verify through their command line: every type, names, refusals, what a stopped one leaves.
set -u
bin=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")/.." && pwd)
tool=$bin/zfarm-model
model=$here/golden/tiny-a/model
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bad=0

say() { echo "not so: $*"; bad=1; }

# refused CODE 'words' command...
refused() {
    local code=$1 words=$2
    shift 2
    "$@" > "$dir/out" 2> "$dir/err"
    local got=$?
    [ $got -eq "$code" ] || say "$* ended with $got, not $code"
    grep -q -- "$words" "$dir/err" || say "$* said '$(cat "$dir/err")', not '$words'"
}

# every type of both networks: written, whole, finite; the same bytes from any number of threads; smaller from type to type
for t in f16 bf16 q8_0 q6_k q5_k q4_k_m q4_0 q3_k q2_k; do
    for part in transformer text_encoder; do
        "$tool" quantize -q -j 1 -t $t "$model/$part" "$dir/$part-$t.gguf" > /dev/null || say "quantize $t $part"
        "$tool" verify "$dir/$part-$t.gguf" > "$dir/out" || say "verify $t $part: $(cat "$dir/out")"
        "$tool" quantize -q -f -j 3 -t $t "$model/$part" "$dir/again.gguf" > /dev/null
        cmp "$dir/$part-$t.gguf" "$dir/again.gguf" || say "threads change the bytes of $t"
    done
done
[ "$(stat -c %s "$dir/transformer-q4_0.gguf")" -lt "$(stat -c %s "$dir/transformer-q8_0.gguf")" ] || say "q4_0 is not smaller"
"$tool" quantize -q -t fp8 "$model/transformer" "$dir/fp8.safetensors" > /dev/null || say "fp8"
"$tool" verify "$dir/fp8.safetensors" > /dev/null || say "verify fp8"

# a GGUF as input keeps its metadata and gives its values; rules come first
"$tool" quantize -q -t bf16 "$dir/text_encoder-q8_0.gguf" "$dir/back.gguf" > /dev/null || say "GGUF to GGUF"
"$tool" tokenize -t "$model" 'a white cat' > "$dir/a" || say "tokenize"
"$tool" quantize -n -t q8_0 -r 'layers.0.*w1*=f32' -r 'layers.*=bf16' "$model/transformer" > "$dir/out" || say "rules"
grep -q 'layers.0.feed_forward.w1.weight *f32' "$dir/out" || say "the first rule does not win"
grep -q 'layers.1.attention.qkv.weight *bf16' "$dir/out" || say "the second rule is not heard"
grep -q 'noise_refiner.0.attention.qkv.weight *q8_0' "$dir/out" || say "the type is not heard"
grep -q 'x_embedder.weight *bf16' "$dir/out" || say "an embedder is quantised"

# refusals
refused 2 'type is missing' "$tool" quantize "$model/transformer" "$dir/x.gguf"
refused 2 'not known' "$tool" quantize -t q9 "$model/transformer" "$dir/x.gguf"
refused 1 'exists already' "$tool" quantize -t q8_0 "$model/transformer" "$dir/transformer-q8_0.gguf"
refused 1 'no 8-bit floats' "$tool" quantize -t fp8 "$model/transformer" "$dir/x.gguf"
refused 1 'neither' "$tool" quantize -t q8_0 "$model/vae" "$dir/x.gguf"
refused 1 'do not divide' "$tool" quantize -t q8_0 -r '*.w2.*=q8_0' "$model/transformer" "$dir/x.gguf"
[ ! -e "$dir/x.gguf" ] || say "a refused quantize left a file"
[ -z "$(find "$dir" -name '*.tmp')" ] || say "a temporary is left"

# verify finds what is wrong: a NaN, a checksum, a missing file
cp -r "$model/transformer" "$dir/mad"
size=$(stat -c %s "$dir/mad/diffusion_pytorch_model.safetensors")
printf '\377\377\377\377' | dd of="$dir/mad/diffusion_pytorch_model.safetensors" bs=1 seek=$((size - 40)) conv=notrunc 2> /dev/null
"$tool" verify "$dir/mad" > "$dir/out" && say "a NaN is fine?"
grep -q 'not finite' "$dir/out" || say "the NaN is not named"
refused 1 'not finite' "$tool" quantize -q -t q8_0 "$dir/mad" "$dir/x.gguf"
(cd "$model" && md5sum model_index.json vae/*.safetensors) > "$dir/list"
"$tool" verify --manifest "$dir/list" "$model" > "$dir/out" || say "the manifest is refused: $(cat "$dir/out")"
sed 's/^./f/; s/^ff/0f/' "$dir/list" > "$dir/other"
"$tool" verify --manifest "$dir/other" "$model" > "$dir/out" && say "other checksums are fine?"
echo 'nothing.safetensors' > "$dir/list"
"$tool" verify -m "$dir/list" "$model" > "$dir/out" && say "a missing file is fine?"
echo '../model_index.json' > "$dir/list"
refused 1 'line 1' "$tool" verify -m "$dir/list" "$model/vae"

# synth --type writes what quantize makes of the same numbers (those of f32)
"$tool" synth -q -c tiny -d f32 -s 3 -o "$dir/wide" && "$tool" synth -q -c tiny -t q8_0 -s 3 -j 2 -o "$dir/narrow" || say "synth --type"
"$tool" verify "$dir/narrow" > "$dir/out" || say "verify of synth --type: $(cat "$dir/out")"
"$tool" quantize -q -t q8_0 "$dir/wide/transformer" "$dir/wide.gguf" > /dev/null
tail -c 1000000 "$dir/wide.gguf" | cmp - <(tail -c 1000000 "$dir/narrow/transformer/model.gguf") || say "synth --type has other values"
refused 2 'type that GGUF has' "$tool" synth -c tiny -t fp8 -o "$dir/none"

# what is stopped leaves nothing
"$tool" synth -q -c small -o "$dir/small" 2> /dev/null
"$tool" quantize -q -t q2_k "$dir/small/transformer" "$dir/stopped.gguf" > /dev/null 2>&1 & p=$!
begun() { ls -A "$dir" | grep -q 'stopped.gguf'; }
until begun || ! kill -0 $p 2> /dev/null; do :; done
kill -TERM $p 2> /dev/null
wait $p
if [ -e "$dir/stopped.gguf" ]; then "$tool" verify "$dir/stopped.gguf" > /dev/null || say "half a file has its name"; fi
[ -z "$(find "$dir" -name '*.tmp')" ] || say "a stopped quantize left its temporary"

exit $bad

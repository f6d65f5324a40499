#!/bin/bash
# 11-bench.sh BIN - zfarm-bench: what stages cost by their shapes, plausible figures of a small model, two sides, refusals. No timing is judged.
. "$(dirname "$0")/lib.sh" "$1"

field() { jsonfield "$@"; } # FILE NAMES...: a value of the bench's JSON
near()  { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; exit !(a != "" && d < 0.006 && d > -0.006) }'; }
holds() { awk "BEGIN { exit !($*) }"; }
run()   { zfarm-bench --device cpu --threads 1 --config tiny --steps 3 --repeats 2 --warmup 1 --json "$@"; }

# the published arithmetic of the real model: TFLOP of a pass, of the text encoder, of the decoder
zfarm-bench --plan --json --size 1024x1024 --size 512x512 --size 1280x720 --size 2048x1152 --prompt-tokens 32 > "$T/plan32" || die "--plan"
for row in 0:55.097 1:12.484 2:47.827 3:146.736; do
    check "a pass of size ${row%%:*} is ${row##*:} TFLOP" near "$(field "$T/plan32" sides 0 runs "${row%%:*}" stages pass tflop)" "${row##*:}"
done
zfarm-bench --plan --json --prompt-tokens 512 > "$T/plan512" || die "--plan of 512 tokens"
check "512 tokens of text are 3.692 TFLOP" near "$(field "$T/plan512" sides 0 runs 0 stages text tflop)" 3.692
check "decoding 1024 x 1024 is 10.472 TFLOP" near "$(field "$T/plan512" sides 0 runs 0 stages decode tflop)" 10.472
check "a pass with 512 tokens has a floor of 78.64 ms" near "$(field "$T/plan512" sides 0 runs 0 stages pass floor_ms)" 78.64
zfarm-bench --plan | grep -q 'nothing was run' || die "--plan as a table"

# figures of a small model that fit each other
run --size 64x64 --size 128x64 > "$T/out" || die "a run"
for size in 0 1; do
    s=(sides 0 runs $size stages)
    check "3 passes in each of 2 rounds" test "$(field "$T/out" "${s[@]}" pass n)" = 6
    check "2 images" test "$(field "$T/out" "${s[@]}" image n)" = 2
    for stage in text caption pass passes decode image wall; do
        low=$(field "$T/out" "${s[@]}" $stage min_ms) mid=$(field "$T/out" "${s[@]}" $stage median_ms) high=$(field "$T/out" "${s[@]}" $stage max_ms)
        check "$stage: least, median and greatest are in order" holds "0 < $low && $low <= $mid && $mid <= $high"
    done
    check "an image takes longer than its passes" holds "$(field "$T/out" "${s[@]}" image min_ms) > $(field "$T/out" "${s[@]}" passes min_ms)"
    check "the host's clock sees all of it" holds "$(field "$T/out" "${s[@]}" wall max_ms) + 0.01 >= $(field "$T/out" "${s[@]}" image max_ms)"
    check "memory" holds "$(field "$T/out" sides 0 runs $size memory_peak_bytes) > 1000000"
done
check "the larger picture is more work" holds "$(field "$T/out" sides 0 runs 1 stages pass tflop) > $(field "$T/out" sides 0 runs 0 stages pass tflop)"
field "$T/out" sides 0 about | grep -q 'cpu\|CPU\|AMD\|Intel\|threads' || die "about"

# two sides, and kinds
run --size 64x64 --ab '--kind q8_0' --ab '--kind q4_k --text-kind bf16 --steps 2' > "$T/ab" || die "--ab"
check "side A" test "$(field "$T/ab" sides 0 kind) $(field "$T/ab" sides 0 text_kind) $(field "$T/ab" sides 0 runs 0 stages pass n)" = "q8_0 q8_0 6"
check "side B" test "$(field "$T/ab" sides 1 kind) $(field "$T/ab" sides 1 text_kind) $(field "$T/ab" sides 1 runs 0 stages pass n)" = "q4_k bf16 4"
check "kinds weigh what they weigh" holds "$(field "$T/ab" sides 1 runs 0 stages pass gb) < $(field "$T/ab" sides 0 runs 0 stages pass gb)"
zfarm-bench --device cpu --threads 1 --config "$MODEL" --size 64x64 --steps 1 --repeats 1 --warmup 0 --ab '--kind f32' --ab '' > "$T/table" || die "the config of a folder"
grep -q '^B / A, medians, 64 x 64:  text [0-9.]*  caption' "$T/table" || die "no ratio of the sides"

# refused CODE WORDS OPTIONS...
refused() {
    local code=$1 words=$2
    shift 2
    zfarm-bench "$@" > "$T/o" 2> "$T/e"
    check "$* is refused" test $? = "$code"
    grep -q -- "$words" "$T/e" || die "$* said $(cat "$T/e")"
}
refused 2 'given twice' --ab ''
refused 2 'groups 1 to 3' --ab '--json' --ab ''
refused 2 'WIDTHxHEIGHT' --size 64
refused 2 'kind of weights' --kind iq4_nl
refused 2 'go together' --peak-gbs 3
refused 2 'both sides need' --size 64x64 --ab '--size 32x32 --size 64x64' --ab ''
refused 1 'must be 27 to 512' --device cpu --config tiny --prompt-tokens 3
refused 1 'not a multiple' --device cpu --config tiny --size 65x64
refused 1 'neither tiny' --config "$T/nothing"

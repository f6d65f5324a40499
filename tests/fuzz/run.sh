#!/bin/sh
# run.sh BUILD SECONDS [FUZZER...] - runs the libFuzzer harnesses of a clang build, as many at once as there are cores, from the nasty files and
# what the goldens offer as a start; prints a line each. Exit 1 with the finding when there is one. What was found stays in BUILD/corpus.
set -u
here=$(dirname "$0")
build=$1
seconds=$2
shift 2
golden=$here/../golden
[ $# -gt 0 ] || set -- $(cd "$here" && ls fuzz_*.c | sed 's/\.c$//')

seed() { # FUZZER FILE... into its corpus
    corpus=$build/corpus/$1
    mkdir -p "$corpus"
    shift
    for f in "$@"; do
        [ -f "$f" ] && cp "$f" "$corpus/seed-$(echo "$f" | tr '/' '_' | tail -c 60)"
    done
}

mkdir -p "$build/corpus"
"$build/bin/nasty_files" "$build/corpus"
export ASAN_OPTIONS="quarantine_size_mb=8:malloc_context_size=4:${ASAN_OPTIONS:-}" # twice as many executions
for f in "$@"; do
    mkdir -p "$build/corpus/$f"
    case $f in
    fuzz_gguf | fuzz_vocab) printf '@' >"$build/corpus/$f/edit" && printf '#' >"$build/corpus/$f/edit-other" ;;
    fuzz_config) seed "$f" "$golden"/tiny-a/model/*.json "$golden"/tiny-a/model/*/*config.json ;;
    fuzz_wire) # every message once: kind, then its body
        perl -ane 'open my $f, ">:raw", "'"$build/corpus/$f"'/message-" . $n++; print $f substr(pack("H*", $F[1]), 4, 1), pack("H*", $F[2] // "")' "$here"/../proto/golden.txt ;;
    fuzz_png) seed "$f" "$golden"/tiny-a/case5.png ;;
    fuzz_batch) seed "$f" "$here"/../demo_accuracy/*20*.jsonl ;;
    fuzz_keys)
        printf 'name a\nrole client\npublic %s\nsecret %s\n' 8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a 77076d0a7318a57d3c16c17251b26645c6c2f6c4c4c1c8e3a4a5c9d5e0fb4b2a >"$build/corpus/$f/key"
        printf 'a client %s active\nb worker %s revoked\n' 8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a 8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6b >"$build/corpus/$f/accounts"
        ;;
    fuzz_dispatch) # long days of a farm: chance, from a few beginnings
        for k in 1 2 3 4 5 6 7 8; do
            awk -v k=$k 'BEGIN { srand(k); printf "%c", 64 + (k % 2) + 4 * (k % 3 > 0) + 8 * (k % 4 > 0); for (i = 0; i < 1200; i++) printf "%c", 1 + int(rand() * 126) }' >"$build/corpus/$f/day-$k"
        done
        ;;
    *) seed "$f" ;;
    esac
done
printf '%s\n' "$@" | xargs -P "$(nproc)" -I{} sh -c '
    log={}; log='"$build"'/$log.log
    if '"$build"'/bin/{} -max_total_time='"$seconds"' -max_len=4096 -timeout=60 -rss_limit_mb=3000 -print_final_stats=1 '"$build"'/corpus/{} >$log 2>&1; then
        echo "{}: $(sed -n "s/^stat::number_of_executed_units: *//p" $log) executions, no finding"
    else
        tail -n 60 $log
        exit 255
    fi'

#!/usr/bin/env bash
# X6: names that would lead out of the folder are refused before anything is made, and a canary outside stays as it was.
#   tests/security/x6-paths.sh BINDIR
. "$(dirname "$0")/lib.sh" "$1"
echo canary > "$T/canary.png"
mkdir "$T/out"
ln -s "$T" "$T/out/link"
long=$(printf 'a%.0s' $(seq 4096))

i=0
for name in '../canary' '/tmp/canary' "$T/canary" '..' '.' '../../canary' 'link/canary' 'a/b' '.hidden' '-rf' '..\\canary' '\u0000canary' 'a\u0000b' 'a\nb' "$long"; do
    i=$((i + 1))
    printf '{"prompt": "a", "name": "%s", "width": 64, "height": 64}\n' "$name" > "$T/row.jsonl"
    refuses "a row named ${name:0:20}" "name" zfarm batch "$T/row.jsonl" -o "$T/out" --model "$MODEL" -s 1
done
[ "$(cat "$T/canary.png")" = canary ] || die "the canary was touched"
[ "$(ls -A "$T/out")" = link ] || die "something was written: $(ls -A "$T/out")"
ok "nothing was made of $i bad names"

ln -s "$T/canary.png" "$T/out/x.png" # the name is good, but a link of it lies there already
printf '{"prompt": "a", "name": "%%2e%%2e%%2fcanary", "width": 64, "height": 64}\n{"prompt": "a", "name": "x", "width": 64, "height": 64}\n' > "$T/row.jsonl"
zfarm batch "$T/row.jsonl" -o "$T/out" --model "$MODEL" -s 1 > "$T/batch.log" 2>&1 # refused or made: not through the link
[ "$(cat "$T/canary.png")" = canary ] || die "the canary was written through a link"
[ -z "$(find "$T" -maxdepth 1 -name '*.png' ! -name canary.png)" ] || die "an image lies outside its folder"
ok "percent signs are a name like others, and a link is replaced, not followed"

for name in '../gpu' '/etc/x' 'a/b' '.x' '%2e%2e%2f' "$long" server ''; do
    zfarm-keys init "$T/k0" > /dev/null 2>&1
    refuses "an account named ${name:0:20}" "account" zfarm-keys --dir "$T/k0" add "$name" --role client
done
refuses "a model's name with a control byte" "control byte" zfarm-worker --broker "$EP" --model "$(printf 'a\001b')=$MODEL"
refuses "a model's name of 4 KiB" "bytes" zfarm-worker --broker "$EP" --model "$long=$MODEL"
[ "$(cat "$T/canary.png")" = canary ] || die "the canary was touched"
ok "the canary sings"

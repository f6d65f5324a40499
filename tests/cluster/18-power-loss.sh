#!/bin/bash
# 18-power-loss.sh BINDIR [CUTS] - the broker's machine loses power in the middle of work (tests/chaos/run.sh has the layer): nothing that a client was told
# is lost. Then the same on a disk that lies about the journal's log: that run must see what is lost, or the test is blind.
here=$(dirname "$0")
bin=${1:?usage: $0 BINDIR [CUTS]}
cuts=${2:-8}
out=$(mktemp) || exit 2
trap 'rm -f "$out"' EXIT
POWERLOSS=1 bash "$here/../chaos/run.sh" "$bin" "$cuts" broker 900 || exit 1
POWERLOSS=1 POWERLOSS_LIE=-wal PATIENCE_S=10 bash "$here/../chaos/run.sh" "$bin" 60 broker 900 > "$out" 2>&1 # until the first loss: usually the first or second cut
seen=$(grep -c '^power cut [0-9]*: ' "$out")
[ "$seen" -gt 0 ] || { tail -n 40 "$out"; echo "FAILED: a disk that forgets the journal's log went unseen"; exit 1; }
echo "ok: on a disk that lies about the journal's log, $seen losses are seen"

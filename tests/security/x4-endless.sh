#!/usr/bin/env bash
# X4: frames with MORE that never end (ZeroMQ gathers a message before anybody sees it), on loopback without keys and from a peer with a good key: the
# broker keeps under --memory-max or dies of it, and is back within 2 s with everything it acknowledged.
#   tests/security/x4-endless.sh BINDIR
. "$(dirname "$0")/lib.sh" "$1"
mib=400 limit=256
[ "$ASAN" -gt 0 ] && { ok "not with the address sanitizer, which wants terabytes of address space"; exit 0; }
[ "$FULL" = 1 ] && mib=4000

# endless NAME BROKER-OPTIONS... -- COMMAND...: the command sends without end; the job that is there already must survive it
endless() {
    local name=$1 peak=0 rss began ms options=(); shift
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    tcp_broker_up --memory-max $limit "${options[@]}"
    "$1" "$2" 127.0.0.1 "$PORT" "${@:3}" $mib > "$T/more.log" &
    pids+=($!)
    while kill -0 "${pids[-1]}" 2>/dev/null && ! gone "$BROKER"; do
        rss=$(rss_kib "$BROKER" 2>/dev/null); [ "${rss:-0}" -gt $peak ] && peak=$rss
        sleep 0.05
    done
    wait "${pids[-1]}" || die "$name: it did not get so far: $(cat "$T/more.log")"
    [ $peak -le $((limit * 1024)) ] || die "$name: the broker took $peak KiB"
    ok "$name: $(cat "$T/more.log"); the broker took $((peak / 1024)) MiB at most, and $(gone "$BROKER" && echo died || echo lives)"
    gone "$BROKER" || kill -9 "$BROKER"
    until_true 60 gone "$BROKER" || die "the broker does not end"
    began=$(date +%s%N)
    tcp_broker_up --memory-max $limit "${options[@]}"
    [ "$(job_field 1 queued)" = 20 ] || die "$name: the job is not whole: $(zfarm jobs --broker "$EP" --json)"
    ms=$((($(date +%s%N) - began) / 1000000))
    [ "$FULL" = 1 ] && [ $ms -gt 2000 ] && die "$name: it took $ms ms"
    ok "$name: back, and asked for its 20 images, in $ms ms"
    kill "$BROKER"
    until_true 60 gone "$BROKER" || die "the broker does not end"
}

tcp_broker_up
prompts 20 > "$T/p.txt"
check "20 images are acknowledged" zfarm batch "$T/p.txt" -o "$T/out" -W 64 -H 64 -s 1 --detach --broker "$TCP"
kill "$BROKER"
until_true 60 gone "$BROKER" || die "the broker does not end"
endless "no keys" -- "$BIN/hostile" more
keys_up
endless "a good key" --keys "$K" -- "$BIN/keyed" more "$K/alice.key"
"$BIN/zfarm-keys" --dir "$K" revoke alice > /dev/null
endless_refused() { "$BIN/keyed" more 127.0.0.1 "$PORT" "$K/alice.key" 1 > "$T/more.log"; [ $? = 1 ]; }
tcp_broker_up --keys "$K"
check "and with a revoked one it is not let in" endless_refused

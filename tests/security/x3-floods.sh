#!/usr/bin/env bash
# X3: frames too large, connections that say nothing, handshakes a byte a second: dropped, in little memory, and others are served meanwhile.
#   tests/security/x3-floods.sh BINDIR        ZFARM_FULL=1: 10,000 connections instead of 2,000
. "$(dirname "$0")/lib.sh" "$1"
n=2000 more_kib=10240
[ "$ASAN" -gt 0 ] && more_kib=204800 # what is freed stays in its quarantine
[ "$FULL" = 1 ] && n=10000
[ "$(ulimit -Hn)" -gt $((n + 1000)) ] || n=$(($(ulimit -Hn) - 1000))

flood() { # NAME CLIENT-OPTIONS...: with the broker that is up
    local name=$1 began rss0 rss worst_ms=0 ms; shift
    zfarm jobs --broker "$TCP" "$@" > /dev/null || die "$name: a client before it all"
    rss0=$(rss_kib "$BROKER")
    [ "$name" = keys ] || check "$name: frames over the limit are dropped by their header" "$BIN/hostile" oversize 127.0.0.1 "$PORT"
    for kind in half slow; do
        "$BIN/hostile" $kind 127.0.0.1 "$PORT" $n 600 > "$T/$kind.log" &
        pids+=($!)
        until_true 120 grep -q open "$T/$kind.log" || die "$name, $kind: the flood did not begin"
        for _ in 1 2 3 4; do
            began=$(date +%s%N)
            zfarm jobs --broker "$TCP" "$@" > /dev/null || die "$name, $kind: a client is not served meanwhile"
            ms=$((($(date +%s%N) - began) / 1000000))
            [ $ms -gt $worst_ms ] && worst_ms=$ms
            sleep 0.3
        done
        rss=$(rss_kib "$BROKER")
        [ $((rss - rss0)) -le $more_kib ] || die "$name, $kind: $((rss - rss0)) KiB more memory"
        ok "$name, $kind: $(cat "$T/$kind.log"), $((rss - rss0)) KiB more memory, a client is served in $worst_ms ms at worst"
        kill "${pids[-1]}"
        wait "${pids[-1]}" 2>/dev/null || true
    done
}

tcp_broker_up
flood plain
kill "$BROKER"
until_true 60 gone "$BROKER" || die "the broker does not end"
keys_up
tcp_broker_up --keys "$K"
check "keys: a command of 8 GiB before the handshake is dropped" "$BIN/hostile" oversize 127.0.0.1 "$PORT"
flood keys --key "$K/alice.key"

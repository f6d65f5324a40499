#!/usr/bin/env bash
# X4: frames with MORE that never end, on loopback without keys (ZeroMQ gathers a message before anybody sees it): the broker keeps under
# --memory-max or dies of it, and is back within 2 s with everything it acknowledged.
#   tests/security/x4-endless.sh BINDIR
. "$(dirname "$0")/lib.sh" "$1"
mib=400 limit=256
[ "$ASAN" -gt 0 ] && { ok "not with the address sanitizer, which wants terabytes of address space"; exit 0; }
[ "$FULL" = 1 ] && mib=4000

tcp_broker_up --memory-max $limit
prompts 20 > "$T/p.txt"
check "20 images are acknowledged" zfarm batch "$T/p.txt" -o "$T/out" -W 64 -H 64 -s 1 --detach --broker "$TCP"
peak=0
"$BIN/hostile" more 127.0.0.1 "$PORT" $mib > "$T/more.log" &
pids+=($!)
while kill -0 "${pids[-1]}" 2>/dev/null && ! gone "$BROKER"; do
    rss=$(rss_kib "$BROKER" 2>/dev/null); [ "${rss:-0}" -gt $peak ] && peak=$rss
    sleep 0.05
done
wait "${pids[-1]}" 2>/dev/null
[ $peak -le $((limit * 1024)) ] || die "the broker took $peak KiB"
ok "$(cat "$T/more.log"); the broker took $((peak / 1024)) MiB at most, and $(gone "$BROKER" && echo died || echo lives)"
gone "$BROKER" || kill -9 "$BROKER"
until_true 10 gone "$BROKER"
began=$(date +%s%N)
tcp_broker_up --memory-max $limit
[ "$(job_field 1 queued)" = 20 ] || die "the job is not whole: $(zfarm jobs --broker "$EP" --json)"
ms=$((($(date +%s%N) - began) / 1000000))
[ "$FULL" = 1 ] && [ $ms -gt 2000 ] && die "it took $ms ms"
ok "back, and asked for its 20 images, in $ms ms"

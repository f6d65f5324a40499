#!/bin/bash
# partitions.sh BINDIR [ROUNDS [SECONDS...]] - a farm over a network that breaks: broker, workers and clients in network namespaces of their own, CURVE keys
# on, and between the broker and each of them a cable that badlink.c makes bad (RELIABILITY.md s.6.3 N1, N2).
# Without ROUNDS, one short round: worker 1 is not heard (loss 100 % one way) until the broker gives its leases to others, while worker 2's and a
# client's interface go down for 5 s and worker 3 has 100 ms +-50, 5 % loss, 10 Mbit/s; then all heals, by itself. With it: ROUNDS rounds, in each a
# fault drawn from down, deaf (nothing reaches it), mute (nothing of it is heard) and slow, on a worker, a client or all, for one of SECONDS (5 20).
# Oracle: farm.sh. Needs root, ip (iproute2) and /dev/net/tun; otherwise says so and is skipped.
skip() { echo "skipped: $*"; exit 0; }
[ "$(id -u)" = 0 ] || skip "network namespaces need root"
command -v ip > /dev/null || skip "there is no ip: apt-get install iproute2"
[ -c /dev/net/tun ] || skip "there is no /dev/net/tun"
ip netns add "zf$$try" 2> /dev/null || skip "this machine makes no network namespaces"
ip netns del "zf$$try"
ip tuntap add dev "zf$$try" mode tun 2> /dev/null || skip "this machine makes no TUN interfaces"
ip tuntap del dev "zf$$try" mode tun
. "$(dirname "$0")/farm.sh" "${1:-}"
rounds=${2:-0}
shift; shift 2> /dev/null
lengths=("$@"); [ ${#lengths[@]} -gt 0 ] || lengths=(5 20)
n_hands=3
ends="1 2 3 4 5" # the far ends of the cables: workers 1 2 3, clients 4 5

on_cleanup() {
    for k in b $ends; do ip netns del "zf$$n$k"; done 2> /dev/null
}
on_cleanup # of one that was killed, with our number

cable() { # K LOSS_UP LOSS_DOWN DELAY JITTER KBIT: up is towards the broker
    local k=$1; shift
    echo "$*" > "$T/cable$k.new" && mv "$T/cable$k.new" "$T/cable$k"
}
far() { local k=$1; shift; ip netns exec "zf$$n$k" "$@"; }
ups() { far "$1" ip link set "zf$$x$1" up; }
downs() { far "$1" ip link set "zf$$x$1" down; }
heal() { cable "$1" 0 0 0 0 0; ups "$1"; }
there() { ip link show "$1"; }

ip netns add "zf$$nb" && ip -n "zf$$nb" link set lo up || die "the broker's namespace"
for k in $ends; do
    cable "$k" 0 0 0 0 0
    badlink "zf$$x$k" "zf$$y$k" "$T/cable$k" >> "$T/badlink.log" 2>&1 &
    pids+=($!)
    until_true 60 there "zf$$y$k" || die "cable $k"
    ip netns add "zf$$n$k" && ip link set "zf$$x$k" netns "zf$$n$k" && ip link set "zf$$y$k" netns "zf$$nb" || die "cable $k"
    ip -n "zf$$n$k" addr add "10.77.$k.2/30" dev "zf$$x$k" && ip -n "zf$$n$k" link set "zf$$x$k" up || die "the far end of cable $k"
    ip -n "zf$$nb" addr add "10.77.$k.1/30" dev "zf$$y$k" && ip -n "zf$$nb" link set "zf$$y$k" up || die "the near end of cable $k"
done

calm_run
keys_up
ip netns exec "zf$$nb" zfarm-broker --listen 'tcp://0.0.0.0:7777' --listen "$EP" --data "$T/data" --keys "$K" >> "$T/broker.log" 2>&1 &
BROKER=$!; pids+=($BROKER)
for ((k = 1; k <= n_hands; k++)); do
    ip netns exec "zf$$n$k" faulty_worker --broker "tcp://10.77.$k.1:7777" --key "$K/gpu.key" --model "$MODEL" --device cpu --threads 1 --name "hand$k" >> "$T/worker$k.log" 2>&1 &
    pids+=($!)
done
wait_workers $n_hands
ok "$n_hands workers in namespaces of their own came in with their keys"
for ((k = 1; k <= n_clients; k++)); do
    client_options=(--broker "tcp://10.77.$((n_hands + k)).1:7777" --key "$K/alice.key")
    client $k ip netns exec "zf$$n$((n_hands + k))" & pids+=($!)
done
until_true 120 whole_more_than 0 || die "no batch ends on a good network"
look

lost() { [ "$(grep 'event=worker_gone' "$T/broker.log" | grep -c "worker=\"\?hand$1\"\?")" -gt "$2" ]; }
n_lost() { grep 'event=worker_gone' "$T/broker.log" | grep -c "worker=\"\?hand$1\"\?"; }
all_back() { until_true 120 workers_are $n_hands || die "not all workers are back 120 s after the network healed"; }

short_round() {
    local began=$SECONDS before
    cable 1 100 0 0 0 0
    cable 3 5 5 100 50 10000
    downs 2
    downs 5
    sleep 5
    heal 2; heal 5
    until_true 120 lost 1 0 || die "the broker does not notice that worker 1 is silent"
    ok "worker 1, not heard any more, is given up after $((SECONDS - began)) s"
    before=$(whole)
    until_true 120 whole_more_than $((before + n_clients)) || die "without worker 1 no batch ends"
    ok "the others make what it held; worker 2, away for 5 s, was given up $(n_lost 2) times"
    heal 1; heal 3
    began=$SECONDS
    all_back
    ok "all are back $((SECONDS - began)) s after the last cable healed"
    look
}

drawn_round() { # N
    local kinds=(down deaf mute slow) kind s who k
    kind=${kinds[$((RANDOM % 4))]} s=${lengths[$((RANDOM % ${#lengths[@]}))]}
    who=$((1 + RANDOM % 6)); [ $who = 6 ] && who=$ends
    for k in $who; do
        case $kind in
        down) downs "$k" ;;
        deaf) cable "$k" 0 100 0 0 0 ;;
        mute) cable "$k" 100 0 0 0 0 ;;
        slow) cable "$k" 5 5 100 50 10000 ;;
        esac
    done
    sleep "$s"
    look
    for k in $who; do heal "$k"; done
    all_back
    echo "  round $1: $kind, ends $who, $s s; $(whole) batches; given up so far $(heard worker_gone)"
}

if [ "$rounds" = 0 ]; then short_round; fi
for ((r = 1; r <= rounds; r++)); do drawn_round $r; done
[ -z "${SHOW_LOGS:-}" ] || cat "$T/broker.log"
oracle
echo "rounds $rounds  batches $(whole) ($(wc -l < "$T/rows") images)  workers given up $(heard worker_gone)  hedged $(heard hedged)  lost 0  committed twice 0"

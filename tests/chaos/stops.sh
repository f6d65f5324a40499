#!/bin/bash
# stops.sh BINDIR [ROUNDS [KINDS [SECONDS...]]] - SIGSTOP and SIGCONT of an engine, a supervisor, the broker and a client (RELIABILITY.md s.6.3 S1).
# Without ROUNDS, one short round: a supervisor stands still until the broker gives its leases to others, an engine and a client for 4 s of that time;
# it goes on and offers what it still holds; then the broker stands still for 8 s, longer than its workers wait
# before they begin new sessions. With it: ROUNDS rounds for each of KINDS ("engine worker broker client"), in turn, for one of SECONDS (4 20).
# Oracle: farm.sh; and while the broker stood still no live lease went back: no worker is given up, no lease passes its time or is unknown to its worker.
. "$(dirname "$0")/farm.sh" "${1:-}"
rounds=${2:-0}
read -ra kinds <<< "${3:-engine worker broker client}"
shift $(($# < 3 ? $# : 3))
lengths=("$@"); [ ${#lengths[@]} -gt 0 ] || lengths=(4 20)
n_hands=3

calm_run
broker_up
for ((k = 1; k <= n_hands; k++)); do
    faulty_worker --broker "$EP" --model "$MODEL" --device cpu --threads 1 --name "hand$k" >> "$T/worker$k.log" 2>&1 &
    hand[k]=$!; pids+=($!)
done
wait_workers $n_hands
for ((k = 1; k <= n_clients; k++)); do client $k & pids+=($!); done
until_true 120 whole_more_than 0 || die "no batch ends"
look

engine_of() { pgrep -P "${hand[$1]}" | head -n 1; }
gone_since() { [ "$(heard worker_gone)" -gt "$1" ]; }
late() { cat "$T"/worker*.log | grep -c 'event=result_not_needed'; }
# or quarantined, as one whose engine had to be started three times within ten minutes should be
are_back() { [ "$(zfarm workers --broker "$EP" --json | grep -cE '"state":"(ready|busy|quarantined)"')" -ge $n_hands ]; }
gets_work() { zfarm workers --broker "$EP" --json | grep "\"worker\":\"hand$1\"" | grep -qE '"state":"(ready|busy)"'; }
all_back() { until_true 120 are_back || die "not all workers are back 120 s after $1 went on"; }
goes_on() { # WHAT: two batches more end
    local before; before=$(whole)
    until_true 240 whole_more_than $((before + 1)) || die "no batch ends after $1 stood still"
}

stop_for() { # SECONDS PID
    kill -STOP "$2" 2> /dev/null || return 0
    sleep "$1"
    kill -CONT "$2" 2> /dev/null
    return 0
}

lost_leases() { echo $(($(heard worker_gone) + $(heard budget_passed) + $(heard lease_unknown))); }
stop_broker() { # SECONDS
    local before; before=$(lost_leases)
    stop_for "$1" "$BROKER"
    all_back "the broker"
    goes_on "the broker"
    look
    [ "$(lost_leases)" = "$before" ] || die "the broker stood still for $1 s and gave leases away that were alive"
}

short_round() {
    local before
    kill -STOP "${hand[1]}"
    stop_for 4 "$(engine_of 2)"
    stop_for 4 "$(cat "$T/client1.pid")"
    until_true 120 gone_since 0 || die "the broker does not notice a supervisor that stands still"
    before=$(whole)
    until_true 120 whole_more_than "$before" || die "without it no batch ends"
    kill -CONT "${hand[1]}"
    all_back "a supervisor"
    goes_on "a supervisor"
    ok "a supervisor stood still, others made what it held, it is back; results offered late and not needed: $(late)"
    stop_broker 8
    ok "the broker stood still for 8 s, its workers have begun new sessions: no live lease went back"
}

drawn_round() { # KIND
    local s k before; s=${lengths[$((RANDOM % ${#lengths[@]}))]} k=$((1 + RANDOM % n_hands))
    case $1 in
    engine) # of a worker that is given work: one that stands still in quarantine is missed by nobody
        until gets_work $k; do k=$((k % n_hands + 1)); sleep 0.2; done
        before=$(engine_of $k)
        stop_for "$s" "$before"
        [ "$s" -le 25 ] || [ "$(engine_of $k)" != "$before" ] || die "an engine stood still for $s s and was not replaced" ;;
    worker) stop_for "$s" "${hand[$k]}" ;;
    broker) stop_broker "$s" ;;
    client) stop_for "$s" "$(cat "$T/client$((1 + RANDOM % n_clients)).pid")" ;;
    esac
    all_back "the $1"
    goes_on "the $1"
    look
    echo "  $1, $s s; $(whole) batches; given up so far $(heard worker_gone), late results $(late)"
}

if [ "$rounds" = 0 ]; then short_round; fi
for ((r = 1; r <= rounds; r++)); do
    for kind in "${kinds[@]}"; do drawn_round "$kind"; done
done
oracle
echo "rounds $rounds of ${kinds[*]}  batches $(whole) ($(wc -l < "$T/rows") images)  workers given up $(heard worker_gone)  late results $(late)  stuck engines $(cat "$T"/worker*.log | grep -c event=engine_stuck)  lost 0  committed twice 0"

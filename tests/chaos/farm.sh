# farm.sh - for partitions.sh and stops.sh: clients that submit batch after batch, looks into the running broker's journal, and the oracle at the end.
#   . "$(dirname "$0")/farm.sh" "$1"
# On top of tests/security/lib.sh. The caller sets n_clients and client_options; the workers are slow (SLOW_MS), so that a fault always finds leases alive.
. "$(dirname "${BASH_SOURCE[0]}")/../security/lib.sh" "$1"

images=12
n_clients=2
client_options=(--broker "$EP") # for client K: in client_options_K, when there is such a function
options=(-W 32 -H 32 --steps 2 -s 11)
export SLOW_MS=${SLOW_MS:-200}
: > "$T/wrong"; : > "$T/whole"; : > "$T/rows"; : > "$T/looks"

calm_run() {
    prompts $images > "$T/prompts.txt"
    SLOW_MS=0 zfarm batch "$T/prompts.txt" -o "$T/calm" "${options[@]}" --model "$MODEL" 2> "$T/calm.log" || die "the calm run"
    check "a calm run makes $images images" test "$(n_png "$T/calm")" = $images
}

# client K PREFIX...: one client's life: a batch, then the next, until $T/end.clients appears. Nobody helps it: a batch that fails is wrong.
client() {
    local k=$1 n=0 rc out; shift
    until [ -e "$T/end.clients" ]; do
        n=$((n + 1)); out=$T/out-$k-$n
        "$@" zfarm batch "$T/prompts.txt" -o "$out" "${options[@]}" "${client_options[@]}" --timeout 300 > "$T/client$k.last" 2>&1 &
        echo $! > "$T/client$k.pid.new" && mv "$T/client$k.pid.new" "$T/client$k.pid"
        wait $!; rc=$?
        [ $rc = 0 ] || echo "client $k batch $n: exit $rc: $(tail -n 3 "$T/client$k.last")" >> "$T/wrong"
        same_images "$T/calm" "$out" > "$T/differ-$k" 2>&1 || { echo "client $k batch $n: other images"; cat "$T/differ-$k"; } >> "$T/wrong"
        [ -z "$(find "$out" -name '*.tmp*')" ] || echo "client $k batch $n: a temporary file is left" >> "$T/wrong"
        echo "$out" >> "$T/whole"
        rm -rf "$out"
        [ $rc = 0 ] || sleep 1
    done 2> /dev/null
    touch "$T/over.client$k"
}

# What is DONE in the journal, beside what was: a row once DONE stays as it is. A stopped broker does not write: its files are one picture.
look() {
    local stopped=${1:-}
    mkdir -p "$T/copy"
    [ -n "$stopped" ] || kill -STOP "$BROKER"
    cp "$T"/data/journal.db* "$T/copy/"
    [ -n "$stopped" ] || kill -CONT "$BROKER"
    journal_rows "$T/copy/journal.db" 3 | sort > "$T/rows.now" || echo "the journal cannot be read" >> "$T/wrong"
    comm -23 "$T/rows" "$T/rows.now" > "$T/changed"
    [ -s "$T/changed" ] && { echo "DONE rows changed (task state seq epoch leases crashes):"; cat "$T/changed"; } >> "$T/wrong"
    mv "$T/rows.now" "$T/rows"
    echo >> "$T/looks"
    rm -rf "$T/copy"
}

heard() { grep -c "event=$1" "$T/broker.log"; } # EVENT[ WORDS]: how often the broker said so
whole() { wc -l < "$T/whole"; }
whole_more_than() { [ "$(whole)" -gt "$1" ]; }

clients_over() {
    local k
    for ((k = 1; k <= n_clients; k++)); do [ -e "$T/over.client$k" ] || return 1; done
}

# Ends the clients and the broker, then: every batch whole, every image committed once, nothing made twice for the client.
oracle() {
    local n rows
    touch "$T/end.clients"
    until_true "${PATIENCE_S:-180}" clients_over || die "the clients' last batches do not end; $(head -n 3 "$T/wrong")"
    check "the broker ends in order" kill -TERM "$BROKER"
    until_true 120 gone "$BROKER" || die "the broker does not end within 120 s"
    look stopped
    [ -s "$T/wrong" ] && { cat "$T/wrong"; die "what must not be: $(head -n 3 "$T/wrong")"; }
    n=$(whole) rows=$(wc -l < "$T/rows")
    check "all $n batches of $images ended whole and equal to the calm run, without help" test "$n" -gt 0
    check "every image is committed once: $rows rows" test "$rows" = $((n * images))
    check "each by a commit of its own" test "$(awk '{ print $3 }' "$T/rows" | sort -u | wc -l)" = "$rows"
    check "a row once DONE stayed as it was, at $(wc -l < "$T/looks") looks" test ! -s "$T/wrong"
    check "no image was FAILED" test "$(grep -c 'event=task_failed' "$T/broker.log")" = 0
}

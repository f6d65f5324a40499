#!/bin/bash
# run.sh BINDIR [KILLS [KINDS [PAUSE_MS [WORKERS [CLIENTS]]]]] - a farm of real processes under kill -9, and what must be true afterwards.
# KINDS: any of broker, worker, engine, client (all four), killed in turn at random moments, KILLS times altogether (40), at most PAUSE_MS (400) after the
# one before. Clients submit batch after batch, each killed and resumed until it is whole; whoever is killed is started again at once.
# Then the oracle: every acknowledged job is there once and ends DONE; each time the broker died, what was DONE in its journal the time before still is, in the
# same row of the same lease (nothing lost, nothing committed twice); every file is there, none twice, none half, byte for byte what a calm run makes. A task that lost its worker three times over is FAILED by name and is queued again by
# `zfarm requeue`: counted, and it must end like the others. Prints kills, acknowledged jobs, lost, committed twice.
# POWERLOSS=1: the broker's machine loses power with each kill of the broker: of its folder stays what was synced, and what chance kept of the rest
# (powerloss.c, collapse.c); after each cut every job that a client was told of must be there, and DONE whatever a client has in a file.
# POWERLOSS_LIE=SUFFIX beside it: files that end so are never synced but said to be. With -wal the run must fail, or the test is blind.
. "$(dirname "$0")/../cluster/lib.sh" "${1:-}"

kills=${2:-40} kinds=${3:-"broker worker engine client"} pause_ms=${4:-400} n_hands=${5:-2} n_clients=${6:-2}
images=6
options=(-W 32 -H 32 --steps 2 -s 11)
prompts $images > "$T/prompts.txt"
zfarm batch "$T/prompts.txt" -o "$T/calm" "${options[@]}" --model "$MODEL" 2> "$T/calm.log" || die "the calm run"
check "a calm run makes $images images" test "$(n_png "$T/calm")" = $images

# What is DONE in the dead broker's journal, beside what was. The copy keeps SQLite's own recovery away from the journal.
mkdir -p "$T/copy"; : > "$T/rows"; 
remember() {
    cp "$T"/data/journal.db* "$T/copy/" && journal_rows "$T/copy/journal.db" 3 | sort > "$T/rows.now" || { echo "the journal cannot be read" >> "$T/wrong"; return; }
    comm -23 "$T/rows" "$T/rows.now" > "$T/changed"
    [ -s "$T/changed" ] && { echo "DONE rows changed under kill -9 (task state seq epoch leases crashes):"; cat "$T/changed"; } >> "$T/wrong"
    awk '$5 > 20 || $6 > 3 { print "beyond the limits of leases and crashes: " $0 }' "$T/rows.now" >> "$T/wrong"
    mv "$T/rows.now" "$T/rows"
    echo >> "$T/looks"
    rm -f "$T"/copy/*
}

# Power is gone: the folder becomes what was durable of it. What clients know is looked for in its journal.
power_cut() {
    local k job n
    n_cuts=$((${n_cuts:-0} + 1))
    collapse "$T/data" "$T/shadow" "$T/after" $((RANDOM * 32768 + RANDOM)) "$T/shadow.new" || { echo "collapse failed" >> "$T/wrong"; return; }
    rm -rf "$T/data" "$T/shadow"
    mv "$T/after" "$T/data"; mv "$T/shadow.new" "$T/shadow"
    cp "$T"/data/journal.db* "$T/copy/" 2> /dev/null
    journal_rows "$T/copy/journal.db" jobs > "$T/jobs.now" 2> "$T/copy.err" && journal_rows "$T/copy/journal.db" 3 > "$T/done.now" 2>> "$T/copy.err" || {
        echo "power cut $n_cuts: the journal cannot be read: $(cat "$T/copy.err")" >> "$T/wrong"; return; }
    for ((k = 1; k <= n_clients; k++)); do # "job 7: 6 images" is said when SUBMIT_OK has come
        job=$(sed -nE 's/^job ([0-9]+): .*/\1/p' "$T/client$k.last" 2> /dev/null | tail -n 1)
        [ -n "$job" ] || continue
        grep -q "^$job " "$T/jobs.now" || echo "power cut $n_cuts: job $job was acknowledged to client $k and is lost" >> "$T/wrong"
        n=$(n_png "$(cat "$T/client$k.out")")
        [ "$(awk -v j="$job" 'int($1 / 1048576) == j' "$T/done.now" | wc -l)" -ge "$n" ] || echo "power cut $n_cuts: client $k has $n images of job $job, fewer are DONE" >> "$T/wrong"
    done
    rm -f "$T"/copy/*
}

# keep NAME COMMAND...: runs it again and again until $T/end.NAME appears; its pid is in $T/NAME.pid
keep() {
    local name=$1; shift
    until [ -e "$T/end.$name" ]; do
        "$@" >> "$T/$name.log" 2>&1 &
        started=$!
        echo $started > "$T/$name.pid.new" && mv "$T/$name.pid.new" "$T/$name.pid"
        [ "$name" = broker ] && zfarm resume --broker "$EP" --timeout 120 > /dev/null 2>&1 & # a third death within 5 minutes pauses the farm
        wait $started
        echo "$?" >> "$T/$name.ends"
        [ "$name" = broker ] && [ -n "${POWERLOSS:-}" ] && power_cut
        [ "$name" = broker ] && remember
    done 2> /dev/null
    touch "$T/over.$name"
}

# One client's life: a batch until it is whole, then the next, until $T/end.clients appears. Each whole batch is a line of history.
client() {
    local n=0 rc out job
    until [ -e "$T/end.clients" ]; do
        n=$((n + 1)); out=$T/out-$1-$n
        rm -f "$T/client$1.last"; echo "$out" > "$T/client$1.out"
        while :; do
            resume=(); [ -e "$out/.zfarm-batch" ] && resume=(--resume)
            zfarm batch "$T/prompts.txt" -o "$out" "${options[@]}" "${resume[@]}" --broker "$EP" --timeout 120 > "$T/client$1.last" 2>&1 &
            echo $! > "$T/client$1.pid.new" && mv "$T/client$1.pid.new" "$T/client$1.pid"
            wait $!; rc=$?
            [ $rc = 0 ] && break
            [ $rc = 137 ] && continue
            job=$(sed -nE 's/.*zfarm requeue ([0-9]+).*/\1/p' "$T/client$1.last" | head -n 1)
            cat "$T/client$1.last" >> "$T/client$1.log"
            if [ -n "$job" ] && zfarm requeue "$job" --broker "$EP" --timeout 120 >> "$T/client$1.log" 2>&1; then
                echo "$job" >> "$T/requeued"
                continue
            fi
            echo "client $1 batch $n: exit $rc: $(tail -n 2 "$T/client$1.last")" >> "$T/wrong"
            sleep 0.2
        done
        if ! same_images "$T/calm" "$out" > "$T/differ-$1-$n" 2>&1; then echo "client $1 batch $n: other images" >> "$T/wrong"; cat "$T/differ-$1-$n" >> "$T/wrong"; fi
        [ -z "$(find "$out" -name '*.tmp*')" ] || echo "client $1 batch $n: a temporary file is left" >> "$T/wrong"
        echo "$out" >> "$T/whole"
        rm -rf "$out"
    done 2> /dev/null
    touch "$T/over.client$1"
}

run=()
if [ -n "${POWERLOSS:-}" ]; then
    mkdir -p "$T/data" "$T/shadow"
    first=$(ldd "$BIN/zfarm-broker" | awk '/lib(a|t)san/ { print $3 }') # a sanitizer's runtime insists on being the first
    run=(env LD_PRELOAD="$first $BIN/powerloss.so" POWERLOSS_ROOT="$T/data" POWERLOSS_SHADOW="$T/shadow" POWERLOSS_LIE="${POWERLOSS_LIE:-}")
fi
keep broker "${run[@]}" zfarm-broker --listen "$EP" --data "$T/data" --retention 8760 & pids+=($!)
for ((k = 1; k <= n_hands; k++)); do
    keep "worker$k" zfarm-worker --broker "$EP" --model "$MODEL" --threads 1 --name "hand$k" & pids+=($!)
done
wait_workers "$n_hands"
for ((k = 1; k <= n_clients; k++)); do client $k & pids+=($!); done

victim() { # KIND: a pid
    case $1 in
    broker) cat "$T/broker.pid" ;;
    worker) cat "$T/worker$((1 + RANDOM % n_hands)).pid" ;;
    engine) pgrep -P "$(cat "$T/worker$((1 + RANDOM % n_hands)).pid")" | head -n 1 ;;
    client) cat "$T/client$((1 + RANDOM % n_clients)).pid" ;;
    esac 2> /dev/null
}
ours() { grep -qsF "TMPDIR=$T" "/proc/$1/environ"; } # a number from a file may be somebody else's by now

declare -A killed
began=$SECONDS
read -ra order <<< "$kinds"
for ((done_kills = 0; done_kills < kills; )); do
    [ -n "${POWERLOSS_LIE:-}" ] && grep -qs '^power cut' "$T/wrong" && { cat "$T/wrong"; die "a disk that lies is seen"; } # and a broker that does not start is hard to kill
    kind=${order[$((done_kills % ${#order[@]}))]}
    sleep "$(printf '0.%03d' $((RANDOM % pause_ms)))"
    pid=$(victim "$kind")
    [ -n "$pid" ] && ours "$pid" && kill -9 "$pid" 2> /dev/null && killed[$kind]=$((${killed[$kind]:-0} + 1)) && done_kills=$((done_kills + 1))
    [ $((done_kills % 100)) = 0 ] && [ -n "$pid" ] && echo "  $done_kills kills, $(wc -l < "$T/whole" 2> /dev/null || echo 0) batches, $((SECONDS - began)) s"
done
ok "$kills kills in $((SECONDS - began)) s: $(for k in "${!killed[@]}"; do printf '%s %s  ' "$k" "${killed[$k]}"; done)"

touch "$T/end.clients"
clients_over() {
    local k
    for ((k = 1; k <= n_clients; k++)); do [ -e "$T/over.client$k" ] || return 1; done
}
until_true "${PATIENCE_S:-300}" clients_over || die "the clients' last batches do not end; $(head -n 3 "$T/wrong" 2> /dev/null)"

# ---- the oracle ----
touch "$T/wrong" "$T/requeued"
newest=$(zfarm jobs --broker "$EP" --json --limit 1 --timeout 120 2> "$T/jobs.log" | sed -nE 's/^\{"job":([0-9]+).*/\1/p')
[ -n "$newest" ] || die "the broker does not answer: $(cat "$T/jobs.log")"
jobs=0 all_done=0
for ((k = 1; k <= newest; k++)); do
    zfarm show "$k" --broker "$EP" --json > "$T/show" 2>> "$T/jobs.log" || continue
    jobs=$((jobs + 1))
    [ "$(grep -c '^{"index".*"state":"done"' "$T/show")" = $images ] && all_done=$((all_done + 1))
done
whole=$(wc -l < "$T/whole")
lost=$((whole - all_done))
touch "$T/end.broker"
check "the broker ends in order" kill -TERM "$(cat "$T/broker.pid")"
until_true 120 test -e "$T/over.broker" || die "the broker does not end within 120 s"
commits=$(wc -l < "$T/rows")
[ -s "$T/wrong" ] && { cat "$T/wrong"; die "clients saw what must not be: $(head -n 3 "$T/wrong")"; }
check "every batch that a client saw whole is a job that is DONE" test "$lost" = 0
check "no job was made twice: $jobs jobs for $whole batches" test "$jobs" = "$whole"
check "every image is committed once: $commits rows" test "$commits" = $((jobs * images))
check "in the same rows at each of $(wc -l < "$T/looks") looks into a dead broker's journal" test ! -s "$T/wrong"
echo "kills $kills  acknowledged jobs $jobs ($((jobs * images)) images)  lost $lost  committed twice 0  queued again after three crashes $(sort -u "$T/requeued" | wc -l)"

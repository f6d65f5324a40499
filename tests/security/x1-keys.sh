#!/usr/bin/env bash
# X1 and X12 with real programs: who is let in, as what, what the others are told; and no secret in any log.
#   tests/security/x1-keys.sh BINDIR
. "$(dirname "$0")/lib.sh" "$1"

keys_up
refuses "beyond loopback only with keys" "zfarm-keys init" zfarm-broker --listen 'tcp://0.0.0.0:*' --data "$T/d0"
refuses "a folder without keys is told how to get them" "zfarm-keys init" zfarm-broker --listen 'tcp://127.0.0.1:*' --data "$T/d0" --keys "$T"
chmod 644 "$K/server.key"
refuses "a server key that others can read is not used" "chmod 600" zfarm-broker --listen 'tcp://127.0.0.1:*' --data "$T/d0" --keys "$K"
chmod 600 "$K/server.key"
chmod 666 "$K/accounts"
refuses "accounts that others can write are not trusted" "others may write" zfarm-broker --listen 'tcp://127.0.0.1:*' --data "$T/d0" --keys "$K"
chmod 600 "$K/accounts"

zfarm-broker --listen 'tcp://0.0.0.0:*' --data "$T/d1" --keys "$K" --ready-fd 9 9> "$T/ready" >> "$T/broker.log" 2>&1 &
pids+=($!)
until_true 60 test -s "$T/ready" || die "a broker with keys did not open a port for other machines"
ok "with keys it listens beyond loopback, having tried its own door"
kill "${pids[-1]}"

tcp_broker_up --keys "$K"
zfarm-worker --broker "$TCP" --key "$K/gpu.key" --model "$MODEL" --threads 1 --log-level debug >> "$T/worker.log" 2>&1 &
WORKER=$!
pids+=($WORKER)
admin_sees_worker() { zfarm workers --broker "$TCP" --key "$K/boss.key" --json | grep -qE '"state":"(ready|busy)"'; }
until_true 120 admin_sees_worker || die "a worker with its key is not ready"
ok "a worker comes in with its key"
check "a client has an image made, with its key" zfarm generate --broker "$TCP" --key "$K/alice.key" -p "a secret prompt" -W 64 -H 64 -s 1 -o "$T/a.png"
check "and with ZFARM_KEY" env ZFARM_KEY="$K/alice.key" zfarm jobs --broker "$TCP"

refuses "no key" "asks for a key" zfarm jobs --broker "$TCP"
zfarm-keys make "$T/eve.key" -n eve -s "$(zfarm-keys show "$K/alice.key" | awk '/^server/ { print $2 }')" > /dev/null
refuses "an unknown key" "zfarm-keys add" zfarm jobs --broker "$TCP" --key "$T/eve.key"
refuses "a wrong server key" "broke off" zfarm jobs --timeout 30 --broker "$TCP" --key "$K/alice.key" --server-key "$(zfarm-keys show "$T/eve.key" | awk '/^public/ { print $2 }')"
refuses "a client's key as a worker" "not for a worker" zfarm-worker --broker "$TCP" --key "$K/alice.key" --model "$MODEL" --threads 1
refuses "a worker's key as a client" "not for a client" zfarm jobs --broker "$TCP" --key "$K/gpu.key"
refuses "the broker's own key" "broker's key" zfarm jobs --broker "$TCP" --key "$K/server.key"
refuses "a client drains no workers" "for admins" zfarm drain gpu --broker "$TCP" --key "$K/bob.key"
cp "$K/alice.key" "$T/open.key"
chmod 640 "$T/open.key"
refuses "a key file that others can read" "chmod 600" zfarm jobs --broker "$TCP" --key "$T/open.key"
refuses "somebody else's job" "there is no job 1" zfarm show 1 --broker "$TCP" --key "$K/bob.key"
refuses "cancelling it" "there is no job 1" zfarm cancel 1 --broker "$TCP" --key "$K/bob.key"
refuses "gathering it" "job 1 is not known" zfarm gather 1 -o "$T/stolen" --broker "$TCP" --key "$K/bob.key"
[ "$(zfarm jobs --broker "$TCP" --key "$K/bob.key" --json | grep -c '^{"job"')" = 0 ] || die "bob sees alice's jobs"
[ "$(zfarm jobs --broker "$TCP" --key "$K/boss.key" --json | grep -c '^{"job"')" = 1 ] || die "the admin does not see alice's job"
ok "bob sees nothing of alice's, the admin sees all"
check "without a key, by the ipc socket of the same user" zfarm jobs --broker "$EP"

# revoked while it follows a job that nobody can finish
prompts 1 > "$T/p.txt"
zfarm drain "$(zfarm workers --broker "$EP" --json | sed -nE 's/^\{"worker":"([^"]*)".*/\1/p')" --broker "$TCP" --key "$K/boss.key" > /dev/null || die "draining the worker"
timeout 120 zfarm batch "$T/p.txt" -o "$T/out" -W 64 -H 64 --broker "$TCP" --key "$K/alice.key" > "$T/alice.log" 2>&1 &
ALICE=$!
has_job_2() { zfarm jobs --broker "$EP" --json | grep -q '^{"job":2,'; }
until_true 60 has_job_2 || die "alice's second job did not come"
zfarm-keys --dir "$K" revoke alice >> "$T/keys.log" || die "revoking alice"
wait $ALICE && die "alice went on with a revoked key"
grep -qE "revoked|zfarm-keys add" "$T/alice.log" || { cat "$T/alice.log"; die "the sentence to alice"; }
ok "a revoked key ends at once, on an open connection: $(tail -n 1 "$T/alice.log")"
refuses "and does not come in again" "zfarm-keys add" zfarm jobs --broker "$TCP" --key "$K/alice.key"
zfarm-keys --dir "$K" revoke gpu >> "$T/keys.log" || die "revoking gpu"
no_worker() { [ "$(zfarm workers --broker "$EP" --json | grep -c '"state"')" = 0 ]; }
until_true 60 no_worker || die "the revoked worker is still there"
ok "nor does a worker's"
kill -0 $WORKER 2>/dev/null || die "the worker ended: it should go on trying"
zfarm-keys --dir "$K" add alice --role client --public "$(zfarm-keys show "$T/eve.key" | awk '/^public/ { print $2 }')" > /dev/null || die "another key for alice"
alice_again() { zfarm jobs --broker "$TCP" --key "$T/eve.key" --json | grep -q '^{"job":2,'; }
until_true 60 alice_again || die "alice's new key does not show her jobs"
ok "a new key of the account, while the broker runs: alice has her jobs again"

kill "$BROKER"
until_true 60 gone "$BROKER" || die "the broker does not end"
line=$(grep 'event=stopped' "$T/broker.log" | tail -n 1)
for counter in keys_let_in keys_refused handshakes_failed denied; do
    echo "$line" | grep -qE " $counter=[1-9]" || die "the counter $counter did not rise: $line"
done
ok "its counters rose: ${line##*event=stopped }"
kill "$WORKER"

# X12: every secret of every key file, in nothing that was said or logged
n=0
for f in "$K"/*.key "$T/eve.key"; do
    secret=$(awk '/^secret/ { print $2 }' "$f")
    [ ${#secret} = 64 ] || die "$f has no secret"
    [ "$(stat -c %a "$f")" = 600 ] || die "$f has mode $(stat -c %a "$f")"
    ! grep -rqiF "$secret" "$T" --include='*.log' --include='*.out' || die "the secret of $f stands in $(grep -rliF "$secret" "$T" --include='*.log' --include='*.out')"
    ! grep -rqF "$secret" "$T/data" || die "the secret of $f stands in the broker's data"
    n=$((n + 1))
done
ok "none of $n secrets in $(cat "$T"/*.log | wc -l) lines of logs, nor in the broker's data"

# lib.sh - for the security scenarios: a farm with keys, on top of tests/cluster/lib.sh.
#   . "$(dirname "$0")/lib.sh" "$1"
# ZFARM_FULL=1 takes the plan's numbers instead of CI's.
. "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh" "$1"
unset ZFARM_KEY ZFARM_KEYS
FULL=${ZFARM_FULL:-0}
K=$T/keys
ASAN=$(ldd "$BIN/zfarm-broker" | grep -c libasan) # its memory is not the broker's

keys_up() { # a folder of keys: alice and bob are clients, gpu is a worker, boss an admin
    zfarm-keys init "$K" > "$T/keys.log" || die "zfarm-keys init"
    local a
    for a in alice:client bob:client gpu:worker boss:admin; do
        zfarm-keys --dir "$K" add "${a%:*}" --role "${a#*:}" >> "$T/keys.log" || die "zfarm-keys add $a"
    done
}

# tcp_broker_up OPTIONS...: BROKER is its pid, TCP its endpoint, PORT its port
tcp_broker_up() {
    : > "$T/ready"
    zfarm-broker --listen 'tcp://127.0.0.1:*' --listen "$EP" --data "$T/data" --log-level debug --ready-fd 9 "$@" 9> "$T/ready" >> "$T/broker.log" 2>&1 &
    BROKER=$!
    pids+=($BROKER)
    until_true 60 test -s "$T/ready" || die "the broker did not start"
    TCP=$(cat "$T/ready")
    PORT=${TCP##*:}
}

rss_kib() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; }

# refuses SENTENCE WORDS COMMAND...: the command fails, soon, and its sentence holds WORDS
refuses() {
    local what=$1 words=$2; shift 2
    if timeout 120 "$@" > "$T/refused.log" 2>&1; then cat "$T/refused.log"; die "$what: it was let in"; fi
    grep -qF -- "$words" "$T/refused.log" || { cat "$T/refused.log"; die "$what: the sentence does not say \"$words\""; }
    ok "$what"
}

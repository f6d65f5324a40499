#!/usr/bin/env bash
# run.sh BINDIR - RELIABILITY.md 6.4, X1 to X6, X10 to X12: the whole security plan with its full numbers. CI runs the same pieces, smaller.
set -u
bin=$(cd "${1:?usage: $0 BINDIR}" && pwd) || exit 2
here=$(cd "$(dirname "$0")" && pwd)
export ZFARM_FULL=${ZFARM_FULL:-1}
failed=0

piece() {
    echo "== $1"
    shift
    "$@" || { echo "FAILED: $*"; failed=1; }
}
piece "X1, X2: doors, keys, chosen routing ids" "$bin/test_proto_curve"
piece "X1, X12: real programs, sentences, revocation, secrets" bash "$here/x1-keys.sh" "$bin"
piece "X1, X10: roles, accounts, foreign ids" "$bin/test_broker_tenants"
piece "X3: strangers" "$bin/test_proto_crowd"
piece "X3: floods" bash "$here/x3-floods.sh" "$bin"
piece "X4: endless messages" bash "$here/x4-endless.sh" "$bin"
piece "X5: bombs" "$bin/test_proto_bombs"
piece "X6: paths" bash "$here/x6-paths.sh" "$bin"
piece "X12: key files" "$bin/test_proto_key"
echo "X11, the wire: sh tests/fuzz/run.sh BUILD SECONDS fuzz_wire fuzz_keys, with a build of clang (-DZFARM_FUZZ=ON)"
exit $failed

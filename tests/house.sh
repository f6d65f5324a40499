#!/bin/sh
# house.sh [ROOT]        keeps the house of docs/HOUSE.md: floors, words, sizes, banned calls. Prints file:line: sentence; exit 1 when any.
# house.sh --self-test   builds a sketch tree with one trespass for each row and sees each one caught, and nothing else.
# Comments and strings do not count. Words and floors bind the product; calls, sizes and heads bind tests, too.
set -u
export LC_ALL=C
self=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT

rows() {
    # floor   may include from
    allow base    base
    allow proto   proto base
    allow kernels kernels base
    allow engine  engine kernels base
    allow broker  broker proto base
    allow worker  worker engine proto base
    allow client  client proto base
    allow keys    keys proto base
    allow gateway gateway client proto base
    allow tools   tools engine kernels base

    # word (extended regexp at the start of a name)                   its rooms
    word 'zmq_|ZMQ_|include <zmq'                                     proto/peer.c proto/loop.c proto/curve.c proto/zap.c
    word 'Zfarm__|zfarm__|protobuf_c_|include .cluster\.pb'           proto/wire.c proto/wire_*
    word 'sqlite3_|include <sqlite3'                                  broker/journal*.c broker/journal_db.h
    word 'cuda[A-Z]|cublas|cudnn|include <cu|.*<<<'                   kernels/cuda/ tools/train/
    word 'nccl'                                                       kernels/cuda/link.c
    word 'png_(struct|create|info|read_|set_|get_|destroy)|include <png' base/png.c
    word 'dnnl_|include .*dnnl'                                       kernels/cpu/
    word 'json_|include <jansson'                                     engine/safetensors.c engine/vocab.c engine/config.c client/batch*.c client/report*.c client/args*.c client/print*.c gateway/ tools/
    word 'clock_gettime|gettimeofday|time *\(NULL|localtime|gmtime'   base/clock.c
    word 'sodium|crypto_|getrandom'                                   base/hash.c
    word 'pcre2_|utf8proc_|include <(pcre2|utf8proc)'                 engine/tokenizer*.c

    ban 'strcpy strcat strncpy strncat sprintf vsprintf gets atoi atol atoll atof strtok rand srand alloca' ''
    ban 'system popen' tests/                                         # tests may ask a shell
    size 620
}

# Every line of the sources without comments and strings, as path:line:text, into $tmp/code.
# Include lines keep their quotes; the heads and sizes go to $tmp/heads and $tmp/sizes.
read_tree() {
    find base proto kernels engine broker worker client keys gateway tools tests \( -name '*.c' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' \) 2>/dev/null |
        sort > "$tmp/files"
    : > "$tmp/code"; : > "$tmp/heads"; : > "$tmp/sizes"
    [ -s "$tmp/files" ] || { echo "house.sh: $PWD: no sources here"; exit 2; }
    xargs awk -v code="$tmp/code" -v heads="$tmp/heads" -v sizes="$tmp/sizes" '
        function strip(s,    out, two) {
            while (s != "") {
                if (inside) { if (!index(s, "*/")) return out; s = substr(s, index(s, "*/") + 2); inside = 0; continue }
                if (!match(s, /"|\047|\/\*|\/\//)) return out s
                out = out substr(s, 1, RSTART - 1); s = substr(s, RSTART); two = substr(s, 1, 2)
                if (two == "//") return out
                if (two == "/*") { inside = 1; s = substr(s, 3); out = out " "; continue }
                if (match(s, /^"([^"\\]|\\.)*"/) || match(s, /^\047([^\047\\]|\\.)*\047/)) { out = out "\"\""; s = substr(s, RLENGTH + 1) }
                else { out = out substr(s, 1, 1); s = substr(s, 2) }
            }
            return out
        }
        FNR == 1 { if (last != "") print last ":" lines > sizes; inside = 0; last = FILENAME; print FILENAME ":1:" $0 > heads }
        { lines = FNR; text = !inside && /^[ \t]*#[ \t]*include/ ? $0 : strip($0); if (text ~ /[^ \t]/) print FILENAME ":" FNR ":" text > code }
        END { print last ":" lines > sizes }' < "$tmp/files"
}

# tell PATTERN-OF-CODE SENTENCE: each match of the code on stdin (path:line:text) is a trespass; the sentence ends with the text
tell() { grep -E -- "$1" | sed -E "s#^([^:]*:[0-9]+):[ \t]*(.*)#\1: $2: \2#" >> "$tmp/told"; }

allow() {
    floor=$1; shift
    ok=$(echo "$*" | tr ' ' '|')
    grep -E "^$floor/" "$tmp/code" | grep -E '^[^:]*:[0-9]+:[ \t]*#[ \t]*include "' | grep -Ev "include \"(($ok)/[^\"]*|cluster\.pb-c\.h)\"" |
        tell . "$floor may include only from: $*"
}

word() {
    name=$1; shift
    rooms=$(echo "$*" | sed -e 's/\./[.]/g' -e 's/\*/[^:]*/g' -e 's/ /|/g')
    grep -Ev "^(tests/|($rooms)[^:]*:)" "$tmp/code" | tell "^[^:]*:[0-9]+:(.*[^A-Za-z0-9_])?($name)" "this word lives in $* only"
}

ban() { # names, the folder where they are free ('' = nowhere)
    names=$(echo "$1" | tr ' ' '|')
    grep -Ev "^${2:-:}" "$tmp/code" | tell "^[^:]*:[0-9]+:(.*[^A-Za-z0-9_])?($names)[ \t]*\(" 'banned call'
}

size() { awk -F: -v max="$1" '$2 > max { print $1 ":" $2 ": has " $2 " lines, at most " max }' "$tmp/sizes" >> "$tmp/told"; }

check() {
    cd "$1" || exit 2
    : > "$tmp/told"
    read_tree
    rows
    tell '#[ \t]*include [<"](\.\./|[^>"]*/\.\./)' 'includes are written from the root, never with ../' < "$tmp/code"
    grep -Ev '#[ \t]*(ifndef|if !defined).*_H\)?[ \t]*$' "$tmp/code" |
        tell ':[ \t]*#[ \t]*(if|ifdef|ifndef|elif)[ \t].*(USE_|ZFARM_|HAVE_)' 'no switches in the rooms: the build cuts at the door'
    grep -Ev '^[^:]*:1:(/\*|//).*[A-Za-z]' "$tmp/heads" | tell . 'line 1 opens the head comment of the file'
    sort -u "$tmp/told" | sort -t: -k1,1 -k2,2n
    [ ! -s "$tmp/told" ]
}

# sketch PATH LINE: a file with a head, and LINE on line 2.  trespass: the same, and PATH:2: must be told.
sketch()   { mkdir -p "$tmp/sketch/$(dirname "$1")"; printf '/* a head */\n%s\n' "$2" > "$tmp/sketch/$1"; }
trespass() { sketch "$@"; echo "$1:2: " >> "$tmp/expected"; }

self_test() {
    trespass base/a.c '#include "proto/msg.h"';        trespass proto/b.c '#include "kernels/ops.h"';  trespass kernels/c.c '#include "engine/engine.h"'
    trespass engine/d.c '#include "worker/task.h"';    trespass broker/e.c '#include "engine/engine.h"'; trespass worker/f.c '#include "kernels/ops.h"'
    trespass client/g.c '#include "broker/job.h"';     trespass gateway/h.c '#include "broker/job.h"'; trespass tools/i.c '#include "worker/task.h"'
    trespass base/near.c '#include "err.h"';           trespass tests/base/up.c '#include <../x.h>';   trespass proto/wordy.c '    int rc = zmq_send(s, p, n, 0);'
    trespass proto/peer2.h 'Zfarm__Msg *m;';           trespass broker/sql.c 'x = sqlite3_open(p);';   trespass broker/sql2.c '#include <sqlite3.h>'
    trespass kernels/cu.c 'cudaMalloc(&p, n);';        trespass kernels/k.cu 'k<<<1, 2>>>(p);';        trespass kernels/cuda/dev.c 'ncclSend(p);'
    trespass worker/p.c 'png_create_read_struct();';   trespass engine/n.c 'dnnl_engine_t g;';         trespass broker/j.c 'json_t *j;'
    trespass worker/t.c 'clock_gettime(0, &t);';       trespass broker/t.c 'id = time(NULL);';         trespass proto/s.c 'crypto_sign(p);'
    trespass engine/rx.c 'pcre2_match(p);';            trespass client/u.c 'utf8proc_NFC(p);';         trespass engine/sw.c '#ifdef USE_CUDA'
    trespass engine/sw.h '#if defined(ZFARM_X)'
    for call in strcpy strcat strncpy strncat sprintf vsprintf gets atoi atol atoll atof strtok rand srand alloca; do trespass "tests/base/$call.c" "x = $call (y);"; done
    trespass worker/sh.c 'rc = system(x);';            trespass client/sh.c 'f = popen(x);';           sketch tests/base/sh.c 'rc = system(x);'
    sketch broker/long.c ''; yes '' | head -619 >> "$tmp/sketch/broker/long.c"; echo 'broker/long.c:621: ' >> "$tmp/expected"
    mkdir -p "$tmp/sketch/client"; echo 'int x;' > "$tmp/sketch/client/bald.c"; echo 'client/bald.c:1: ' >> "$tmp/expected"
    # innocent: the word in its room, in a comment, in a string, inside another name; guards; a file of just the right size
    sketch proto/peer.c 'zmq_send(s);';                sketch broker/journal_open.c 'sqlite3_open(p);'; sketch kernels/cuda/k.cu 'k<<<1, 2>>>(cudaX);'
    sketch kernels/cuda/link.c 'ncclSend(p);';         sketch tests/broker/q.c 'sqlite3_open(p);';     sketch tools/j.c 'json_t *j;'
    sketch worker/ok.c 'f("zmq_ \" strcpy("); /* sqlite3_ */ c = '\''"'\''; // atoi(x)'
    printf '/* a head\n * says png_create_read_struct() and gets(x)\n */ fgets(a); my_zmq_x(); s->snprintf(b); brand(c); lasttime(NULL);\n' > "$tmp/sketch/worker/ok2.c"
    sketch engine/engine.h '#ifndef ZFARM_ENGINE_H';   sketch worker/inc.c '#include "proto/msg.h"';   sketch broker/full.c ''; yes '' | head -618 >> "$tmp/sketch/broker/full.c"
    sort "$tmp/expected" > "$tmp/want"
    if (check "$tmp/sketch") > "$tmp/out"; then echo 'house.sh: the sketch tree passed'; return 1; fi
    sed -E 's/^([^:]*:[0-9]+: ).*/\1/' "$tmp/out" | sort > "$tmp/got"
    diff "$tmp/want" "$tmp/got" && echo "house.sh: $(wc -l < "$tmp/want") trespasses caught, nothing else"
}

if [ "${1:-}" = --self-test ]; then self_test; else check "${1:-$(dirname "$self")/..}"; fi

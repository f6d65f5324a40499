/* tokenizer.c - raw text -> added tokens and stretches between them -> NFC -> Qwen2 split -> bpe.c -> ids.
 * T1 the split pattern is compiled from the constant below; files only choose it by name (vocab.c).
 * T2 struct tokenizer is immutable after open; a call keeps everything that changes in struct call.
 * Not here: JSON (vocab.c), merging (bpe.c), the chat template (prompt.c). */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/tokenizer.h"

#include <assert.h>
#include <inttypes.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/file.h"
#include "engine/bpe.h"
#include "engine/vocab.h"

/* Unicode White_Space, spelled out: PCRE2's own \s adds U+180E, the reference's does not. */
#define WHITE "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
/* Letters and numbers of Unicode 15 and 16: the reference knows them, a PCRE2 of Unicode 14 does not; to a newer one they say nothing new. */
#define LETTERS_SINCE                                                                                                                      \
    "\\x{1c89}-\\x{1c8a}\\x{a7cb}-\\x{a7cd}\\x{a7da}-\\x{a7dc}\\x{105c0}-\\x{105f3}\\x{10d4a}-\\x{10d65}\\x{10d6f}-\\x{10d85}"             \
    "\\x{10ec2}-\\x{10ec4}\\x{1123f}-\\x{11240}\\x{11380}-\\x{11389}\\x{1138b}\\x{1138e}\\x{11390}-\\x{113b5}\\x{113b7}\\x{113d1}"         \
    "\\x{113d3}\\x{11bc0}-\\x{11be0}\\x{11f02}\\x{11f04}-\\x{11f10}\\x{11f12}-\\x{11f33}\\x{1342f}\\x{13441}-\\x{13446}"                   \
    "\\x{13460}-\\x{143fa}\\x{16100}-\\x{1611d}\\x{16d40}-\\x{16d6c}\\x{18cff}\\x{1b132}\\x{1b155}\\x{1df25}-\\x{1df2a}"                   \
    "\\x{1e030}-\\x{1e06d}\\x{1e4d0}-\\x{1e4eb}\\x{1e5d0}-\\x{1e5ed}\\x{1e5f0}\\x{2b739}\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}"
#define DIGITS_SINCE                                                                                                                       \
    "\\x{10d40}-\\x{10d49}\\x{116d0}-\\x{116e3}\\x{11bf0}-\\x{11bf9}\\x{11f50}-\\x{11f59}\\x{16130}-\\x{16139}"                            \
    "\\x{16d70}-\\x{16d79}\\x{1ccf0}-\\x{1ccf9}\\x{1d2c0}-\\x{1d2d3}\\x{1e4f0}-\\x{1e4f9}\\x{1e5f1}-\\x{1e5fa}"
#define LETTER "\\p{L}" LETTERS_SINCE
#define NUMBER "\\p{N}" DIGITS_SINCE
static const char                                  SPLIT[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n" LETTER NUMBER "]?[" LETTER "]+|[" NUMBER "]| ?[^" WHITE LETTER NUMBER "]+[\\r\\n]*"
    "|[" WHITE "]*[\\r\\n]+|[" WHITE "]+(?![^" WHITE "])|[" WHITE "]+";

struct tokenizer {
    struct vocab         vocab;
    struct bpe           bpe;
    pcre2_code          *split;
    pcre2_match_context *limits;
    bool                 starts[256]; /* bytes with which an added token begins; vocab.added is sorted by text */
};

struct call { /* one tokenizer_encode */
    const struct tokenizer *t;
    struct bpe_work         bpe;
    pcre2_match_data       *match;
    utf8proc_int32_t       *points; /* NFC of a stretch, then its UTF-8 in place */
    size_t                  cap_points;
    int32_t                *ids;
    size_t                  cap, n;
    struct err             *e;
};

static int compare_added(const void *a, const void *b)
{
    const struct vocab_added *x = a, *y = b;
    size_t                    n = x->text.len < y->text.len ? x->text.len : y->text.len;
    int                       c = memcmp(x->text.at, y->text.at, n);
    return c ? c : (x->text.len > y->text.len) - (x->text.len < y->text.len);
}

static int open_split(struct tokenizer *t, struct err *e)
{
    int    code = 0;
    size_t at = 0;

    t->split = pcre2_compile((PCRE2_SPTR)SPLIT, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    t->limits = pcre2_match_context_create(NULL);
    if (!t->split || !t->limits)
        return err_set(e, code && !t->split ? ERR_STATE : ERR_NOMEM, "the split pattern does not compile (PCRE2 error %d at %zu)", code,
                       at);
    pcre2_set_match_limit(t->limits, 4 * TOKENIZER_TEXT_MAX); /* a run of blanks backs off once per blank, no more */
    return 0;
}

int tokenizer_open_mem(struct tokenizer **out, struct str json, struct err *e)
{
    struct tokenizer *t = calloc(1, sizeof *t);
    int               rc;

    if (!t) return err_set(e, ERR_NOMEM, "no memory for a tokenizer");
    if ((rc = vocab_parse(&t->vocab, json, e)) || (rc = bpe_init(&t->bpe, &t->vocab, e)) || (rc = open_split(t, e))) goto done;
    qsort(t->vocab.added, (size_t)t->vocab.n_added, sizeof *t->vocab.added, compare_added);
    for (int32_t i = 0; i < t->vocab.n_added; i++) t->starts[(uint8_t)t->vocab.added[i].text.at[0]] = true;
    for (int32_t i = 1; i < t->vocab.n_added; i++)
        if (str_eq(t->vocab.added[i - 1].text, t->vocab.added[i].text)) {
            rc =
                err_set(e, ERR_FORMAT, "two added tokens have the text '%.*s'", (int)t->vocab.added[i].text.len, t->vocab.added[i].text.at);
            goto done;
        }
    *out = t;
    t = NULL;
done:
    tokenizer_free(t);
    return rc;
}

int tokenizer_open(struct tokenizer **out, const char *dir, struct err *e)
{
    struct buf b;
    char       path[512];
    int        rc;

    buf_init(&b, VOCAB_FILE_MAX);
    if ((rc = file_join(path, sizeof path, dir, "tokenizer.json", e)) || (rc = file_read(path, &b, e))) goto done;
    rc = tokenizer_open_mem(out, buf_str(&b), e);
    if (rc) err_in(e, "%s", path);
done:
    buf_release(&b);
    return rc;
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t) return;
    bpe_release(&t->bpe);
    vocab_release(&t->vocab);
    pcre2_code_free(t->split);
    pcre2_match_context_free(t->limits);
    free(t);
}

static void put_id(struct call *c, int32_t id)
{
    if (c->n < c->cap) c->ids[c->n] = id;
    c->n++;
}

static int put_piece(struct call *c, const char *at, size_t len)
{
    int rc = bpe_piece(&c->t->bpe, &c->bpe, at, len, c->e);

    for (size_t i = 0; i < c->bpe.n_ids && !rc; i++) put_id(c, c->bpe.id[i]);
    return rc;
}

/* Pieces of normalised text; what the pattern does not match (nothing, by its making) would be a piece of its own. */
static int split(struct call *c, const char *at, size_t len)
{
    size_t from = 0;
    int    rc = 0;

    while (from < len && !rc) {
        int found = pcre2_match(c->t->split, (PCRE2_SPTR)at, len, from, PCRE2_NO_UTF_CHECK, c->match, c->t->limits);
        if (found < 0 && found != PCRE2_ERROR_NOMATCH)
            return err_set(c->e, ERR_LIMIT, "splitting the text failed at byte %zu (PCRE2 error %d)", from, found);
        const PCRE2_SIZE *range = pcre2_get_ovector_pointer(c->match);
        size_t            begin = found < 0 ? len : range[0], end = found < 0 ? len : range[1];
        assert(begin >= from && end <= len && (found < 0 || end > begin));
        if (begin > from) rc = put_piece(c, at + from, begin - from);
        if (!rc && end > begin) rc = put_piece(c, at + begin, end - begin);
        from = end;
    }
    return rc;
}

/* Marks younger than the tables of the reference's normaliser (Unicode 9), found by asking it about every code point: to it they are
 * letters that neither move nor compose. First and last of each range. Also here: U+11A7, which utf8proc would swallow after a Hangul syllable. */
static const uint32_t YOUNG[][2] = {
    {0x7fd, 0x7fd},     {0x898, 0x89f},     {0x8ca, 0x8d3},     {0x9fe, 0x9fe},     {0xc3c, 0xc3c},     {0xd3b, 0xd3c},
    {0xeba, 0xeba},     {0x11a7, 0x11a7},   {0x1715, 0x1715},   {0x1abf, 0x1ace},   {0x1df6, 0x1dfa},   {0xa82c, 0xa82c},
    {0x10d24, 0x10d27}, {0x10eab, 0x10eac}, {0x10efd, 0x10eff}, {0x10f46, 0x10f50}, {0x10f82, 0x10f85}, {0x11070, 0x11070},
    {0x1133b, 0x1133b}, {0x1145e, 0x1145e}, {0x11839, 0x1183a}, {0x11930, 0x11930}, {0x11935, 0x11935}, {0x11938, 0x11938},
    {0x1193d, 0x1193e}, {0x11943, 0x11943}, {0x119e0, 0x119e0}, {0x11a34, 0x11a34}, {0x11a47, 0x11a47}, {0x11a99, 0x11a99},
    {0x11d42, 0x11d42}, {0x11d44, 0x11d45}, {0x11d97, 0x11d97}, {0x11f41, 0x11f42}, {0x16ff0, 0x16ff1}, {0x1e08f, 0x1e08f},
    {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef}, {0x1e4ec, 0x1e4ef},
};

static bool is_young(utf8proc_int32_t point)
{
    size_t from = 0, to = sizeof YOUNG / sizeof *YOUNG;

    while (from < to) {
        size_t mid = from + (to - from) / 2;
        if ((uint32_t)point > YOUNG[mid][1])
            from = mid + 1;
        else
            to = mid;
    }
    return from < sizeof YOUNG / sizeof *YOUNG && (uint32_t)point >= YOUNG[from][0];
}

/* Canonical combining class, 0..255. */
static unsigned class_of(utf8proc_int32_t point)
{
    unsigned c = utf8proc_get_property(point)->combining_class & 255u;
    return c && is_young(point) ? 0 : c;
}

/* Canonical order of one run of marks p[0..n): stable by combining class. Counting, not insertion: a run may be as long as the text. */
static int order_run(struct call *c, utf8proc_int32_t *p, size_t n)
{
    size_t start[256] = {0}, sum = 0;

    if (n < 2) return 0;
    utf8proc_int32_t *copy = malloc(n * sizeof *copy);
    if (!copy) return err_set(c->e, ERR_NOMEM, "no memory to normalise %zu marks", n);
    memcpy(copy, p, n * sizeof *copy);
    for (size_t i = 0; i < n; i++) start[class_of(copy[i])]++;
    for (size_t k = 0; k < 256; k++) {
        size_t count = start[k];
        start[k] = sum;
        sum += count;
    }
    for (size_t i = 0; i < n; i++) p[start[class_of(copy[i])]++] = copy[i];
    free(copy);
    return 0;
}

static int order_marks(struct call *c, size_t n)
{
    int rc = 0;

    for (size_t i = 0; i < n && !rc;) {
        size_t from = i;
        while (i < n && class_of(c->points[i])) i++;
        rc = order_run(c, c->points + from, i - from);
        if (i == from) i++;
    }
    return rc;
}

/* Composes c->points[0..n) in place, each stretch between young marks by itself. Returns how many are left. */
static size_t compose_points(struct call *c, size_t n)
{
    size_t kept = 0;

    for (size_t i = 0; i < n;) {
        size_t from = i;
        while (i < n && !is_young(c->points[i])) i++;
        utf8proc_ssize_t left =
            utf8proc_normalize_utf32(c->points + from, (utf8proc_ssize_t)(i - from), UTF8PROC_COMPOSE | UTF8PROC_STABLE);
        assert(left >= 0 && (size_t)left <= i - from);
        memmove(c->points + kept, c->points + from, (size_t)left * sizeof *c->points);
        kept += (size_t)left;
        if (i < n) c->points[kept++] = c->points[i++];
    }
    return kept;
}

static int points_grow(struct call *c, size_t need)
{
    if (need <= c->cap_points) return 0;
    size_t            cap = need + need / 2 + 64;
    utf8proc_int32_t *points = realloc(c->points, cap * sizeof *points);
    if (!points) return err_set(c->e, ERR_NOMEM, "no memory to normalise %zu characters", need);
    c->points = points;
    c->cap_points = cap;
    return 0;
}

/* Decomposes, orders, composes; *n code points in c->points. utf8proc_map() would order by insertion: quadratic in a run of marks. */
static int compose(struct call *c, const char *at, size_t len, size_t *n)
{
    int rc;

    *n = 0;
    for (size_t i = 0; i < len;) {
        utf8proc_int32_t point = 0;
        int              bound = 0;
        utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)at + i, (utf8proc_ssize_t)(len - i), &point);
        assert(used > 0); /* checked on entry */
        i += (size_t)used;
        if ((rc = points_grow(c, *n + 32))) return rc;
        if (is_young(point)) {
            c->points[(*n)++] = point;
            continue;
        }
        utf8proc_ssize_t made = utf8proc_decompose_char(point, c->points + *n, 32, UTF8PROC_COMPOSE | UTF8PROC_STABLE, &bound);
        assert(made > 0 && made <= 32); /* the longest canonical decomposition has 4 */
        *n += (size_t)made;
    }
    if ((rc = order_marks(c, *n))) return rc;
    *n = compose_points(c, *n);
    return 0;
}

/* Below U+0300 nothing composes and nothing moves: NFC already. */
static bool is_plain(const char *at, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((uint8_t)at[i] >= 0xcc) return false;
    return true;
}

/* Text without added tokens. */
static int stretch(struct call *c, const char *at, size_t len)
{
    size_t n = 0, bytes = 0;
    int    rc;

    if (is_plain(at, len)) return split(c, at, len);
    if ((rc = compose(c, at, len, &n))) return rc;
    char *utf8 = (char *)c->points; /* in place: a code point never needs more than its 4 bytes */
    for (size_t i = 0; i < n; i++) {
        utf8proc_uint8_t one[4];
        size_t           k = (size_t)utf8proc_encode_char(c->points[i], one);
        assert(k >= 1 && k <= 4);
        memcpy(utf8 + bytes, one, k);
        bytes += k;
    }
    return split(c, utf8, bytes);
}

/* The longest added token that text[0..len) begins with, or NULL: narrows the sorted list byte by byte. */
static const struct vocab_added *longest_added(const struct tokenizer *t, const char *text, size_t len)
{
    const struct vocab_added *a = t->vocab.added, *best = NULL;
    int32_t                   from = 0, to = t->vocab.n_added;

    for (size_t d = 0; d < len && from < to; d++) {
        int32_t lo = from, hi = to;
        while (lo < hi) { /* first whose byte d is >= text[d]; too short ones sort first */
            int32_t mid = lo + (hi - lo) / 2;
            if (a[mid].text.len <= d || (uint8_t)a[mid].text.at[d] < (uint8_t)text[d])
                lo = mid + 1;
            else
                hi = mid;
        }
        from = lo;
        for (hi = to; lo < hi;) { /* first whose byte d is above */
            int32_t mid = lo + (hi - lo) / 2;
            if ((uint8_t)a[mid].text.at[d] <= (uint8_t)text[d])
                lo = mid + 1;
            else
                hi = mid;
        }
        to = lo;
        if (from < to && a[from].text.len == d + 1) best = &a[from];
    }
    return best;
}

static int encode(struct call *c, struct str text)
{
    size_t from = 0, i = 0;
    int    rc = 0;

    while (i < text.len && !rc) {
        const struct vocab_added *a = c->t->starts[(uint8_t)text.at[i]] ? longest_added(c->t, text.at + i, text.len - i) : NULL;
        if (!a) {
            i++;
            continue;
        }
        rc = stretch(c, text.at + from, i - from);
        if (!rc) put_id(c, a->id);
        i += a->text.len;
        from = i;
    }
    return rc ? rc : stretch(c, text.at + from, text.len - from);
}

size_t tokenizer_text_bad_at(struct str text)
{
    size_t at = 0;

    for (;; at++) {
        at += str_utf8_bad_at(str_sub(text, at, text.len - at));
        if (at >= text.len || text.at[at] != 0) return at;
    }
}

int tokenizer_encode(const struct tokenizer *t, struct str text, int32_t *ids, size_t cap, size_t *n, struct err *e)
{
    struct call c = {.t = t, .ids = ids, .cap = cap, .e = e};
    int         rc = 0;

    if (text.len > TOKENIZER_TEXT_MAX)
        return err_set(e, ERR_LIMIT, "text is %zu bytes, at most %u can be tokenised", text.len, TOKENIZER_TEXT_MAX);
    size_t bad = tokenizer_text_bad_at(text);
    if (bad < text.len) return err_set(e, ERR_ARG, "text is not valid UTF-8 at byte %zu (0x%02x)", bad, (unsigned)(uint8_t)text.at[bad]);
    *n = 0;
    if (text.len == 0) return 0;
    c.match = pcre2_match_data_create(1, NULL);
    rc = c.match ? encode(&c, text) : err_set(e, ERR_NOMEM, "no memory to split text");
    if (!rc) *n = c.n;
    pcre2_match_data_free(c.match);
    bpe_work_release(&c.bpe);
    free(c.points);
    return rc;
}

size_t tokenizer_vocab(const struct tokenizer *t)
{
    return (size_t)t->vocab.n_tokens;
}

int32_t tokenizer_id(const struct tokenizer *t, struct str added)
{
    for (int32_t i = 0; i < t->vocab.n_added; i++)
        if (str_eq(t->vocab.added[i].text, added)) return t->vocab.added[i].id;
    return -1;
}

struct str tokenizer_bytes(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->vocab.n_tokens ? t->vocab.token[id] : (struct str){0};
}

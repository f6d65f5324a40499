/* str.c - borrowed bytes and bounded owned bytes.
 * Believes: a refusal leaves what was there; the byte after the last is NUL; the room doubles up to max and never past it.
 * Not here: regular expressions and normal forms (engine/tokenizer*.c), JSON. */
#include "base/str.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define NUMBER_BYTES_MAX 64 /* no number of ours is longer; a longer text is refused */
#define BUF_FIRST_BYTES  64

struct str str_of(const char *text)
{
    return (struct str){text, text ? strlen(text) : 0};
}

struct str str_sub(struct str s, size_t from, size_t len)
{
    if (from >= s.len) return (struct str){s.at ? s.at + s.len : NULL, 0};
    if (len > s.len - from) len = s.len - from;
    return (struct str){s.at + from, len};
}

bool str_eq(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

bool str_is(struct str a, const char *text)
{
    return str_eq(a, str_of(text));
}

bool str_starts(struct str s, const char *prefix)
{
    size_t n = strlen(prefix);

    return s.len >= n && (n == 0 || memcmp(s.at, prefix, n) == 0);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct str str_trim(struct str s)
{
    while (s.len && is_blank(s.at[0])) {
        s.at++;
        s.len--;
    }
    while (s.len && is_blank(s.at[s.len - 1])) s.len--;
    return s;
}

/* Bytes of the well-formed sequence at p (RFC 3629, table 3-7 of Unicode), or 0. */
static size_t utf8_step(const unsigned char *p, size_t left)
{
    unsigned char low = 0x80, high = 0xBF; /* bounds of the second byte: no overlong form, no surrogate, <= U+10FFFF */
    size_t        n;

    if (p[0] >= 0x01 && p[0] < 0x80) return 1;
    if (p[0] >= 0xC2 && p[0] <= 0xDF) n = 2;
    else if (p[0] >= 0xE0 && p[0] <= 0xEF) n = 3;
    else if (p[0] >= 0xF0 && p[0] <= 0xF4) n = 4;
    else return 0;
    if (p[0] == 0xE0) low = 0xA0;
    if (p[0] == 0xED) high = 0x9F;
    if (p[0] == 0xF0) low = 0x90;
    if (p[0] == 0xF4) high = 0x8F;
    if (left < n || p[1] < low || p[1] > high) return 0;
    for (size_t i = 2; i < n; i++)
        if (p[i] < 0x80 || p[i] > 0xBF) return 0;
    return n;
}

size_t str_utf8_bad_at(struct str s)
{
    size_t i = 0;

    while (i < s.len) {
        size_t n = utf8_step((const unsigned char *)s.at + i, s.len - i);
        if (n == 0) break;
        i += n;
    }
    return i;
}

bool str_utf8_ok(struct str s)
{
    return str_utf8_bad_at(s) == s.len;
}

int str_to_u64(struct str s, uint64_t *out)
{
    uint64_t v = 0;

    if (s.len == 0) return ERR_ARG;
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] < '0' || s.at[i] > '9') return ERR_ARG;
        if (__builtin_mul_overflow(v, (uint64_t)10, &v)) return ERR_ARG;
        if (__builtin_add_overflow(v, (uint64_t)(s.at[i] - '0'), &v)) return ERR_ARG;
    }
    *out = v;
    return 0;
}

int str_to_i64(struct str s, int64_t *out)
{
    bool     minus = s.len > 0 && s.at[0] == '-';
    uint64_t v, most = (uint64_t)INT64_MAX + (minus ? 1 : 0);

    if (str_to_u64(minus ? str_sub(s, 1, s.len) : s, &v) || v > most) return ERR_ARG;
    *out = minus ? (int64_t)(0 - v) : (int64_t)v;
    return 0;
}

int str_to_f64(struct str s, double *out)
{
    char   text[NUMBER_BYTES_MAX + 1], *end;
    double v;

    if (s.len == 0 || s.len > NUMBER_BYTES_MAX) return ERR_ARG;
    for (size_t i = 0; i < s.len; i++) /* strtod also takes blanks, hex, "nan" and "inf" */
        if (!memchr("0123456789.eE+-", s.at[i], 15)) return ERR_ARG;
    if (s.at[0] == '+') return ERR_ARG;
    memcpy(text, s.at, s.len);
    text[s.len] = 0;
    v = strtod(text, &end);
    if (end != text + s.len || !isfinite(v)) return ERR_ARG;
    *out = v;
    return 0;
}

void buf_init(struct buf *b, size_t max_bytes)
{
    *b = (struct buf){.max = max_bytes < SIZE_MAX / 2 ? max_bytes : SIZE_MAX / 2};
}

void buf_release(struct buf *b)
{
    free(b->at);
    *b = (struct buf){.max = b->max};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    if (b->at) b->at[0] = 0;
}

/* Room for len more bytes and the NUL. */
static int reserve(struct buf *b, size_t len)
{
    size_t need, cap;
    char  *at;

    if (b->len > b->max || len > b->max - b->len) return ERR_LIMIT;
    need = b->len + len;
    if (b->at && need <= b->cap) return 0;
    cap = b->cap < BUF_FIRST_BYTES ? BUF_FIRST_BYTES : b->cap * 2;
    if (cap < need) cap = need;
    if (cap > b->max) cap = b->max;
    at = realloc(b->at, cap + 1);
    if (!at) return ERR_NOMEM;
    if (!b->at) at[0] = 0;
    b->at = at;
    b->cap = cap;
    return 0;
}

int buf_put(struct buf *b, const void *at, size_t len)
{
    int rc = reserve(b, len);

    if (rc) return rc;
    if (len) memcpy(b->at + b->len, at, len);
    b->len += len;
    b->at[b->len] = 0;
    return 0;
}

int buf_puts(struct buf *b, const char *text)
{
    return buf_put(b, text, strlen(text));
}

int buf_putc(struct buf *b, char c)
{
    return buf_put(b, &c, 1);
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    int     n, rc;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) return ERR_ARG;
    rc = reserve(b, (size_t)n);
    if (rc) return rc;
    va_start(ap, fmt);
    vsnprintf(b->at + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
    return 0;
}

char *buf_grow(struct buf *b, size_t len)
{
    char *at;

    if (reserve(b, len)) return NULL;
    at = b->at + b->len;
    b->len += len;
    b->at[b->len] = 0;
    return at;
}

int buf_put_json(struct buf *b, struct str s)
{
    int rc = buf_putc(b, '"');

    for (size_t i = 0; !rc && i < s.len; i++) {
        char c = s.at[i];

        if (c == '"' || c == '\\') rc = buf_printf(b, "\\%c", c);
        else if (c == '\n') rc = buf_puts(b, "\\n");
        else if (c == '\t') rc = buf_puts(b, "\\t");
        else if (c == '\r') rc = buf_puts(b, "\\r");
        else if ((unsigned char)c < 0x20 || c == 0x7f) rc = buf_printf(b, "\\u%04x", (unsigned)(unsigned char)c);
        else rc = buf_putc(b, c);
    }
    return rc ? rc : buf_putc(b, '"');
}

struct str buf_str(const struct buf *b)
{
    return (struct str){b->at ? b->at : "", b->len};
}

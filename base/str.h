/* str.h - str: borrowed bytes; buf: owned bytes that know their maximum.
 *
 *   struct str s = str_of("cat");             borrowed, never freed through this
 *   struct buf b; buf_init(&b, 1 << 20);      at most 1 MiB; buf_put() past it returns ERR_LIMIT and keeps what was there
 *   buf_printf(&b, "n=%d", n); ... buf_release(&b);
 *
 * A buf's bytes are always followed by a NUL that is not counted. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct str {
    const char *at; /* never NULL when len > 0 */
    size_t      len;
};

struct str str_of(const char *text);              /* NULL gives the empty str */
struct str str_sub(struct str s, size_t from, size_t len);
bool       str_eq(struct str a, struct str b);
bool       str_is(struct str a, const char *text);
bool       str_starts(struct str s, const char *prefix);
struct str str_trim(struct str s);                /* without blanks, tabs, CR and LF at both ends */
bool       str_utf8_ok(struct str s);             /* well-formed UTF-8: no surrogates, no overlong forms, no NUL */
/* First byte of the first malformed sequence (or NUL), or s.len when all is well. */
size_t     str_utf8_bad_at(struct str s);

/* Whole-string numbers: no blanks, no sign where unsigned, no trailing bytes. Return 0 or ERR_ARG; out untouched on error. */
int str_to_i64(struct str s, int64_t *out);
int str_to_u64(struct str s, uint64_t *out);
int str_to_f64(struct str s, double *out); /* finite only: "nan" and "inf" are ERR_ARG */

struct buf {
    char  *at;
    size_t len, cap, max;
};

void       buf_init(struct buf *b, size_t max_bytes); /* no allocation yet */
void       buf_release(struct buf *b);
void       buf_clear(struct buf *b);                  /* keeps the memory */
int        buf_put(struct buf *b, const void *at, size_t len);            /* 0, ERR_LIMIT or ERR_NOMEM */
int        buf_puts(struct buf *b, const char *text);
int        buf_putc(struct buf *b, char c);
int        buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char      *buf_grow(struct buf *b, size_t len);       /* room for len more bytes, counted at once; NULL on refusal */
/* s as a JSON string, quotes included. s must be valid UTF-8 (it is copied byte by byte); control bytes are escaped. */
int        buf_put_json(struct buf *b, struct str s);
struct str buf_str(const struct buf *b);

#endif

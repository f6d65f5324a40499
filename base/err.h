/* err.h - an error is a code and one sentence, born where the fact is known.
 *
 *   int rc = file_map(&m, path, &e);
 *   if (rc) return err_in(&e, "opening the text encoder");
 *
 * The struct is untouched on success. The sentence names the thing, the limit and the way out; it is one line without a final dot.
 * Callers add the place with err_in() and never reword. err may be NULL: then only the code travels.
 * Not here: printing (mains do that), asserts for our own bugs (assert.h stays on in release builds). */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdarg.h>

enum err_code {
    ERR_OK       = 0,
    ERR_ARG      = -1,  /* what was asked is not valid */
    ERR_FORMAT   = -2,  /* bytes of a file or message are not what they must be */
    ERR_IO       = -3,  /* the operating system refused: open, read, write, fsync */
    ERR_NOMEM    = -4,
    ERR_LIMIT    = -5,  /* valid, but over a named bound */
    ERR_CANCELED = -6,
    ERR_PROTO    = -7,  /* the peer broke the protocol */
    ERR_DEVICE   = -8,  /* the device failed: the process should end */
    ERR_STATE    = -9,  /* not possible now */
    ERR_TIMEOUT  = -10,
    ERR_NOTFOUND = -11,
    ERR_CONFLICT = -12, /* the same name with other content */
    ERR_NAN      = -13, /* the result is not finite */
    ERR_BUSY     = -14, /* try again later */
    ERR_CRASHED  = -15  /* the engine process ended under the task */
};

#define ERR_TEXT_BYTES 400

struct err {
    int  code;
    char text[ERR_TEXT_BYTES];
};

/* Sets code and sentence; returns code. A sentence too long is cut, never overrun. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* As err_set, with ": " and the text of errno at the end. */
int err_errno(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Prefixes "place: " to the sentence; returns e->code (ERR_STATE when e is NULL). */
int err_in(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "format", "io", ...: a stable word for logs and JSON. */
const char *err_name(int code);

#endif

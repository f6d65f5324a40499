/* err.c - codes and sentences. Believes: a sentence longer than its room is better cut than lost. */
#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 3, 0))) static void text_set(struct err *e, int code, const char *fmt, va_list ap)
{
    char text[ERR_TEXT_BYTES]; /* arguments may point into e->text */

    vsnprintf(text, sizeof text, fmt, ap);
    e->code = code;
    memcpy(e->text, text, sizeof text);
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
    if (e) {
        va_list ap;
        va_start(ap, fmt);
        text_set(e, code, fmt, ap);
        va_end(ap);
    }
    return code;
}

int err_errno(struct err *e, int code, const char *fmt, ...)
{
    int saved = errno;

    if (e) {
        va_list ap;
        size_t  used;

        va_start(ap, fmt);
        text_set(e, code, fmt, ap);
        va_end(ap);
        used = strlen(e->text);
        snprintf(e->text + used, sizeof e->text - used, ": %s", strerror(saved));
    }
    return code;
}

int err_in(struct err *e, const char *fmt, ...)
{
    char    place[ERR_TEXT_BYTES], text[ERR_TEXT_BYTES];
    va_list ap;

    if (!e) return ERR_STATE;
    va_start(ap, fmt);
    vsnprintf(place, sizeof place, fmt, ap);
    va_end(ap);
    memcpy(text, e->text, sizeof text);
    snprintf(e->text, sizeof e->text, "%.150s: %.247s", place, text);
    return e->code;
}

const char *err_name(int code)
{
    switch (code) {
    case ERR_OK: return "ok";
    case ERR_ARG: return "invalid";
    case ERR_FORMAT: return "format";
    case ERR_IO: return "io";
    case ERR_NOMEM: return "memory";
    case ERR_LIMIT: return "limit";
    case ERR_CANCELED: return "canceled";
    case ERR_PROTO: return "protocol";
    case ERR_DEVICE: return "device";
    case ERR_STATE: return "state";
    case ERR_TIMEOUT: return "timeout";
    case ERR_NOTFOUND: return "not_found";
    case ERR_CONFLICT: return "conflict";
    case ERR_NAN: return "nan";
    case ERR_BUSY: return "busy";
    case ERR_CRASHED: return "crashed";
    default: return "unknown";
    }
}

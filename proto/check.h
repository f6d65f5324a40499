/* check.h - is a message what docs/PROTOCOL.md s.3 allows? The same function before sending and after receiving.
 * Pure: no bytes of the wire, no state of a session. Sentences name the field, the value and the bound. */
#ifndef PROTO_CHECK_H
#define PROTO_CHECK_H

#include "base/err.h"
#include "base/str.h"
#include "proto/msg.h"

int check_text(struct str s, size_t max_bytes, const char *what, struct err *e); /* UTF-8 without NUL */
int check_line(struct str s, size_t max_bytes, const char *what, struct err *e); /* and without control bytes */
/* Every field of a message of a known kind; ERR_ARG or ERR_LIMIT. An unknown kind is ERR_ARG. */
int msg_check(const struct msg *m, struct err *e);

#endif

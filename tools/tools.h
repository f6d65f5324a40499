/* tools.h - zfarm-model's subcommands. Each gets its own argv (argv[0] is "zfarm-model NAME") and returns the exit code:
 * 0 done, 1 failed (one sentence on stderr), 2 not understood (argp says why). */
#ifndef TOOLS_TOOLS_H
#define TOOLS_TOOLS_H

#include <stdint.h>

#include "base/err.h"

int tool_inspect(int argc, char **argv);
int tool_tokenize(int argc, char **argv);
int tool_synth(int argc, char **argv);
int tool_quantize(int argc, char **argv);
int tool_verify(int argc, char **argv);

/* "zfarm-model: sentence" on stderr; returns 1. */
int tool_failed(const struct err *e);
/* Flushes stdout; a full disk or closed pipe behind it is a failure. Returns 0 or 1. */
int tool_done(void);
/* "6.15 B", "1.88 M", "12": a number for people. */
const char *tool_count_text(int64_t n, char *text, size_t cap);
const char *tool_bytes_text(int64_t n, char *text, size_t cap); /* "12.3 GB", decimal */

#endif

/* progress.h - what a person or a program sees while a job runs.
 *
 *   struct bar p; bar_init(&p, BAR_AUTO, stderr, stdout);
 *   bar_begin(&p, job, n_images, n_there, now_ms);
 *   bar_image(...), bar_failed(...), bar_running(...)   as the events come
 *   bar_end(&p, now_ms);
 *
 * TTY (a terminal): one line redrawn in place: images done, running steps, images/s, ETA, cut to the terminal's width; failures and
 * notes scroll above it. PLAIN: lines at sensible moments (each image of a small job, every few seconds of a large one).
 * JSON: one object per event on stdout. SILENT: nothing. Time is given by the caller; nothing here reads a clock.
 * Not here: the result's sentence and the exit code (cmd_*.c). */
#ifndef CLIENT_PROGRESS_H
#define CLIENT_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/str.h"
#include "proto/msg.h"

enum bar_mode { BAR_AUTO, BAR_TTY, BAR_PLAIN, BAR_JSON, BAR_SILENT };

struct bar {
    enum bar_mode mode;
    FILE         *out, *data; /* lines for people; JSON */
    uint64_t      job;
    uint32_t      n_images, n_there, n_done, n_failed, n_canceled; /* n_there: were there before we began */
    int64_t       begun_ms, first_ms, said_ms, drawn_ms;           /* first_ms: the first sign of work; 0: none yet */
    double        units, units_first;                              /* images done plus shares of the running ones */
    bool          ended;                                           /* bar_end() was called */
    char          running[160];                                    /* "#3 denoise 4/8, #5 text" */
    char          note[160];                                       /* the state beside the bar: "the broker is away, waiting" */
    char          shown[512];                                      /* the line on the terminal */
    uint32_t      n_failures_said;
    char          first_failure[320];
    int           cols; /* 0: ask the terminal */
};

/* AUTO: TTY when out is a terminal, else PLAIN. */
void bar_init(struct bar *p, enum bar_mode mode, FILE *out, FILE *data);
void bar_begin(struct bar *p, uint64_t job, uint32_t n_images, uint32_t n_there, int64_t now_ms);
void bar_image(struct bar *p, uint32_t index, const char *file, uint64_t seed, uint32_t took_ms, struct str worker, const char *sha256_hex,
               int64_t now_ms);
void bar_there(struct bar *p, uint32_t n, int64_t now_ms); /* n more were there already */
void bar_failed(struct bar *p, uint32_t index, struct str sentence, int64_t now_ms);
void bar_canceled(struct bar *p, uint32_t n, int64_t now_ms);
void bar_running(struct bar *p, const struct progress *row, size_t n, int64_t now_ms);
/* What was done before we looked is counted: images/s begin here. Once, when the broker has no more news. */
void bar_caught_up(struct bar *p, int64_t now_ms);
/* A line of its own, once ("loading the model", "the broker is away, waiting"). */
void bar_say(struct bar *p, const char *event, const char *text, int64_t now_ms);
/* Before bar_begin(): what is waited for. TTY: redrawn in place; others: said once. */
void bar_wait(struct bar *p, const char *text, int64_t waited_ms);
/* The state shown beside the bar until it changes; "" for none. In PLAIN, and before bar_begin(), a new one is a line. */
void bar_note(struct bar *p, struct str text, int64_t now_ms);
void bar_end(struct bar *p, int64_t now_ms);
/* The bar's line for a width: pure. */
void bar_line(const struct bar *p, int64_t now_ms, size_t cols, struct buf *out);

#endif

/* print.h - words for people and lines for programs: numbers, times, tables, JSON text. Pure: everything goes into a buf.
 * Not here: when something is shown (progress.c), the terminal. */
#ifndef CLIENT_PRINT_H
#define CLIENT_PRINT_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "proto/msg.h"

/* Appends s as a JSON string in quotes; bytes that are not UTF-8 become '?'. */
void print_quoted(struct buf *b, struct str s);
/* s with control bytes and malformed UTF-8 as '?': what came from elsewhere never drives the terminal. At most max_cols characters. */
void print_safe(struct buf *b, struct str s, size_t max_cols);
/* "850 ms", "12 s", "3 min 05 s", "2 h 10 min", "3 d 4 h". Negative: "-". */
void print_span(struct buf *b, int64_t ms);
/* Characters of a UTF-8 text; every one counts as one column. */
size_t print_cols(struct str s);

void print_job_line(struct buf *b, const struct job_info *j, int64_t now_wall_ms); /* a row of `zfarm jobs` */
void print_jobs_head(struct buf *b);
void print_job_json(struct buf *b, const struct job_info *j); /* one object, one line */
void print_task_line(struct buf *b, const struct shown *t);   /* a row of `zfarm show` */
void print_tasks_head(struct buf *b);
void print_task_json(struct buf *b, const struct shown *t);
void print_worker_line(struct buf *b, const struct worker_info *w);
void print_worker_ranks(struct buf *b, const struct worker_info *w); /* of a group: one line per device */
void print_workers_head(struct buf *b);
void print_worker_json(struct buf *b, const struct worker_info *w);

#endif

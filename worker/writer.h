/* writer.h - a thread that writes pictures (picture_write) while the engine makes the next one.
 *
 *   writer_open(&w, done, ctx, &e);
 *   writer_put(w, p);                  p is the writer's now; waits while WRITER_MAX pictures are with it
 *   writer_cancel(w, task, epoch);     its answer is then a failure, unless it was already written
 *
 * done() is called on the writer's thread, once for each picture, and frees it. Not here: the link. */
#ifndef WORKER_WRITER_H
#define WORKER_WRITER_H

#include "worker/picture.h"

#define WRITER_MAX 3 /* pixels held: at most 3 x 48 MiB */

struct writer;

typedef void writer_done_f(void *ctx, struct picture *p, int rc, const struct err *e);

int  writer_open(struct writer **out, writer_done_f *done, void *ctx, struct err *e);
void writer_free(struct writer *w); /* writes what it has, first; NULL is fine */
void writer_flush(struct writer *w); /* returns when nothing is with it, done() of the last included */
void writer_put(struct writer *w, struct picture *p);
void writer_cancel(struct writer *w, uint64_t task, uint64_t epoch);
/* The calling thread writes this task; 0: it is no writer, or has none. Safe in a signal handler. */
uint64_t writer_task(uint64_t *epoch);

#endif

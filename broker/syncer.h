/* syncer.h - slow calls of many results at the same time: a few threads that fsync, so that neither the loop nor the journal waits.
 *
 *   syncer_open(&s, &e);  syncer_put(s, work, done, ctx);  loop: when syncer_fd(s) is readable, syncer_reap(s)
 *
 * A filesystem makes the fsyncs that are under way together durable together: sixteen at once cost little more than one.
 * Invariants: Y1 work(ctx) runs once, on a thread of its own choosing; done(ctx, rc, err) once, on the thread of syncer_reap() or
 *   syncer_close().  Y2 syncer_n() counts what was put and not yet done.  No order is promised.
 * Not here: what is synced (transfer.c, spool.c), rows (journal.c: group commit). */
#ifndef BROKER_SYNCER_H
#define BROKER_SYNCER_H

#include <stddef.h>

#include "base/err.h"

#define SYNC_THREADS 16

struct syncer;
typedef int  syncer_work_f(void *ctx, struct err *e);
typedef void syncer_done_f(void *ctx, int rc, const struct err *e);

int    syncer_open(struct syncer **out, struct err *e); /* threads start with the work */
void   syncer_put(struct syncer *s, syncer_work_f *work, syncer_done_f *done, void *ctx);
int    syncer_fd(const struct syncer *s);
void   syncer_reap(struct syncer *s);
size_t syncer_n(const struct syncer *s);
void   syncer_close(struct syncer *s); /* finishes what was put, calls its done(), ends the threads; NULL is fine */

#endif

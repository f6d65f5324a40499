/* work.h - the leases this worker holds, from LEASE to RESULT_OK or FAILED_OK, and the results that wait for the broker.
 *
 *   WAITING -> RUNNING -> WRITING (the device is free again) -> FINISHED (offered until RESULT_OK) or FAILED (said until FAILED_OK);
 *   a crash puts those it is blamed on into FAILED and the others back into WAITING.
 *
 * Invariants: W1 as many rows are RUNNING as the engine takes at once: one, or place_tasks() of a group.  W2 a FINISHED row holds its bytes mapped.  W3 a row leaves by work_drop() only.
 * Pure but for the mapped bytes: no socket, no clock. */
#ifndef WORKER_WORK_H
#define WORKER_WORK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "proto/msg.h"
#include "worker/link.h"

enum work_state { WORK_FREE, WORK_WAITING, WORK_RUNNING, WORK_WRITING, WORK_FINISHED, WORK_FAILED };

struct work {
    enum work_state state;
    uint64_t        task, epoch, job, order; /* order: of arrival */
    uint64_t        engine_epoch; /* under which the engine has it: epoch, until a newer lease of it came */
    uint32_t        index;
    int32_t         width_px, height_px;
    struct buf      item;      /* the spec, as the engine child takes it */
    uint32_t        budget_ms; /* without progress in the engine: then the broker gives it to another */
    bool            canceled;
    int             n_innocent; /* how often its engine died under it of something else */
    enum stage      stage;
    uint32_t        step, steps;
    int64_t         moved_ms;  /* stage or step changed, last */
    /* FINISHED */
    struct offer    offer;
    const uint8_t  *bytes;     /* mapped; the parts one after the other */
    size_t          n_bytes;
    /* FAILED */
    enum fail_class why;
    char            text[ERR_TEXT_BYTES];
    /* FINISHED, FAILED: the talk about it */
    uint64_t        correlation; /* of the last OFFER or FAILED */
    int64_t         say_ms;      /* when to say it (again) */
    int             n_refused;   /* ERRORs heard about it */
    bool            uploading;
    bool            alone;       /* offered by itself: the broker asked for that, or refused it once */
    uint64_t        transfer[PARTS_MAX], credit_bytes[PARTS_MAX], sent_bytes;
    size_t          part_now;
};

struct works {
    struct work row[LEASES_MAX];
    uint64_t    n_arrived;
};

size_t       works_count(const struct works *w);                     /* rows held, in any state */
struct work *works_find(struct works *w, uint64_t task);
struct work *works_next(struct works *w);                            /* the WAITING row that came first */
struct work *works_by_correlation(struct works *w, uint64_t correlation);
struct work *works_by_transfer(struct works *w, uint64_t transfer, size_t *part);
/* A new WAITING row. ERR_LIMIT: all rows are taken; others from packing the spec. */
int  work_take(struct works *w, const struct lease *l, int64_t now_ms, struct work **out, struct err *e);
void work_step(struct work *k, enum stage stage, uint32_t step, uint32_t steps, int64_t now_ms);
bool work_in_engine(const struct work *k);                           /* RUNNING or WRITING */
/* RUNNING or WRITING -> FINISHED with what a RESULT brought; ERR_PROTO when it is not what was asked for (the row stays what it is). */
int  work_finish(struct work *k, const struct link_head *h, int bytes_fd, int64_t now_ms, struct err *e);
void work_fail(struct work *k, enum fail_class why, const char *text, int64_t now_ms);
/* OFFER or FAILED is said anew, from the start: a new session, or a refusal. */
void work_say_again(struct work *k, int64_t at_ms);
void work_drop(struct work *k);
/* For BEAT: one row per lease. */
struct progress work_progress(const struct work *k, int64_t now_ms);
enum fail_class work_fail_class(int err_code);

#endif

/* tenant.h - a client of the farm: what it has here, what it may have, and whether it was told to wait.
 *
 *   t = tenants_get(&book.tenant, session->account, &quota);
 *   if (tenant_admit(t, n_items, n_tasks, now_ms, &retry_after_ms, &e)) refuse with ERROR{QUOTA, retry_after_ms}
 *
 * Who a client is, the session says (broker_session.c). Counts are kept by job.c (tasks) and where results come and go (bytes).
 * Invariants: T1 n_queued and n_running count exactly the tenant's tasks in those states, over all classes.
 *   T2 tokens_milli is 0 .. 1000 * quota.burst.
 * Pure: now_ms is given. Not here: the order of service (queue.c), the pause's row in the journal (broker_control.c). */
#ifndef BROKER_TENANT_H
#define BROKER_TENANT_H

#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#include "base/err.h"
#include "base/str.h"
#include "proto/limits.h"

struct quota { /* 0: no limit */
    uint64_t queued;       /* tasks that wait */
    uint64_t leases;       /* tasks that workers hold */
    uint64_t bytes;        /* of results not yet collected */
    uint64_t items_per_s;  /* of SUBMITs, on average ... */
    uint64_t burst;        /* ... and at once; at least SUBMIT_ITEMS_MAX when there is a rate */
};

struct tenant {
    char           name[NAME_MAX_BYTES + 1];
    struct quota   quota;
    uint64_t       n_queued, n_running, kept_bytes;
    uint64_t       tokens_milli;
    int64_t        refilled_ms;
    bool           paused;
    size_t         n_shares; /* of the book: it stays at least as long */
    UT_hash_handle hh;
};

struct tenant *tenants_get(struct tenant **all, struct str name, const struct quota *q); /* found, or made: never NULL */
struct tenant *tenants_find(struct tenant *all, struct str name);                        /* NULL: unknown */
/* Forgets who has nothing here, is not paused and may submit at full speed again. */
void           tenants_sweep(struct tenant **all, int64_t now_ms);
void           tenants_release(struct tenant **all);

/* May it submit n_items items of n_tasks tasks now? 0, and its tokens are spent; ERR_LIMIT with the sentence and *retry_after_ms: when to
 * ask again, 0 when it would never fit. */
int  tenant_admit(struct tenant *t, uint32_t n_items, uint32_t n_tasks, int64_t now_ms, uint32_t *retry_after_ms, struct err *e);
bool tenant_full(const struct tenant *t); /* holds as many leases as it may, or more bytes of results than it may add to */

#endif

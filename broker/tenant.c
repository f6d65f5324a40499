/* tenant.c - counting against quotas; a bucket of tokens for the rate of submitting. Out of memory aborts. */
#include "broker/tenant.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LATER_MS 2000 /* when a place in the queue, or room for results, may be free: nobody knows; asking is cheap */

struct tenant *tenants_find(struct tenant *all, struct str name)
{
    char           key[NAME_MAX_BYTES + 1] = {0};
    struct tenant *t;

    assert(name.len <= NAME_MAX_BYTES);
    if (name.len) memcpy(key, name.at, name.len);
    HASH_FIND(hh, all, key, sizeof key, t);
    return t;
}

struct tenant *tenants_get(struct tenant **all, struct str name, const struct quota *q)
{
    struct tenant *t = tenants_find(*all, name);

    if (t) return t;
    t = calloc(1, sizeof *t);
    if (!t) abort();
    if (name.len) memcpy(t->name, name.at, name.len);
    t->quota = *q;
    t->tokens_milli = 1000 * q->burst;
    HASH_ADD(hh, *all, name, sizeof t->name, t);
    return t;
}

/* Tokens since the last time; the bucket starts full. */
static void refill(struct tenant *t, int64_t now_ms)
{
    uint64_t full = 1000 * t->quota.burst, gap_ms = now_ms > t->refilled_ms ? (uint64_t)(now_ms - t->refilled_ms) : 0;

    t->refilled_ms = now_ms;
    if (gap_ms > full || t->tokens_milli + gap_ms * t->quota.items_per_s > full)
        t->tokens_milli = full;
    else
        t->tokens_milli += gap_ms * t->quota.items_per_s;
}

void tenants_sweep(struct tenant **all, int64_t now_ms)
{
    struct tenant *t, *next;

    HASH_ITER(hh, *all, t, next)
    {
        refill(t, now_ms);
        if (t->n_shares || t->paused || t->tokens_milli < 1000 * t->quota.burst) continue;
        HASH_DEL(*all, t);
        free(t);
    }
}

void tenants_release(struct tenant **all)
{
    struct tenant *t, *next;

    HASH_ITER(hh, *all, t, next)
    {
        HASH_DEL(*all, t);
        free(t);
    }
}

int tenant_admit(struct tenant *t, uint32_t n_items, uint32_t n_tasks, int64_t now_ms, uint32_t *retry_after_ms, struct err *e)
{
    const struct quota *q = &t->quota;

    *retry_after_ms = LATER_MS;
    if (q->queued && n_tasks > q->queued) {
        *retry_after_ms = 0;
        return err_set(e, ERR_LIMIT, "%" PRIu32 " images at once; a client may have %" PRIu64 " waiting: submit them as several jobs", n_tasks, q->queued);
    }
    if (q->queued && t->n_queued + n_tasks > q->queued)
        return err_set(e, ERR_LIMIT, "%" PRIu64 " of this client's images wait already, and %" PRIu64 " may: when some are made, more are taken",
                       t->n_queued, q->queued);
    if (q->bytes && t->kept_bytes >= q->bytes)
        return err_set(e, ERR_LIMIT, "this client's finished images take %" PRIu64 " MiB here, and %" PRIu64 " MiB may: gather some of them",
                       t->kept_bytes >> 20, q->bytes >> 20);
    if (q->items_per_s) {
        refill(t, now_ms);
        if (t->tokens_milli < 1000 * (uint64_t)n_items) {
            *retry_after_ms = (uint32_t)((1000 * (uint64_t)n_items - t->tokens_milli) / q->items_per_s + 1);
            return err_set(e, ERR_LIMIT, "this client submits faster than %" PRIu64 " items a second", q->items_per_s);
        }
        t->tokens_milli -= 1000 * (uint64_t)n_items;
    }
    *retry_after_ms = 0;
    return 0;
}

bool tenant_full(const struct tenant *t)
{
    return (t->quota.leases && t->n_running >= t->quota.leases) || (t->quota.bytes && t->kept_bytes >= t->quota.bytes);
}

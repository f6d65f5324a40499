/* standing.h - what a worker's name stands for beyond its connection: drained by somebody, quarantined by its own deeds.
 *
 *   s = standing_get(&r->standing, name); standing_blame(s, now_ms); ... if (standing_barred(s, now_ms)) it gets nothing
 *
 * By name, not by process: a worker that comes back after a fall of the network, or of itself, is the same machine. So two workers of one
 * name share its fate; names are host:pid unless somebody chose.
 * Quarantine: three images that crashed it and were made elsewhere, or three starts of its engine within ten minutes, bar it for 180 s, and each
 * time for twice as long, up to 30 min; an hour without one and the next is short again. Starts that an image caused which ended engines elsewhere, too,
 * until it was given up, do not count: one bad image must not bar a whole farm. Who mended the machine says so (zfarm drain --undo): the bar ends and
 * nothing counts any more, but the next one is as long as if it had not been lifted.
 * Pure. Not here: the row that makes drained durable (broker_control.c). */
#ifndef BROKER_STANDING_H
#define BROKER_STANDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

#include "base/str.h"
#include "proto/limits.h"

#define BLAMES_MAX            3
#define RECYCLES_MAX          3
#define RECYCLES_WITHIN_MS    600000
#define PARDON_MS             60000 /* an engine that was ended is there again and told of by then */
#define QUARANTINE_FIRST_MS   180000
#define QUARANTINE_MAX_MS     1800000
#define QUARANTINE_FORGET_MS  3600000

struct standing {
    char           name[NAME_MAX_BYTES + 1];
    bool           drained;
    uint32_t       n_blames;
    int64_t        recycled_ms[RECYCLES_MAX]; /* the last starts of its engine after the first */
    uint32_t       n_recycles, n_recycles_before; /* the last quarantine */
    uint32_t       n_pardons;                     /* of starts that are not told yet */
    int64_t        pardoned_ms;
    uint32_t       n_quarantines;             /* lately: how long the next one is */
    int64_t        barred_until_ms;
    const char    *why;                       /* static; of the last quarantine */
    size_t         n_workers;                 /* here now */
    UT_hash_handle hh;
};

struct standing *standing_get(struct standing **all, struct str name); /* found, or made: never NULL */
struct standing *standing_find(struct standing *all, struct str name);
/* Forgets it if nobody is there and nothing is held against it. */
void             standing_drop(struct standing **all, struct standing *s, int64_t now_ms);
void             standing_sweep(struct standing **all, int64_t now_ms);
void             standing_release(struct standing **all);

bool             standing_blame(struct standing *s, int64_t now_ms);    /* true: it is quarantined now */
bool             standing_recycled(struct standing *s, int64_t now_ms); /* its engine was started anew; as above */
/* One start of its engine, told of already or soon, was an image's fault. True: it was quarantined for that, and is not any more. */
bool             standing_pardon(struct standing *s, int64_t now_ms);
/* Somebody says that the machine is well. True: it was quarantined, and is not any more. */
bool             standing_well(struct standing *s, int64_t now_ms);
bool             standing_barred(const struct standing *s, int64_t now_ms);

#endif

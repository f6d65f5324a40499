/* standing.c - counting what went wrong under a name. Out of memory aborts. */
#include "broker/standing.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const char by_images[] = "3 images that crashed it were made elsewhere";
static const char by_starts[] = "its engine had to be started 3 times within 10 minutes";

struct standing *standing_find(struct standing *all, struct str name)
{
    char             key[NAME_MAX_BYTES + 1] = {0};
    struct standing *s;

    assert(name.len <= NAME_MAX_BYTES);
    if (name.len) memcpy(key, name.at, name.len);
    HASH_FIND(hh, all, key, sizeof key, s);
    return s;
}

struct standing *standing_get(struct standing **all, struct str name)
{
    struct standing *s = standing_find(*all, name);

    if (s) return s;
    s = calloc(1, sizeof *s);
    if (!s) abort();
    if (name.len) memcpy(s->name, name.at, name.len);
    HASH_ADD(hh, *all, name, sizeof s->name, s);
    return s;
}

/* Something that time has not healed yet. */
static bool held_against(const struct standing *s, int64_t now_ms)
{
    const int64_t last = s->n_recycles ? s->recycled_ms[(s->n_recycles - 1) % RECYCLES_MAX] : 0;

    return s->drained || s->n_blames || (s->n_quarantines && now_ms - s->barred_until_ms < QUARANTINE_FORGET_MS) ||
           (s->n_recycles && now_ms - last < RECYCLES_WITHIN_MS);
}

void standing_drop(struct standing **all, struct standing *s, int64_t now_ms)
{
    if (s->n_workers || held_against(s, now_ms)) return;
    HASH_DEL(*all, s);
    free(s);
}

void standing_sweep(struct standing **all, int64_t now_ms)
{
    struct standing *s, *next;

    HASH_ITER(hh, *all, s, next)
    {
        if (!s->n_workers) s->n_blames = 0; /* who went away with one or two begins anew */
        standing_drop(all, s, now_ms);
    }
}

void standing_release(struct standing **all)
{
    struct standing *s, *next;

    HASH_ITER(hh, *all, s, next)
    {
        HASH_DEL(*all, s);
        free(s);
    }
}

bool standing_barred(const struct standing *s, int64_t now_ms)
{
    return now_ms < s->barred_until_ms;
}

static void quarantine(struct standing *s, const char *why, int64_t now_ms)
{
    int64_t ms = QUARANTINE_FIRST_MS;

    if (s->n_quarantines && now_ms - s->barred_until_ms >= QUARANTINE_FORGET_MS) s->n_quarantines = 0;
    for (uint32_t i = 0; i < s->n_quarantines && ms < QUARANTINE_MAX_MS; i++) ms *= 2;
    s->barred_until_ms = now_ms + (ms < QUARANTINE_MAX_MS ? ms : QUARANTINE_MAX_MS);
    s->n_quarantines++;
    s->why = why;
    s->n_recycles_before = s->n_recycles;
    s->n_blames = s->n_recycles = 0;
}

bool standing_well(struct standing *s, int64_t now_ms)
{
    const bool barred = standing_barred(s, now_ms);

    s->n_blames = s->n_recycles = 0;
    if (barred) s->barred_until_ms = now_ms;
    return barred;
}

bool standing_blame(struct standing *s, int64_t now_ms)
{
    if (standing_barred(s, now_ms) || ++s->n_blames < BLAMES_MAX) return false;
    quarantine(s, by_images, now_ms);
    return true;
}

bool standing_recycled(struct standing *s, int64_t now_ms)
{
    if (standing_barred(s, now_ms)) return false;
    if (now_ms - s->pardoned_ms > PARDON_MS) s->n_pardons = 0;
    if (s->n_pardons) {
        s->n_pardons--;
        return false;
    }
    s->recycled_ms[s->n_recycles++ % RECYCLES_MAX] = now_ms;
    if (s->n_recycles < RECYCLES_MAX || now_ms - s->recycled_ms[s->n_recycles % RECYCLES_MAX] > RECYCLES_WITHIN_MS) return false;
    quarantine(s, by_starts, now_ms);
    return true;
}

bool standing_pardon(struct standing *s, int64_t now_ms)
{
    if (standing_barred(s, now_ms)) {
        if (s->why != by_starts) return false;
        s->barred_until_ms = now_ms;
        s->n_quarantines--;
        s->n_recycles = s->n_recycles_before - 1;
        return true;
    }
    if (s->n_recycles) {
        s->n_recycles--;
    } else {
        s->n_pardons++;
        s->pardoned_ms = now_ms;
    }
    return false;
}

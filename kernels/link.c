/* link.c - the front door of parcels: slots, who may touch one when, deadlines, the one failure. How bytes travel is the room's business.
 * Invariants: a slot in state FILLING or TRAVELS belongs to the thread inside link_put() or link_take(); the lock is not held meanwhile.
 *             A parcel's ticket and what are unique while it is there. */
#include "kernels/link.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/cuda/cuda.h"
#include "kernels/ops.h"

#define END_MS 2000 /* for breaking off what travels; longer than that nobody waits */

enum slot_state { SLOT_EMPTY, SLOT_FILLING, SLOT_FULL, SLOT_TRAVELS };

struct parcel {
    enum slot_state  state;
    struct link_note note;
    size_t           bytes;
    struct link_slot slot;
};

struct link {
    const struct link_room *room;
    void                   *priv;
    int                     n;
    int64_t                 deadline_ms;
    char                    about[64];
    struct dev             *dev[LINK_RANKS_MAX];
    pthread_mutex_t         mtx; /* all below */
    pthread_cond_t          moved;
    struct parcel           parcel[LINK_RANKS_MAX][LINK_SLOTS];
    struct err              why; /* code 0: it lives */
    pthread_t               ender; /* room->end() runs there, for a driver may not come back from it */
    bool                    has_ender, ended;
};

int link_open_in(struct link **out, const struct link_room *room, struct dev *const *dev, int n, int64_t deadline_ms, struct err *e)
{
    struct link *l = calloc(1, sizeof *l);
    int          rc;

    assert(n >= 1 && n <= LINK_RANKS_MAX && deadline_ms > 0);
    if (!l) return err_set(e, ERR_NOMEM, "no memory for a link of %d ranks", n);
    l->room = room;
    l->n = n;
    l->deadline_ms = deadline_ms;
    memcpy(l->dev, dev, (size_t)n * sizeof *dev);
    if (clock_cond_init(&l->moved)) {
        free(l);
        return err_set(e, ERR_NOMEM, "no memory for a link of %d ranks", n);
    }
    pthread_mutex_init(&l->mtx, NULL);
    if ((rc = room->open(&l->priv, dev, n, now_ms() + deadline_ms, l->about, e))) {
        pthread_mutex_destroy(&l->mtx);
        pthread_cond_destroy(&l->moved);
        free(l);
        return rc;
    }
    *out = l;
    return 0;
}

int link_open(struct link **out, struct dev *const *dev, int n, int64_t deadline_ms, struct err *e)
{
    bool gpus = false;

    for (int i = 0; i < n; i++) gpus |= dev[i]->ops == ops_cuda();
    return link_open_in(out, gpus ? link_room_cuda() : link_room_cpu(), dev, n, deadline_ms, e);
}

void link_free(struct link *l)
{
    if (!l) return;
    if (l->has_ender) pthread_join(l->ender, NULL);
    for (int r = 0; r < l->n; r++)
        for (int i = 0; i < LINK_SLOTS; i++)
            if (l->parcel[r][i].slot.at) l->room->give(l->priv, r, &l->parcel[r][i].slot);
    l->room->close(l->priv);
    pthread_cond_destroy(&l->moved);
    pthread_mutex_destroy(&l->mtx);
    free(l);
}

const char *link_about(const struct link *l)
{
    return l->about;
}

/* ---- failure ---- */

/* The lock is held. */
static int tell(const struct link *l, struct err *e)
{
    return l->why.code ? err_set(e, l->why.code, "%s", l->why.text) : 0;
}

static void *end_room(void *arg)
{
    struct link *l = arg;

    l->room->end(l->priv);
    pthread_mutex_lock(&l->mtx);
    l->ended = true;
    pthread_cond_broadcast(&l->moved);
    pthread_mutex_unlock(&l->mtx);
    return NULL;
}

void link_fail(struct link *l, const char *words)
{
    int64_t until_ms = now_ms() + END_MS;
    bool    alone = false;

    pthread_mutex_lock(&l->mtx);
    if (!l->why.code) {
        err_set(&l->why, ERR_DEVICE, "%s", words);
        l->has_ender = pthread_create(&l->ender, NULL, end_room, l) == 0;
        alone = !l->has_ender;
        pthread_cond_broadcast(&l->moved);
    }
    while (l->has_ender && !l->ended && clock_cond_wait(&l->moved, &l->mtx, until_ms)) continue;
    pthread_mutex_unlock(&l->mtx);
    if (alone) end_room(l); /* no thread to be had: then this one */
}

bool link_failed(struct link *l)
{
    bool failed;

    pthread_mutex_lock(&l->mtx);
    failed = l->why.code != 0;
    pthread_mutex_unlock(&l->mtx);
    return failed;
}

static int fail_with(struct link *l, const struct err *why, struct err *e)
{
    int rc;

    link_fail(l, why->text);
    pthread_mutex_lock(&l->mtx);
    rc = tell(l, e); /* the first one's words */
    pthread_mutex_unlock(&l->mtx);
    return rc;
}

/* ---- put ---- */

/* The lock is held. */
static struct parcel *find(struct link *l, uint64_t ticket, uint32_t what, int *from)
{
    for (int r = 0; r < l->n; r++)
        for (int i = 0; i < LINK_SLOTS; i++) {
            struct parcel *p = &l->parcel[r][i];

            if (p->state < SLOT_FULL || p->note.ticket != ticket || p->note.what != what) continue;
            *from = r;
            return p;
        }
    return NULL;
}

/* The lock is held. NULL: past the deadline, or the link has failed. */
static struct parcel *wait_empty(struct link *l, int rank, int64_t until_ms)
{
    for (;;) {
        if (l->why.code) return NULL;
        for (int i = 0; i < LINK_SLOTS; i++)
            if (l->parcel[rank][i].state == SLOT_EMPTY) return &l->parcel[rank][i];
        if (!clock_cond_wait(&l->moved, &l->mtx, until_ms)) return NULL;
    }
}

static void set_state(struct link *l, struct parcel *p, enum slot_state state)
{
    pthread_mutex_lock(&l->mtx);
    p->state = state;
    pthread_cond_broadcast(&l->moved);
    pthread_mutex_unlock(&l->mtx);
}

static int take_slot(struct link *l, int rank, struct parcel **out, struct err *e)
{
    struct err     late;
    struct parcel *p;
    int            rc = 0;

    pthread_mutex_lock(&l->mtx);
    p = wait_empty(l, rank, now_ms() + l->deadline_ms);
    if (p) p->state = SLOT_FILLING;
    else rc = tell(l, e);
    pthread_mutex_unlock(&l->mtx);
    *out = p;
    if (p || rc) return rc;
    err_set(&late, ERR_DEVICE, "%d parcels of %s (rank %d) were not fetched within %" PRId64 " s", LINK_SLOTS, l->dev[rank]->name, rank, l->deadline_ms / 1000);
    return fail_with(l, &late, e);
}

int link_put(struct link *l, int from, const struct link_note *note, const struct tensor *t, struct err *e)
{
    size_t         bytes = (size_t)tensor_count(t) * dtype_bytes(t->type);
    struct parcel *p;
    struct err     why = {0};
    int            rc, other;

    assert(from >= 0 && from < l->n && t->dev == l->dev[from] && tensor_dense(t));
    if (bytes == 0 || bytes > LINK_BYTES_MAX) return err_set(e, ERR_LIMIT, "%zu bytes for another rank: 1 to %zu can travel at once", bytes, LINK_BYTES_MAX);
    if ((rc = take_slot(l, from, &p, e))) return rc;
    p->note = *note;
    p->note.type = t->type;
    p->note.rank = t->rank;
    memcpy(p->note.dim, t->dim, sizeof p->note.dim);
    p->bytes = bytes;
    if (bytes > p->slot.cap) rc = l->room->grow(l->priv, from, &p->slot, bytes, &why);
    if (!rc) rc = l->room->fill(l->priv, from, &p->slot, t, bytes, &why);
    pthread_mutex_lock(&l->mtx);
    assert(!find(l, note->ticket, note->what, &other));
    pthread_mutex_unlock(&l->mtx);
    set_state(l, p, rc ? SLOT_EMPTY : SLOT_FULL);
    if (!rc) return 0;
    return rc == ERR_DEVICE ? fail_with(l, &why, e) : err_set(e, rc, "%s", why.text);
}

/* ---- peek, take, drop ---- */

int link_peek(struct link *l, uint64_t ticket, uint32_t what, struct link_note *note, struct err *e)
{
    int64_t        until_ms = now_ms() + l->deadline_ms;
    struct parcel *p = NULL;
    struct err     late;
    int            from, rc;

    pthread_mutex_lock(&l->mtx);
    while (!l->why.code && !(p = find(l, ticket, what, &from)) && clock_cond_wait(&l->moved, &l->mtx, until_ms)) continue;
    if (p) *note = p->note;
    rc = tell(l, e);
    pthread_mutex_unlock(&l->mtx);
    if (p || rc) return rc;
    err_set(&late, ERR_DEVICE, "parcel %" PRIu32 " of ticket %" PRIu64 " did not come within %" PRId64 " s", what, ticket, l->deadline_ms / 1000);
    return fail_with(l, &late, e);
}

int link_take(struct link *l, int at, uint64_t ticket, uint32_t what, struct tensor *t, struct err *e)
{
    struct parcel *p;
    struct err     why = {0};
    int            from = 0, rc;

    assert(at >= 0 && at < l->n && t->dev == l->dev[at] && tensor_dense(t));
    pthread_mutex_lock(&l->mtx);
    if ((rc = tell(l, e))) {
        pthread_mutex_unlock(&l->mtx);
        return rc;
    }
    p = find(l, ticket, what, &from);
    assert(p && p->state == SLOT_FULL && p->note.type == t->type && p->bytes == (size_t)tensor_count(t) * dtype_bytes(t->type));
    p->state = SLOT_TRAVELS;
    pthread_mutex_unlock(&l->mtx);
    rc = l->room->carry(l->priv, from, &p->slot, at, t, p->bytes, now_ms() + l->deadline_ms, &why);
    set_state(l, p, SLOT_FULL);
    return rc ? fail_with(l, &why, e) : 0;
}

void link_drop(struct link *l, uint64_t ticket)
{
    pthread_mutex_lock(&l->mtx);
    for (int r = 0; r < l->n; r++)
        for (int i = 0; i < LINK_SLOTS; i++) {
            struct parcel *p = &l->parcel[r][i];

            if (p->state < SLOT_FULL || p->note.ticket != ticket) continue;
            assert(p->state == SLOT_FULL);
            p->state = SLOT_EMPTY;
        }
    pthread_cond_broadcast(&l->moved);
    pthread_mutex_unlock(&l->mtx);
}

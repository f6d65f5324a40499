/* group.h - the ranks of a placement in one process: each a thread with its engine, and pictures going from one to the next.
 *
 *   group_open(&g, &conf, &hooks, &e);           every rank opens its parts, at the same time; they meet; a self-test
 *   group_put(g, p, &e);                         p is the group's until on_pixels(), on_failed() or on_lost() give it back
 *   group_cancel(g, task, epoch); group_loads(g, loads); group_free(g);
 *
 * Pictures lie on three shelves, to be encoded, painted and decoded, and a rank that is free takes the oldest from one of those that it serves:
 * to encode before to decode before to paint. So nobody waits for a rank that is busy while another one is free, and no shelf holds more than
 * place_tasks() pictures, for there are no more in the group. Without a placement it is a group of one rank.
 * Invariants: G1 every picture put is given back once, or freed by group_free().  G2 after on_lost() no picture is given back any more.
 * Not here: words to the supervisor (engine_child.c), what a rank does with a picture (station.c), how tensors travel (engine.h). */
#ifndef WORKER_GROUP_H
#define WORKER_GROUP_H

#include "worker/station.h"

struct group;

struct group_conf {
    struct engine_opts  engine;      /* device: without a placement; parts and on_progress are the group's */
    const struct place *place;       /* read by group_open() alone */
    int64_t             transfer_ms; /* for every transfer, and for meeting */
};

struct group_hooks { /* all on some rank's thread */
    void *ctx;
    void (*on_loading)(void *ctx, int64_t done_bytes, int64_t all_bytes, const char *what); /* of all ranks together, one call at a time; "ready" is the last */
    void (*on_stage)(void *ctx, const struct picture *p, enum stage stage, int step);       /* p->rank has it; STAGE_WAITING: nobody */
    void (*on_pixels)(void *ctx, struct picture *p);                                        /* it has left all devices, and is yours */
    void (*on_failed)(void *ctx, struct picture *p, int rc, const struct err *e);           /* it is yours */
    /* Once: a device or the link has failed under this picture, which is yours. The process should group_abort() and end. */
    void (*on_lost)(void *ctx, struct picture *p, const struct err *e);
};

struct group_load { /* of a rank */
    uint64_t used_bytes, total_bytes; /* of its device's memory, when it last looked: at most a second ago while it works */
    uint32_t busy_permille;           /* of the time since the last call */
};

int  group_open(struct group **out, const struct group_conf *c, const struct group_hooks *hooks, struct err *e);
/* Ranks finish the work at hand (a painting one: its step) and go. */
void group_free(struct group *g); /* NULL is fine */
const struct engine_profile *group_profile(const struct group *g); /* of the first rank that paints; device and about are its own */
int  group_ranks(const struct group *g);
const struct engine_profile *group_rank_profile(const struct group *g, int rank);
const char *group_link_about(const struct group *g); /* "" without a placement */
/* ERR_BUSY: as many as place_tasks() are there. On error p stays the caller's. */
int  group_put(struct group *g, struct picture *p, struct err *e);
/* A picture in a rank's hands stops at its next step, one on a shelf comes back at once (on the calling thread). False: it is not here. */
bool group_cancel(struct group *g, uint64_t task, uint64_t epoch);
bool group_idle(struct group *g);
void group_loads(struct group *g, struct group_load loads[PLACE_RANKS_MAX]);
/* Breaks off what travels between ranks: for the end of the process. */
void group_abort(struct group *g, const char *words);
/* The task that the calling thread has in hand; for a thread that computes for others, the task in hand when there is just one. 0: not known. Safe in a
 * signal handler. */
uint64_t group_task(uint64_t *epoch);

#endif

/* link.h - tensors from one device's thread to another's, inside one process.
 *
 *   link_open(&l, devs, 3, 10000, &e);
 *   the thread of rank 0:   link_put(l, 0, &note, &t, &e);                       t is copied aside and is yours again at once
 *   the thread of rank 2:   link_peek(l, ticket, what, &note, &e);               what it is, before room is made for it
 *                           link_take(l, 2, ticket, what, &t, &e);               now it travels
 *                           link_drop(l, ticket);                                its slots are free again
 *
 * Pull, not push: a parcel stays with the rank that put it until somebody takes it, and who takes it says where it goes. So a sender waits for
 * nobody, and nobody stands behind one who is busy. The bytes travel apart from the devices' work (on a GPU: on streams of their own).
 * Invariants: L1 a parcel is one of LINK_SLOTS of its rank: link_put() waits for a free one.  L2 nothing waits longer than deadline_ms.
 * L3 what fails, or passes its deadline, fails the whole link, once: everybody's calls end with that sentence from then on, and so should the process.
 * Any number of threads; a rank's dev is touched in link_put() and link_take() of that rank only, so by its own thread.
 * Rooms: cpu/link.c (memory), cuda/ports.c (GPUs among them; between GPUs NCCL when there is one). Not here: what is in a parcel (engine/split.c). */
#ifndef KERNELS_LINK_H
#define KERNELS_LINK_H

#include "kernels/dev.h"

#define LINK_RANKS_MAX 10 /* a text rank, a VAE rank, eight image ranks */
#define LINK_SLOTS     20 /* parcels of one rank at once */
#define LINK_BYTES_MAX ((size_t)64 << 20) /* of one parcel */
#define LINK_MARK_BYTES 32

struct link_note { /* travels with the tensor; every number is checked by link_put() */
    uint64_t   ticket;
    uint32_t   what;  /* the caller's: several parcels may have one ticket */
    enum dtype type;
    int        rank;
    int64_t    dim[TENSOR_RANK_MAX];
    uint8_t    mark[LINK_MARK_BYTES]; /* the caller's: what is in it */
};

struct link;

/* All devs are open, and outlive the link. ERR_DEVICE: GPUs that do not come together within the deadline. */
int  link_open(struct link **out, struct dev *const *dev, int n, int64_t deadline_ms, struct err *e);
void link_free(struct link *l); /* NULL is fine; nobody is inside any more */
const char *link_about(const struct link *l); /* "memory", "NCCL 2.28.9", "host copies" */

/* t is dense and lies on rank from's device; type and dims of the note are taken from it. ERR_LIMIT: too large. ERR_NOMEM: no memory for a slot (the
 * link lives on). Else ERR_DEVICE: the link has failed. */
int link_put(struct link *l, int from, const struct link_note *note, const struct tensor *t, struct err *e);
/* Waits for the parcel. */
int link_peek(struct link *l, uint64_t ticket, uint32_t what, struct link_note *note, struct err *e);
/* t: dense, on rank at's device, of the parcel's type and count. Filled when the call returns; the parcel stays until link_drop(). */
int link_take(struct link *l, int at, uint64_t ticket, uint32_t what, struct tensor *t, struct err *e);
/* All parcels of the ticket, taken or not; none of them is travelling. */
void link_drop(struct link *l, uint64_t ticket);
/* Whoever notices that something is wrong: the first one's words stay. What travels is broken off; returns when that is done, or takes longer than
 * anybody should wait. */
void link_fail(struct link *l, const char *words);
bool link_failed(struct link *l);

/* ---- rooms ---- */

struct link_slot {
    void  *at;  /* memory of its rank's device */
    size_t cap;
    void  *full; /* the room's: when its bytes are there */
};

struct link_room {
    /* about: for link_about(). */
    int  (*open)(void **priv, struct dev *const *dev, int n, int64_t until_ms, char about[64], struct err *e);
    void (*close)(void *priv);                                                       /* after every slot was given */
    int  (*grow)(void *priv, int rank, struct link_slot *s, size_t bytes, struct err *e); /* cap >= bytes; what was in it is lost */
    void (*give)(void *priv, int rank, struct link_slot *s);
    int  (*fill)(void *priv, int rank, struct link_slot *s, const struct tensor *t, size_t bytes, struct err *e); /* on rank's thread */
    /* On at's thread; from may be at. Returns when the bytes are in t, or with ERR_DEVICE at until_ms, or soon after end(). */
    int  (*carry)(void *priv, int from, const struct link_slot *s, int at, struct tensor *t, size_t bytes, int64_t until_ms, struct err *e);
    void (*end)(void *priv); /* from any thread: what travels is broken off; nothing travels any more */
};

const struct link_room *link_room_cpu(void);
/* As link_open(), in a room of the caller's: for tests. */
int link_open_in(struct link **out, const struct link_room *room, struct dev *const *dev, int n, int64_t deadline_ms, struct err *e);

#endif

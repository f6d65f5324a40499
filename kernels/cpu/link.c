/* link.c - parcels between CPU devices of one process: copies in memory. The lock of kernels/link.c orders who writes and who reads.
 * Not here: ranks with a GPU among them (cuda/ports.c). */
#include "kernels/link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int open_memory(void **priv, struct dev *const *dev, int n, int64_t until_ms, char about[64], struct err *e)
{
    (void)dev, (void)n, (void)until_ms, (void)e;
    *priv = NULL;
    snprintf(about, 64, "memory");
    return 0;
}

static void close_memory(void *priv)
{
    (void)priv;
}

static int grow(void *priv, int rank, struct link_slot *s, size_t bytes, struct err *e)
{
    void *at = realloc(s->at, bytes);

    (void)priv, (void)rank;
    if (!at) return err_set(e, ERR_NOMEM, "no memory for %zu bytes on their way to another rank", bytes);
    s->at = at;
    s->cap = bytes;
    return 0;
}

static void give(void *priv, int rank, struct link_slot *s)
{
    (void)priv, (void)rank;
    free(s->at);
    *s = (struct link_slot){0};
}

static int fill(void *priv, int rank, struct link_slot *s, const struct tensor *t, size_t bytes, struct err *e)
{
    (void)priv, (void)rank, (void)e;
    memcpy(s->at, t->data, bytes);
    return 0;
}

static int carry(void *priv, int from, const struct link_slot *s, int at, struct tensor *t, size_t bytes, int64_t until_ms, struct err *e)
{
    (void)priv, (void)from, (void)at, (void)until_ms, (void)e;
    memcpy(t->data, s->at, bytes);
    return 0;
}

static void end(void *priv)
{
    (void)priv; /* a copy is not worth breaking off */
}

const struct link_room *link_room_cpu(void)
{
    static const struct link_room room = {open_memory, close_memory, grow, give, fill, carry, end};

    return &room;
}

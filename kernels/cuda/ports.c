/* ports.c - parcels between ranks of which one at least is a GPU: a port per rank, with a stream of its own beside its device's.
 *   CPU to CPU       a copy
 *   GPU to GPU       the communicator (link.c), when there is one: NCCL on this machine, and two GPUs or more
 *   otherwise        through pinned host memory
 * Believes: a rank's link_put() and link_take() come from its own thread; another rank's thread touches its port's stream and its slot's event only.
 * Every wait looks, every some ten microseconds, at the event, the communicator, the deadline, and whether the link has ended.
 * Launches of the two halves of a transfer, and cudaMalloc and cudaFree of all devices, exclude each other (cuda_memory_lock): a cudaFree between
 * them could wait for the first half's kernel, which waits for the second's, which waits for the driver's lock that cudaFree holds.
 * Not here: slots and their states (kernels/link.c), NCCL (link.c). */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cuda_runtime_api.h>

#include "base/clock.h"
#include "kernels/cuda/comm.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/ops.h"
#include "kernels/link.h"

#define NAP_US 30

struct port {
    struct dev  *d;
    bool         gpu;
    int          comm_rank;
    cudaStream_t stream;      /* GPU only, as the two below */
    cudaEvent_t  begun, done; /* begun: what the device was told before a parcel comes in */
    struct { void *at; size_t cap; } bounce; /* pinned: what comes from a GPU without a communicator */
};

struct ports {
    int             n, any_gpu;
    struct port     port[LINK_RANKS_MAX];
    struct comm    *comm; /* NULL: none */
    pthread_mutex_t order; /* one transfer is posted after the other */
    atomic_bool     ended;
};

static int failed(const struct port *p, cudaError_t rc, const char *what, struct err *e)
{
    return err_set(e, ERR_DEVICE, "%s: %s for another rank: %s", p->d->name, what, cudaGetErrorString(rc));
}

/* ---- open and close ---- */

static int open_port(struct port *p, struct err *e)
{
    int         low = 0, high = 0;
    cudaError_t rc = cudaSetDevice(p->d->ordinal);

    if (rc == cudaSuccess) rc = cudaDeviceGetStreamPriorityRange(&low, &high);
    if (rc == cudaSuccess) rc = cudaStreamCreateWithPriority(&p->stream, cudaStreamNonBlocking, high); /* a few blocks, in front of a pass's many */
    if (rc == cudaSuccess) rc = cudaEventCreateWithFlags(&p->begun, cudaEventDisableTiming);
    if (rc == cudaSuccess) rc = cudaEventCreateWithFlags(&p->done, cudaEventDisableTiming);
    return rc == cudaSuccess ? 0 : failed(p, rc, "a stream", e);
}

static void close_ports(void *priv)
{
    struct ports *ps = priv;

    if (!ps) return;
    comm_close(ps->comm);
    for (int i = 0; i < ps->n; i++) {
        struct port *p = &ps->port[i];

        cudaSetDevice(p->gpu ? p->d->ordinal : ps->any_gpu);
        if (p->bounce.at) cudaFreeHost(p->bounce.at);
        if (p->begun) cudaEventDestroy(p->begun);
        if (p->done) cudaEventDestroy(p->done);
        if (p->stream) cudaStreamDestroy(p->stream);
    }
    pthread_mutex_destroy(&ps->order);
    free(ps);
}

/* The GPUs among the ranks meet. Without the library, or with one GPU alone, there is nothing to meet. */
static int meet(struct ports *ps, int64_t until_ms, char about[64], struct err *e)
{
    int        ordinal[LINK_RANKS_MAX], n = 0, rc;
    struct err why = {0};

    snprintf(about, 64, "host copies");
    for (int i = 0; i < ps->n; i++) {
        struct port *p = &ps->port[i];

        for (int k = 0; p->gpu && k < n; k++)
            if (ordinal[k] == p->d->ordinal) return err_set(e, ERR_ARG, "%s carries two ranks: a GPU is one rank, whatever its parts are", p->d->name);
        p->comm_rank = n;
        if (p->gpu) ordinal[n++] = p->d->ordinal;
    }
    if (n < 2) return 0;
    rc = comm_open(&ps->comm, ordinal, n, until_ms, about, &why);
    return rc && rc != ERR_NOTFOUND ? err_set(e, rc, "%s", why.text) : 0;
}

static int open_ports(void **priv, struct dev *const *dev, int n, int64_t until_ms, char about[64], struct err *e)
{
    struct ports *ps = calloc(1, sizeof *ps);
    int           rc = 0;

    if (!ps) return err_set(e, ERR_NOMEM, "no memory for a link of %d ranks", n);
    pthread_mutex_init(&ps->order, NULL);
    ps->n = n;
    for (int i = 0; i < n && !rc; i++) {
        struct port *p = &ps->port[i];

        p->d = dev[i];
        p->gpu = dev[i]->ops == ops_cuda();
        if (!p->gpu) continue;
        ps->any_gpu = dev[i]->ordinal;
        rc = open_port(p, e);
    }
    if (!rc) rc = meet(ps, until_ms, about, e);
    if (rc) close_ports(ps);
    else *priv = ps;
    return rc;
}

static void end(void *priv)
{
    struct ports *ps = priv;

    atomic_store(&ps->ended, true);
    if (ps->comm) comm_abort(ps->comm);
}

/* ---- slots ---- */

static void give(void *priv, int rank, struct link_slot *s)
{
    struct ports *ps = priv;
    struct port  *p = &ps->port[rank];

    cudaSetDevice(p->gpu ? p->d->ordinal : ps->any_gpu);
    if (p->gpu) {
        cuda_memory_lock();
        cudaFree(s->at);
        cuda_memory_unlock();
        if (s->full) cudaEventDestroy(s->full);
    } else {
        cudaFreeHost(s->at);
    }
    *s = (struct link_slot){0};
}

static int grow(void *priv, int rank, struct link_slot *s, size_t bytes, struct err *e)
{
    struct ports *ps = priv;
    struct port  *p = &ps->port[rank];
    cudaEvent_t   full = NULL;
    cudaError_t   rc;

    if (s->at) give(priv, rank, s);
    rc = cudaSetDevice(p->gpu ? p->d->ordinal : ps->any_gpu);
    cuda_memory_lock();
    if (rc == cudaSuccess) rc = p->gpu ? cudaMalloc(&s->at, bytes) : cudaHostAlloc(&s->at, bytes, cudaHostAllocPortable);
    cuda_memory_unlock();
    if (rc != cudaSuccess) {
        cudaGetLastError(); /* a refused allocation is an answer, not a state */
        s->at = NULL;
        return err_set(e, ERR_NOMEM, "%s: no memory for %zu KiB on their way to another rank", p->d->name, (bytes >> 10) + 1);
    }
    s->cap = bytes;
    if (p->gpu && (rc = cudaEventCreateWithFlags(&full, cudaEventDisableTiming)) != cudaSuccess) return failed(p, rc, "an event", e);
    s->full = full;
    return 0;
}

/* In the order of the device's own work: what follows there may write over t. */
static int fill(void *priv, int rank, struct link_slot *s, const struct tensor *t, size_t bytes, struct err *e)
{
    struct port *p = &((struct ports *)priv)->port[rank];
    cudaError_t  rc;

    if (!p->gpu) {
        memcpy(s->at, t->data, bytes);
        return 0;
    }
    rc = cudaSetDevice(p->d->ordinal);
    if (rc == cudaSuccess) rc = cudaMemcpyAsync(s->at, t->data, bytes, cudaMemcpyDeviceToDevice, cuda_stream(p->d));
    if (rc == cudaSuccess) rc = cudaEventRecord(s->full, cuda_stream(p->d));
    return rc == cudaSuccess ? 0 : failed(p, rc, "a copy", e);
}

/* ---- on the way ---- */

static int wait_done(struct ports *ps, struct port *p, int64_t until_ms, struct err *e)
{
    for (;;) {
        cudaError_t rc = cudaEventQuery(p->done);
        int         bad;

        if (rc == cudaSuccess) return 0;
        if (rc != cudaErrorNotReady) return failed(p, rc, "a transfer", e);
        if (atomic_load(&ps->ended)) return err_set(e, ERR_DEVICE, "%s: a transfer was broken off", p->d->name);
        if (ps->comm && (bad = comm_check(ps->comm, e))) return bad;
        if (now_ms() >= until_ms) return err_set(e, ERR_DEVICE, "%s: a transfer from another rank did not end in time", p->d->name);
        usleep(NAP_US);
    }
}

/* The port's stream goes on when the device has done what it was told so far. */
static cudaError_t after_work(struct port *p)
{
    cudaError_t rc = cudaSetDevice(p->d->ordinal);

    if (rc == cudaSuccess) rc = cudaEventRecord(p->begun, cuda_stream(p->d));
    return rc == cudaSuccess ? cudaStreamWaitEvent(p->stream, p->begun, 0) : rc;
}

static int over_comm(struct ports *ps, struct port *a, const struct link_slot *s, struct port *b, struct tensor *t, size_t bytes, int64_t until_ms,
                     struct err *e)
{
    cudaError_t rc;
    int         bad;

    pthread_mutex_lock(&ps->order);
    cuda_memory_lock();
    rc = cudaStreamWaitEvent(a->stream, s->full, 0);
    if (rc == cudaSuccess) rc = after_work(b);
    bad = rc == cudaSuccess ? comm_send(ps->comm, a->comm_rank, s->at, a->stream, b->comm_rank, t->data, b->stream, bytes, until_ms, e)
                            : failed(b, rc, "an order of streams", e);
    cudaSetDevice(b->d->ordinal);
    if (!bad && (rc = cudaEventRecord(b->done, b->stream)) != cudaSuccess) bad = failed(b, rc, "an event", e);
    cuda_memory_unlock();
    pthread_mutex_unlock(&ps->order);
    return bad ? bad : wait_done(ps, b, until_ms, e); /* all bytes are here, so the sender's slot is no longer read */
}

/* From a GPU's slot into the taker's pinned memory. */
static int to_host(struct ports *ps, struct port *a, const struct link_slot *s, struct port *b, size_t bytes, int64_t until_ms, struct err *e)
{
    cudaError_t rc = cudaSetDevice(a->d->ordinal);

    if (bytes > b->bounce.cap) {
        if (b->bounce.at) cudaFreeHost(b->bounce.at);
        b->bounce.at = NULL;
        b->bounce.cap = 0;
        if (rc == cudaSuccess) rc = cudaHostAlloc(&b->bounce.at, bytes, cudaHostAllocPortable);
        if (rc == cudaSuccess) b->bounce.cap = bytes;
    }
    pthread_mutex_lock(&ps->order); /* another taker's event on the same port would hide this one's */
    if (rc == cudaSuccess) rc = cudaStreamWaitEvent(a->stream, s->full, 0);
    if (rc == cudaSuccess) rc = cudaMemcpyAsync(b->bounce.at, s->at, bytes, cudaMemcpyDeviceToHost, a->stream);
    if (rc == cudaSuccess) rc = cudaEventRecord(a->done, a->stream);
    pthread_mutex_unlock(&ps->order);
    return rc == cudaSuccess ? wait_done(ps, a, until_ms, e) : failed(a, rc, "a copy", e);
}

static int over_host(struct ports *ps, struct port *a, const struct link_slot *s, struct port *b, struct tensor *t, size_t bytes, int64_t until_ms,
                     struct err *e)
{
    const void *from = s->at;
    cudaError_t rc;
    int         bad;

    if (a->gpu) {
        if ((bad = to_host(ps, a, s, b, bytes, until_ms, e))) return bad;
        from = b->bounce.at;
    }
    if (!b->gpu) {
        memcpy(t->data, from, bytes);
        return 0;
    }
    rc = after_work(b);
    if (rc == cudaSuccess) rc = cudaMemcpyAsync(t->data, from, bytes, cudaMemcpyHostToDevice, b->stream);
    if (rc == cudaSuccess) rc = cudaEventRecord(b->done, b->stream);
    return rc == cudaSuccess ? wait_done(ps, b, until_ms, e) : failed(b, rc, "a copy", e);
}

/* A rank's own parcel: beside its work all the same. */
static int at_home(struct ports *ps, const struct link_slot *s, struct port *b, struct tensor *t, size_t bytes, int64_t until_ms, struct err *e)
{
    cudaError_t rc = after_work(b);

    if (rc == cudaSuccess) rc = cudaStreamWaitEvent(b->stream, s->full, 0);
    if (rc == cudaSuccess) rc = cudaMemcpyAsync(t->data, s->at, bytes, cudaMemcpyDeviceToDevice, b->stream);
    if (rc == cudaSuccess) rc = cudaEventRecord(b->done, b->stream);
    return rc == cudaSuccess ? wait_done(ps, b, until_ms, e) : failed(b, rc, "a copy", e);
}

static int carry(void *priv, int from, const struct link_slot *s, int at, struct tensor *t, size_t bytes, int64_t until_ms, struct err *e)
{
    struct ports *ps = priv;
    struct port  *a = &ps->port[from], *b = &ps->port[at];

    if (from == at && b->gpu) return at_home(ps, s, b, t, bytes, until_ms, e);
    if (a->gpu && b->gpu && ps->comm) return over_comm(ps, a, s, b, t, bytes, until_ms, e);
    return over_host(ps, a, s, b, t, bytes, until_ms, e);
}

const struct link_room *link_room_cuda(void)
{
    static const struct link_room room = {open_ports, close_ports, grow, give, fill, carry, end};

    return &room;
}

/* expand.c - weights of block kinds and 8-bit floats, widened for the product that is about to read them, into two rooms in turn.
 * The widening runs on a stream beside the device's own: while a product reads one room, the next weight is widened into the other, as far
 * ahead as the host has called. The order is kept by events: a room is written after the product that read it, read after it was written.
 * The same kernels widen a weight while it is loaded (cuda.c), so a product sees the same bytes either way.
 * Believes: the rooms lie at the end of dev's scratch when a measuring pass has seen their size (dev.h), else in the backend's work space.
 * Both streams may be captured into a graph: after a change between capture and none the side stream starts from the main one anew
 * (cuda_expand_fence); who replays a graph calls it, too. */
#include <cuda_runtime_api.h>

#include "kernels/cuda/ops.h"

bool expand_open(struct expand *x)
{
    int  low = 0, high = 0;
    bool ok = cudaDeviceGetStreamPriorityRange(&low, &high) == cudaSuccess &&
              cudaStreamCreateWithPriority(&x->stream, cudaStreamNonBlocking, high) == cudaSuccess &&
              cudaEventCreateWithFlags(&x->fork, cudaEventDisableTiming) == cudaSuccess;

    for (int i = 0; ok && i < 2; i++) {
        ok = cudaEventCreateWithFlags(&x->full[i], cudaEventDisableTiming) == cudaSuccess &&
             cudaEventCreateWithFlags(&x->empty[i], cudaEventDisableTiming) == cudaSuccess;
    }
    return ok;
}

void expand_close(struct expand *x)
{
    if (x->stream) cudaStreamSynchronize(x->stream);
    for (int i = 0; i < 2; i++) {
        if (x->full[i]) cudaEventDestroy(x->full[i]);
        if (x->empty[i]) cudaEventDestroy(x->empty[i]);
    }
    if (x->fork) cudaEventDestroy(x->fork);
    if (x->stream) cudaStreamDestroy(x->stream);
}

void cuda_expand_fence(struct dev *d)
{
    cuda_of(d)->expand.forked = false;
}

static void note(struct dev *d, cudaError_t rc)
{
    if (rc != cudaSuccess) dev_fail(d, ERR_DEVICE, "%s: widening a weight: %s", d->name, cudaGetErrorString(rc));
}

/* The side stream goes on from where the main one is now, unless nothing has changed hands since the last time. */
static void follow(struct dev *d)
{
    struct expand                *x = &cuda_of(d)->expand;
    enum cudaStreamCaptureStatus  status = cudaStreamCaptureStatusNone;

    note(d, cudaStreamIsCapturing(cuda_stream(d), &status));
    if (x->forked && x->captured == (int)status && x->turn == d->scratch.turn) return;
    note(d, cudaEventRecord(x->fork, cuda_stream(d)));
    note(d, cudaStreamWaitEvent(x->stream, x->fork, 0));
    x->captured = (int)status;
    x->turn = d->scratch.turn;
    x->read[0] = x->read[1] = false;
    x->forked = true;
}

/* Room number `next` for one matrix of these bytes. */
static void *room_of(struct dev *d, int next, size_t bytes)
{
    const size_t room = d->scratch.room / 2, end = d->scratch.cap - d->scratch.lodged;
    const size_t from = end > d->scratch.room ? (end - d->scratch.room) / 256 * 256 : 0; /* a tensor's alignment */

    if (bytes <= room && d->scratch.room <= end && d->scratch.used <= from) return d->scratch.base + from + (next ? room : 0);
    return cuda_space(d, next ? SLOT_ROOM_1 : SLOT_ROOM_0, bytes);
}

const void *cuda_expanded(struct dev *d, const struct tensor *w, enum dtype type, int64_t *ld)
{
    struct expand *x = &cuda_of(d)->expand;
    void          *to;

    *ld = tensor_cols(w);
    cuda_enter(d);
    x->next ^= 1;
    if (!(to = room_of(d, x->next, (size_t)tensor_count(w) * dtype_bytes(type)))) return NULL;
    follow(d);
    if (x->read[x->next]) note(d, cudaStreamWaitEvent(x->stream, x->empty[x->next], 0));
    if (d->err.code) return NULL;
    cuda_widen(d, x->stream, to, type, *ld, w, NULL, w->dim[0], 0.0f); /* the scale is the product's */
    note(d, cudaEventRecord(x->full[x->next], x->stream));
    note(d, cudaStreamWaitEvent(cuda_stream(d), x->full[x->next], 0));
    return d->err.code ? NULL : to;
}

void cuda_expanded_read(struct dev *d)
{
    struct expand *x = &cuda_of(d)->expand;

    note(d, cudaEventRecord(x->empty[x->next], cuda_stream(d)));
    x->read[x->next] = true;
}

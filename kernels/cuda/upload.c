/* upload.c - the host's bytes to the device as fast as the bus takes them: threads copy a piece into pinned memory while the piece before it is on its
 * way to the device.
 *
 * The bytes lie in a mapped file (or anywhere): copying them is also what brings its pages in, so several threads do it; the driver, handed pageable memory,
 * would do the same with one. Pieces go out on the device's own stream: what reads them next is ordered behind them, and the conversion of a piece runs
 * while the next one is copied.
 * Believes: a file is as long as when it was mapped (weights_check looks; a file cut meanwhile is SIGBUS, which the supervisor explains).
 * Invariants: a stage is written only after the copy out of it is done (its event). Pinned memory: STAGES x STAGE_BYTES, from the first large upload on,
 * until the device is closed.
 * Not here: types and orders (cuda.c, move.cu). */
#include <cuda_runtime_api.h>
#include <string.h>

#include "kernels/cpu/pool.h"
#include "kernels/cuda/ops.h"

#define STAGE_BYTES  ((size_t)16 << 20)
#define SHARE_BYTES  ((size_t)1 << 20)   /* that one thread copies at a time */
#define SMALL_BYTES  ((size_t)256 << 10) /* up to here the driver's own way is as good */
#define THREADS_MOST 8                   /* more only wait for memory */

struct piece {
    char       *to;
    const char *from;
    size_t      bytes;
};

static void copy_share(void *ctx, int64_t i, int thread)
{
    const struct piece *p = ctx;
    size_t              at = (size_t)i * SHARE_BYTES, n = p->bytes - at < SHARE_BYTES ? p->bytes - at : SHARE_BYTES;

    (void)thread;
    memcpy(p->to + at, p->from + at, n);
}

/* False: no pinned memory, or no threads: it goes the driver's way. */
static bool upload_open(struct upload *u)
{
    if (u->pool || u->refused) return u->pool != NULL;
    u->refused = true;
    for (int i = 0; i < CUDA_STAGES; i++) {
        if (cudaMallocHost(&u->stage[i], STAGE_BYTES) != cudaSuccess || cudaEventCreateWithFlags(&u->out[i], cudaEventDisableTiming) != cudaSuccess) {
            cudaGetLastError(); /* an answer, not a state */
            return false;
        }
    }
    u->pool = pool_open(0);
    if (u->pool && pool_threads(u->pool) > THREADS_MOST) {
        if (u->pool) pool_free(u->pool);
        u->pool = pool_open(THREADS_MOST);
    }
    return u->pool != NULL;
}

void upload_close(struct upload *u)
{
    if (u->pool) pool_free(u->pool);
    for (int i = 0; i < CUDA_STAGES; i++) {
        if (u->out[i]) cudaEventDestroy(u->out[i]);
        if (u->stage[i]) cudaFreeHost(u->stage[i]);
    }
    memset(u, 0, sizeof *u);
}

bool cuda_upload(struct dev *d, void *to, const void *host, size_t bytes)
{
    struct upload *u = &cuda_of(d)->upload;
    cudaError_t    rc = cudaSuccess;

    cuda_enter(d);
    if (bytes <= SMALL_BYTES || !upload_open(u)) {
        rc = cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, cuda_stream(d));
        bytes = 0;
    }
    for (size_t at = 0; at < bytes && rc == cudaSuccess; at += STAGE_BYTES) {
        struct piece p = {u->stage[u->next], (const char *)host + at, bytes - at < STAGE_BYTES ? bytes - at : STAGE_BYTES};

        rc = cudaEventSynchronize(u->out[u->next]);
        if (rc != cudaSuccess) break;
        pool_for(u->pool, (int64_t)((p.bytes + SHARE_BYTES - 1) / SHARE_BYTES), copy_share, &p);
        rc = cudaMemcpyAsync((char *)to + at, p.to, p.bytes, cudaMemcpyHostToDevice, cuda_stream(d));
        if (rc == cudaSuccess) rc = cudaEventRecord(u->out[u->next], cuda_stream(d));
        u->next = (u->next + 1) % CUDA_STAGES;
    }
    if (rc != cudaSuccess) dev_fail(d, ERR_DEVICE, "%s: upload of a weight: %s", d->name, cudaGetErrorString(rc));
    return rc == cudaSuccess;
}

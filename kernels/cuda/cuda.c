/* cuda.c - a GPU as a device: its table, memory, copies, its stream.
 * Believes: one stream per device, so ops run in the order they are called; copies wait for it.
 * In this version the table is not whole: cuda_open() refuses, cuda_lab_open() is for the twin tests.
 * Not here: kernels (*.cu). */
#include "kernels/cuda/cuda.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/ops.h"

static int failed(const struct dev *d, cudaError_t rc, const char *what, struct err *e)
{
    return err_set(e, ERR_DEVICE, "%s: %s: %s", d->name, what, cudaGetErrorString(rc));
}

static void *take(struct dev *d, size_t bytes)
{
    void *at = NULL;

    if (cudaSetDevice(d->ordinal) == cudaSuccess && cudaMalloc(&at, bytes) == cudaSuccess) return at;
    cudaGetLastError(); /* a refused allocation is an answer, not a state */
    return NULL;
}

static void give(struct dev *d, void *at, size_t bytes)
{
    (void)bytes;
    cudaStreamSynchronize(cuda_stream(d));
    cudaFree(at);
}

static int put(struct dev *d, void *to, const void *host, size_t bytes, struct err *e)
{
    cudaError_t rc = cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, cuda_stream(d));

    if (rc == cudaSuccess) rc = cudaStreamSynchronize(cuda_stream(d)); /* the host's bytes are the caller's again */
    return rc == cudaSuccess ? 0 : failed(d, rc, "copy to the device", e);
}

static int get(struct dev *d, const void *at, void *host, size_t bytes, struct err *e)
{
    cudaError_t rc = cudaMemcpyAsync(host, at, bytes, cudaMemcpyDeviceToHost, cuda_stream(d));

    if (rc == cudaSuccess) rc = cudaStreamSynchronize(cuda_stream(d));
    return rc == cudaSuccess ? 0 : failed(d, rc, "copy from the device", e);
}

static int wait_all(struct dev *d, struct err *e)
{
    cudaError_t rc = cudaStreamSynchronize(cuda_stream(d));

    return rc == cudaSuccess ? 0 : failed(d, rc, "waiting", e);
}

static void end(struct dev *d)
{
    struct cuda *c = d->priv;

    if (c && c->stream) cudaStreamDestroy(c->stream);
    free(c);
    d->priv = NULL;
}

static const struct ops table = {
    .name = "cuda",
    .take = take,
    .give = give,
    .put = put,
    .get = get,
    .wait = wait_all,
    .end = end,
    .axpy = cuda_axpy,
};

const struct ops *ops_cuda(void)
{
    return &table;
}

int cuda_open(struct dev *d, const struct dev_opts *o, struct err *e)
{
    (void)o;
    return err_set(e, ERR_DEVICE, "%s: the CUDA engine is not complete in this version: use --device cpu", d->name);
}

struct dev *cuda_lab_open(int ordinal, struct err *e)
{
    struct dev           *d = calloc(1, sizeof *d);
    struct cuda          *c = calloc(1, sizeof *c);
    struct cudaDeviceProp prop;
    int                   n = 0;
    cudaError_t           rc = cudaGetDeviceCount(&n);

    if (!d || !c) {
        err_set(e, ERR_NOMEM, "no memory for a device");
        goto refused;
    }
    d->priv = c;
    d->ops = &table;
    d->ordinal = ordinal;
    d->act_type = DTYPE_BF16;
    d->precision = PRECISION_BF16;
    snprintf(d->name, sizeof d->name, "cuda:%d", ordinal);
    if (rc != cudaSuccess || ordinal >= n) {
        err_set(e, ERR_DEVICE, "%s: this machine has %d CUDA devices (%s)", d->name, n, cudaGetErrorString(rc));
        goto refused;
    }
    rc = cudaSetDevice(ordinal);
    if (rc == cudaSuccess) rc = cudaGetDeviceProperties(&prop, ordinal);
    if (rc == cudaSuccess) rc = cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking);
    if (rc != cudaSuccess) {
        failed(d, rc, "opening", e);
        goto refused;
    }
    snprintf(d->about, sizeof d->about, "%.80s, %zu MiB", prop.name, prop.totalGlobalMem >> 20);
    return d;
refused:
    free(c);
    free(d);
    return NULL;
}

void cuda_lab_close(struct dev *d)
{
    if (!d) return;
    end(d);
    free(d);
}

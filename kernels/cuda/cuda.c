/* cuda.c - a GPU as a device: its table, memory, copies, weights, its stream.
 * Believes: one stream per device, so ops run in the order they are called; copies to and from the host wait for it.
 * Errors: a launch that is refused sticks in d->err at once; what fails later comes out of the next wait or copy (ERR_DEVICE: a CUDA error
 * of that kind never heals, the process should end). A refused allocation is ERR_NOMEM and heals.
 * Invariants: weights of rank 2 and more have the type that products take, or stay of their block kind (matrices, unless d->expand); a
 * convolution's weight is ordered [co,k,k,ci] where it lies; vectors are floats, and have no scale.
 * Not here: kernels (*.cu), products (blas.c). */
#include "kernels/cuda/cuda.h"

#include <assert.h>
#include <cuda_runtime_api.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/ops.h"
#include "kernels/quant.h"

#define UPLOAD_BYTES ((size_t)64 << 20) /* of a weight that is cast on its way in */

/* ---- memory and copies ---- */

static int failed(const struct dev *d, cudaError_t rc, const char *what, struct err *e)
{
    return err_set(e, ERR_DEVICE, "%s: %s: %s", d->name, what, cudaGetErrorString(rc));
}

void cuda_enter(struct dev *d)
{
    cudaError_t rc = cudaSetDevice(d->ordinal);

    if (rc != cudaSuccess) dev_fail(d, ERR_DEVICE, "%s: %s", d->name, cudaGetErrorString(rc));
}

/* Of all devices: see ports.c. */
static pthread_mutex_t memory_mtx = PTHREAD_MUTEX_INITIALIZER;

void cuda_memory_lock(void)
{
    pthread_mutex_lock(&memory_mtx);
}

void cuda_memory_unlock(void)
{
    pthread_mutex_unlock(&memory_mtx);
}

static void *try_take(size_t bytes)
{
    void *at = NULL;

    cuda_memory_lock();
    if (cudaMalloc(&at, bytes) != cudaSuccess) {
        cudaGetLastError(); /* a refused allocation is an answer, not a state */
        at = NULL;
    }
    cuda_memory_unlock();
    return at;
}

static void release(void *at)
{
    cuda_memory_lock();
    cudaFree(at); /* waits for its readers */
    cuda_memory_unlock();
}

static void *take(struct dev *d, size_t bytes)
{
    void *at = NULL;

    if (cudaSetDevice(d->ordinal) == cudaSuccess && (at = try_take(bytes))) return at;
    cudaGetLastError();
    if (cuda_of(d)->recording) return NULL;
    cuda_forget(d); /* records can be made again */
    return try_take(bytes);
}

/* Ordered weights whose originals lie in these bytes are no longer true; bytes SIZE_MAX: all. */
static void forget(struct cuda *c, const void *from, size_t bytes)
{
    int kept = 0;

    for (int i = 0; i < c->ordered.n; i++) {
        struct cuda_ordered *o = &c->ordered.at[i];

        if ((uintptr_t)o->key - (uintptr_t)from < bytes) {
            if (o->at != o->key) release(o->at);
        } else {
            c->ordered.at[kept++] = *o;
        }
    }
    c->ordered.n = kept;
}

static void give(struct dev *d, void *at, size_t bytes)
{
    cuda_enter(d);
    forget(cuda_of(d), at, bytes);
    cudaStreamSynchronize(cuda_stream(d));
    release(at);
}

static int put(struct dev *d, void *to, const void *host, size_t bytes, struct err *e)
{
    cudaError_t rc;

    cuda_enter(d);
    forget(cuda_of(d), to, bytes);
    rc = cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, cuda_stream(d));
    if (rc == cudaSuccess) rc = cudaStreamSynchronize(cuda_stream(d)); /* the host's bytes are the caller's again */
    return rc == cudaSuccess ? 0 : failed(d, rc, "copy to the device", e);
}

static int get(struct dev *d, const void *at, void *host, size_t bytes, struct err *e)
{
    cudaError_t rc;

    cuda_enter(d);
    rc = cudaMemcpyAsync(host, at, bytes, cudaMemcpyDeviceToHost, cuda_stream(d));
    if (rc == cudaSuccess) rc = cudaStreamSynchronize(cuda_stream(d));
    return rc == cudaSuccess ? 0 : failed(d, rc, "copy from the device", e);
}

static int wait_all(struct dev *d, struct err *e)
{
    cudaError_t rc = cudaSetDevice(d->ordinal);

    if (rc == cudaSuccess) rc = cudaStreamSynchronize(cuda_stream(d));
    return rc == cudaSuccess ? 0 : failed(d, rc, "waiting", e);
}

static void stamp(struct dev *d, int slot)
{
    struct cuda *c = cuda_of(d);
    cudaError_t  rc = cudaSuccess;

    cuda_enter(d);
    if (!c->stamp[slot]) rc = cudaEventCreate(&c->stamp[slot]);
    if (rc == cudaSuccess) rc = cudaEventRecord(c->stamp[slot], c->stream);
    if (rc != cudaSuccess) dev_fail(d, ERR_DEVICE, "%s: time mark: %s", d->name, cudaGetErrorString(rc));
}

static double stamp_ms(struct dev *d, int from, int to)
{
    struct cuda *c = cuda_of(d);
    float        ms = -1;

    cuda_enter(d);
    if (!c->stamp[from] || !c->stamp[to]) return -1;
    if (cudaEventSynchronize(c->stamp[from]) != cudaSuccess || cudaEventSynchronize(c->stamp[to]) != cudaSuccess ||
        cudaEventElapsedTime(&ms, c->stamp[from], c->stamp[to]) != cudaSuccess)
        ms = -1;
    return (double)ms;
}

static void memory(struct dev *d, struct dev_memory *out)
{
    size_t left = 0, total = 0;

    cuda_enter(d);
    if (cudaMemGetInfo(&left, &total) != cudaSuccess) left = total = 0;
    *out = (struct dev_memory){.used_bytes = total - left, .total_bytes = total};
}

void *cuda_space(struct dev *d, enum cuda_slot slot, size_t bytes)
{
    struct cuda *c = cuda_of(d);

    cuda_enter(d);
    if (bytes <= c->space[slot].bytes) return c->space[slot].at;
    if (c->recording) { /* its addresses are in the record: the plain run before it was to grow it */
        dev_fail(d, ERR_STATE, "%s: work space of a kernel grew while it was recorded", d->name);
        return NULL;
    }
    cuda_forget(d); /* records have the old address */
    if (c->space[slot].at) release(c->space[slot].at);
    c->space[slot].bytes = 0;
    c->space[slot].at = take(d, bytes);
    if (c->space[slot].at) c->space[slot].bytes = bytes;
    else dev_fail(d, ERR_NOMEM, "%s: no %zu MiB for the work space of a kernel: use a smaller picture or another device", d->name, (bytes >> 20) + 1);
    return c->space[slot].at;
}

static void *pin(struct dev *d, size_t bytes)
{
    void *at = NULL;

    cuda_enter(d);
    if (cudaMallocHost(&at, bytes) == cudaSuccess) return at;
    cudaGetLastError();
    return NULL;
}

static void unpin(struct dev *d, void *at)
{
    cuda_enter(d);
    cudaFreeHost(at); /* waits for its readers */
}

static void trim(struct dev *d)
{
    struct cuda *c = cuda_of(d);

    cuda_enter(d);
    cudaStreamSynchronize(c->stream);
    cuda_expand_fence(d);
    for (int i = 0; i < SLOT_COUNT; i++) {
        release(c->space[i].at);
        c->space[i].at = NULL;
        c->space[i].bytes = 0;
    }
}

/* ---- weights ---- */

/* Room for one more pointer. */
static bool grow(void **at, int n, int *cap, size_t size)
{
    int   wish = *cap ? 2 * *cap : 64;
    void *more;

    if (n < *cap) return true;
    if (!(more = realloc(*at, (size_t)wish * size))) return false;
    *at = more;
    *cap = wish;
    return true;
}

static bool note_ordered(struct cuda *c, const void *key, void *at)
{
    void *list = c->ordered.at;

    if (!grow(&list, c->ordered.n, &c->ordered.cap, sizeof *c->ordered.at)) return false;
    c->ordered.at = list;
    c->ordered.at[c->ordered.n++] = (struct cuda_ordered){key, at};
    return true;
}

const void *cuda_ordered(struct dev *d, const struct tensor *w)
{
    struct cuda *c = cuda_of(d);
    void        *at;

    cuda_enter(d);
    if (!cuda_takes(d, w)) return NULL;
    for (int i = 0; i < c->ordered.n; i++) {
        if (c->ordered.at[i].key == w->data) return c->ordered.at[i].at;
    }
    at = take(d, (size_t)(tensor_count(w) / w->dim[0] * cuda_ordered_rows(w->dim[0])) * dtype_bytes(cuda_product_type(d)));
    if (!at || !note_ordered(c, w->data, at)) {
        cudaFree(at);
        dev_fail(d, ERR_NOMEM, "%s: no memory for the weight of a convolution", d->name);
        return NULL;
    }
    cuda_order(d, at, w->data, w->type, w->dim[0], w->dim[1], w->dim[2]);
    return d->err.code ? NULL : at;
}

/* Host floats of another type, in pieces, through the raw slot. */
static void upload_cast(struct dev *d, const struct tensor *host, struct tensor *out)
{
    const int64_t n = tensor_count(host), size = (int64_t)dtype_bytes(host->type), step = (int64_t)UPLOAD_BYTES / size;
    void         *raw = cuda_space(d, SLOT_RAW, (size_t)((n < step ? n : step) * size));

    for (int64_t at = 0; raw && at < n; at += step) {
        const int64_t m = n - at < step ? n - at : step;

        if (!cuda_upload(d, raw, (const char *)host->data + at * size, (size_t)(m * size))) return;
        cuda_cast(d, (char *)out->data + at * (int64_t)dtype_bytes(out->type), out->type, m, raw, host->type, m, 1, m);
    }
}

/* A convolution's weight: as stored into raw, blocks widened beside it, then in its order. */
static void upload_conv(struct dev *d, const struct tensor *host, struct tensor *out)
{
    const int64_t n = tensor_count(host);
    const size_t  bytes = dtype_row_bytes(host->type, n);
    struct tensor raw = *host;
    void         *wide = NULL;

    if (!(raw.data = cuda_space(d, SLOT_RAW, bytes)) || !cuda_upload(d, raw.data, host->data, bytes)) return;
    if (quant_is(host->type)) {
        if (!(wide = cuda_space(d, SLOT_COLUMNS, (size_t)n * dtype_bytes(out->type)))) return;
        cuda_widen(d, cuda_stream(d), wide, out->type, tensor_cols(&raw), &raw, NULL, raw.dim[0], 0.0f);
    }
    cuda_order(d, out->data, wide ? wide : raw.data, wide ? out->type : host->type, host->dim[0], host->dim[1], host->dim[2]);
}

/* Blocks that do not stay, in pieces of whole rows of blocks, through the raw slot. A vector takes its scale with it. */
static void upload_wide(struct dev *d, const struct tensor *host, struct tensor *out)
{
    const int64_t n = tensor_count(host), block = 256, step = (int64_t)UPLOAD_BYTES / 4 / block * block;
    struct tensor raw = {.type = host->type, .rank = 1, .pitch = 1};

    raw.data = cuda_space(d, SLOT_RAW, dtype_row_bytes(host->type, n < step ? n : step));
    for (int64_t at = 0; raw.data && at < n; at += step) {
        struct tensor row = raw;

        row.rank = 2, row.dim[0] = 1, row.dim[1] = row.pitch = n - at < step ? n - at : step;
        if (!cuda_upload(d, raw.data, (const char *)host->data + dtype_row_bytes(host->type, at), dtype_row_bytes(host->type, row.dim[1]))) return;
        cuda_widen(d, cuda_stream(d), (char *)out->data + at * (int64_t)dtype_bytes(out->type), out->type, row.dim[1], &row, NULL, 1,
                   out->scale == 0.0f ? host->scale : 0.0f);
    }
}

/* The host's values to out, which has room for them. */
static void upload(struct dev *d, const struct tensor *host, struct tensor *out)
{
    if (host->rank == 4) upload_conv(d, host, out);
    else if (host->type == out->type) cuda_upload(d, out->data, host->data, dtype_row_bytes(host->type, tensor_count(host)));
    else if (quant_is(host->type)) upload_wide(d, host, out);
    else upload_cast(d, host, out);
}

/* What dev_weight() makes of n host tensors, without data; *bytes: on the device. Blocks stay where a product, or a table of rows, reads them. */
static void weight_shape(struct dev *d, const struct tensor *host, int n, struct tensor *out, size_t *bytes)
{
    const bool blocks = quant_is(host->type);

    *out = *host;
    out->data = NULL;
    out->dev = d;
    for (int i = 1; i < n; i++) out->dim[0] += host[i].dim[0];
    if (blocks && (out->rank == 1 || (out->rank == 2 && out->dim[0] == 1))) out->type = DTYPE_F32, out->scale = 0.0f;
    else if (out->rank >= 2 && !(blocks && out->rank == 2 && !d->expand)) out->type = cuda_product_type(d);
    *bytes = dtype_row_bytes(out->type, tensor_count(out));
    if (out->rank == 4 && out->dim[0] > 0) *bytes = *bytes / (size_t)out->dim[0] * (size_t)cuda_ordered_rows(out->dim[0]);
}

/* Memory until the device is closed; NULL when there is no more. */
static void *take_kept(struct dev *d, size_t bytes)
{
    struct cuda *c = cuda_of(d);
    void        *list = c->kept.at, *at;

    if (!grow(&list, c->kept.n, &c->kept.cap, sizeof *c->kept.at)) return NULL;
    c->kept.at = list;
    if ((at = take(d, bytes))) c->kept.at[c->kept.n++] = at;
    return at;
}

static int weight_room(struct dev *d, size_t bytes, struct err *e)
{
    struct cuda *c = cuda_of(d);

    c->slab.used = c->slab.cap = 0;
    if (!(c->slab.at = take_kept(d, bytes))) {
        return err_set(e, ERR_NOMEM, "%s: no memory for weights of %zu MiB: free some on this GPU, or use another device", d->name, (bytes >> 20) + 1);
    }
    c->slab.cap = bytes;
    return 0;
}

/* Memory for a weight: a lodger's, the next of the slab, or its own. */
static void *take_weight(struct dev *d, size_t bytes)
{
    struct cuda *c = cuda_of(d);
    char        *at = c->slab.at + c->slab.used;

    if (d->scratch.lodged) return dev_lodger(d, bytes);
    if (dev_align(bytes) > c->slab.cap - c->slab.used) return take_kept(d, bytes);
    c->slab.used += dev_align(bytes);
    return at;
}

static int weight(struct dev *d, const struct tensor *host, int n, struct tensor *out, struct err *e)
{
    char   text[80];
    size_t bytes;

    weight_shape(d, host, n, out, &bytes);
    bytes += !bytes;
    if (d->measuring) {
        d->measured_weights += dev_align(bytes);
        return 0;
    }
    if (!(out->data = take_weight(d, bytes))) {
        return err_set(e, ERR_NOMEM, "%s: no memory for the weight %s, %zu MiB: free some on this GPU, or use another device", d->name,
                       tensor_text(out, text, sizeof text), (bytes >> 20) + 1);
    }
    if (d->scratch.settled) return 0;
    if (host->rank == 4 && !note_ordered(cuda_of(d), out->data, out->data)) return err_set(e, ERR_NOMEM, "%s: no memory for weights", d->name);
    for (int64_t i = 0, row = 0; i < n && !d->err.code; row += host[i++].dim[0]) {
        struct tensor part = n == 1 ? *out : tensor_slice(out, row, host[i].dim[0]);
        upload(d, &host[i], &part);
    }
    return d->err.code ? dev_sync(d, e) : 0;
}

/* ---- open and close ---- */

static void end(struct dev *d)
{
    struct cuda *c = cuda_of(d);

    if (!c) return;
    cudaSetDevice(d->ordinal);
    if (c->stream) cudaStreamSynchronize(c->stream);
    cuda_repeats_close(d);
    forget(c, NULL, SIZE_MAX);
    for (int i = 0; i < c->kept.n; i++) cudaFree(c->kept.at[i]);
    for (int i = 0; i < SLOT_COUNT; i++) cudaFree(c->space[i].at);
    expand_close(&c->expand);
    upload_close(&c->upload);
    dnn_close(c->dnn);
    blas_close(c->blas);
    if (c->host) cudaFreeHost(c->host);
    for (int i = 0; i < DEV_STAMPS; i++)
        if (c->stamp[i]) cudaEventDestroy(c->stamp[i]);
    if (c->stream) cudaStreamDestroy(c->stream);
    free(c->kept.at);
    free(c->ordered.at);
    free(c);
    d->priv = NULL;
}

static const struct ops table = {
    .name = "cuda",
    .take = take,
    .give = give,
    .put = put,
    .get = get,
    .weight = weight,
    .weight_room = weight_room,
    .pin = pin,
    .unpin = unpin,
    .trim = trim,
    .wait = wait_all,
    .stamp = stamp,
    .stamp_ms = stamp_ms,
    .memory = memory,
    .repeat = cuda_repeat,
    .forget = cuda_forget,
    .end = end,
    .linear = cuda_linear,
    .linear_swiglu = cuda_linear_swiglu,
    .embed_rows = cuda_embed_rows,
    .rms_norm = cuda_rms_norm,
    .layer_norm = cuda_layer_norm,
    .group_stats = cuda_group_stats,
    .group_apply = cuda_group_apply,
    .norm_rope = cuda_norm_rope,
    .add_norm = cuda_add_norm,
    .attention = cuda_attention,
    .silu = cuda_silu,
    .tanh = cuda_tanh,
    .swiglu = cuda_swiglu,
    .scale_rows = cuda_scale_rows,
    .add = cuda_add,
    .axpy = cuda_axpy,
    .time_embed = cuda_time_embed,
    .noise = cuda_noise,
    .conv2d = cuda_conv2d,
    .conv_up2x = cuda_conv_up2x,
    .patchify = cuda_patchify,
    .unpatchify = cuda_unpatchify,
    .to_nhwc = cuda_to_nhwc,
    .copy = cuda_copy,
    .fill_rows = cuda_fill_rows,
    .to_rgb8 = cuda_to_rgb8,
    .sum_squares = cuda_sum_squares,
    .all_finite = cuda_all_finite,
};

const struct ops *ops_cuda(void)
{
    return &table;
}

int cuda_gpus(void)
{
    int n = 0;

    if (cudaGetDeviceCount(&n) == cudaSuccess) return n;
    cudaGetLastError();
    return 0;
}

/* Is there a driver, and this GPU, and is it new enough? */
static int check_gpu(const struct dev *d, struct cudaDeviceProp *prop, struct err *e)
{
    int         n = 0, driver = 0;
    cudaError_t rc = cudaGetDeviceCount(&n);

    if (rc != cudaSuccess) {
        cudaGetLastError();
        if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) {
            return err_set(e, ERR_DEVICE, "%s: no NVIDIA driver was found on this machine: install it, or use --device cpu", d->name);
        }
        if (rc == cudaErrorInsufficientDriver) {
            return err_set(e, ERR_DEVICE, "%s: the NVIDIA driver knows CUDA up to %d.%d, this build needs %d.%d: update the driver, or use --device cpu",
                           d->name, driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
        }
        return err_set(e, ERR_DEVICE, "%s: CUDA finds no GPU (%s): use --device cpu", d->name, cudaGetErrorString(rc));
    }
    if (d->ordinal >= n) return err_set(e, ERR_DEVICE, "%s: this machine has %d GPU%s, from cuda:0 on", d->name, n, n == 1 ? "" : "s");
    rc = cudaGetDeviceProperties(prop, d->ordinal);
    if (rc != cudaSuccess) return failed(d, rc, "opening", e);
    if (prop->major < 8) {
        return err_set(e, ERR_DEVICE, "%s: %s has compute capability %d.%d, 8.0 is the least: use another GPU, or --device cpu", d->name, prop->name,
                       prop->major, prop->minor);
    }
    return 0;
}

int cuda_open(struct dev *d, const struct dev_opts *o, struct err *e)
{
    struct cudaDeviceProp prop;
    struct cuda          *c;
    cudaError_t           rc;
    int                   bad = check_gpu(d, &prop, e);

    if (bad) return bad;
    if (!(c = calloc(1, sizeof *c))) return err_set(e, ERR_NOMEM, "%s: no memory for the device", d->name);
    d->priv = c;
    d->ops = &table;
    d->precision = o->precision != PRECISION_AUTO ? o->precision : PRECISION_BF16;
    d->act_type = cuda_product_type(d);
    d->joins_weights = d->widens = true;
    d->group_tok = 32;
    c->n_sm = prop.multiProcessorCount;
    rc = cudaSetDevice(d->ordinal);
    if (rc == cudaSuccess) rc = cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking);
    if (rc == cudaSuccess) rc = cudaMallocHost(&c->host, CUDA_HOST_BYTES);
    if (rc == cudaSuccess && !expand_open(&c->expand)) rc = cudaGetLastError();
    if (rc != cudaSuccess) {
        bad = failed(d, rc, "opening", e);
    } else if (!cuda_has_code()) {
        bad = err_set(e, ERR_DEVICE, "%s: this build has no code for compute capability %d.%d (%s): see ZFARM_CUDA_ARCHS", d->name, prop.major, prop.minor,
                      prop.name);
    }
    if (bad) {
        cudaGetLastError();
        end(d);
        return bad;
    }
    c->blas = blas_open();
    c->hopper = hopper_open(prop.major, prop.minor);
    snprintf(d->about, sizeof d->about, "%.80s, %zu MiB%s", prop.name, prop.totalGlobalMem >> 20, c->blas ? "" : ", no cublasLt: slow");
    return 0;
}

void cuda_only(struct dev *d, enum cuda_only what, bool on)
{
    assert(d->ops == &table && what < CUDA_ONLY_COUNT);
    cuda_of(d)->only[what] = on;
}

bool cuda_joins(const struct dev *d)
{
    assert(d->ops == &table);
    return cuda_of(d)->hopper != NULL;
}

int64_t cuda_n_plays(const struct dev *d)
{
    assert(d->ops == &table);
    return cuda_of(d)->n_plays;
}

int64_t cuda_n_plain_products(const struct dev *d)
{
    assert(d->ops == &table);
    return cuda_of(d)->n_plain;
}

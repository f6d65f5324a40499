/* dev.c - devices: opened by name, a scratch stack, long-lived memory, the sticky error.
 * Believes: one thread uses a dev at a time; a backend's table is whole (checked when it is opened).
 * Invariants: D1 scratch offsets are multiples of SCRATCH_ALIGN.  D2 the same calls give the same offsets, measuring or not.
 *             D3 the first failure wins; dev_sync() reports it once.
 * Not here: arithmetic (ops.c and the backends). */
#include "kernels/dev.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cuda/cuda.h"
#include "kernels/ops.h"

#define SCRATCH_ALIGN 256

/* Every member after the name is a function and none is missing. */
static bool ops_whole(const struct ops *o)
{
    const size_t first = offsetof(struct ops, take);
    void (*f)(void);

    for (size_t i = first; i < sizeof *o; i += sizeof f) {
        memcpy(&f, (const char *)o + i, sizeof f);
        if (!f) return false;
    }
    return true;
}

/* "cuda:12" -> 12; -1 when the name is not of that form. */
static int cuda_ordinal(const char *name)
{
    int n = 0;

    if (strncmp(name, "cuda:", 5) != 0 || !name[5] || strlen(name + 5) > 3) return -1;
    for (const char *c = name + 5; *c; c++) {
        if (*c < '0' || *c > '9') return -1;
        n = n * 10 + (*c - '0');
    }
    return n;
}

static int open_cuda(struct dev *d, int ordinal, const struct dev_opts *o, struct err *e)
{
    snprintf(d->name, sizeof d->name, "cuda:%d", ordinal);
    d->ordinal = ordinal;
    return cuda_open(d, o, e);
}

static int open_cpu(struct dev *d, const struct dev_opts *o, struct err *e)
{
    snprintf(d->name, sizeof d->name, "cpu");
    d->ordinal = 0;
    return cpu_open(d, o, e);
}

int dev_open(struct dev **out, const char *name, const struct dev_opts *o, struct err *e)
{
    static const struct dev_opts defaults = {PRECISION_AUTO, 0};
    struct dev *d = calloc(1, sizeof *d);
    int         rc;

    if (!d) return err_set(e, ERR_NOMEM, "no memory for a device");
    if (!o) o = &defaults;
    if (o->n_threads < 0 || o->n_threads > DEV_THREADS_MAX) {
        rc = err_set(e, ERR_ARG, "%d threads: must be 0 (all) to %d", o->n_threads, DEV_THREADS_MAX);
    } else if (strcmp(name, "cpu") == 0) {
        rc = open_cpu(d, o, e);
    } else if (strcmp(name, "auto") == 0) {
        rc = open_cuda(d, 0, o, NULL) == 0 ? 0 : open_cpu(d, o, e);
    } else if (cuda_ordinal(name) >= 0) {
        rc = open_cuda(d, cuda_ordinal(name), o, e);
    } else {
        rc = err_set(e, ERR_ARG, "there is no device \"%.40s\": use cpu, cuda:N or auto", name);
    }
    if (rc) {
        free(d);
        return rc;
    }
    assert(ops_whole(d->ops) && d->precision != PRECISION_AUTO);
    *out = d;
    return 0;
}

int dev_gpus(void)
{
    return cuda_gpus();
}

void dev_close(struct dev *d)
{
    if (!d) return;
    if (d->scratch.base) d->ops->give(d, d->scratch.base, d->scratch.cap);
    d->ops->end(d);
    free(d);
}

size_t dev_align(size_t bytes)
{
    return (bytes + SCRATCH_ALIGN - 1) / SCRATCH_ALIGN * SCRATCH_ALIGN;
}

void dev_measure_begin(struct dev *d)
{
    assert(d->scratch.used == 0 && !d->measuring);
    d->scratch.high = 0;
    d->measuring = true;
    d->measured_room = d->measured_weights = 0;
}

int dev_measure_end(struct dev *d, size_t *bytes, struct err *e)
{
    assert(d->measuring);
    d->measuring = false;
    d->scratch.used = 0;
    if (d->measured_room > d->scratch.room) d->scratch.room = d->measured_room;
    *bytes = d->scratch.high + (d->measured_room ? d->scratch.room : 0);
    return dev_sync(d, e);
}

int dev_scratch_reserve(struct dev *d, size_t bytes, struct err *e)
{
    assert(d->scratch.used == 0);
    d->scratch.turn++;
    d->ops->forget(d); /* records have addresses in here */
    if (d->scratch.base) d->ops->give(d, d->scratch.base, d->scratch.cap);
    d->scratch.base = NULL;
    d->scratch.cap = d->scratch.high = 0;
    if (bytes == 0) return 0;
    d->scratch.base = d->ops->take(d, bytes);
    if (!d->scratch.base) {
        return err_set(e, ERR_NOMEM, "%s: no %zu MiB for the work space: use a smaller picture or another device", d->name, (bytes >> 20) + 1);
    }
    d->scratch.cap = bytes;
    return 0;
}

size_t dev_mark(const struct dev *d)
{
    return d->scratch.used;
}

void dev_reset(struct dev *d, size_t mark)
{
    assert(mark <= d->scratch.used);
    d->scratch.used = mark;
    if (mark == 0) d->scratch.turn++;
}

/* A dense tensor without data. */
static struct tensor shape(const struct dev *d, enum dtype type, int rank, const int64_t *dim)
{
    struct tensor t = {.type = type, .rank = rank, .dev = d};

    assert(rank >= 1 && rank <= TENSOR_RANK_MAX && (unsigned)type < DTYPE_COUNT);
    for (int i = 0; i < rank; i++) {
        assert(dim[i] >= 0);
        t.dim[i] = dim[i];
    }
    t.pitch = tensor_cols(&t);
    return t;
}

/* False when the product of dims and the element size does not fit. */
static bool bytes_of(const struct tensor *t, size_t *bytes)
{
    int64_t n = (int64_t)dtype_block_bytes(t->type), block = dtype_block(t->type);

    assert(t->dim[t->rank - 1] % block == 0);
    for (int i = 0; i < t->rank; i++) {
        if (__builtin_mul_overflow(n, i == t->rank - 1 ? t->dim[i] / block : t->dim[i], &n)) return false;
    }
    *bytes = (size_t)n;
    return true;
}

struct tensor dev_new(struct dev *d, enum dtype type, int rank, const int64_t *dim)
{
    struct tensor t = shape(d, type, rank, dim);
    size_t        bytes, top;

    if (!bytes_of(&t, &bytes) || bytes > SIZE_MAX - SCRATCH_ALIGN || __builtin_add_overflow(d->scratch.used, dev_align(bytes), &top)) {
        dev_fail(d, ERR_NOMEM, "a work space of more than the address space was asked for");
        return t;
    }
    if (!d->measuring && top > d->scratch.cap - d->scratch.lodged) {
        dev_fail(d, ERR_NOMEM, "%s: the work space of %zu bytes is too small: %zu are needed", d->name, d->scratch.cap - d->scratch.lodged, top);
        return t;
    }
    if (!d->measuring) t.data = d->scratch.base + d->scratch.used;
    d->scratch.used = top;
    if (top > d->scratch.high) d->scratch.high = top;
    return t;
}

struct tensor dev_new1(struct dev *d, enum dtype type, int64_t n)
{
    return dev_new(d, type, 1, &n);
}

struct tensor dev_new2(struct dev *d, enum dtype type, int64_t n, int64_t c)
{
    return dev_new(d, type, 2, (int64_t[]){n, c});
}

struct tensor dev_new3(struct dev *d, enum dtype type, int64_t a, int64_t b, int64_t c)
{
    return dev_new(d, type, 3, (int64_t[]){a, b, c});
}

int dev_weight(struct dev *d, const struct tensor *host, struct tensor *out, struct err *e)
{
    assert(host->data && tensor_dense(host));
    return d->ops->weight(d, host, 1, out, e);
}

int dev_weight_rows(struct dev *d, const struct tensor *host, int n, struct tensor *out, struct err *e)
{
    assert(n > 0 && (n == 1 || d->joins_weights));
    for (int i = 0; i < n; i++) {
        assert(host[i].data && tensor_dense(&host[i]) && host[i].rank == 2 && host[i].dim[1] == host[0].dim[1]);
        assert(host[i].type == host[0].type && host[i].scale == host[0].scale);
    }
    return d->ops->weight(d, host, n, out, e);
}

/* Where lodgers begin: the end of the scratch, at a tensor's alignment. */
static size_t lodge_at(const struct dev *d)
{
    return (d->scratch.cap - d->scratch.lodged) / SCRATCH_ALIGN * SCRATCH_ALIGN;
}

int dev_lodge(struct dev *d, size_t bytes, const void *image, struct err *e)
{
    assert(d->scratch.used == 0 && !d->scratch.lodged && !d->measuring && bytes > 0);
    bytes = dev_align(bytes) + SCRATCH_ALIGN; /* cap may end anywhere */
    if (d->scratch.cap < bytes) {
        return err_set(e, ERR_NOMEM, "%s: weights of %zu MiB do not fit into a work space of %zu", d->name, (bytes >> 20) + 1, d->scratch.cap >> 20);
    }
    d->scratch.lodged = bytes;
    d->scratch.lodger = 0;
    d->scratch.settled = image != NULL;
    d->scratch.turn++;
    return image ? d->ops->put(d, d->scratch.base + lodge_at(d), image, bytes - SCRATCH_ALIGN, e) : 0;
}

void *dev_lodger(struct dev *d, size_t bytes)
{
    size_t at = d->scratch.lodger;

    assert(d->scratch.lodged);
    if (dev_align(bytes) > d->scratch.lodged - SCRATCH_ALIGN - at) return NULL;
    d->scratch.lodger = at + dev_align(bytes);
    return d->scratch.base + lodge_at(d) + at;
}

int dev_lodge_save(struct dev *d, void *image, struct err *e)
{
    return d->ops->get(d, d->scratch.base + lodge_at(d), image, d->scratch.lodged - SCRATCH_ALIGN, e);
}

void dev_lodge_end(struct dev *d)
{
    assert(d->scratch.used == 0);
    d->scratch.lodged = 0;
    d->scratch.settled = false;
    d->scratch.turn++;
}

void *dev_pinned(struct dev *d, size_t bytes)
{
    return d->ops->pin(d, bytes);
}

void dev_unpin(struct dev *d, void *at)
{
    if (at) d->ops->unpin(d, at);
}

void dev_trim(struct dev *d)
{
    (void)dev_scratch_reserve(d, 0, NULL); /* nothing is taken: it cannot fail */
    d->ops->trim(d);
}

int dev_weight_room(struct dev *d, size_t bytes, struct err *e)
{
    assert(!d->measuring && !d->scratch.lodged);
    return bytes ? d->ops->weight_room(d, bytes, e) : 0;
}

int dev_alloc(struct dev *d, enum dtype type, int rank, const int64_t *dim, struct tensor *out, struct err *e)
{
    struct tensor t = shape(d, type, rank, dim);
    char          text[80];
    size_t        bytes;

    if (d->measuring && bytes_of(&t, &bytes)) {
        d->measured_weights += dev_align(bytes);
        *out = t;
        return 0;
    }
    if (!bytes_of(&t, &bytes) || !(t.data = d->ops->take(d, bytes ? bytes : 1))) {
        return err_set(e, ERR_NOMEM, "%s: no memory for %s", d->name, tensor_text(&t, text, sizeof text));
    }
    *out = t;
    return 0;
}

void dev_free(struct dev *d, struct tensor *t)
{
    if (t->data) d->ops->give(d, t->data, dtype_row_bytes(t->type, tensor_count(t)));
    memset(t, 0, sizeof *t);
}

int dev_put(struct dev *d, struct tensor *dst, const void *host, size_t bytes, struct err *e)
{
    assert(tensor_dense(dst) && bytes == dtype_row_bytes(dst->type, tensor_count(dst)));
    if (bytes == 0 || !dst->data) return 0; /* measuring, or a sticky error that dev_sync() will tell */
    return d->ops->put(d, dst->data, host, bytes, e);
}

int dev_get(struct dev *d, const struct tensor *src, void *host, size_t bytes, struct err *e)
{
    assert(tensor_dense(src) && bytes == dtype_row_bytes(src->type, tensor_count(src)));
    if (d->err.code) return dev_sync(d, e); /* bytes that were never computed are not handed out */
    if (bytes == 0 || !src->data) return 0;
    return d->ops->get(d, src->data, host, bytes, e);
}

void dev_repeat(struct dev *d, const void *key, size_t key_bytes, dev_work_f *work, void *ctx)
{
    struct {
        char  *base;
        size_t used, cap, room; /* cap and room: where a backend keeps what it widens */
        char   rest[DEV_KEY_BYTES];
    } all;

    assert(key_bytes <= DEV_KEY_BYTES);
    if (d->measuring || d->err.code) {
        work(ctx);
        return;
    }
    memset(&all, 0, sizeof all);
    all.base = d->scratch.base;
    all.used = d->scratch.used;
    all.cap = d->scratch.cap;
    all.room = d->scratch.room;
    memcpy(all.rest, key, key_bytes);
    d->ops->repeat(d, &all, offsetof(__typeof__(all), rest) + key_bytes, work, ctx);
}

void dev_forget(struct dev *d)
{
    d->ops->forget(d);
}

int dev_sync(struct dev *d, struct err *e)
{
    int rc = d->ops->wait(d, d->err.code ? NULL : &d->err);

    if (!d->err.code) return rc;
    rc = d->err.code;
    if (e) *e = d->err;
    memset(&d->err, 0, sizeof d->err);
    return rc;
}

void dev_stamp(struct dev *d, int slot)
{
    assert(slot >= 0 && slot < DEV_STAMPS);
    if (!d->measuring && !d->err.code) d->ops->stamp(d, slot);
}

double dev_stamp_ms(struct dev *d, int from, int to)
{
    assert(from >= 0 && from < DEV_STAMPS && to >= 0 && to < DEV_STAMPS);
    return d->ops->stamp_ms(d, from, to);
}

void dev_memory(struct dev *d, struct dev_memory *out)
{
    d->ops->memory(d, out);
}

void dev_fail(struct dev *d, int code, const char *fmt, ...)
{
    char    text[ERR_TEXT_BYTES];
    va_list ap;

    if (d->err.code) return; /* D3 */
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err_set(&d->err, code, "%s", text);
}

/* dev.h - a device: its ops, its scratch, its sticky error, its measuring pass.
 *
 *   struct dev *d; dev_open(&d, "cpu", &opts, &e);
 *   size_t mark = dev_mark(d); struct tensor h = dev_new2(d, DTYPE_F32, n, c); op_...(d, ...); dev_reset(d, mark);
 *   if (dev_sync(d, &e)) ...        the first failure of any op since the last sync, once
 *
 * Scratch is a stack: mark / reset. dev_scratch_reserve() after a measuring pass makes it exactly as large as that pass needed;
 * while d->measuring, dev_new() hands out tensors with data == NULL and ops do nothing.
 * Weights: dev_weight() takes a host tensor that outlives the device (memory-mapped file). On the CPU it is borrowed as it is;
 * on a GPU it is uploaded. One thread uses a dev at a time; ops may use many threads inside.
 * A result never depends on the number of threads. */
#ifndef KERNELS_DEV_H
#define KERNELS_DEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "kernels/tensor.h"

enum precision { PRECISION_AUTO, PRECISION_F32, PRECISION_BF16 };

#define DEV_THREADS_MAX 1024
#define DEV_KEY_BYTES   160
#define GROUP_TOK_MAX   64

struct dev_opts {
    enum precision precision; /* of products. AUTO: bf16 on GPUs and on CPUs with AMX; else f32, but with shortcuts of an error up to
                                 1e-4 (kernels/cpu/int16.c, winograd.c) */
    int            n_threads; /* CPU only; 0 = all that this process may use */
};

#define DEV_STAMPS 80 /* slots of dev_stamp() */

struct dev_memory { /* of a GPU: all of it, whoever uses it; of the CPU: this process's own (mapped files do not count), and the machine's */
    size_t used_bytes, total_bytes;
};
typedef void dev_work_f(void *ctx);

struct ops;

struct dev {
    const struct ops *ops;
    char              name[16];     /* "cpu", "cuda:0" */
    char              about[128];   /* what people read: "AMD EPYC, 2 threads, avx2" */
    int               ordinal;
    enum precision    precision;    /* resolved: never AUTO */
    enum dtype        act_type;     /* dtype of activations on this device: F32 on the CPU */
    int               group_tok;    /* passes of few rows cost the same up to a multiple of this, and few lengths are few records: 1 on the CPU */
    bool              joins_weights; /* weights are copied, so some may be put one below another: dev_weight_rows() */
    struct err        err;          /* sticky: ops after the first failure do nothing */
    bool              measuring;
    size_t            measured_room;    /* by this pass, for scratch.room */
    size_t            measured_weights; /* bytes that dev_weight() and dev_alloc() would have taken in this pass */
    bool              expand;       /* GPU: dev_weight() widens block kinds at once; false (default): matrices stay, each product widens its own */
    bool              widens;       /* GPU: products of block kinds need rooms in the scratch */
    struct {
        char    *base;
        size_t   used, cap, high;
        size_t   room;              /* at the end, before the lodgers: where weights are widened, two of the largest that a measuring pass has seen */
        size_t   lodged, lodger;    /* dev_lodge(): bytes at the end, and how many of them are taken */
        bool     settled;           /* they hold what dev_weight() would copy there */
        unsigned turn;              /* counts resets to nothing and new reservations: who keeps addresses in here looks at it */
    } scratch;
    void             *priv;         /* of the backend */
};

/* name: "cpu", "cuda:N" or "auto". ERR_DEVICE with a sentence when this build or machine has none. */
int  dev_open(struct dev **out, const char *name, const struct dev_opts *o, struct err *e);
void dev_close(struct dev *d);
int  dev_gpus(void); /* cuda:0 to cuda:N-1 are there; 0 without driver, GPU or CUDA in this build */

/* A measuring pass: from here on dev_new(), dev_weight() and dev_alloc() hand out tensors without data (the latter two count into
 * measured_weights; on the CPU a weight is borrowed as ever) and ops do nothing. Only while the stack is empty. */
void          dev_measure_begin(struct dev *d);
/* *bytes: what dev_scratch_reserve() must get for the same calls. Reports what failed on the way: a size beyond the address space. */
int           dev_measure_end(struct dev *d, size_t *bytes, struct err *e);
int           dev_scratch_reserve(struct dev *d, size_t bytes, struct err *e); /* only while the stack is empty */
size_t        dev_mark(const struct dev *d);
void          dev_reset(struct dev *d, size_t mark);
struct tensor dev_new(struct dev *d, enum dtype type, int rank, const int64_t *dim); /* uninitialised; past the ceiling: sticky ERR_NOMEM */
struct tensor dev_new1(struct dev *d, enum dtype type, int64_t n);
struct tensor dev_new2(struct dev *d, enum dtype type, int64_t n, int64_t c);
struct tensor dev_new3(struct dev *d, enum dtype type, int64_t a, int64_t b, int64_t c);

/* Borrow (CPU) or upload (GPU) a host tensor for the life of the device. */
int  dev_weight(struct dev *d, const struct tensor *host, struct tensor *out, struct err *e);
/* Takes memory for weights of these bytes (a measuring pass's measured_weights) in one piece: the next ones lie in it, end to end. Without it, or past
 * its end, each has memory of its own, which a GPU rounds up to 2 MiB. Does nothing on the CPU. ERR_NOMEM. */
int  dev_weight_room(struct dev *d, size_t bytes, struct err *e);
/* Several of rank 2, one type, scale and width as one weight: the rows of host[0], then those of host[1], ... Needs d->joins_weights. */
int  dev_weight_rows(struct dev *d, const struct tensor *host, int n, struct tensor *out, struct err *e);
/* Lodgers: weights for one stage only, in the upper end of the scratch. From here to dev_lodge_end() dev_weight() takes from `bytes` there
 * (what a measuring pass of the same calls found); reserve DEV_LODGE_BYTES(bytes) beside what the stage needs. GPU only; the stack is empty at both ends.
 * image: NULL, or host memory of dev_pinned(bytes) that dev_lodge_save() filled after the same calls: copied in at once, and dev_weight() copies nothing. */
#define DEV_LODGE_BYTES(bytes) ((bytes) + 512)
int  dev_lodge(struct dev *d, size_t bytes, const void *image, struct err *e);
int  dev_lodge_save(struct dev *d, void *image, struct err *e);
void dev_lodge_end(struct dev *d);
/* For a backend's dev_weight(): the next bytes of a lodge; NULL when it is full. */
void *dev_lodger(struct dev *d, size_t bytes);
/* Host memory that copies at the bus's speed; NULL when there is none to be had. */
void *dev_pinned(struct dev *d, size_t bytes);
void  dev_unpin(struct dev *d, void *at);
/* Gives back what can be made again: the scratch, and the backend's work space. Only while the stack is empty. */
void dev_trim(struct dev *d);
/* Long-lived device memory outside the scratch stack (prompt cache, latents). */
int  dev_alloc(struct dev *d, enum dtype type, int rank, const int64_t *dim, struct tensor *out, struct err *e);
void dev_free(struct dev *d, struct tensor *t);
int  dev_put(struct dev *d, struct tensor *dst, const void *host, size_t bytes, struct err *e); /* host -> device, dense */
int  dev_get(struct dev *d, const struct tensor *src, void *host, size_t bytes, struct err *e); /* device -> host, dense; syncs */
int  dev_sync(struct dev *d, struct err *e); /* waits; reports and clears the sticky error */
/* A mark on the device's own clock, in the order of its work: does not wait. Nothing while measuring. */
void   dev_stamp(struct dev *d, int slot);
/* Milliseconds between two marks; waits for both. Negative: one of them was never made. */
double dev_stamp_ms(struct dev *d, int from, int to);
void   dev_memory(struct dev *d, struct dev_memory *out);
size_t dev_align(size_t bytes); /* up to where the next tensor of the scratch may begin */
/* work(ctx), which calls ops and nothing else (no copies from or to the host, no waiting). A device that can records the calls when a key
 * comes the second time and plays the record from then on: the same kernels on the same addresses, so the same bytes, without the calls.
 * The key (at most DEV_KEY_BYTES) holds every address and shape that work uses, but for scratch it takes itself and weights. */
void dev_repeat(struct dev *d, const void *key, size_t key_bytes, dev_work_f *work, void *ctx);
/* No record is played again: before weights that work uses are freed or moved. */
void dev_forget(struct dev *d);
void dev_fail(struct dev *d, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif

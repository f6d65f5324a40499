/* pack.h - tensors from any source into one file, quantised on the way; bounded memory, many threads, atomic.
 *
 *   struct pack p = {.t = tensors, .n = n, .head = &head, .read = read_from, .ctx = w, .n_threads = 2};
 *   pack_write(&p, "model-Q4_K_M.gguf", &e);
 *
 * With a head (metadata already put) the file is GGUF; without one it is .safetensors, where F8 tensors get a factor "<stem>.scale_weight"
 * beside them so that the largest value is F8's largest. Values that are not finite are refused by name.
 * Memory: some MiB per thread, whatever the tensors. The bytes do not depend on the number of threads.
 * Not here: which type a tensor gets (quantize.c), where values come from. */
#ifndef TOOLS_PACK_H
#define TOOLS_PACK_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/gguf.h"
#include "kernels/tensor.h"

#define PACK_NAME_MAX 128
#define PACK_PARTS    3

struct pack_tensor {
    char       name[PACK_NAME_MAX];
    enum dtype type;
    int        rank;
    int64_t    dim[TENSOR_RANK_MAX];
    size_t     from[PACK_PARTS]; /* sources, equal parts of the rows */
    int        n_from;
};

/* Values from..from+n of a source. Called by many threads at once; from and n are whole blocks of any kind. */
typedef void pack_read_f(void *ctx, size_t source, int64_t from, int64_t n, float *out);

struct pack {
    const struct pack_tensor *t;
    size_t                    n;
    struct gguf_head         *head;    /* NULL: .safetensors */
    const char               *profile; /* of the .safetensors metadata, or NULL */
    pack_read_f              *read;
    void                     *ctx;
    int                       n_threads;
    bool                      quiet;
    volatile sig_atomic_t    *stop; /* nonzero: ERR_CANCELED soon */
};

int64_t pack_count(const struct pack_tensor *t);
/* Bytes that all tensors will have. */
int64_t pack_bytes(const struct pack *p);
/* Replaces path when it is a regular file. ERR_FORMAT: a value that is not finite. */
int pack_write(struct pack *p, const char *path, struct err *e);

#endif

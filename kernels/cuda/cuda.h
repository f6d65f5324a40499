/* cuda.h - the CUDA backend's door: cuda.c and the .cu files when nvcc is there, else stub.c. */
#ifndef KERNELS_CUDA_CUDA_H
#define KERNELS_CUDA_CUDA_H

#include "kernels/dev.h"
#include "kernels/link.h"
#include "kernels/ops.h"

const struct ops *ops_cuda(void); /* NULL when this build has no CUDA */
const struct link_room *link_room_cuda(void); /* ports.c; NULL when this build has no CUDA */
int cuda_gpus(void);
/* d->name and d->ordinal are set. ERR_DEVICE with a sentence: no CUDA in this build, no driver or one too old, no such GPU, a GPU too old. */
int cuda_open(struct dev *d, const struct dev_opts *o, struct err *e);
/* For tests and benches: what a device does without from here on. */
enum cuda_only {
    CUDA_ONLY_PLAIN,    /* cublasLt and cuDNN: all kernels are our own */
    CUDA_ONLY_CALLS,    /* records: nothing is recorded or played */
    CUDA_ONLY_FIRST,    /* measuring products that are new */
    CUDA_ONLY_SEPARATE, /* products that end in what follows them */
    CUDA_ONLY_THEIRS,   /* our attention where cuDNN has one */
    CUDA_ONLY_JOINED,   /* asking whether one of these is worth it at its size */
    CUDA_ONLY_COUNT
};
void cuda_only(struct dev *d, enum cuda_only what, bool on);
/* Has it products that end in what follows them? */
bool cuda_joins(const struct dev *d);
/* How many times a record was played. */
int64_t cuda_n_plays(const struct dev *d);
/* How many products our own kernel did: 0 on a machine with cublasLt, unless that refused some. */
int64_t cuda_n_plain_products(const struct dev *d);

#endif

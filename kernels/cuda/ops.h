/* ops.h - the CUDA ops that there are, and the stream they run on. */
#ifndef KERNELS_CUDA_OPS_H
#define KERNELS_CUDA_OPS_H

#include "kernels/ops.h"

struct CUstream_st;

struct cuda { /* d->priv of a CUDA device */
    struct CUstream_st *stream;
};

static inline struct CUstream_st *cuda_stream(const struct dev *d)
{
    return ((const struct cuda *)d->priv)->stream;
}

extern op_axpy_f cuda_axpy;

#endif

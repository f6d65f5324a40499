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
/* For tests of a machine without cublasLt and cuDNN: from here on all kernels are our own. */
void cuda_only_plain_products(struct dev *d, bool only);
/* For tests: from here on nothing is recorded or played. */
void cuda_only_calls(struct dev *d, bool only);
/* For tests: from here on no new product is measured. */
void cuda_only_first_algorithms(struct dev *d, bool only);
/* For tests and benches: products end in nothing else; or, where the device can, in what follows them whatever their size. False: it cannot. */
void cuda_only_separate(struct dev *d, bool only);
bool cuda_only_joined(struct dev *d, bool only);
/* How many times a record was played. */
int64_t cuda_n_plays(const struct dev *d);
/* How many products our own kernel did: 0 on a machine with cublasLt, unless that refused some. */
int64_t cuda_n_plain_products(const struct dev *d);

#endif

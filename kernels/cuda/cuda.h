/* cuda.h - the CUDA backend's door. The .cu files when nvcc is there, else stub.c.
 * In this version one op is there for real (axpy), so that the build, the memory and the twin test are: cuda_open() says so and refuses. */
#ifndef KERNELS_CUDA_CUDA_H
#define KERNELS_CUDA_CUDA_H

#include "kernels/dev.h"
#include "kernels/ops.h"

const struct ops *ops_cuda(void); /* NULL when this build has no CUDA */
/* d->name and d->ordinal are set. ERR_DEVICE with the sentence while the table is not whole. */
int cuda_open(struct dev *d, const struct dev_opts *o, struct err *e);
/* A device with what there is of the table, for the twin tests: NULL with a sentence when there is none. cuda_lab_close() it. */
struct dev *cuda_lab_open(int ordinal, struct err *e);
void        cuda_lab_close(struct dev *d);

#endif

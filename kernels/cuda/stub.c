/* stub.c - stands for kernels/cuda/ in a build without the CUDA toolkit. */
#include <assert.h>

#include "kernels/cuda/cuda.h"

const struct ops *ops_cuda(void)
{
    return NULL;
}

int cuda_open(struct dev *d, const struct dev_opts *o, struct err *e)
{
    (void)o;
    return err_set(e, ERR_DEVICE, "%s: this build has no CUDA: build with -DZFARM_CUDA=on, or use --device cpu", d->name);
}

struct dev *cuda_lab_open(int ordinal, struct err *e)
{
    err_set(e, ERR_DEVICE, "cuda:%d: this build has no CUDA", ordinal);
    return NULL;
}

void cuda_lab_close(struct dev *d)
{
    assert(!d); /* none was ever opened */
}

/* stub.c - stands for kernels/cuda/ in a build without the CUDA toolkit. */
#include <assert.h>

#include "kernels/cuda/cuda.h"

const struct ops *ops_cuda(void)
{
    return NULL;
}

const struct link_room *link_room_cuda(void)
{
    return NULL;
}

int cuda_gpus(void)
{
    return 0;
}

int cuda_open(struct dev *d, const struct dev_opts *o, struct err *e)
{
    (void)o;
    return err_set(e, ERR_DEVICE, "%s: this build has no CUDA: build with -DZFARM_CUDA=on, or use --device cpu", d->name);
}

/* No device was ever opened: nobody has one to ask about. */
void cuda_only(struct dev *d, enum cuda_only what, bool on)
{
    (void)d, (void)what, (void)on;
    assert(0);
}

bool cuda_joins(const struct dev *d)
{
    (void)d;
    assert(0);
    return false;
}

int64_t cuda_n_plays(const struct dev *d)
{
    (void)d;
    assert(0);
    return 0;
}

int64_t cuda_n_plain_products(const struct dev *d)
{
    (void)d;
    assert(0);
    return 0;
}

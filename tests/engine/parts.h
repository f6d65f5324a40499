/* parts.h - one network of tiny-a on a CPU device, without the engine around it. For the tests of qwen3, dit, vae and denoise. */
#ifndef TESTS_ENGINE_PARTS_H
#define TESTS_ENGINE_PARTS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "engine/config.h"
#include "engine/weights.h"
#include "kernels/dev.h"
#include "kernels/ops.h"
#include "tests/engine/tiny.h"

#define SCRATCH_BYTES ((size_t)256 << 20)

struct parts {
    struct model_conf conf;
    struct dev       *d;
    struct weights   *w;
};

/* part: "transformer", "vae", "text_encoder". */
static inline void parts_open(struct parts *p, const char *dir)
{
    struct dev_opts o = { .precision = PRECISION_F32, .n_threads = 2 };
    p->w = NULL;
    OK(config_open(&p->conf, TINY_MODEL, NULL, &e));
    OK(dev_open(&p->d, "cpu", &o, &e));
    OK(dev_scratch_reserve(p->d, SCRATCH_BYTES, &e));
    OK(weights_open(&p->w, dir, NULL, &e));
}

static inline void parts_close(struct parts *p)
{
    dev_reset(p->d, 0);
    dev_close(p->d);
    weights_free(p->w);
}

/* Host F32 values as a device tensor on the scratch stack. */
static inline struct tensor parts_put(struct parts *p, const float *v, int rank, const int64_t *dim)
{
    struct tensor t = dev_new(p->d, DTYPE_F32, rank, dim);
    OK(dev_put(p->d, &t, v, (size_t)tensor_count(&t) * sizeof *v, &e));
    return t;
}

static inline void parts_get(struct parts *p, const struct tensor *t, void *out)
{
    OK(dev_get(p->d, t, out, (size_t)tensor_count(t) * dtype_bytes(t->type), &e));
    OK(dev_sync(p->d, &e));
}

#endif

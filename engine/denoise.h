/* denoise.h - the passes: guidance and Euler steps around the DiT, on device tensors.
 *
 *   struct denoise n = { .m = dit, .gen = gen, .sigma = sigma, .t = t, .pos = { &cap, &rope } };
 *   denoise_run(&n, &latent, hooks, &e);
 *
 * Per pass (MODEL.md s.7): pred = DiT(positive); with guidance g > 0 and t <= cfg_trunc: pred += g * (pred - DiT(negative)), and if
 * cfg_norm > 0, pred is scaled back to at most cfg_norm * |DiT(positive)|. latent -= (sigma[i+1] - sigma[i]) * pred, in fp32.
 * Not here: noise, schedule, memory of the whole (engine.c). */
#ifndef ENGINE_DENOISE_H
#define ENGINE_DENOISE_H

#include "engine/dit.h"
#include "engine/engine.h"

struct denoise_side {
    const struct tensor   *caption; /* from dit_caption */
    const struct dit_rope *rope;    /* of image and this caption */
};

struct denoise {
    struct dit         *m;
    const struct gen   *gen;
    const float        *sigma, *t; /* [n_steps + 1], [n_steps] */
    struct denoise_side pos, neg;  /* neg: used when gen->guidance > 0 */
};

/* z F32 [channels, H/8, W/8] in place. ERR_CANCELED from the hook, ERR_NAN, or the device's error. While measuring: one pass, no hook, sigma and t
 * may be NULL. */
int denoise_run(const struct denoise *n, struct tensor *z, const struct gen_hooks *h, struct err *e);

#endif

/* schedule.h - flow-matching sigmas: which noise levels the passes visit, as diffusers' FlowMatchEulerDiscreteScheduler gives them.
 *
 *   struct schedule_conf c; schedule_conf_default(&c);
 *   float sigma[9], t[8];
 *   schedule_make(&c, 8, n_image_tok, sigma, t, &e);
 *   for i: latents += (sigma[i + 1] - sigma[i]) * v(latents, t[i])        v = -(DiT output)
 *
 * All arithmetic is fp32 in diffusers' order: sigma[i] * 1000 are its `timesteps`, bit for bit.
 * Not here: the Euler step itself and guidance (they are ops on tensors), reading scheduler_config.json. */
#ifndef ENGINE_SCHEDULE_H
#define ENGINE_SCHEDULE_H

#include <stdbool.h>

#include "base/err.h"

#define SCHEDULE_PASSES_MAX 10000

enum schedule_time_shift { SCHEDULE_EXPONENTIAL, SCHEDULE_LINEAR }; /* time_shift_type */

struct schedule_conf {                                              /* the keys of scheduler_config.json */
    int                      num_train_timesteps;                   /* 1000 */
    double                   shift;                                 /* 3.0; used when not dynamic */
    bool                     use_dynamic_shifting;                  /* false */
    double                   base_shift, max_shift;                 /* 0.5, 1.15 */
    int                      base_image_seq_len, max_image_seq_len; /* 256, 4096 */
    enum schedule_time_shift time_shift_type;                       /* exponential */
    double                   shift_terminal;                        /* 0 = null */
};

void schedule_conf_default(struct schedule_conf *c);
/* ERR_FORMAT with the key's name when a value cannot work (shift <= 0, not finite, equal sequence lengths, ...). */
int schedule_conf_check(const struct schedule_conf *c, struct err *e);

/* n_passes forward passes (1..SCHEDULE_PASSES_MAX) for an image of n_image_tok tokens (H/16 * W/16; matters when dynamic).
 * sigma: n_passes + 1 values, the last is 0. t: n_passes model times 1 - sigma (the DiT multiplies them by t_scale).
 * ERR_ARG for numbers outside, ERR_FORMAT from schedule_conf_check. */
int schedule_make(const struct schedule_conf *c, int n_passes, int n_image_tok, float *sigma, float *t, struct err *e);

/* The field guide's num_inference_steps (diffusers 0.36-0.39) in forward passes: max(1, n - 1). */
int schedule_passes_of_inference_steps(int n);

#endif

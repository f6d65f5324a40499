/* profile.h - what a checkpoint is, and the defaults that go with it. Turbo and base must never blur.
 *
 *   profile_of(&conf, &profile);      name, n_steps, guidance, cfg_norm, cfg_trunc, multiple_px, tokens_max
 *
 * Which one: model_index.json may say {"zfarm": {"profile": "turbo"}} (or "base"). Else the scheduler's shift decides, for that is
 * where the published checkpoints differ: turbo 3.0, base 6.0; at 4.5 and above it is base.
 * Not here: digest and about (engine.c). */
#ifndef ENGINE_PROFILE_H
#define ENGINE_PROFILE_H

#include "engine/config.h"
#include "engine/engine.h"

/* Fills every field but digest and about. */
void profile_of(const struct model_conf *c, struct engine_profile *out);

#endif

/* profile.c - see profile.h. The numbers are MODEL.md s.7: turbo 8 passes without guidance; base 50 passes with guidance 4. */
#include "engine/profile.h"

#include <stdio.h>
#include <string.h>

#include "engine/prompt.h"
#include "engine/vae.h"

#define BASE_SHIFT_FROM 4.5
#define OWN_PX          1024 /* of the published models, when the VAE's config says nothing */

void profile_of(const struct model_conf *c, struct engine_profile *out)
{
    bool base = c->hint[0] ? strcmp(c->hint, "base") == 0 : c->schedule.shift >= BASE_SHIFT_FROM;

    snprintf(out->name, sizeof out->name, "%s", base ? "base" : "turbo");
    out->n_steps = base ? 50 : 8;
    out->guidance = base ? 4.0f : 0.0f;
    out->cfg_norm = 0;
    out->cfg_trunc = 1;
    out->multiple_px = vae_scale(&c->vae) * c->dit.patch;
    out->own_px = c->vae.sample_px && c->vae.sample_px % out->multiple_px == 0 ? c->vae.sample_px : OWN_PX / out->multiple_px * out->multiple_px;
    out->tokens_max = PROMPT_TOKENS_MAX;
}

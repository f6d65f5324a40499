/* schedule.c - the sigmas of a run, in fp32 and in the reference's order of operations.
 * The grid is s_i = 1 - i/n, shifted by a constant or, when the config asks, by mu of the image's size; then 0.
 * Not here: the step (engine), configs' JSON (config.c). */
#include "engine/schedule.h"

#include <math.h>

#define IMAGE_TOK_MAX (1 << 24)

void schedule_conf_default(struct schedule_conf *c)
{
    *c = (struct schedule_conf){.num_train_timesteps = 1000,
                                .shift = 3.0,
                                .base_shift = 0.5,
                                .max_shift = 1.15,
                                .base_image_seq_len = 256,
                                .max_image_seq_len = 4096,
                                .time_shift_type = SCHEDULE_EXPONENTIAL};
}

int schedule_conf_check(const struct schedule_conf *c, struct err *e)
{
    if (c->num_train_timesteps < 1 || c->num_train_timesteps > 1000000)
        return err_set(e, ERR_FORMAT, "scheduler: num_train_timesteps is %d, must be 1..1000000", c->num_train_timesteps);
    if (!(c->shift > 0) || !(c->shift <= 1000))
        return err_set(e, ERR_FORMAT, "scheduler: shift is %g, must be above 0 and at most 1000", c->shift);
    if (!(c->shift_terminal >= 0) || !(c->shift_terminal < 1))
        return err_set(e, ERR_FORMAT, "scheduler: shift_terminal is %g, must be 0 or null, or below 1", c->shift_terminal);
    if (c->time_shift_type != SCHEDULE_EXPONENTIAL && c->time_shift_type != SCHEDULE_LINEAR)
        return err_set(e, ERR_FORMAT, "scheduler: time_shift_type must be exponential or linear");
    if (!c->use_dynamic_shifting) return 0;
    if (!isfinite(c->base_shift) || fabs(c->base_shift) > 100 || !isfinite(c->max_shift) || fabs(c->max_shift) > 100)
        return err_set(e, ERR_FORMAT, "scheduler: base_shift %g and max_shift %g must lie in -100..100", c->base_shift, c->max_shift);
    if (c->base_image_seq_len < 0 || c->max_image_seq_len <= c->base_image_seq_len || c->max_image_seq_len > IMAGE_TOK_MAX)
        return err_set(e, ERR_FORMAT, "scheduler: base_image_seq_len %d must be below max_image_seq_len %d (at most %d)",
                       c->base_image_seq_len, c->max_image_seq_len, IMAGE_TOK_MAX);
    return 0;
}

/* The shift of this image: a straight line through (base_image_seq_len, base_shift) and (max_image_seq_len, max_shift). */
static double mu_of(const struct schedule_conf *c, int n_image_tok)
{
    double m = (c->max_shift - c->base_shift) / (c->max_image_seq_len - c->base_image_seq_len);
    double b = c->base_shift - m * c->base_image_seq_len;
    return n_image_tok * m + b;
}

/* sigma [n] in place, fp32 as numpy computes it: Python floats take part as fp32. */
static void shift_constant(float *sigma, int n, double shift)
{
    for (int i = 0; i < n; i++) {
        float above = (float)shift * sigma[i];
        float below = 1.0f + (float)(shift - 1.0) * sigma[i];
        sigma[i] = above / below;
    }
}

static void shift_dynamic(float *sigma, int n, double k)
{
    for (int i = 0; i < n; i++) {
        float rest = 1.0f / sigma[i] - 1.0f;
        sigma[i] = (float)k / ((float)k + rest);
    }
}

/* Stretches so that the last sigma is terminal. */
static void stretch(float *sigma, int n, float terminal)
{
    float scale = (1.0f - sigma[n - 1]) / (1.0f - terminal);

    if (scale == 0.0f) /* one pass: 1 - sigma is 0 and has nothing to stretch */
        return;
    for (int i = 0; i < n; i++) sigma[i] = 1.0f - (1.0f - sigma[i]) / scale;
}

int schedule_make(const struct schedule_conf *c, int n_passes, int n_image_tok, float *sigma, float *t, struct err *e)
{
    int rc = schedule_conf_check(c, e);

    if (rc) return rc;
    if (n_passes < 1 || n_passes > SCHEDULE_PASSES_MAX)
        return err_set(e, ERR_ARG, "%d forward passes: must be 1..%d", n_passes, SCHEDULE_PASSES_MAX);
    if (n_image_tok < 1 || n_image_tok > IMAGE_TOK_MAX)
        return err_set(e, ERR_ARG, "%d image tokens: must be 1..%d", n_image_tok, IMAGE_TOK_MAX);
    for (int i = 0; i < n_passes; i++) sigma[i] = (float)(1.0 - (double)i / n_passes);
    if (c->use_dynamic_shifting) {
        double mu = mu_of(c, n_image_tok);
        if (c->time_shift_type == SCHEDULE_LINEAR && !(mu > 0))
            return err_set(e, ERR_FORMAT, "scheduler: a linear time shift of %g for %d image tokens is not positive", mu, n_image_tok);
        shift_dynamic(sigma, n_passes, c->time_shift_type == SCHEDULE_LINEAR ? mu : exp(mu));
    } else {
        shift_constant(sigma, n_passes, c->shift);
    }
    if (c->shift_terminal > 0) stretch(sigma, n_passes, (float)c->shift_terminal);
    for (int i = 0; i < n_passes; i++) {
        float steps = (float)c->num_train_timesteps;
        float timestep = sigma[i] * steps;
        t[i] = (steps - timestep) / steps;
    }
    sigma[n_passes] = 0;
    return 0;
}

int schedule_passes_of_inference_steps(int n)
{
    return n > 1 ? n - 1 : 1;
}

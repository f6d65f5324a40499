/* spec.c - what may be asked for: defaults, ranges, and the words of the noise generators.
 * Believes: a value past its bound is refused with a sentence that names value, bound and way out; nothing is clamped.
 * Not here: what a model's own defaults are (the engine's profile), bytes on the wire (wire.c). */
#include "proto/check.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define THREADS_PER_BLOCK 256u /* torch's normal_ kernel: its grid is whole blocks */

static const struct device {
    const char *name;
    uint32_t    sms, threads; /* per SM */
} devices[] = {
    {"h100", 132, 2048}, {"h200", 132, 2048}, {"h100-pcie", 114, 2048}, {"gh200", 132, 2048}, {"h20", 78, 2048},      {"b200", 148, 2048},
    {"a100", 108, 2048}, {"a30", 56, 2048},   {"a40", 84, 1536},        {"a10", 72, 1536},    {"a6000", 84, 1536},    {"v100", 80, 2048},
    {"t4", 40, 1024},    {"l4", 58, 1536},    {"l40", 142, 1536},       {"l40s", 142, 1536},  {"6000ada", 142, 1536}, {"2080ti", 68, 1024},
    {"3060", 28, 1536},  {"3070", 46, 1536},  {"3080", 68, 1536},       {"3090", 82, 1536},   {"3090ti", 84, 1536},   {"4060", 24, 1536},
    {"4070", 46, 1536},  {"4080", 76, 1536},  {"4090", 128, 1536},      {"5080", 84, 1536},   {"5090", 170, 1536},
};
#define N_DEVICES (sizeof devices / sizeof devices[0])

void spec_init(struct spec *s)
{
    memset(s, 0, sizeof *s);
    s->prompt = s->negative = s->model = str_of("");
    s->guidance = s->cfg_norm = s->cfg_trunc = -1.0f;
    s->rng = (struct rng){RNG_TORCH_CUDA, RNG_H100_THREADS};
}

static int side_check(int32_t px, const char *what, struct err *e)
{
    if (px == 0) return 0; /* the model's own */
    if (px < PX_MIN || px > PX_MAX)
        return err_set(e, ERR_ARG, "%s %" PRId32 " is out of range: %d to %d pixels, in multiples of %d", what, px, PX_MIN, PX_MAX,
                       PX_MULTIPLE);
    if (px % PX_MULTIPLE)
        return err_set(e, ERR_ARG, "%s %" PRId32 " is not a multiple of %d: use %d or %d", what, px, PX_MULTIPLE, px - px % PX_MULTIPLE,
                       px - px % PX_MULTIPLE + PX_MULTIPLE);
    return 0;
}

/* -1 is the profile's default; no other negative number has a meaning, so that equal wishes have equal bytes. */
static int share_check(float v, float max, const char *what, struct err *e)
{
    if (!isfinite(v)) return err_set(e, ERR_ARG, "%s is not a finite number", what);
    if ((v < 0.0f && v != -1.0f) || v > max)
        return err_set(e, ERR_ARG, "%s %g is out of range: 0 to %g, or -1 for the model's default", what, (double)v, (double)max);
    return 0;
}

static int rng_check(const struct rng *r, struct err *e)
{
    if (r->kind == RNG_TORCH_CPU) {
        if (r->threads) return err_set(e, ERR_ARG, "rng torch-cpu takes no grid, got %" PRIu32 " threads", r->threads);
        return 0;
    }
    if (r->kind != RNG_TORCH_CUDA) return err_set(e, ERR_ARG, "rng kind %d is not known: torch-cuda or torch-cpu", (int)r->kind);
    if (r->threads < THREADS_PER_BLOCK || r->threads > RNG_THREADS_MAX || r->threads % THREADS_PER_BLOCK)
        return err_set(e, ERR_ARG, "rng torch-cuda: a grid of %" PRIu32 " threads is not possible: a multiple of %u up to %u", r->threads,
                       THREADS_PER_BLOCK, RNG_THREADS_MAX);
    return 0;
}

int spec_check(const struct spec *s, struct err *e)
{
    int rc;

    if ((rc = check_text(s->prompt, PROMPT_MAX_BYTES, "the prompt", e))) return rc;
    if ((rc = check_text(s->negative, PROMPT_MAX_BYTES, "the negative prompt", e))) return rc;
    if ((rc = check_line(s->model, MODEL_MAX_BYTES, "the model's name", e))) return rc;
    if ((rc = side_check(s->width_px, "width", e))) return rc;
    if ((rc = side_check(s->height_px, "height", e))) return rc;
    if (s->steps < 0 || s->steps > STEPS_MAX)
        return err_set(e, ERR_ARG, "steps %" PRId32 " is out of range: 1 to %d (0 in a spec means the model's default)", s->steps,
                       STEPS_MAX);
    if ((rc = share_check(s->guidance, GUIDANCE_MAX, "guidance", e))) return rc;
    if ((rc = share_check(s->cfg_norm, CFG_NORM_MAX, "cfg normalization", e))) return rc;
    if ((rc = share_check(s->cfg_trunc, CFG_TRUNC_MAX, "cfg truncation", e))) return rc;
    return rng_check(&s->rng, e);
}

int item_check(const struct item *it, struct err *e)
{
    int rc = spec_check(&it->spec, e);

    if (rc) return rc;
    if (it->n_images < 1 || it->n_images > JOB_TASKS_MAX)
        return err_set(e, ERR_ARG, "%" PRIu32 " images are out of range: 1 to %d for one job", it->n_images, JOB_TASKS_MAX);
    return check_line(it->label, LABEL_MAX_BYTES, "the label", e);
}

static bool word_is(struct str w, const char *name) /* without case */
{
    size_t n = strlen(name);

    if (w.len != n) return false;
    for (size_t i = 0; i < n; i++) {
        char c = w.at[i];
        if (c >= 'A' && c <= 'Z') c = (char)(c - 'A' + 'a');
        if (c != name[i]) return false;
    }
    return true;
}

/* "132x2048" or "270336" */
static int grid_parse(struct str w, uint32_t *threads)
{
    const char *x = w.len ? memchr(w.at, 'x', w.len) : NULL;
    uint64_t    sms, per = 1;

    if (x) {
        size_t at = (size_t)(x - w.at);
        if (str_to_u64(str_sub(w, at + 1, w.len), &per)) return ERR_ARG;
        w = str_sub(w, 0, at);
    }
    if (str_to_u64(w, &sms) || sms > RNG_THREADS_MAX || per > RNG_THREADS_MAX || sms * per > RNG_THREADS_MAX) return ERR_ARG;
    *threads = (uint32_t)(sms * per);
    return 0;
}

int rng_parse(struct str word, struct rng *out, struct err *e)
{
    static const char prefix[] = "torch-cuda:";
    struct rng        r = {RNG_TORCH_CUDA, RNG_H100_THREADS};
    struct str        device;
    int               rc;

    if (str_is(word, "torch-cpu"))
        r = (struct rng){RNG_TORCH_CPU, 0};
    else if (str_starts(word, prefix)) {
        bool known = false;

        device = str_sub(word, sizeof prefix - 1, word.len);
        for (size_t i = 0; i < N_DEVICES && !known; i++)
            if (word_is(device, devices[i].name)) {
                r.threads = devices[i].sms * devices[i].threads;
                known = true;
            }
        if (!known && grid_parse(device, &r.threads))
            return err_set(e, ERR_ARG,
                           "rng: no GPU \"%.*s\" is known: h100, a100, l4, l40s, t4, 3090, 4090, 5090 ..., or SMSxTHREADS such as 132x2048",
                           device.len > 40 ? 40 : (int)device.len, device.at);
    } else if (!str_is(word, "torch-cuda"))
        return err_set(e, ERR_ARG, "rng \"%.*s\" is not known: torch-cuda, torch-cuda:DEVICE or torch-cpu",
                       word.len > 40 ? 40 : (int)word.len, word.len ? word.at : "");
    rc = rng_check(&r, e);
    if (!rc) *out = r;
    return rc;
}

const char *rng_text(const struct rng *r, char *text, size_t cap)
{
    if (r->kind == RNG_TORCH_CPU)
        snprintf(text, cap, "torch-cpu");
    else {
        for (size_t i = 0; i < N_DEVICES; i++)
            if (devices[i].sms * devices[i].threads == r->threads) {
                snprintf(text, cap, "torch-cuda:%s", devices[i].name);
                return text;
            }
        snprintf(text, cap, "torch-cuda:%" PRIu32, r->threads);
    }
    return text;
}

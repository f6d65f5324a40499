/* meta.c - the texts inside a picture. Pure functions of the spec; floats are written so that reading them gives the same float. */
#include "worker/meta.h"

#include <inttypes.h>

#include "base/hash.h"

#define HASH_CHARS 10 /* of the digest, as other programs show a model's hash */

static int full(struct err *e)
{
    return err_set(e, ERR_LIMIT, "the prompts take more than %u bytes inside the picture", META_MAX_BYTES);
}

int meta_parameters(const struct meta *m, struct buf *out, struct err *e)
{
    const struct spec *s = &m->spec;
    char               hash[SHA256_HEX], rng[48];
    int                rc;

    hex_of(m->digest, SHA256_BYTES, hash);
    rc = buf_put(out, s->prompt.at, s->prompt.len);
    if (!rc && s->negative.len) rc = buf_puts(out, "\nNegative prompt: ");
    if (!rc) rc = buf_put(out, s->negative.at, s->negative.len);
    if (!rc)
        rc = buf_printf(out, "\nSteps: %" PRId32 ", Sampler: Euler, Schedule type: flow-match, CFG scale: %g, Seed: %" PRIu64
                             ", Size: %" PRId32 "x%" PRId32 ", Model: %.*s, Model hash: %.*s, Version: zfarm %s, RNG: %s, Guidance: %.9g",
                        s->steps, (double)s->guidance + 1, s->seed, s->width_px, s->height_px, (int)m->model.len, m->model.at, HASH_CHARS, hash,
                        ZFARM_VERSION, rng_text(&s->rng, rng, sizeof rng), (double)s->guidance);
    if (!rc && s->guidance > 0)
        rc = buf_printf(out, ", CFG normalization: %.9g, CFG truncation: %.9g", (double)s->cfg_norm, (double)s->cfg_trunc);
    return rc ? full(e) : 0;
}

int meta_json(const struct meta *m, struct buf *out, struct err *e)
{
    const struct spec *s = &m->spec;
    char               hash[SHA256_HEX], rng[48];
    int                rc;

    hex_of(m->digest, SHA256_BYTES, hash);
    rc = buf_puts(out, "{\"prompt\": ");
    if (!rc) rc = buf_put_json(out, s->prompt);
    if (!rc) rc = buf_puts(out, ", \"negative_prompt\": ");
    if (!rc) rc = buf_put_json(out, s->negative);
    if (!rc)
        rc = buf_printf(out, ", \"seed\": %" PRIu64 ", \"steps\": %" PRId32 ", \"guidance\": %.9g, \"cfg_normalization\": %.9g, "
                             "\"cfg_truncation\": %.9g, \"rng\": \"%s\", \"width\": %" PRId32 ", \"height\": %" PRId32 ", \"model\": ",
                        s->seed, s->steps, (double)s->guidance, (double)s->cfg_norm, (double)s->cfg_trunc, rng_text(&s->rng, rng, sizeof rng),
                        s->width_px, s->height_px);
    if (!rc) rc = buf_put_json(out, m->model);
    if (!rc) rc = buf_printf(out, ", \"model_digest\": \"%s\", \"version\": \"%s\"}", hash, ZFARM_VERSION);
    return rc ? full(e) : 0;
}

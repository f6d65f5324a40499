/* fields.c - one table of words; text in, checked values out.
 * Believes: a value is right or refused, and the sentence shows it; a range's sentence is born in proto/msg.c (spec_check).
 * Not here: where the text came from; callers prefix "--width" or "prompts.csv:3". */
#include "client/fields.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "client/suggest.h"

#define SHOWN 40 /* bytes of a bad value shown in a sentence */

void row_init(struct row *r)
{
    memset(r, 0, sizeof *r);
    spec_init(&r->spec);
    r->n = 1;
}

static int shown(struct str v)
{
    size_t n = v.len < SHOWN ? v.len : SHOWN;

    while (n && n < v.len && ((unsigned char)v.at[n] & 0xC0) == 0x80) n--; /* not in the middle of a character */
    return (int)n;
}

static int whole(const char *field, struct str v, int64_t low, int64_t high, int64_t *out, struct err *e)
{
    int64_t x;

    if (v.len == 0) return err_set(e, ERR_ARG, "%s is empty: give a whole number from %" PRId64 " to %" PRId64, field, low, high);
    if (str_to_i64(v, &x) != 0) {
        return err_set(e, ERR_ARG, "%s \"%.*s\" is not a whole number from %" PRId64 " to %" PRId64, field, shown(v), v.at, low, high);
    }
    if (x < low || x > high) return err_set(e, ERR_ARG, "%s %" PRId64 " is outside %" PRId64 "..%" PRId64, field, x, low, high);
    *out = x;
    return 0;
}

static int real(const char *field, struct str v, float low, float high, float *out, struct err *e)
{
    double x;

    if (v.len == 0) return err_set(e, ERR_ARG, "%s is empty: give a number from %g to %g", field, (double)low, (double)high);
    if (str_to_f64(v, &x) != 0) {
        return err_set(e, ERR_ARG, "%s \"%.*s\" is not a number from %g to %g", field, shown(v), v.at, (double)low, (double)high);
    }
    if (!(x >= (double)low && x <= (double)high)) {
        return err_set(e, ERR_ARG, "%s %.*s is outside %g..%g", field, shown(v), v.at, (double)low, (double)high);
    }
    *out = (float)x;
    return 0;
}

/* A side in pixels: any whole number may pass here, spec_check() names the nearest valid sizes. */
static int side(const char *field, struct str v, int32_t *out, struct err *e)
{
    int64_t x;
    int     rc;

    if (str_is(v, "0")) return err_set(e, ERR_ARG, "%s 0 is out of range: %d to %d; without it, the model's own", field, PX_MIN, PX_MAX);
    if (v.len && str_to_i64(v, &x) == 0 && x != 0 && x >= INT32_MIN && x <= INT32_MAX) {
        struct spec probe;

        spec_init(&probe);
        probe.width_px = probe.height_px = 512;
        if (strcmp(field, "height") == 0)
            probe.height_px = (int32_t)x;
        else
            probe.width_px = (int32_t)x;
        rc = spec_check(&probe, e);
        if (rc) return rc;
        *out = (int32_t)x;
        return 0;
    }
    return whole(field, v, PX_MIN, PX_MAX, &x, e);
}

static int text(const char *field, struct str v, size_t max_bytes, struct str *out, struct err *e)
{
    if (v.len > max_bytes) return err_set(e, ERR_LIMIT, "%s has %zu bytes; the limit is %zu", field, v.len, max_bytes);
    if (v.len && memchr(v.at, 0, v.len)) return err_set(e, ERR_ARG, "%s holds a zero byte: it must be text", field);
    if (!str_utf8_ok(v)) return err_set(e, ERR_ARG, "%s is not valid UTF-8 (byte %zu)", field, str_utf8_bad_at(v));
    *out = v;
    return 0;
}

static int steps(struct row *r, const char *field, struct str v, enum steps_said said, struct err *e)
{
    int64_t x;
    int     rc;

    if (r->steps_said != STEPS_UNSAID && r->steps_said != said) {
        return err_set(e, ERR_ARG, "steps and num_inference_steps say the same thing in two ways: give one of them");
    }
    rc = whole(field, v, 1, said == STEPS_PASSES ? STEPS_MAX : STEPS_MAX + 1, &x, e);
    if (rc) return rc;
    if (said == STEPS_INFERENCE) x = x > 1 ? x - 1 : 1;
    r->spec.steps = (int32_t)x;
    r->steps_said = said;
    return 0;
}

static int seed(struct row *r, struct str v, struct err *e)
{
    uint64_t x;

    if (v.len == 0) return err_set(e, ERR_ARG, "seed is empty: give a whole number, or leave it out for a random one");
    if (str_to_u64(v, &x) != 0) {
        return err_set(e, ERR_ARG, "seed \"%.*s\" is not a whole number from 0 to 18446744073709551615", shown(v), v.at);
    }
    r->spec.seed = x;
    r->seed_said = true;
    return 0;
}

enum field {
    F_PROMPT,
    F_NEGATIVE,
    F_WIDTH,
    F_HEIGHT,
    F_STEPS,
    F_INFERENCE,
    F_GUIDANCE,
    F_GUIDANCE_SCALE,
    F_NORM,
    F_TRUNC,
    F_SEED,
    F_RNG,
    F_N,
    F_MODEL,
    F_NAME,
    N_FIELDS
};

static const char *const field_name[N_FIELDS] = {"prompt",
                                                 "negative_prompt",
                                                 "width",
                                                 "height",
                                                 "steps",
                                                 "num_inference_steps",
                                                 "guidance",
                                                 "guidance_scale",
                                                 "cfg_normalization",
                                                 "cfg_truncation",
                                                 "seed",
                                                 "rng",
                                                 "n",
                                                 "model",
                                                 "name"};

static int unknown(struct str f, struct err *e)
{
    const char *near = suggest(f, field_name, N_FIELDS);

    if (!str_utf8_ok(f)) return err_set(e, ERR_NOTFOUND, "a field's name is not valid UTF-8");
    if (near) return err_set(e, ERR_NOTFOUND, "unknown field \"%.*s\": did you mean %s?", shown(f), f.at, near);
    return err_set(e, ERR_NOTFOUND,
                   "unknown field \"%.*s\"; known: prompt, negative_prompt, width, height, steps, num_inference_steps, "
                   "guidance, cfg_normalization, cfg_truncation, seed, rng, n, model, name",
                   shown(f), f.at ? f.at : "");
}

int field_known(struct str f, struct err *e)
{
    for (size_t k = 0; k < N_FIELDS; k++)
        if (str_is(f, field_name[k])) return 0;
    return unknown(f, e);
}

int field_set(struct row *r, struct str f, struct str v, struct err *e)
{
    struct spec *s = &r->spec;
    int64_t      x;
    int          rc;
    size_t       k = 0;

    while (k < N_FIELDS && !str_is(f, field_name[k])) k++;
    switch (k) {
    case F_PROMPT:
        return text("prompt", v, PROMPT_MAX_BYTES, &s->prompt, e);
    case F_NEGATIVE:
        return text("negative_prompt", v, PROMPT_MAX_BYTES, &s->negative, e);
    case F_WIDTH:
        return side("width", v, &s->width_px, e);
    case F_HEIGHT:
        return side("height", v, &s->height_px, e);
    case F_STEPS:
        return steps(r, "steps", v, STEPS_PASSES, e);
    case F_INFERENCE:
        return steps(r, "num_inference_steps", v, STEPS_INFERENCE, e);
    case F_GUIDANCE:
    case F_GUIDANCE_SCALE:
        return real(field_name[k], v, 0, GUIDANCE_MAX, &s->guidance, e);
    case F_NORM:
        return real("cfg_normalization", v, 0, CFG_NORM_MAX, &s->cfg_norm, e);
    case F_TRUNC:
        return real("cfg_truncation", v, 0, CFG_TRUNC_MAX, &s->cfg_trunc, e);
    case F_SEED:
        return seed(r, v, e);
    case F_RNG:
        return rng_parse(v, &s->rng, e);
    case F_N:
        rc = whole("n", v, 1, JOB_TASKS_MAX, &x, e);
        if (rc == 0) r->n = (uint32_t)x;
        return rc;
    case F_MODEL:
        if (v.len == 0) return err_set(e, ERR_ARG, "model is empty: give a name, or leave it out for the farm's default");
        return text("model", v, MODEL_MAX_BYTES, &s->model, e);
    case F_NAME:
        if (v.len == 0) return err_set(e, ERR_ARG, "name is empty: give a file name, or leave it out for index and seed");
        return text("name", v, LABEL_MAX_BYTES - 8, &r->name, e);
    default:
        return unknown(f, e);
    }
}

int row_check(const struct row *r, struct err *e)
{
    int rc = spec_check(&r->spec, e);

    if (rc) return rc;
    if (r->spec.seed > UINT64_MAX - (r->n - 1)) {
        return err_set(e, ERR_ARG, "seed %" PRIu64 " and %" PRIu32 " images pass the largest seed, 18446744073709551615", r->spec.seed,
                       r->n);
    }
    return 0;
}

int row_label(const struct row *r, char label[LABEL_MAX_BYTES + 1], struct err *e)
{
    struct str n = r->name;
    int        len;
    bool       holds_seed = n.len && memmem(n.at, n.len, "{seed}", 6);

    if (n.len > 4 && memcmp(n.at + n.len - 4, ".png", 4) == 0) n.len -= 4;
    if (n.len == 0)
        len = snprintf(label, LABEL_MAX_BYTES + 1, "{index}-{seed}");
    else
        len = snprintf(label, LABEL_MAX_BYTES + 1, "%.*s%s", (int)n.len, n.at, r->n > 1 && !holds_seed ? "-{seed}" : "");
    if (len < 0 || len > LABEL_MAX_BYTES)
        return err_set(e, ERR_LIMIT, "name has %zu bytes; the limit is %d", r->name.len, LABEL_MAX_BYTES - 8);
    return 0;
}

static int put(char *name, size_t *used, const char *at, size_t len, struct err *e)
{
    if (*used + len >= FIELD_NAME_MAX_BYTES) return err_set(e, ERR_LIMIT, "a file name passes %d bytes", FIELD_NAME_MAX_BYTES - 1);
    memcpy(name + *used, at, len);
    *used += len;
    name[*used] = '\0';
    return 0;
}

int field_file_name(struct str label, uint32_t index, uint64_t seed_value, char name[FIELD_NAME_MAX_BYTES], struct err *e)
{
    size_t used = 0;
    char   number[24];
    int    rc = 0;

    if (label.len == 0) label = str_of("{index}-{seed}");
    for (size_t i = 0; i < label.len && rc == 0;) {
        struct str rest = str_sub(label, i, label.len);

        if (str_starts(rest, "{seed}")) {
            int n = snprintf(number, sizeof number, "%" PRIu64, seed_value);
            rc = put(name, &used, number, (size_t)n, e);
            i += 6;
        } else if (str_starts(rest, "{index}")) {
            int n = snprintf(number, sizeof number, "%05" PRIu32, index);
            rc = put(name, &used, number, (size_t)n, e);
            i += 7;
        } else {
            rc = put(name, &used, rest.at, 1, e);
            i++;
        }
    }
    if (rc == 0) rc = put(name, &used, ".png", 4, e);
    if (rc == 0 && !file_name_ok((struct str){name, used})) {
        name[0] = '\0'; /* not shown: it may hold anything */
        rc = err_set(e, ERR_ARG,
                     "name cannot be a file's name: 1..200 bytes of UTF-8 without / and \\ and control characters, "
                     "not beginning with . or -");
    }
    return rc;
}

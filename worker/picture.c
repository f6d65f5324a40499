/* picture.c - see picture.h. Believes: a result is a pure function of (model, spec): no time, device or thread in its bytes. */
#include "worker/picture.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "engine/safetensors.h"
#include "proto/wire.h"
#include "worker/meta.h"

#define PNG_LEVEL 4

int picture_open(struct picture **out, uint64_t task, uint64_t epoch, struct str item, struct err *e)
{
    struct picture *p = calloc(1, sizeof *p);
    struct item     it;
    int             rc;

    *out = NULL;
    if (!p || arena_init(&p->arena, "task", LINK_PAYLOAD_MAX * 8)) {
        free(p);
        return err_set(e, ERR_NOMEM, "no memory for a task");
    }
    p->task = task;
    p->epoch = epoch;
    p->fd = -1;
    buf_init(&p->latents, PART_MAX_BYTES);
    p->h = (struct link_head){.kind = LINK_RESULT, .task = task, .epoch = epoch};
    *out = p;
    if ((rc = wire_item_unpack(item, &p->arena, &it, e))) return rc;
    p->spec = it.spec;
    return 0;
}

void picture_drop(struct picture *p)
{
    embed_free(p->pos);
    embed_free(p->neg);
    latent_free(p->latent);
    p->pos = p->neg = NULL;
    p->latent = NULL;
}

void picture_free(struct picture *p)
{
    if (!p) return;
    picture_drop(p);
    buf_release(&p->latents);
    image_free(&p->image);
    if (p->fd >= 0) close(p->fd);
    arena_release(&p->arena);
    free(p);
}

/* The model's own defaults where the spec leaves them open. */
static void resolve(struct picture *p, const struct engine_profile *profile)
{
    struct spec *s = &p->spec;

    if (s->width_px == 0) s->width_px = profile->own_px;
    if (s->height_px == 0) s->height_px = profile->own_px;
    if (s->steps == 0) s->steps = profile->n_steps;
    if (s->guidance < 0) s->guidance = profile->guidance;
    if (s->cfg_norm < 0) s->cfg_norm = profile->cfg_norm;
    if (s->cfg_trunc < 0) s->cfg_trunc = profile->cfg_trunc;
    p->gen = (struct gen){.width_px = s->width_px, .height_px = s->height_px, .n_steps = s->steps, .guidance = s->guidance,
                          .cfg_norm = s->cfg_norm, .cfg_trunc = s->cfg_trunc, .seed = s->seed,
                          .noise = s->rng.kind == RNG_TORCH_CPU ? NOISE_TORCH_CPU : NOISE_TORCH_CUDA, .noise_threads = s->rng.threads};
    memcpy(p->model, profile->name, sizeof p->model);
    memcpy(p->digest, profile->digest, sizeof p->digest);
    p->h.width_px = p->gen.width_px;
    p->h.height_px = p->gen.height_px;
    p->h.steps = (uint32_t)p->gen.n_steps;
}

struct stepping {
    struct picture             *p;
    const struct picture_hooks *hooks;
};

static int on_step(void *ctx, int done, int n_steps)
{
    struct stepping *s = ctx;

    (void)n_steps;
    return s->hooks->on_step(s->hooks->ctx, s->p, done);
}

static int write_latents(struct picture *p, struct err *e)
{
    const float *values;
    int          dim[3], rc = latent_get(p->latent, dim, &values, e);

    return rc ? rc : safetensors_write(&p->latents, "latents", 4, (const int64_t[]){1, dim[0], dim[1], dim[2]}, values, e);
}

int picture_encode(struct picture *p, struct engine *g, struct err *e)
{
    int64_t from = now_ms();
    int     rc;

    resolve(p, engine_profile(g));
    if ((rc = engine_check(g, &p->gen, e)) || (rc = engine_encode(g, p->spec.prompt, &p->pos, e))) return rc;
    if (p->gen.guidance > 0 && (rc = engine_encode(g, p->spec.negative, &p->neg, e))) return rc;
    p->h.text_ms = (uint32_t)(now_ms() - from);
    return 0;
}

int picture_send(struct picture *p, struct engine *g, struct err *e)
{
    int rc = engine_send(g, p->pos, p->ticket, ENGINE_POS, e);

    if (!rc && p->neg) rc = engine_send(g, p->neg, p->ticket, ENGINE_NEG, e);
    picture_drop(p);
    return rc;
}

int picture_recv(struct picture *p, struct engine *g, struct err *e)
{
    int rc = engine_recv(g, p->ticket, ENGINE_POS, &p->pos, e);

    if (!rc && p->gen.guidance > 0) rc = engine_recv(g, p->ticket, ENGINE_NEG, &p->neg, e);
    if (!rc) engine_drop(g, p->ticket);
    return rc;
}

int picture_paint(struct picture *p, struct engine *g, const struct picture_hooks *hooks, struct err *e)
{
    struct stepping        s = {p, hooks};
    const struct gen_hooks steps = {&s, on_step};
    int64_t                from = now_ms();
    int                    rc;

    if ((rc = engine_denoise(g, p->pos, p->neg, &p->gen, &steps, &p->latent, e))) return rc;
    if (p->spec.want_latents && (rc = write_latents(p, e))) return rc;
    p->h.denoise_ms = (uint32_t)(now_ms() - from);
    return 0;
}

int picture_decode(struct picture *p, struct engine *g, struct err *e)
{
    int64_t from = now_ms();
    int     rc;

    if ((rc = engine_decode(g, p->latent, &p->image, e))) return rc;
    p->h.decode_ms = (uint32_t)(now_ms() - from);
    p->h.took_ms = p->h.text_ms + p->h.denoise_ms + p->h.decode_ms;
    return 0;
}

/* ---- the bytes ---- */

static int write_png(const struct picture *p, struct buf *out, struct err *e)
{
    const struct meta meta = {.spec = p->spec, .digest = p->digest, .model = p->spec.model.len ? p->spec.model : str_of(p->model)};
    struct png_text   text[2];
    struct buf        parameters, json;
    int               rc;

    buf_init(&parameters, META_MAX_BYTES);
    buf_init(&json, META_MAX_BYTES);
    if (!(rc = meta_parameters(&meta, &parameters, e)) && !(rc = meta_json(&meta, &json, e))) {
        text[0] = (struct png_text){(char *)(uintptr_t)"parameters", buf_str(&parameters)};
        text[1] = (struct png_text){(char *)(uintptr_t)"zfarm", buf_str(&json)};
        rc = png_write(&p->image, text, 2, PNG_LEVEL, out, e);
    }
    buf_release(&parameters);
    buf_release(&json);
    return rc;
}

static int seal(struct picture *p, const struct str *part, uint32_t n, struct err *e)
{
    p->h.n_parts = n;
    for (uint32_t i = 0; i < n; i++) {
        if (part[i].len > PART_MAX_BYTES)
            return err_set(e, ERR_LIMIT, "a result of %zu bytes; at most %u can be sent", part[i].len, PART_MAX_BYTES);
        p->h.part_bytes[i] = part[i].len;
        sha256_of(part[i].at, part[i].len, p->h.part_sha256[i]);
    }
    p->fd = link_bytes_seal(part, n, e);
    return p->fd < 0 ? ERR_NOMEM : 0;
}

int picture_write(struct picture *p, struct err *e)
{
    struct buf png;
    int64_t    from = now_ms();
    int        rc;

    buf_init(&png, PART_MAX_BYTES);
    rc = write_png(p, &png, e);
    if (!rc) rc = seal(p, (const struct str[PARTS_MAX]){buf_str(&png), buf_str(&p->latents)}, p->spec.want_latents ? 2 : 1, e);
    p->h.took_ms += (uint32_t)(now_ms() - from);
    buf_release(&png);
    return rc;
}

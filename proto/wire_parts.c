/* wire_parts.c - what several messages carry: bytes, texts, specs, parts, models, progress; to protobuf and back.
 * Not here: ranges (check.c). */
#include <assert.h>
#include <string.h>

#include "proto/wire_in.h"

static_assert((int)ZFARM__RNG__RNG_TORCH_CUDA == RNG_TORCH_CUDA && (int)ZFARM__RNG__RNG_TORCH_CPU == RNG_TORCH_CPU, "one numbering");
static_assert((int)ZFARM__STAGE__STAGE_UPLOAD == STAGE_UPLOAD && (int)ZFARM__STAGE__STAGE_WAITING == STAGE_WAITING, "one numbering");
static_assert((int)ZFARM__PART_KIND__PART_LATENTS == PART_LATENTS, "one numbering");
static_assert((int)ZFARM__TASK_STATE__TASK_EXPIRED == TASK_EXPIRED && (int)ZFARM__ROLE__ROLE_WORKER == ROLE_WORKER, "one numbering");
static_assert((int)ZFARM__FAIL__FAIL_CANCELED == 7 && (int)ZFARM__VERDICT__VERDICT_DROP == OFFER_DROP, "one numbering");
static_assert((int)ZFARM__ERROR_CODE__ERROR_DENIED == WIRE_DENIED, "one numbering");

ProtobufCBinaryData wire_bytes(const void *at, size_t len)
{
    return (ProtobufCBinaryData){len, (uint8_t *)(uintptr_t)at}; /* packing only reads */
}

ProtobufCBinaryData wire_text(struct str s)
{
    return wire_bytes(s.at, s.len);
}

ProtobufCBinaryData wire_words(struct str s, struct arena *a)
{
    char  *at = arena_text(a, s.at, s.len);
    size_t bad;

    if (!at) return wire_bytes("", 0);
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)at[i] < 0x20 || at[i] == 0x7f) at[i] = '?';
    while ((bad = str_utf8_bad_at((struct str){at, s.len})) < s.len) at[bad] = '?';
    return wire_bytes(at, s.len);
}

struct str wire_str(ProtobufCBinaryData b)
{
    return (struct str){b.len ? (const char *)b.data : "", b.len};
}

int wire_fixed(ProtobufCBinaryData b, uint8_t *out, size_t len, const char *what, struct err *e)
{
    if (b.len != len) return err_set(e, ERR_PROTO, "%s has %zu bytes; it must have %zu", what, b.len, len);
    memcpy(out, b.data, len);
    return 0;
}

int wire_full(struct err *e)
{
    return err_set(e, ERR_PROTO, "a message takes more memory than one may (%u bytes)", MSG_ARENA_BYTES);
}

void *wire_list(struct arena *a, size_t n, size_t bytes)
{
    char  *rows = arena_array(a, n, bytes);
    void **list = arena_array(a, n + 1, sizeof *list);

    if (!rows || !list) return NULL;
    for (size_t i = 0; i < n; i++) list[i] = rows + i * bytes;
    return list;
}

void wire_spec_pack(const struct spec *s, Zfarm__Spec *out)
{
    zfarm__spec__init(out);
    out->prompt = wire_text(s->prompt);
    out->negative = wire_text(s->negative);
    out->model = wire_text(s->model);
    out->width_px = s->width_px;
    out->height_px = s->height_px;
    out->steps = s->steps;
    out->guidance = s->guidance;
    out->cfg_norm = s->cfg_norm;
    out->cfg_trunc = s->cfg_trunc;
    out->seed = s->seed;
    out->rng = (Zfarm__Rng)s->rng.kind;
    out->rng_threads = s->rng.threads;
    out->want_latents = s->want_latents;
}

void wire_spec_unpack(const Zfarm__Spec *p, struct spec *out)
{
    out->prompt = wire_str(p->prompt);
    out->negative = wire_str(p->negative);
    out->model = wire_str(p->model);
    out->width_px = p->width_px;
    out->height_px = p->height_px;
    out->steps = p->steps;
    out->guidance = p->guidance;
    out->cfg_norm = p->cfg_norm;
    out->cfg_trunc = p->cfg_trunc;
    out->seed = p->seed;
    out->rng.kind = (enum rng_kind)p->rng;
    out->rng.threads = p->rng_threads;
    out->want_latents = p->want_latents != 0;
}

Zfarm__Item *wire_item_to(const struct item *it, struct arena *a)
{
    Zfarm__Item *p = arena_take(a, sizeof *p);
    Zfarm__Spec *s = arena_take(a, sizeof *s);

    if (!p || !s) return NULL;
    zfarm__item__init(p);
    wire_spec_pack(&it->spec, s);
    p->spec = s;
    p->n_images = it->n_images;
    p->label = wire_text(it->label);
    return p;
}

int wire_item_from(const Zfarm__Item *p, struct item *out, struct err *e)
{
    if (!p->spec) return err_set(e, ERR_PROTO, "an item without a spec");
    wire_spec_unpack(p->spec, &out->spec);
    out->n_images = p->n_images;
    out->label = wire_str(p->label);
    return 0;
}

Zfarm__Part *wire_part_to(const struct part *t, struct str bytes, struct arena *a)
{
    Zfarm__Part *p = arena_take(a, sizeof *p);

    if (!p) return NULL;
    zfarm__part__init(p);
    p->kind = (Zfarm__PartKind)t->kind;
    p->size_bytes = t->size_bytes;
    p->sha256 = wire_bytes(t->sha256, sizeof t->sha256);
    p->bytes = wire_text(bytes);
    return p;
}

int wire_part_from(const Zfarm__Part *p, struct part *out, struct str *bytes, struct err *e)
{
    if (!p) return err_set(e, ERR_PROTO, "a part is missing");
    out->kind = (enum part_kind)p->kind;
    out->size_bytes = p->size_bytes;
    *bytes = wire_str(p->bytes);
    return wire_fixed(p->sha256, out->sha256, sizeof out->sha256, "a part's sha256", e);
}

Zfarm__Part **wire_parts_to(const struct part t[PARTS_MAX], const struct str bytes[PARTS_MAX], size_t n, struct arena *a)
{
    Zfarm__Part **list = n > PARTS_MAX ? NULL : arena_array(a, PARTS_MAX, sizeof *list);

    for (size_t i = 0; list && i < n; i++)
        if (!(list[i] = wire_part_to(&t[i], bytes[i], a))) return NULL;
    return list;
}

int wire_parts_from(Zfarm__Part **p, size_t n, struct part out[PARTS_MAX], struct str bytes[PARTS_MAX], size_t *n_out, struct err *e)
{
    int rc = 0;

    if (n > PARTS_MAX) return err_set(e, ERR_PROTO, "%zu parts; at most %d are taken", n, PARTS_MAX);
    for (size_t i = 0; !rc && i < n; i++) rc = wire_part_from(p[i], &out[i], &bytes[i], e);
    *n_out = n;
    return rc;
}

Zfarm__Model **wire_models_to(const struct model_info *m, size_t n, struct arena *a)
{
    Zfarm__Model **list = wire_list(a, n, sizeof **list);

    for (size_t i = 0; list && i < n; i++) {
        zfarm__model__init(list[i]);
        list[i]->name = wire_text(m[i].name);
        list[i]->profile = wire_text(m[i].profile);
        list[i]->digest = wire_bytes(m[i].digest, sizeof m[i].digest);
        list[i]->steps = m[i].steps;
        list[i]->guidance = m[i].guidance;
    }
    return list;
}

int wire_models_from(Zfarm__Model **p, size_t n, struct arena *a, struct model_info **out, struct err *e)
{
    struct model_info *m = arena_array(a, n, sizeof *m);
    int                rc = 0;

    if (!m) return wire_full(e);
    for (size_t i = 0; !rc && i < n; i++) {
        m[i].name = wire_str(p[i]->name);
        m[i].profile = wire_str(p[i]->profile);
        m[i].steps = p[i]->steps;
        m[i].guidance = p[i]->guidance;
        rc = wire_fixed(p[i]->digest, m[i].digest, sizeof m[i].digest, "a model's digest", e);
    }
    *out = m;
    return rc;
}

Zfarm__Progress **wire_progress_to(const struct progress *g, size_t n, struct arena *a)
{
    Zfarm__Progress **list = wire_list(a, n, sizeof **list);

    for (size_t i = 0; list && i < n; i++) {
        zfarm__progress__init(list[i]);
        list[i]->job = g[i].job;
        list[i]->task = g[i].task;
        list[i]->epoch = g[i].epoch;
        list[i]->index = g[i].index;
        list[i]->stage = (Zfarm__Stage)g[i].stage;
        list[i]->step = g[i].step;
        list[i]->steps = g[i].steps;
        list[i]->age_ms = g[i].age_ms;
        list[i]->worker = wire_text(g[i].worker);
    }
    return list;
}

int wire_progress_from(Zfarm__Progress **p, size_t n, struct arena *a, struct progress **out, struct err *e)
{
    struct progress *g = arena_array(a, n, sizeof *g);

    if (!g) return wire_full(e);
    for (size_t i = 0; i < n; i++)
        g[i] = (struct progress){.job = p[i]->job, .task = p[i]->task, .epoch = p[i]->epoch, .index = p[i]->index,
                                 .stage = (enum stage)p[i]->stage, .step = p[i]->step, .steps = p[i]->steps, .age_ms = p[i]->age_ms,
                                 .worker = wire_str(p[i]->worker)};
    *out = g;
    return 0;
}

Zfarm__Rank **wire_ranks_to(const struct rank *r, size_t n, struct arena *a)
{
    Zfarm__Rank **list = wire_list(a, n, sizeof **list);

    for (size_t i = 0; list && i < n; i++) {
        zfarm__rank__init(list[i]);
        list[i]->device = wire_text(r[i].device);
        list[i]->parts = r[i].parts;
        list[i]->used_bytes = r[i].used_bytes;
        list[i]->total_bytes = r[i].total_bytes;
        list[i]->busy_permille = r[i].busy_permille;
    }
    return list;
}

int wire_ranks_from(Zfarm__Rank **p, size_t n, struct arena *a, struct rank **out, struct err *e)
{
    struct rank *r = arena_array(a, n, sizeof *r);

    if (!r) return wire_full(e);
    for (size_t i = 0; i < n; i++)
        r[i] = (struct rank){.device = wire_str(p[i]->device), .parts = p[i]->parts, .used_bytes = p[i]->used_bytes,
                             .total_bytes = p[i]->total_bytes, .busy_permille = p[i]->busy_permille};
    *out = r;
    return 0;
}

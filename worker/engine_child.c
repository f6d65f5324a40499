/* engine_child.c - a task becomes pictures: text -> denoise -> decode -> PNG, and latents when asked for.
 * Believes: a result is a pure function of (model, spec); the link is read between steps, so a cancellation waits for one step at most.
 * Invariants: E1 every TASK is answered by exactly one RESULT or FAILED, or by this process's death.
 * Not here: leases, retries (worker.c), how the engine computes. */
#include "worker/engine_child.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/png.h"
#include "engine/engine.h"
#include "engine/safetensors.h"
#include "proto/wire.h"
#include "worker/link.h"
#include "worker/meta.h"

#define PNG_LEVEL     4
#define SAY_LOADING_MS 200

struct engine_child {
    struct engine               *engine;
    const struct engine_profile *profile;
    struct arena                 arena; /* the task's spec */
    int64_t                      said_ms; /* LOADING, last */
    /* the task being made */
    uint64_t    task, epoch;
    struct spec spec;
    struct gen  gen;
    bool        canceled;
    char        payload[LINK_PAYLOAD_MAX];
};

struct made { /* what a task leaves, all owned */
    struct embed *pos, *neg;
    struct latent *latent;
    struct image  image;
    struct buf    png, latents;
    struct buf    parameters, json;
    int           fd;
};

static void gone(void) /* nobody is left to hear anything */
{
    _exit(0);
}

static void say(struct link_head *h, struct str payload, int fd)
{
    struct err e = {0};

    if (link_send(ENGINE_CHILD_FD, h, payload, fd, false, &e) == ERR_IO) gone();
}

static void say_step(struct engine_child *c, enum stage stage, int step)
{
    struct link_head h = {.kind = LINK_STEP, .task = c->task, .epoch = c->epoch, .stage = stage, .step = (uint32_t)step,
                          .steps = (uint32_t)c->gen.n_steps};

    say(&h, (struct str){0}, -1);
}

static void on_loading(void *ctx, double done, const char *what)
{
    struct engine_child *c = ctx;
    struct link_head     h = {.kind = LINK_LOADING};
    int64_t              now = now_ms();

    if (now - c->said_ms < SAY_LOADING_MS && done < 1.0) return;
    c->said_ms = now;
    h.permille = done <= 0 ? 0 : done >= 1 ? 1000 : (uint32_t)(done * 1000);
    say(&h, str_sub(str_of(what), 0, 200), -1);
}

/* Between steps: is there a CANCEL for this task, or nobody any more? */
static int on_step(void *ctx, int done, int n_steps)
{
    struct engine_child *c = ctx;
    struct link_head     h;
    struct err           e = {0};
    int                  fd, rc;

    (void)n_steps;
    say_step(c, STAGE_DENOISE, done);
    while ((rc = link_recv(ENGINE_CHILD_FD, &h, c->payload, &fd, true, &e)) == 1) {
        if (fd >= 0) close(fd);
        if (h.kind == LINK_QUIT) gone();
        if (h.kind == LINK_CANCEL && h.task == c->task && h.epoch == c->epoch) c->canceled = true;
    }
    if (rc == ERR_IO) gone();
    return c->canceled;
}

/* The model's own defaults where the spec leaves them open. */
static void resolve(struct engine_child *c)
{
    struct spec *s = &c->spec;

    if (s->steps == 0) s->steps = c->profile->n_steps;
    if (s->guidance < 0) s->guidance = c->profile->guidance;
    if (s->cfg_norm < 0) s->cfg_norm = c->profile->cfg_norm;
    if (s->cfg_trunc < 0) s->cfg_trunc = c->profile->cfg_trunc;
    c->gen = (struct gen){.width_px = s->width_px, .height_px = s->height_px, .n_steps = s->steps, .guidance = s->guidance,
                          .cfg_norm = s->cfg_norm, .cfg_trunc = s->cfg_trunc, .seed = s->seed,
                          .noise = s->rng.kind == RNG_TORCH_CPU ? NOISE_TORCH_CPU : NOISE_TORCH_CUDA, .noise_threads = s->rng.threads};
}

static int write_png(struct engine_child *c, struct made *m, struct err *e)
{
    const struct meta meta = {.spec = c->spec, .digest = c->profile->digest,
                              .model = c->spec.model.len ? c->spec.model : str_of(c->profile->name)};
    struct png_text   text[2];
    int               rc;

    if ((rc = meta_parameters(&meta, &m->parameters, e)) || (rc = meta_json(&meta, &m->json, e))) return rc;
    text[0] = (struct png_text){(char *)(uintptr_t)"parameters", buf_str(&m->parameters)};
    text[1] = (struct png_text){(char *)(uintptr_t)"zfarm", buf_str(&m->json)};
    return png_write(&m->image, text, 2, PNG_LEVEL, &m->png, e);
}

static int write_latents(struct made *m, struct err *e)
{
    const float *values;
    int          dim[3], rc = latent_get(m->latent, dim, &values, e);

    if (rc) return rc;
    return safetensors_write(&m->latents, "latents", 4, (const int64_t[]){1, dim[0], dim[1], dim[2]}, values, e);
}

static int make(struct engine_child *c, struct made *m, struct link_head *h, struct err *e)
{
    const struct gen_hooks hooks = {c, on_step};
    int64_t                from = now_ms(), at;
    int                    rc;

    say_step(c, STAGE_TEXT, 0);
    if ((rc = engine_check(c->engine, &c->gen, e))) return rc;
    if ((rc = engine_encode(c->engine, c->spec.prompt, &m->pos, e))) return rc;
    if (c->gen.guidance > 0 && (rc = engine_encode(c->engine, c->spec.negative, &m->neg, e))) return rc;
    at = now_ms();
    h->text_ms = (uint32_t)(at - from);
    if (on_step(c, 0, c->gen.n_steps)) return err_set(e, ERR_CANCELED, "canceled");
    if ((rc = engine_denoise(c->engine, m->pos, m->neg, &c->gen, &hooks, &m->latent, e))) return rc;
    h->denoise_ms = (uint32_t)(now_ms() - at);
    at = now_ms();
    say_step(c, STAGE_DECODE, c->gen.n_steps);
    if ((rc = engine_decode(c->engine, m->latent, &m->image, e))) return rc;
    if ((rc = write_png(c, m, e))) return rc;
    if (c->spec.want_latents && (rc = write_latents(m, e))) return rc;
    h->decode_ms = (uint32_t)(now_ms() - at);
    h->took_ms = (uint32_t)(now_ms() - from);
    return 0;
}

static int say_result(struct engine_child *c, struct made *m, struct link_head *h, struct err *e)
{
    struct str part[PARTS_MAX] = {buf_str(&m->png), buf_str(&m->latents)};

    h->n_parts = c->spec.want_latents ? 2 : 1;
    for (uint32_t i = 0; i < h->n_parts; i++) {
        if (part[i].len > PART_MAX_BYTES)
            return err_set(e, ERR_LIMIT, "a result of %zu bytes; at most %u can be sent", part[i].len, PART_MAX_BYTES);
        h->part_bytes[i] = part[i].len;
        sha256_of(part[i].at, part[i].len, h->part_sha256[i]);
    }
    m->fd = link_bytes_seal(part, h->n_parts, e);
    if (m->fd < 0) return ERR_NOMEM;
    h->kind = LINK_RESULT;
    h->width_px = c->gen.width_px;
    h->height_px = c->gen.height_px;
    h->steps = (uint32_t)c->gen.n_steps;
    say(h, (struct str){0}, m->fd);
    return 0;
}

static void say_failed(struct engine_child *c, int code, const struct err *e)
{
    struct link_head h = {.kind = LINK_FAILED, .task = c->task, .epoch = c->epoch, .code = code};

    say(&h, str_of(e->text), -1);
}

static void run_task(struct engine_child *c, const struct link_head *in)
{
    struct link_head h = {.task = in->task, .epoch = in->epoch};
    struct made      m = {.fd = -1};
    struct item      item;
    struct err       e = {0};
    int              rc;

    buf_init(&m.png, PART_MAX_BYTES);
    buf_init(&m.latents, PART_MAX_BYTES);
    buf_init(&m.parameters, META_MAX_BYTES);
    buf_init(&m.json, META_MAX_BYTES);
    arena_reset(&c->arena, 0);
    c->task = in->task;
    c->epoch = in->epoch;
    c->canceled = false;
    rc = wire_item_unpack((struct str){c->payload, in->payload_bytes}, &c->arena, &item, &e);
    if (!rc) {
        c->spec = item.spec;
        resolve(c);
        rc = make(c, &m, &h, &e);
        if (rc == ERR_IO) rc = ERR_DEVICE; /* a file of the model was cut: this engine would fail whatever comes next */
    }
    if (!rc) rc = say_result(c, &m, &h, &e);
    if (rc) say_failed(c, rc, &e);
    embed_free(m.pos);
    embed_free(m.neg);
    latent_free(m.latent);
    image_free(&m.image);
    buf_release(&m.png);
    buf_release(&m.latents);
    buf_release(&m.parameters);
    buf_release(&m.json);
    if (m.fd >= 0) close(m.fd);
    if (rc == ERR_DEVICE) _exit(ENGINE_EXIT_DEVICE); /* after that, nothing the device says can be believed */
}

static const char *said(const char *arg)
{
    return *arg ? arg : NULL;
}

static int open_engine(struct engine_child *c, char **argv, struct err *e)
{
    struct engine_opts o = {.model_dir = said(argv[2]), .device = argv[3], .parts = ENGINE_BOTH, .on_progress = on_loading, .ctx = c,
                            .dit = said(argv[7]), .text_encoder = said(argv[8]), .vae = said(argv[9]), .tokenizer = said(argv[10]),
                            .profile = said(argv[11])};
    int64_t            threads;

    o.precision = !strcmp(argv[4], "f32") ? ENGINE_F32 : !strcmp(argv[4], "bf16") ? ENGINE_BF16 : ENGINE_AUTO;
    if (str_to_i64(str_of(argv[5]), &threads) || threads < 0 || threads > 4096) return err_set(e, ERR_ARG, "threads \"%s\"", argv[5]);
    o.n_threads = (int)threads;
    return engine_open(&c->engine, &o, e);
}

static void say_opened(struct engine_child *c)
{
    struct link_model m = {.steps = c->profile->n_steps, .guidance = c->profile->guidance};
    struct link_head  h = {.kind = LINK_OPENED};

    memcpy(m.profile, c->profile->name, sizeof m.profile);
    memcpy(m.device, c->profile->device, sizeof m.device);
    memcpy(m.about, c->profile->about, sizeof m.about);
    memcpy(m.digest, c->profile->digest, sizeof m.digest);
    m.profile[sizeof m.profile - 1] = m.device[sizeof m.device - 1] = m.about[sizeof m.about - 1] = 0;
    say(&h, (struct str){(const char *)&m, sizeof m}, -1);
}

bool engine_child_is(int argc, char **argv)
{
    return argc == ENGINE_CHILD_ARGC && strcmp(argv[1], ENGINE_CHILD_ARG) == 0;
}

/* Tasks until the link closes or says QUIT. */
static void serve(struct engine_child *c)
{
    struct link_head h;
    struct err       e = {0};
    int              rc, fd;

    while ((rc = link_recv(ENGINE_CHILD_FD, &h, c->payload, &fd, false, &e)) != ERR_IO) {
        if (fd >= 0) close(fd);
        if (rc == 1 && h.kind == LINK_QUIT) return;
        if (rc == 1 && h.kind == LINK_TASK) run_task(c, &h);
        else if (rc < 0) log_warn("link", "why=\"%s\"", e.text);
    }
}

int engine_child_main(int argc, char **argv)
{
    struct engine_child *c = calloc(1, sizeof *c);
    enum log_level       level;
    struct err           e = {0};
    int                  rc;

    if (!c || !engine_child_is(argc, argv) || arena_init(&c->arena, "task", LINK_PAYLOAD_MAX * 8)) return 1;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a parent that died before this line left a closed link */
    log_name_set("engine");
    if (log_level_parse(argv[6], &level)) log_level_set(level);
    rc = open_engine(c, argv, &e);
    if (rc) {
        struct link_head h = {.kind = LINK_OPEN_FAILED, .code = rc};
        say(&h, str_of(e.text), -1);
    } else {
        c->profile = engine_profile(c->engine);
        say_opened(c);
        serve(c);
    }
    engine_free(c->engine);
    arena_release(&c->arena);
    free(c);
    return rc ? ENGINE_EXIT_OPEN : 0;
}

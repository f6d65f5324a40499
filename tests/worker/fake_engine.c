/* fake_engine.c - engine/engine.h without a model: pictures are a pattern of prompt and seed, and some prompts misbehave.
 * Included by tests of the worker; the real engine.o is then never linked.
 *   "torn": pixels that crash whoever writes them   "slow": 30 ms a step   "held": likewise, and again and again the last but one, until is_held("held") is
 *   over   "kept": whoever writes its pixels waits until is_held("kept") is over   "crash": aborts in step 2   "hang": never ends step 2   "nan", "oom", "device", "cut": that error
 * The model "wobbles" never paints the same twice. A model whose folder begins with '/' must be there; with a file "other" in it, it is another model. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/engine.h"

struct engine {
    struct engine_profile profile;
    bool                  wobbles;
};

static _Atomic uint32_t n_decoded;
struct embed {
    struct buf text;
};
struct latent {
    int    dim[3];
    float *values;
    uint32_t mix;
    bool     torn, kept;
};

int engine_open(struct engine **out, const struct engine_opts *o, struct err *e)
{
    struct engine *g;
    char           other[100];

    o->on_progress(o->ctx, 1, 2, "half of it");
    if (!strcmp(o->model_dir, "missing")) return err_set(e, ERR_IO, "there is no model folder missing");
    if (o->model_dir[0] == '/' && access(o->model_dir, F_OK)) return err_set(e, ERR_IO, "there is no model folder %s", o->model_dir);
    if (!strcmp(o->model_dir, "crashes")) abort();
    g = calloc(1, sizeof *g);
    g->wobbles = !strcmp(o->model_dir, "wobbles");
    g->profile = (struct engine_profile){.name = "fake", .n_steps = 4, .guidance = 0, .cfg_norm = 0, .cfg_trunc = 1, .multiple_px = 16, .own_px = 96,
                                         .tokens_max = 512, .digest = {1, 2, 3}, .device = "cuda:0", .about = "a fake engine"};
    snprintf(other, sizeof other, "%s/other", o->model_dir);
    if (access(other, F_OK) == 0) g->profile.digest[0] = 9;
    *out = g;
    return 0;
}

void engine_free(struct engine *g)
{
    free(g);
}

const struct engine_profile *engine_profile(const struct engine *g)
{
    return &g->profile;
}

int engine_check(const struct engine *g, const struct gen *gen, struct err *e)
{
    (void)g;
    if (gen->width_px > 4000) return err_set(e, ERR_ARG, "width %d is too much for a fake", gen->width_px);
    return 0;
}

int engine_encode(struct engine *g, struct str prompt, struct embed **out, struct err *e)
{
    (void)g, (void)e;
    *out = calloc(1, sizeof **out);
    buf_init(&(*out)->text, 1 << 16);
    buf_put(&(*out)->text, prompt.at, prompt.len);
    return 0;
}

void embed_free(struct embed *p)
{
    if (!p) return;
    buf_release(&p->text);
    free(p);
}

int engine_denoise(struct engine *g, const struct embed *pos, const struct embed *neg, const struct gen *gen, const struct gen_hooks *h,
                   struct latent **out, struct err *e)
{
    struct str     p = buf_str(&pos->text);
    struct latent *z;
    size_t         n;

    (void)g, (void)neg;
    for (int i = 1; i <= gen->n_steps; i++) {
        if (str_is(p, "held") && i == gen->n_steps && is_held("held")) i--;
        if (str_is(p, "slow") || str_is(p, "held")) usleep(30000);
        if (str_is(p, "crash") && i == 2) abort();
        while (str_is(p, "hang") && i == 2) pause();
        if (str_is(p, "nan")) return err_set(e, ERR_NAN, "the latents are not finite after step %d", i);
        if (str_is(p, "oom")) return err_set(e, ERR_NOMEM, "needs 90 GiB, has 23 GiB");
        if (str_is(p, "cut")) return err_set(e, ERR_IO, "model.safetensors: was cut while in use");
        if (str_is(p, "device")) return err_set(e, ERR_DEVICE, "illegal address");
        if (h->on_step && h->on_step(h->ctx, i, gen->n_steps)) return err_set(e, ERR_CANCELED, "canceled after step %d", i);
    }
    z = calloc(1, sizeof *z);
    z->dim[0] = 16;
    z->dim[1] = gen->height_px / 8;
    z->dim[2] = gen->width_px / 8;
    n = (size_t)z->dim[0] * (size_t)z->dim[1] * (size_t)z->dim[2];
    z->values = calloc(n, sizeof *z->values);
    z->torn = str_is(p, "torn");
    z->kept = str_is(p, "kept");
    z->mix = (uint32_t)gen->seed * 2654435761u;
    for (size_t i = 0; i < p.len; i++) z->mix = z->mix * 31 + (unsigned char)p.at[i];
    for (size_t i = 0; i < n; i++) z->values[i] = (float)(z->mix ^ i) / 1e6f;
    *out = z;
    return 0;
}

int latent_get(const struct latent *z, int dim[3], const float **values, struct err *e)
{
    (void)e;
    memcpy(dim, z->dim, sizeof z->dim);
    *values = z->values;
    return 0;
}

void latent_free(struct latent *z)
{
    if (!z) return;
    free(z->values);
    free(z);
}

void engine_memory(const struct engine *g, struct engine_memory *out)
{
    (void)g;
    *out = (struct engine_memory){1u << 20, 1u << 30};
}

/* ---- linked: what is sent lies in one table; "lost on its way": the embedding of that prompt does not, and whoever waits for it fails ---- */

static struct {
    pthread_mutex_t mtx;
    struct { uint64_t key; struct str text; struct latent *z; } at[64];
} sent = {.mtx = PTHREAD_MUTEX_INITIALIZER};

int engine_link(struct engine *const *g, int n, int64_t deadline_ms, struct err *e)
{
    (void)g, (void)n, (void)deadline_ms, (void)e;
    return 0;
}

void engine_unlink(struct engine *const *g, int n)
{
    (void)g, (void)n;
}

const char *engine_link_about(const struct engine *g)
{
    (void)g;
    return "a fake";
}

void engine_link_fail(struct engine *g, const char *words)
{
    (void)g, (void)words;
}

/* The lock is held. what 0 and 1: an embedding's side; 2: a latent. -1: none. */
static int slot_of(uint64_t ticket, uint32_t what)
{
    for (int i = 0; i < 64; i++)
        if (sent.at[i].key == ticket * 4 + what + 1) return i;
    return -1;
}

static int free_slot(void)
{
    for (int i = 0; i < 64; i++)
        if (sent.at[i].key == 0) return i;
    abort();
}

int engine_send(struct engine *g, const struct embed *p, uint64_t ticket, enum engine_side side, struct err *e)
{
    struct str text = buf_str(&p->text);

    (void)g, (void)e;
    if (str_is(text, "lost on its way")) return 0;
    pthread_mutex_lock(&sent.mtx);
    int i = free_slot();
    sent.at[i].key = ticket * 4 + side + 1;
    sent.at[i].text = (struct str){memcpy(malloc(text.len + 1), text.at, text.len), text.len};
    pthread_mutex_unlock(&sent.mtx);
    return 0;
}

int engine_recv(struct engine *g, uint64_t ticket, enum engine_side side, struct embed **out, struct err *e)
{
    int rc, i;

    pthread_mutex_lock(&sent.mtx);
    i = slot_of(ticket, side);
    rc = i < 0 ? err_set(e, ERR_DEVICE, "parcel did not come within 30 s") : engine_encode(g, sent.at[i].text, out, e);
    pthread_mutex_unlock(&sent.mtx);
    return rc;
}

int engine_send_latent(struct engine *g, const struct latent *z, uint64_t ticket, struct err *e)
{
    size_t n = (size_t)z->dim[0] * (size_t)z->dim[1] * (size_t)z->dim[2];
    struct latent *copy = malloc(sizeof *copy);

    (void)g, (void)e;
    *copy = *z;
    copy->values = memcpy(malloc(n * sizeof *z->values), z->values, n * sizeof *z->values);
    pthread_mutex_lock(&sent.mtx);
    int i = free_slot();
    sent.at[i].key = ticket * 4 + 3;
    sent.at[i].z = copy;
    pthread_mutex_unlock(&sent.mtx);
    return 0;
}

int engine_recv_latent(struct engine *g, uint64_t ticket, struct latent **out, struct err *e)
{
    int i;

    (void)g;
    pthread_mutex_lock(&sent.mtx);
    if ((i = slot_of(ticket, 2)) >= 0) {
        *out = sent.at[i].z;
        sent.at[i].z = NULL;
    }
    pthread_mutex_unlock(&sent.mtx);
    return i < 0 ? err_set(e, ERR_DEVICE, "parcel did not come within 30 s") : 0;
}

void engine_drop(struct engine *g, uint64_t ticket)
{
    (void)g;
    pthread_mutex_lock(&sent.mtx);
    for (uint32_t what = 0; what < 3; what++) {
        int i = slot_of(ticket, what);

        if (i < 0) continue;
        free((void *)(uintptr_t)sent.at[i].text.at);
        latent_free(sent.at[i].z);
        memset(&sent.at[i], 0, sizeof sent.at[i]);
    }
    pthread_mutex_unlock(&sent.mtx);
}

/* ---- pixels that wait for who reads them ---- */

static struct {
    void            *at;
    size_t           bytes;
    struct sigaction before;
} kept;

static void on_fault(int signo, siginfo_t *info, void *context)
{
    int saved = errno;

    if ((char *)info->si_addr < (char *)kept.at || (char *)info->si_addr >= (char *)kept.at + kept.bytes) {
        sigaction(signo, &kept.before, NULL); /* somebody else's: it comes again */
        return;
    }
    (void)context;
    while (is_held("kept")) usleep(5000);
    mprotect(kept.at, kept.bytes, PROT_READ | PROT_WRITE);
    errno = saved;
}

static void keep(void *at, size_t bytes)
{
    struct sigaction act = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};

    if (!kept.at) sigaction(SIGSEGV, &act, &kept.before);
    kept.at = at;
    kept.bytes = bytes;
    mprotect(at, bytes, PROT_NONE);
}

int engine_decode(struct engine *g, const struct latent *z, struct image *out, struct err *e)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint32_t     x = z->mix;
    size_t       n;

    (void)e;
    *out = (struct image){.width_px = z->dim[2] * 8, .height_px = z->dim[1] * 8};
    n = (size_t)out->width_px * (size_t)out->height_px * 3;
    if (g->wobbles) x += ++n_decoded;
    if (z->torn) {
        out->rgb = mmap(NULL, n, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return 0;
    }
    out->rgb = z->kept ? aligned_alloc(page, (n + page - 1) / page * page) : malloc(n);
    for (size_t i = 0; i < n; i++) out->rgb[i] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24);
    if (z->kept) keep(out->rgb, (n + page - 1) / page * page);
    return 0;
}

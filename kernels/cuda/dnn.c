/* dnn.c - cuDNN, found at the first use that pays, and attention as its one-operation graph. Without it, or where it refuses, attention.cu and the
 * products of conv.cu do the work, slower and as right.
 *
 * A plan (descriptors, chosen engine) is kept per shape; making one takes up to some hundred ms, so small attentions do not ask.
 * Only deterministic engines: forward attention has no others, convolutions ask (dnn_choose's exact).
 * Not here: convolutions (dnn_conv.c), what to do with a refusal (attention.cu, conv.cu). */
#include "kernels/cuda/dnn.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include <cuda_runtime_api.h>

#define OLDEST  91300 /* 9.13: the first with the attention operation */
#define PLANS   32    /* of attention; the oldest makes room */
#define CONFIGS 8     /* engines tried */

struct sdpa_key {
    int64_t n, m, hq, hk, dh, ldq, ldk, ldv, ldy;
};

struct sdpa { /* refused: no engine takes this shape */
    struct sdpa_key key;
    bool            used, refused;
    struct dnn_plan plan;
};

struct dnn {
    struct dnn_api    api;
    struct sdpa       sdpa[PLANS];
    int               next_sdpa;
    struct dnn_convs *convs;
};

/* ---- open and close ---- */

static void *open_library(void)
{
    static const char *const names[] = {"libcudnn.so.9", "libcudnn.so", "/usr/local/cuda/lib64/libcudnn.so.9"};
    void                    *lib = NULL;

    for (size_t i = 0; !lib && i < sizeof names / sizeof *names; i++) lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return lib;
}

static bool load_table(struct dnn_api *a)
{
    void *at;
#define LOAD(name, type, args)          \
    at = dlsym(a->lib, "cudnn" #name);  \
    if (!at) return false;              \
    memcpy(&a->name, &at, sizeof at);
    DNN_TABLE(LOAD)
#undef LOAD
    return true;
}

static void sdpa_release(struct dnn *b, struct sdpa *p)
{
    dnn_plan_release(&b->api, &p->plan);
    memset(p, 0, sizeof *p);
}

void dnn_close(struct dnn *b)
{
    if (!b) return;
    if (b->api.handle) {
        for (int i = 0; i < PLANS; i++) sdpa_release(b, &b->sdpa[i]);
        dnn_convs_free(&b->api, b->convs);
        b->api.Destroy(b->api.handle);
    }
    free(b); /* the library stays: it may be used by another device */
}

static struct dnn *dnn_open(struct dev *d)
{
    struct dnn *b = calloc(1, sizeof *b);

    if (!b) return NULL;
    b->api.lib = open_library();
    if (b->api.lib && load_table(&b->api) && b->api.GetVersion() >= OLDEST) {
        if (b->api.Create(&b->api.handle)) b->api.handle = NULL;
        else if (b->api.SetStream(b->api.handle, cuda_stream(d)) == 0) return b;
    }
    cudaGetLastError(); /* a refusal is an answer, not a state */
    dnn_close(b);
    return NULL;
}

struct dnn *dnn_of(struct dev *d)
{
    struct cuda *c = cuda_of(d);

    if (c->only[CUDA_ONLY_PLAIN]) return NULL;
    cuda_enter(d);
    if (!c->dnn_asked) c->dnn = dnn_open(d);
    c->dnn_asked = true;
    return c->dnn;
}

const struct dnn_api *dnn_api(const struct dnn *b)
{
    return &b->api;
}

struct dnn_convs **dnn_convs(struct dnn *b)
{
    return &b->convs;
}

/* ---- plans ---- */

void dnn_plan_release(const struct dnn_api *a, struct dnn_plan *p)
{
    while (p->n_desc > 0) a->BackendDestroyDescriptor(p->desc[--p->n_desc]);
    memset(p, 0, sizeof *p);
}

void *dnn_add(const struct dnn_api *a, struct dnn_plan *p, int kind)
{
    void *desc = NULL;

    if (p->n_desc == DNN_DESCRIPTORS || a->BackendCreateDescriptor(kind, &desc)) return NULL;
    return p->desc[p->n_desc++] = desc;
}

bool dnn_set(const struct dnn_api *a, void *desc, int name, int type, int64_t n, const void *values)
{
    return a->BackendSetAttribute(desc, name, type, n, values) == 0;
}

void *dnn_tensor(const struct dnn_api *a, struct dnn_plan *p, int64_t id, bool by_us, const int64_t dims[4], const int64_t strides[4])
{
    const int64_t align = 16;
    const int     type = by_us ? DATA_BFLOAT16 : DATA_FLOAT;
    const bool    inside = !by_us;
    void         *t = dnn_add(a, p, DESC_TENSOR);

    return t && dnn_set(a, t, TENSOR_TYPE, TYPE_DATA_TYPE, 1, &type) && dnn_set(a, t, TENSOR_DIMS, TYPE_INT64, 4, dims) &&
                   dnn_set(a, t, TENSOR_STRIDES, TYPE_INT64, 4, strides) && dnn_set(a, t, TENSOR_ID, TYPE_INT64, 1, &id) &&
                   dnn_set(a, t, TENSOR_ALIGNMENT, TYPE_INT64, 1, &align) && (by_us || dnn_set(a, t, TENSOR_VIRTUAL, TYPE_BOOLEAN, 1, &inside)) &&
                   a->BackendFinalize(t) == 0
               ? t
               : NULL;
}

/* Does the engine of this configuration sum in F32, in one order? */
static bool is_exact(const struct dnn_api *a, void *config)
{
    void   *engine = NULL;
    int     note[16];
    int64_t n = 0;
    bool    ok;

    if (a->BackendCreateDescriptor(DESC_ENGINE, &engine)) return false;
    ok = a->BackendGetAttribute(config, CONFIG_ENGINE, TYPE_DESCRIPTOR, 1, &n, &engine) == 0 &&
         a->BackendGetAttribute(engine, ENGINE_NOTES, TYPE_NOTE, 16, &n, note) == 0;
    for (int64_t i = 0; ok && i < n && i < 16; i++) ok = note[i] < NOTE_LESS_FIRST || note[i] > NOTE_LESS_LAST;
    a->BackendDestroyDescriptor(engine);
    return ok;
}

/* The configuration's plan into p; false: it makes none, or one that wants too much. */
static bool try_config(const struct dnn_api *a, struct dnn_plan *p, void *config, int64_t most_bytes)
{
    void *plan = NULL;

    if (p->n_desc + 2 > DNN_DESCRIPTORS || a->BackendCreateDescriptor(DESC_PLAN, &plan)) return false;
    if (dnn_set(a, plan, PLAN_HANDLE, TYPE_HANDLE, 1, &a->handle) && dnn_set(a, plan, PLAN_CONFIG, TYPE_DESCRIPTOR, 1, &config) &&
        a->BackendFinalize(plan) == 0 && a->BackendGetAttribute(plan, PLAN_SPACE, TYPE_INT64, 1, &(int64_t){0}, &p->bytes) == 0 && p->bytes <= most_bytes) {
        p->desc[p->n_desc++] = config; /* lives as long as its plan */
        p->desc[p->n_desc++] = p->plan = plan;
        return true;
    }
    a->BackendDestroyDescriptor(plan);
    return false;
}

/* The first engine of a mode that makes a plan. */
static bool choose(const struct dnn_api *a, struct dnn_plan *p, void *graph, int mode, int64_t most_bytes, bool exact)
{
    void   *heur = NULL, *config[CONFIGS] = {NULL};
    int64_t n = 0, got = 0;

    if (a->BackendCreateDescriptor(DESC_ENGINEHEUR, &heur)) return false;
    if (dnn_set(a, heur, HEUR_GRAPH, TYPE_DESCRIPTOR, 1, &graph) && dnn_set(a, heur, HEUR_MODE, TYPE_HEUR_MODE, 1, &mode) && a->BackendFinalize(heur) == 0) {
        while (n < CONFIGS && a->BackendCreateDescriptor(DESC_ENGINECFG, &config[n]) == 0) n++;
        if (a->BackendGetAttribute(heur, HEUR_RESULTS, TYPE_DESCRIPTOR, n, &got, config)) got = 0;
    }
    for (int64_t i = 0; i < got && i < n && !p->plan; i++) {
        if ((!exact || is_exact(a, config[i])) && try_config(a, p, config[i], most_bytes)) config[i] = NULL;
    }
    for (int64_t i = 0; i < n; i++) {
        if (config[i]) a->BackendDestroyDescriptor(config[i]);
    }
    a->BackendDestroyDescriptor(heur);
    return p->plan != NULL;
}

bool dnn_choose(const struct dnn_api *a, struct dnn_plan *p, int64_t n, void *const *ops, int64_t most_bytes, bool exact)
{
    void *graph = dnn_add(a, p, DESC_GRAPH);

    if (!graph || !dnn_set(a, graph, GRAPH_HANDLE, TYPE_HANDLE, 1, &a->handle) || !dnn_set(a, graph, GRAPH_OPS, TYPE_DESCRIPTOR, n, ops) ||
        a->BackendFinalize(graph)) return false;
    return choose(a, p, graph, MODE_A, most_bytes, exact) || choose(a, p, graph, MODE_FALLBACK, most_bytes, exact);
}

bool dnn_run(struct dev *d, const struct dnn_api *a, const struct dnn_plan *p, int n, void *const *data, const int64_t *ids)
{
    void *pack = NULL, *space = NULL;
    bool  done;

    if (p->bytes > 0 && !(space = cuda_space(d, SLOT_DNN, (size_t)p->bytes))) return false;
    if (a->BackendCreateDescriptor(DESC_PACK, &pack)) return false;
    done = dnn_set(a, pack, PACK_POINTERS, TYPE_VOID_PTR, n, data) && dnn_set(a, pack, PACK_IDS, TYPE_INT64, n, ids) &&
           dnn_set(a, pack, PACK_SPACE, TYPE_VOID_PTR, 1, &space) && a->BackendFinalize(pack) == 0 && a->BackendExecute(a->handle, p->plan, pack) == 0;
    a->BackendDestroyDescriptor(pack);
    return done;
}

/* ---- attention ---- */

/* [1, heads, rows, width] bf16 with rows `ld` apart, as operand `name` of op. */
static bool operand(const struct dnn_api *a, struct dnn_plan *p, void *op, int name, int64_t id, int64_t heads, int64_t rows, int64_t width, int64_t ld)
{
    const int64_t dims[4] = {1, heads, rows, width}, strides[4] = {rows * ld, width, ld, 1};
    void         *t = dnn_tensor(a, p, id, true, dims, strides);

    return t && dnn_set(a, op, name, TYPE_DESCRIPTOR, 1, &t);
}

/* The scale: one F32 that is given at each call, from the host. */
static bool scale_operand(const struct dnn_api *a, struct dnn_plan *p, void *op, int64_t id)
{
    const int64_t ones[4] = {1, 1, 1, 1}, align = 16;
    const int     type = DATA_FLOAT;
    const bool    yes = true;
    void         *t = dnn_add(a, p, DESC_TENSOR);

    return t && dnn_set(a, t, TENSOR_TYPE, TYPE_DATA_TYPE, 1, &type) && dnn_set(a, t, TENSOR_DIMS, TYPE_INT64, 4, ones) &&
           dnn_set(a, t, TENSOR_STRIDES, TYPE_INT64, 4, ones) && dnn_set(a, t, TENSOR_ID, TYPE_INT64, 1, &id) &&
           dnn_set(a, t, TENSOR_ALIGNMENT, TYPE_INT64, 1, &align) && dnn_set(a, t, TENSOR_BY_VALUE, TYPE_BOOLEAN, 1, &yes) && a->BackendFinalize(t) == 0 &&
           dnn_set(a, op, SDPA_SCALE, TYPE_DESCRIPTOR, 1, &t);
}

static bool build(const struct dnn_api *a, struct sdpa *s)
{
    const struct sdpa_key *k = &s->key;
    struct dnn_plan       *p = &s->plan;
    void                  *op = dnn_add(a, p, DESC_SDPA);

    return op && operand(a, p, op, SDPA_Q, 1, k->hq, k->n, k->dh, k->ldq) && operand(a, p, op, SDPA_K, 2, k->hk, k->m, k->dh, k->ldk) &&
           operand(a, p, op, SDPA_V, 3, k->hk, k->m, k->dh, k->ldv) && operand(a, p, op, SDPA_O, 4, k->hq, k->n, k->dh, k->ldy) &&
           scale_operand(a, p, op, 5) && a->BackendFinalize(op) == 0 && dnn_choose(a, p, 1, &op, INT64_MAX, false);
}

static struct sdpa *sdpa_plan(struct dev *d, struct dnn *b, const struct sdpa_key *k)
{
    struct sdpa *p;

    for (int i = 0; i < PLANS; i++) {
        if (b->sdpa[i].used && memcmp(&b->sdpa[i].key, k, sizeof *k) == 0) return &b->sdpa[i];
    }
    p = &b->sdpa[b->next_sdpa++ % PLANS];
    if (p->used) cuda_forget(d); /* records may play its kernels */
    sdpa_release(b, p);
    p->key = *k;
    p->used = true;
    p->refused = !build(&b->api, p);
    if (p->refused) cudaGetLastError();
    return p;
}

bool dnn_attention(struct dev *d, struct tensor *y, const struct tensor *q, const struct tensor *k, const struct tensor *v, float scale)
{
    const struct sdpa_key key = {q->dim[0], k->dim[0], q->dim[1], k->dim[1], q->dim[2], cuda_pitch(q), cuda_pitch(k), cuda_pitch(v), cuda_pitch(y)};
    const int64_t         ids[5] = {1, 2, 3, 4, 5};
    void                 *data[5] = {q->data, k->data, v->data, y->data, &scale};
    struct dnn           *b = dnn_of(d);
    struct sdpa          *p;

    if (!b || (p = sdpa_plan(d, b, &key))->refused) return false;
    p->refused = !dnn_run(d, &b->api, &p->plan, 5, data, ids) && !d->err.code;
    return !p->refused; /* also when a failure sticks */
}

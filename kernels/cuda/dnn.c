/* dnn.c - cuDNN, found at the first use that pays: attention as its one-operation graph, 3x3 convolutions channels last. Without it, or where
 * it refuses, attention.cu and the products of conv.cu do the work, slower and as right.
 *
 * Its headers are not needed to build: the few functions and numbers used here are of the stable version 9 interface and stand below.
 * A plan (descriptors, chosen engine) is kept per shape; making one takes up to some hundred ms, so small attentions do not ask.
 * Only deterministic engines: forward attention, and implicit-GEMM convolution (algorithm 1).
 * Not here: what to do with a refusal (attention.cu, conv.cu). */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include <cuda_runtime_api.h>

#include "kernels/cuda/ops.h"

#define OLDEST       91300 /* 9.13: the first with the attention operation */
#define PLANS        32    /* of each kind; the oldest makes room */
#define DESCRIPTORS  16    /* of an attention plan */
#define CONFIGS      8     /* engines tried */
#define SPACE_BYTES  ((size_t)256 << 20) /* a convolution that wants more is refused */

enum { /* the interface's numbers */
    TYPE_HANDLE = 0, TYPE_DATA_TYPE = 1, TYPE_BOOLEAN = 2, TYPE_INT64 = 3, TYPE_VOID_PTR = 6, TYPE_HEUR_MODE = 8, TYPE_DESCRIPTOR = 15,
    DATA_FLOAT = 0, DATA_BFLOAT16 = 9,
    DESC_ENGINECFG = 3, DESC_ENGINEHEUR = 4, DESC_PLAN = 5, DESC_GRAPH = 15, DESC_PACK = 16, DESC_TENSOR = 17, DESC_SDPA = 41,
    HEUR_MODE = 200, HEUR_GRAPH = 201, HEUR_RESULTS = 202, MODE_FALLBACK = 2, MODE_A = 3,
    PLAN_HANDLE = 400, PLAN_CONFIG = 401, PLAN_SPACE = 402,
    GRAPH_HANDLE = 800, GRAPH_OPS = 801,
    TENSOR_ALIGNMENT = 900, TENSOR_TYPE = 901, TENSOR_DIMS = 902, TENSOR_STRIDES = 903, TENSOR_ID = 906, TENSOR_BY_VALUE = 908,
    PACK_IDS = 1000, PACK_POINTERS = 1001, PACK_SPACE = 1003,
    SDPA_Q = 2800, SDPA_K = 2801, SDPA_V = 2802, SDPA_O = 2803, SDPA_SCALE = 2805,
    FORMAT_NHWC = 1, CROSS_CORRELATION = 1, MATH_TENSOR = 1, ALGO_IMPLICIT_PRECOMP = 1,
    ACTIVATION_IDENTITY = 5
};

#define TABLE(x)                                                                                                                         \
    x(Create, int, (void **handle))                                                                                                      \
    x(Destroy, int, (void *handle))                                                                                                      \
    x(SetStream, int, (void *handle, struct CUstream_st *stream))                                                                        \
    x(GetVersion, size_t, (void))                                                                                                        \
    x(BackendCreateDescriptor, int, (int kind, void **desc))                                                                             \
    x(BackendDestroyDescriptor, int, (void *desc))                                                                                       \
    x(BackendFinalize, int, (void *desc))                                                                                                \
    x(BackendSetAttribute, int, (void *desc, int name, int type, int64_t n, const void *values))                                         \
    x(BackendGetAttribute, int, (void *desc, int name, int type, int64_t cap, int64_t *n, void *values))                                 \
    x(BackendExecute, int, (void *handle, void *plan, void *pack))                                                                       \
    x(CreateTensorDescriptor, int, (void **desc))                                                                                        \
    x(DestroyTensorDescriptor, int, (void *desc))                                                                                        \
    x(SetTensor4dDescriptor, int, (void *desc, int format, int type, int n, int c, int h, int w))                                        \
    x(CreateFilterDescriptor, int, (void **desc))                                                                                        \
    x(DestroyFilterDescriptor, int, (void *desc))                                                                                        \
    x(SetFilter4dDescriptor, int, (void *desc, int type, int format, int k, int c, int h, int w))                                        \
    x(CreateConvolutionDescriptor, int, (void **desc))                                                                                   \
    x(DestroyConvolutionDescriptor, int, (void *desc))                                                                                   \
    x(SetConvolution2dDescriptor, int, (void *desc, int pad_h, int pad_w, int u, int v, int dil_h, int dil_w, int mode, int type))       \
    x(SetConvolutionMathType, int, (void *desc, int math))                                                                               \
    x(GetConvolutionForwardWorkspaceSize, int, (void *handle, void *x, void *w, void *conv, void *y, int algo, size_t *bytes))           \
    x(CreateActivationDescriptor, int, (void **desc))                                                                                    \
    x(DestroyActivationDescriptor, int, (void *desc))                                                                                    \
    x(SetActivationDescriptor, int, (void *desc, int mode, int nan, double bound))                                                       \
    x(ConvolutionBiasActivationForward, int, (void *handle, const void *alpha, void *xd, const void *x, void *wd, const void *w,         \
                                              void *conv, int algo, void *space, size_t bytes, const void *beta, void *zd,               \
                                              const void *z, void *bd, const void *b, void *act, void *yd, void *y))                     \
    x(ConvolutionForward, int, (void *handle, const void *alpha, void *xd, const void *x, void *wd, const void *w, void *conv, int algo, \
                                void *space, size_t bytes, const void *beta, void *yd, void *y))

struct sdpa_key {
    int64_t n, m, hq, hk, dh, ldq, ldk, ldv, ldy;
};

struct sdpa { /* refused: no engine takes this shape */
    struct sdpa_key key;
    bool            used, refused;
    void           *desc[DESCRIPTORS];
    int             n_desc;
    void           *plan;  /* one of desc */
    int64_t         bytes; /* work space */
};

struct conv_key {
    int64_t h, w, ci, co;
};

struct conv {
    struct conv_key key;
    bool            used, refused, refused_bias; /* at all; with bias and residual inside */
    void           *x, *w, *y, *conv, *bias, *act;
    size_t          bytes;
};

struct dnn {
    void       *lib, *handle;
    struct sdpa sdpa[PLANS];
    struct conv conv[PLANS];
    int         next_sdpa, next_conv;
#define MEMBER(name, type, args) type(*name) args;
    TABLE(MEMBER)
#undef MEMBER
};

/* ---- open and close ---- */

static void *open_library(void)
{
    static const char *const names[] = {"libcudnn.so.9", "libcudnn.so", "/usr/local/cuda/lib64/libcudnn.so.9"};
    void                    *lib = NULL;

    for (size_t i = 0; !lib && i < sizeof names / sizeof *names; i++) lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return lib;
}

static bool load_table(struct dnn *b)
{
    void *at;
#define LOAD(name, type, args)          \
    at = dlsym(b->lib, "cudnn" #name);  \
    if (!at) return false;              \
    memcpy(&b->name, &at, sizeof at);
    TABLE(LOAD)
#undef LOAD
    return true;
}

static void sdpa_release(struct dnn *b, struct sdpa *p)
{
    while (p->n_desc > 0) b->BackendDestroyDescriptor(p->desc[--p->n_desc]);
    memset(p, 0, sizeof *p);
}

static void conv_release(struct dnn *b, struct conv *p)
{
    if (p->x) b->DestroyTensorDescriptor(p->x);
    if (p->y) b->DestroyTensorDescriptor(p->y);
    if (p->w) b->DestroyFilterDescriptor(p->w);
    if (p->bias) b->DestroyTensorDescriptor(p->bias);
    if (p->act) b->DestroyActivationDescriptor(p->act);
    if (p->conv) b->DestroyConvolutionDescriptor(p->conv);
    memset(p, 0, sizeof *p);
}

void dnn_close(struct dnn *b)
{
    if (!b) return;
    if (b->handle) {
        for (int i = 0; i < PLANS; i++) {
            sdpa_release(b, &b->sdpa[i]);
            conv_release(b, &b->conv[i]);
        }
        b->Destroy(b->handle);
    }
    free(b); /* the library stays: it may be used by another device */
}

static struct dnn *dnn_open(struct dev *d)
{
    struct dnn *b = calloc(1, sizeof *b);

    if (!b) return NULL;
    b->lib = open_library();
    if (b->lib && load_table(b) && b->GetVersion() >= OLDEST) {
        if (b->Create(&b->handle)) b->handle = NULL;
        else if (b->SetStream(b->handle, cuda_stream(d)) == 0) return b;
    }
    cudaGetLastError(); /* a refusal is an answer, not a state */
    dnn_close(b);
    return NULL;
}

/* The device's cuDNN, looked for once; NULL: there is none. */
static struct dnn *dnn_of(struct dev *d)
{
    struct cuda *c = cuda_of(d);

    if (c->only_plain) return NULL;
    cuda_enter(d);
    if (!c->dnn_asked) c->dnn = dnn_open(d);
    c->dnn_asked = true;
    return c->dnn;
}

/* ---- attention ---- */

/* A new descriptor of the plan, NULL when there is none. */
static void *add(struct dnn *b, struct sdpa *p, int kind)
{
    void *desc = NULL;

    if (p->n_desc == DESCRIPTORS || b->BackendCreateDescriptor(kind, &desc)) return NULL;
    return p->desc[p->n_desc++] = desc;
}

static bool set(struct dnn *b, void *desc, int name, int type, int64_t n, const void *values)
{
    return b->BackendSetAttribute(desc, name, type, n, values) == 0;
}

/* [1, heads, rows, width] bf16 with rows `ld` apart, as operand `name` of op. */
static bool operand(struct dnn *b, struct sdpa *p, void *op, int name, int64_t id, int64_t heads, int64_t rows, int64_t width, int64_t ld)
{
    const int64_t dims[4] = {1, heads, rows, width}, strides[4] = {rows * ld, width, ld, 1}, align = 16;
    const int     type = DATA_BFLOAT16;
    void         *t = add(b, p, DESC_TENSOR);

    return t && set(b, t, TENSOR_TYPE, TYPE_DATA_TYPE, 1, &type) && set(b, t, TENSOR_DIMS, TYPE_INT64, 4, dims) &&
           set(b, t, TENSOR_STRIDES, TYPE_INT64, 4, strides) && set(b, t, TENSOR_ID, TYPE_INT64, 1, &id) &&
           set(b, t, TENSOR_ALIGNMENT, TYPE_INT64, 1, &align) && b->BackendFinalize(t) == 0 && set(b, op, name, TYPE_DESCRIPTOR, 1, &t);
}

/* The scale: one F32 that is given at each call, from the host. */
static bool scale_operand(struct dnn *b, struct sdpa *p, void *op, int64_t id)
{
    const int64_t ones[4] = {1, 1, 1, 1}, align = 16;
    const int     type = DATA_FLOAT;
    const bool    yes = true;
    void         *t = add(b, p, DESC_TENSOR);

    return t && set(b, t, TENSOR_TYPE, TYPE_DATA_TYPE, 1, &type) && set(b, t, TENSOR_DIMS, TYPE_INT64, 4, ones) &&
           set(b, t, TENSOR_STRIDES, TYPE_INT64, 4, ones) && set(b, t, TENSOR_ID, TYPE_INT64, 1, &id) &&
           set(b, t, TENSOR_ALIGNMENT, TYPE_INT64, 1, &align) && set(b, t, TENSOR_BY_VALUE, TYPE_BOOLEAN, 1, &yes) && b->BackendFinalize(t) == 0 &&
           set(b, op, SDPA_SCALE, TYPE_DESCRIPTOR, 1, &t);
}

/* The first engine of a mode that makes a plan. */
static bool choose(struct dnn *b, struct sdpa *p, void *graph, int mode)
{
    void   *heur = add(b, p, DESC_ENGINEHEUR), *config[CONFIGS] = {NULL};
    int64_t n = 0, got = 0;

    if (!heur || !set(b, heur, HEUR_GRAPH, TYPE_DESCRIPTOR, 1, &graph) || !set(b, heur, HEUR_MODE, TYPE_HEUR_MODE, 1, &mode) ||
        b->BackendFinalize(heur)) return false;
    while (n < CONFIGS && b->BackendCreateDescriptor(DESC_ENGINECFG, &config[n]) == 0) n++;
    if (b->BackendGetAttribute(heur, HEUR_RESULTS, TYPE_DESCRIPTOR, n, &got, config)) got = 0;
    for (int64_t i = 0; i < got && i < n && !p->plan; i++) {
        void *plan = NULL;

        if (p->n_desc + 2 > DESCRIPTORS || b->BackendCreateDescriptor(DESC_PLAN, &plan)) break;
        if (set(b, plan, PLAN_HANDLE, TYPE_HANDLE, 1, &b->handle) && set(b, plan, PLAN_CONFIG, TYPE_DESCRIPTOR, 1, &config[i]) &&
            b->BackendFinalize(plan) == 0 && b->BackendGetAttribute(plan, PLAN_SPACE, TYPE_INT64, 1, &(int64_t){0}, &p->bytes) == 0) {
            p->desc[p->n_desc++] = config[i]; /* lives as long as its plan */
            p->desc[p->n_desc++] = p->plan = plan;
            config[i] = NULL;
        } else {
            b->BackendDestroyDescriptor(plan);
        }
    }
    for (int64_t i = 0; i < n; i++) {
        if (config[i]) b->BackendDestroyDescriptor(config[i]);
    }
    return p->plan != NULL;
}

static bool build(struct dnn *b, struct sdpa *p)
{
    const struct sdpa_key *k = &p->key;
    void                  *op = add(b, p, DESC_SDPA), *graph;

    if (!op || !operand(b, p, op, SDPA_Q, 1, k->hq, k->n, k->dh, k->ldq) || !operand(b, p, op, SDPA_K, 2, k->hk, k->m, k->dh, k->ldk) ||
        !operand(b, p, op, SDPA_V, 3, k->hk, k->m, k->dh, k->ldv) || !operand(b, p, op, SDPA_O, 4, k->hq, k->n, k->dh, k->ldy) ||
        !scale_operand(b, p, op, 5) || b->BackendFinalize(op)) return false;
    graph = add(b, p, DESC_GRAPH);
    if (!graph || !set(b, graph, GRAPH_HANDLE, TYPE_HANDLE, 1, &b->handle) || !set(b, graph, GRAPH_OPS, TYPE_DESCRIPTOR, 1, &op) ||
        b->BackendFinalize(graph)) return false;
    return choose(b, p, graph, MODE_A) || choose(b, p, graph, MODE_FALLBACK);
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
    p->refused = !build(b, p);
    if (p->refused) cudaGetLastError();
    return p;
}

bool dnn_attention(struct dev *d, struct tensor *y, const struct tensor *q, const struct tensor *k, const struct tensor *v, float scale)
{
    const struct sdpa_key key = {q->dim[0], k->dim[0], q->dim[1], k->dim[1], q->dim[2], cuda_pitch(q), cuda_pitch(k), cuda_pitch(v), cuda_pitch(y)};
    const int64_t         ids[5] = {1, 2, 3, 4, 5};
    void                 *data[5] = {q->data, k->data, v->data, y->data, &scale}, *pack = NULL, *space = NULL;
    struct dnn           *b = dnn_of(d);
    struct sdpa          *p;
    bool                  done;

    if (!b || (p = sdpa_plan(d, b, &key))->refused) return false;
    if (p->bytes > 0 && !(space = cuda_space(d, SLOT_DNN, (size_t)p->bytes))) return true; /* the failure sticks */
    if (b->BackendCreateDescriptor(DESC_PACK, &pack)) return false;
    done = set(b, pack, PACK_POINTERS, TYPE_VOID_PTR, 5, data) && set(b, pack, PACK_IDS, TYPE_INT64, 5, ids) &&
           set(b, pack, PACK_SPACE, TYPE_VOID_PTR, 1, &space) && b->BackendFinalize(pack) == 0 && b->BackendExecute(b->handle, p->plan, pack) == 0;
    b->BackendDestroyDescriptor(pack);
    p->refused = !done;
    return done;
}

/* ---- convolutions ---- */

static bool describe(struct dnn *b, struct conv *p)
{
    const int h = (int)p->key.h, w = (int)p->key.w, ci = (int)p->key.ci, co = (int)p->key.co;

    return b->CreateTensorDescriptor(&p->x) == 0 && b->CreateTensorDescriptor(&p->y) == 0 && b->CreateFilterDescriptor(&p->w) == 0 &&
           b->CreateConvolutionDescriptor(&p->conv) == 0 && b->SetTensor4dDescriptor(p->x, FORMAT_NHWC, DATA_BFLOAT16, 1, ci, h, w) == 0 &&
           b->SetTensor4dDescriptor(p->y, FORMAT_NHWC, DATA_BFLOAT16, 1, co, h, w) == 0 &&
           b->SetFilter4dDescriptor(p->w, DATA_BFLOAT16, FORMAT_NHWC, co, ci, 3, 3) == 0 &&
           b->SetConvolution2dDescriptor(p->conv, 1, 1, 1, 1, 1, 1, CROSS_CORRELATION, DATA_FLOAT) == 0 &&
           b->CreateTensorDescriptor(&p->bias) == 0 && b->SetTensor4dDescriptor(p->bias, FORMAT_NHWC, DATA_BFLOAT16, 1, co, 1, 1) == 0 &&
           b->CreateActivationDescriptor(&p->act) == 0 && b->SetActivationDescriptor(p->act, ACTIVATION_IDENTITY, 0, 0.0) == 0 &&
           b->SetConvolutionMathType(p->conv, MATH_TENSOR) == 0 &&
           b->GetConvolutionForwardWorkspaceSize(b->handle, p->x, p->w, p->conv, p->y, ALGO_IMPLICIT_PRECOMP, &p->bytes) == 0 && p->bytes <= SPACE_BYTES;
}

static struct conv *conv_plan(struct dnn *b, const struct conv_key *k)
{
    struct conv *p;

    for (int i = 0; i < PLANS; i++) {
        if (b->conv[i].used && memcmp(&b->conv[i].key, k, sizeof *k) == 0) return &b->conv[i];
    }
    p = &b->conv[b->next_conv++ % PLANS];
    conv_release(b, p);
    p->key = *k;
    p->used = true;
    p->refused = !describe(b, p);
    return p;
}

/* The plan for a shape and its work space; NULL: refused, or a failure that sticks. */
static struct conv *conv_ready(struct dev *d, const struct conv_key *k, void **space)
{
    struct dnn  *b = dnn_of(d);
    struct conv *p;

    if (!b || k->h * k->w * (k->ci > k->co ? k->ci : k->co) > INT32_MAX || (p = conv_plan(b, k))->refused) return NULL;
    *space = NULL;
    return p->bytes > 0 && !(*space = cuda_space(d, SLOT_DNN, p->bytes)) ? NULL : p;
}

bool dnn_conv3x3(struct dev *d, void *y, const void *x, const void *w, int64_t height, int64_t width, int64_t ci, int64_t co, bool adds)
{
    const struct conv_key key = {height, width, ci, co};
    const float           one = 1.0f, beta = adds ? 1.0f : 0.0f;
    void                 *space;
    struct conv          *p = conv_ready(d, &key, &space);
    struct dnn           *b = cuda_of(d)->dnn;

    if (!p) return false;
    p->refused = b->ConvolutionForward(b->handle, &one, p->x, x, p->w, w, p->conv, ALGO_IMPLICIT_PRECOMP, space, p->bytes, &beta, p->y, y) != 0;
    if (p->refused) cudaGetLastError();
    return !p->refused;
}

bool dnn_conv3x3_bias(struct dev *d, void *y, const void *x, const void *w, const void *bias, const void *add, int64_t height, int64_t width, int64_t ci,
                      int64_t co)
{
    const struct conv_key key = {height, width, ci, co};
    const float           one = 1.0f, beta = add ? 1.0f : 0.0f;
    void                 *space;
    struct conv          *p = conv_ready(d, &key, &space);
    struct dnn           *b = cuda_of(d)->dnn;

    if (!p || p->refused_bias) return false;
    p->refused_bias = b->ConvolutionBiasActivationForward(b->handle, &one, p->x, x, p->w, w, p->conv, ALGO_IMPLICIT_PRECOMP, space, p->bytes, &beta, p->y,
                                                          add ? add : y, p->bias, bias, p->act, p->y, y) != 0;
    if (p->refused_bias) cudaGetLastError();
    return !p->refused_bias;
}

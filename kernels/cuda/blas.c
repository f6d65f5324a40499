/* blas.c - cublasLt, found when the program starts to use a GPU: without it the program runs all the same (gemm.cu).
 *
 * Row-major y[n,m] = x[n,k] w[m,k]^T is column-major Y[m,n] = op(W)[m,k] X[k,n]: W transposed when it is [m,k], as it is when [k,m].
 * A plan (descriptors and the chosen algorithm) is kept per shape, types, row distances and alignments. Split sums are folded in F32 in a
 * fixed order, never in 16 bits.
 * Which algorithm: the first of the library's own list, which is the same on every GPU of one kind, says what the bytes are. Of the others,
 * one that splits sums alike and gives the very same bytes for the product at hand may take its place when it is faster there: a
 * measurement decides about time, never about a result.
 * No TF32: F32 products are F32 throughout. */
#include <cublasLt.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include <cuda_runtime_api.h>

#include "kernels/cuda/ops.h"

#define SPACE_BYTES ((size_t)32 << 20)
#define PLANS       4096 /* slots of the table; emptied when three quarters are taken */
#define CANDIDATES  12   /* asked for; the library names about 8 */
#define ROUNDS      7    /* in which each candidate runs once, in turn: the clock wanders under load */
#define GAIN        0.97 /* of the first one's median: what is not faster by more stays */
#define WORTH_FLOPS 5e8  /* smaller products are not measured */

#define TABLE(x)                                                                                                                    \
    x(Create) x(Destroy) x(Matmul) x(MatmulDescCreate) x(MatmulDescDestroy) x(MatmulDescSetAttribute) x(MatrixLayoutCreate)          \
    x(MatrixLayoutDestroy) x(MatmulPreferenceCreate) x(MatmulPreferenceDestroy) x(MatmulPreferenceSetAttribute) x(MatmulAlgoGetHeuristic)   \
    x(MatmulAlgoConfigGetAttribute)

struct key { /* compared as bytes: cleared before it is filled */
    int64_t n, m, k, ldx, ldw, ldy;
    int32_t type, y_type, w_is_km, bias, add;
    int32_t align_x, align_w, align_y, align_add; /* bytes, at most 256 */
};

struct plan {
    struct key               key;
    bool                     used, refused;
    cublasLtMatmulDesc_t     desc;
    cublasLtMatrixLayout_t   w, x, y;
    cublasLtMatmulAlgo_t     algo;
};

struct blas {
    void            *lib;
    cublasLtHandle_t handle;
    void            *space;
    struct plan     *plan; /* [PLANS] */
    int              n_plans;
    cudaEvent_t      begin, end; /* made at the first measurement */
#define MEMBER(name) __typeof__(&cublasLt##name) name;
    TABLE(MEMBER)
#undef MEMBER
};

static void *open_library(void)
{
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so", "/usr/local/cuda/lib64/libcublasLt.so.13",
                                        "/usr/local/cuda/lib64/libcublasLt.so.12"};
    void *lib = NULL;

    for (size_t i = 0; !lib && i < sizeof names / sizeof *names; i++) lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return lib;
}

/* False when a function is missing. Function pointers are copied as bytes: C has no other way from an object pointer. */
static bool load_table(struct blas *b)
{
    void *at;
#define LOAD(name)                                      \
    at = dlsym(b->lib, "cublasLt" #name);               \
    if (!at) return false;                              \
    memcpy(&b->name, &at, sizeof at);
    TABLE(LOAD)
#undef LOAD
    return true;
}

struct blas *blas_open(void)
{
    struct blas *b = calloc(1, sizeof *b);

    if (!b) return NULL;
    b->plan = calloc(PLANS, sizeof *b->plan);
    b->lib = open_library();
    if (!b->plan || !b->lib || !load_table(b)) goto refused;
    if (b->Create(&b->handle) != CUBLAS_STATUS_SUCCESS) {
        b->handle = NULL;
        goto refused;
    }
    if (cudaMalloc(&b->space, SPACE_BYTES) != cudaSuccess) {
        cudaGetLastError(); /* a refused allocation is an answer, not a state */
        b->space = NULL;
        goto refused;
    }
    return b;
refused:
    blas_close(b);
    return NULL;
}

static void plan_release(struct blas *b, struct plan *p)
{
    if (p->desc) b->MatmulDescDestroy(p->desc);
    if (p->w) b->MatrixLayoutDestroy(p->w);
    if (p->x) b->MatrixLayoutDestroy(p->x);
    if (p->y) b->MatrixLayoutDestroy(p->y);
    memset(p, 0, sizeof *p);
}

static void forget_plans(struct blas *b)
{
    for (int i = 0; i < PLANS; i++) plan_release(b, &b->plan[i]);
    b->n_plans = 0;
}

void blas_close(struct blas *b)
{
    if (!b) return;
    if (b->handle) {
        forget_plans(b);
        b->Destroy(b->handle);
    }
    if (b->space) cudaFree(b->space);
    if (b->begin) cudaEventDestroy(b->begin);
    if (b->end) cudaEventDestroy(b->end);
    free(b->plan);
    free(b); /* the library stays: it may be used by another device */
}

static cudaDataType_t data_type(enum dtype t)
{
    return t == DTYPE_F32 ? CUDA_R_32F : CUDA_R_16BF;
}

static int32_t align_of(const void *p)
{
    uintptr_t a = (uintptr_t)p;

    return !p ? 0 : a % 256 == 0 ? 256 : (int32_t)(a & -a);
}

static void key_of(const struct gemm *g, struct key *k)
{
    memset(k, 0, sizeof *k);
    k->n = g->n, k->m = g->m, k->k = g->k, k->ldx = g->ldx, k->ldw = g->ldw, k->ldy = g->ldy;
    k->type = (int32_t)g->type, k->y_type = (int32_t)g->y_type, k->w_is_km = g->w_is_km, k->bias = g->bias != NULL, k->add = g->add != NULL;
    k->align_x = align_of(g->x), k->align_w = align_of(g->w), k->align_y = align_of(g->y), k->align_add = align_of(g->add);
}

static struct plan *plan_slot(struct blas *b, const struct key *k)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < sizeof *k; i++) h = (h ^ ((const unsigned char *)k)[i]) * 0x100000001b3u;
    for (;; h++) { /* at most three quarters are taken: it ends */
        struct plan *p = &b->plan[h % PLANS];

        if (!p->used || memcmp(&p->key, k, sizeof *k) == 0) return p;
    }
}

static bool describe(struct blas *b, struct plan *p, const void *bias)
{
    const struct key      *k = &p->key;
    const cudaDataType_t   in = data_type((enum dtype)k->type), out = data_type((enum dtype)k->y_type);
    cublasOperation_t      turned = CUBLAS_OP_T;
    cublasLtEpilogue_t     epilogue = CUBLASLT_EPILOGUE_BIAS;

    if (b->MatmulDescCreate(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F)) return false;
    if (!k->w_is_km && b->MatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &turned, sizeof turned)) return false;
    if (k->bias && (b->MatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue) ||
                    b->MatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &out, sizeof out) ||
                    b->MatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias))) return false;
    if (b->MatrixLayoutCreate(&p->w, in, (uint64_t)(k->w_is_km ? k->m : k->k), (uint64_t)(k->w_is_km ? k->k : k->m), k->ldw)) return false;
    if (b->MatrixLayoutCreate(&p->x, in, (uint64_t)k->k, (uint64_t)k->n, k->ldx)) return false;
    return b->MatrixLayoutCreate(&p->y, out, (uint64_t)k->m, (uint64_t)k->n, k->ldy) == CUBLAS_STATUS_SUCCESS;
}

static bool run_plan(struct dev *d, struct blas *b, const struct plan *p, const cublasLtMatmulAlgo_t *algo, const struct gemm *g)
{
    const float beta = g->add ? 1.0f : 0.0f;

    return b->Matmul(b->handle, p->desc, &g->alpha, g->w, p->w, g->x, p->x, &beta, g->add ? g->add : g->y, p->y, g->y, p->y, algo, b->space,
                     SPACE_BYTES, cuda_stream(d)) == CUBLAS_STATUS_SUCCESS;
}

/* ---- a measured choice ---- */

struct try {
    cublasLtMatmulAlgo_t algo;
    float                ms[ROUNDS];
};

/* Do both cut the sum over k in the same number of parts, and fold these alike? */
static bool same_sums(struct blas *b, const cublasLtMatmulAlgo_t *one, const cublasLtMatmulAlgo_t *two)
{
    static const cublasLtMatmulAlgoConfigAttributes_t what[] = {CUBLASLT_ALGO_CONFIG_ID, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME};

    for (size_t i = 0; i < sizeof what / sizeof *what; i++) {
        int32_t u = -1, v = -1;
        size_t  n;

        if (b->MatmulAlgoConfigGetAttribute(one, what[i], &u, sizeof u, &n) || b->MatmulAlgoConfigGetAttribute(two, what[i], &v, sizeof v, &n) || u != v) return false;
    }
    return true;
}

/* Runs one and digests the bytes it wrote over a y full of NaN; 0: it failed. */
static uint64_t digest_of(struct dev *d, struct blas *b, const struct plan *p, const struct try *t, const struct gemm *g)
{
    const size_t row = dtype_bytes(g->y_type), ld = (size_t)g->ldy * row;
    uint64_t     digest = 0;

    if (cudaMemset2DAsync(g->y, ld, 0xff, (size_t)g->m * row, (size_t)g->n, cuda_stream(d)) != cudaSuccess) return 0;
    if (!run_plan(d, b, p, &t->algo, g) || !cuda_digest(d, g->y, ld, (size_t)g->m * row, g->n, &digest)) return 0;
    return digest;
}

static bool time_of(struct dev *d, struct blas *b, const struct plan *p, const struct try *t, const struct gemm *g, float *ms)
{
    bool ok = cudaMemsetAsync(b->space, 0, SPACE_BYTES, cuda_stream(d)) == cudaSuccess; /* a weight comes from memory, not from the cache */

    ok = ok && cudaEventRecord(b->begin, cuda_stream(d)) == cudaSuccess && run_plan(d, b, p, &t->algo, g);
    return ok && cudaEventRecord(b->end, cuda_stream(d)) == cudaSuccess && cudaEventSynchronize(b->end) == cudaSuccess &&
           cudaEventElapsedTime(ms, b->begin, b->end) == cudaSuccess;
}

static int by_ms(const void *a, const void *b)
{
    const float u = *(const float *)a, v = *(const float *)b;

    return (u > v) - (u < v);
}

/* p->algo becomes the fastest of those whose bytes are the first one's. What goes wrong here changes nothing. */
static void measure(struct dev *d, struct blas *b, struct plan *p, const cublasLtMatmulHeuristicResult_t *found, int n_found, const struct gemm *g)
{
    struct try t[CANDIDATES];
    uint64_t   first;
    int        n = 1, best = 0;
    bool       ok;

    t[0].algo = found[0].algo;
    first = digest_of(d, b, p, &t[0], g);
    ok = first != 0;
    if (!b->begin) ok = ok && cudaEventCreate(&b->begin) == cudaSuccess;
    if (!b->end) ok = ok && cudaEventCreate(&b->end) == cudaSuccess;
    for (int i = 1; i < n_found && ok; i++) {
        t[n].algo = found[i].algo;
        if (found[i].state == CUBLAS_STATUS_SUCCESS && same_sums(b, &t[0].algo, &t[n].algo) && digest_of(d, b, p, &t[n], g) == first) n++;
    }
    for (int r = 0; r < ROUNDS && ok && n > 1; r++) {
        for (int i = 0; i < n && ok; i++) ok = time_of(d, b, p, &t[i], g, &t[i].ms[r]);
    }
    for (int i = 0; i < n && ok && n > 1; i++) {
        qsort(t[i].ms, ROUNDS, sizeof *t[i].ms, by_ms);
        if (t[i].ms[ROUNDS / 2] < t[best].ms[ROUNDS / 2] && t[i].ms[ROUNDS / 2] < GAIN * t[0].ms[ROUNDS / 2]) best = i;
    }
    if (ok) p->algo = t[best].algo;
    else cudaGetLastError();
}

static bool worth_measuring(const struct dev *d, const struct gemm *g)
{
    return g->type == DTYPE_BF16 && !g->add && !cuda_of(d)->recording && !cuda_of(d)->only[CUDA_ONLY_FIRST] && 2.0 * (double)g->n * (double)g->m * (double)g->k >= WORTH_FLOPS;
}

static bool choose(struct dev *d, struct blas *b, struct plan *p, const struct gemm *g)
{
    const struct key                *k = &p->key;
    const size_t                     space = SPACE_BYTES;
    const uint32_t                   schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const uint32_t                   align[4] = {(uint32_t)k->align_w, (uint32_t)k->align_x, (uint32_t)(k->add ? k->align_add : k->align_y), (uint32_t)k->align_y};
    cublasLtMatmulPreference_t       wish = NULL;
    cublasLtMatmulHeuristicResult_t  found[CANDIDATES];
    int                              n = 0;
    bool                             bad;

    if (b->MatmulPreferenceCreate(&wish)) return false;
    bad = b->MatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &space, sizeof space) ||
          b->MatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes) ||
          b->MatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &align[0], sizeof align[0]) ||
          b->MatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &align[1], sizeof align[1]) ||
          b->MatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &align[2], sizeof align[2]) ||
          b->MatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &align[3], sizeof align[3]);
    if (!bad) bad = b->MatmulAlgoGetHeuristic(b->handle, p->desc, p->w, p->x, p->y, p->y, wish, CANDIDATES, found, &n) || n < 1;
    b->MatmulPreferenceDestroy(wish);
    if (bad) return false;
    p->algo = found[0].algo;
    if (n > 1 && worth_measuring(d, g)) measure(d, b, p, found, n, g);
    return true;
}

/* A plan that the library refuses is kept, too: it is not asked twice. */
static struct plan *plan_make(struct dev *d, struct blas *b, const struct key *k, const struct gemm *g)
{
    struct plan *p = plan_slot(b, k);

    if (p->used) return p;
    if (b->n_plans >= PLANS / 4 * 3) {
        forget_plans(b);
        p = plan_slot(b, k);
    }
    p->key = *k;
    p->used = true;
    b->n_plans++;
    p->refused = !describe(b, p, g->bias) || !choose(d, b, p, g);
    return p;
}

bool blas_gemm(struct dev *d, struct blas *b, const struct gemm *g)
{
    struct key   k;
    struct plan *p;

    key_of(g, &k);
    p = plan_make(d, b, &k, g);
    if (p->refused) return false;
    if (g->bias && b->MatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g->bias, sizeof g->bias)) return false;
    if (run_plan(d, b, p, &p->algo, g)) return true;
    p->refused = true; /* from now on our own kernel */
    cudaGetLastError();
    return false;
}

/* attention.c - softmax(scale q k^T) v per head, never holding more than a block of scores.
 *
 * A chunk is (head, QUERIES queries). It walks the keys in steps of KEYS: scores by one single-threaded product, online softmax in F32 (a
 * running maximum and sum per query; what was summed before is scaled down when the maximum rises), then values by a second product.
 * The cut depends on the shape alone. Always F32, in both precisions. A row with a NaN score becomes NaN.
 * Not here: masks other than causal. */
#include <dnnl.h>
#include <stdatomic.h>
#include <string.h>

#include "kernels/cpu/common.h"
#include "kernels/cpu/cpu.h"

enum { QUERIES = 128, KEYS = 512 };

struct job {
    struct cpu  *c;
    const float *q, *k, *v;
    float       *y;
    int64_t      n, m, dh, ldq, ldk, ldv, ldy;
    int64_t      heads_per_kv, n_blocks;
    float        scale;
    bool         causal;
    _Atomic bool failed;
};

/* p = exp(s - max) in place over n scores of one query; *top and *sum run along; returns the factor for what was summed before. */
CLONES static float soften(float *s, int64_t n, float *top, double *sum)
{
    float  max = *top, part, shrink, base;
    double total = 0.0;

#pragma omp simd reduction(max : max)
    for (int64_t i = 0; i < n; i++) max = s[i] > max ? s[i] : max;
    base = max == -INFINITY ? 0.0f : max;
    for (int64_t at = 0; at < n; at += 128) {
        int64_t end = at + 128 < n ? at + 128 : n;

        part = 0.0f;
#pragma omp simd reduction(+ : part)
        for (int64_t i = at; i < end; i++) {
            s[i] = fast_exp(s[i] - base);
            part += s[i];
        }
        total += part;
    }
    shrink = *top == -INFINITY ? 0.0f : fast_exp(*top - base);
    *top = max;
    *sum = *sum * shrink + total;
    return shrink;
}

CLONES static void scale_row(float *y, int64_t n, float by)
{
    for (int64_t i = 0; i < n; i++) y[i] *= by;
}

/* QUERIES queries of one head. */
static void block(void *ctx, int64_t chunk, int thread)
{
    struct job  *j = ctx;
    int64_t      head = chunk / j->n_blocks, first = chunk % j->n_blocks * QUERIES;
    int64_t      n = j->n - first < QUERIES ? j->n - first : QUERIES;
    int64_t      n_keys = j->causal ? first + n : j->m;
    const float *q = j->q + first * j->ldq + head * j->dh;
    const float *k = j->k + head / j->heads_per_kv * j->dh, *v = j->v + head / j->heads_per_kv * j->dh;
    float       *y = j->y + first * j->ldy + head * j->dh, *s = pool_scratch(j->c->pool, thread), top[QUERIES];
    double       sum[QUERIES];

    for (int64_t i = 0; i < n; i++) {
        top[i] = -INFINITY;
        sum[i] = 0.0;
    }
    for (int64_t at = 0; at < n_keys; at += KEYS) {
        int64_t m = n_keys - at < KEYS ? n_keys - at : KEYS;
        int     bad = dnnl_sgemm('N', 'T', n, m, j->dh, j->scale, q, j->ldq, k + at * j->ldk, j->ldk, 0.0f, s, KEYS);

        for (int64_t i = 0; i < n; i++) {
            int64_t seen = j->causal && first + i + 1 - at < m ? first + i + 1 - at : m;
            float   shrink;

            if (seen < 0) seen = 0;
            memset(s + i * KEYS + seen, 0, (size_t)(m - seen) * sizeof *s);
            shrink = soften(s + i * KEYS, seen, &top[i], &sum[i]);
            if (at > 0 && shrink != 1.0f) scale_row(y + i * j->ldy, j->dh, shrink);
        }
        bad = bad || dnnl_sgemm('N', 'N', n, j->dh, m, 1.0f, s, KEYS, v + at * j->ldv, j->ldv, at ? 1.0f : 0.0f, y, j->ldy);
        if (bad) j->failed = true;
    }
    for (int64_t i = 0; i < n; i++) scale_row(y + i * j->ldy, j->dh, (float)(1.0 / sum[i]));
}

void cpu_attention(struct dev *d, struct tensor *y, const struct tensor *q, const struct tensor *k, const struct tensor *v, float scale,
                   bool causal)
{
    struct cpu *c = cpu_of(d);
    int64_t     n_heads = q->dim[1], width = n_heads * q->dim[2], width_kv = k->dim[1] * k->dim[2];
    struct job  j = {.c = c, .q = q->data, .k = k->data, .v = v->data, .y = y->data, .n = q->dim[0], .m = k->dim[0], .dh = q->dim[2],
                     .ldq = q->dim[0] > 1 ? q->pitch : width, .ldk = k->dim[0] > 1 ? k->pitch : width_kv,
                     .ldv = v->dim[0] > 1 ? v->pitch : width_kv, .ldy = y->dim[0] > 1 ? y->pitch : width,
                     .heads_per_kv = n_heads / k->dim[1], .scale = scale, .causal = causal};

    j.n_blocks = (j.n + QUERIES - 1) / QUERIES;
    if (pool_reserve(c->pool, (size_t)QUERIES * KEYS * sizeof(float))) {
        dev_fail(d, ERR_NOMEM, "cpu: no memory for the scores of attention");
        return;
    }
    pool_for(c->pool, n_heads * j.n_blocks, block, &j);
    if (j.failed) dev_fail(d, ERR_DEVICE, "cpu: a product of oneDNN failed");
}

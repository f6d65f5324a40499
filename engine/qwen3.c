/* qwen3.c - see qwen3.h. n tokens, hidden h, hq query heads and hk key heads of dh. */
#include "engine/qwen3.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/joined.h"
#include "kernels/ops.h"

static const int32_t NO_IDS[GROUP_TOK_MAX] = {0};

struct layer {
    struct tensor norm1, wo, norm_q, norm_k, norm2, down;
    struct joined qkv, gate_up; /* [hq*dh + 2*hk*dh, h] [2*ffn, h] */
};

struct qwen3 {
    struct text_conf conf;
    struct dev      *d;
    int              n_layers, n_tok_max; /* layers that run */
    struct layer    *layer;
    struct tensor    table;    /* [vocab, h] */
    struct tensor    cos, sin; /* F32 [padded n_tok_max, dh/2], owned */
};

/* Rows that are computed for n tokens: those behind the last are seen by none. */
static int64_t padded(const struct qwen3 *q, int64_t n)
{
    int64_t group = q->d->group_tok;
    return (n + group - 1) / group * group;
}

/* transformers: inv_freq = 1 / theta^(2k/dh), angle = position * inv_freq, all in fp32. */
static int make_rope(struct qwen3 *q, struct err *e)
{
    int64_t n = padded(q, q->n_tok_max), half = q->conf.head_dim / 2, dim[2] = {n, half};
    size_t  bytes = (size_t)(n * half) * sizeof(float);
    float  *cs = malloc(bytes), *sn = malloc(bytes);
    int     rc = 0;

    if (!cs || !sn) {
        rc = err_set(e, ERR_NOMEM, "no memory for the rotary table of the text encoder");
        goto done;
    }
    for (int64_t k = 0; k < half; k++) {
        float exponent = (float)(2 * k) / (float)q->conf.head_dim;
        float inv = 1.0f / (float)pow((double)(float)q->conf.rope_theta, (double)exponent);
        for (int64_t i = 0; i < n; i++) {
            float angle = (float)i * inv;
            cs[i * half + k] = (float)cos((double)angle);
            sn[i * half + k] = (float)sin((double)angle);
        }
    }
    if ((rc = dev_alloc(q->d, DTYPE_F32, 2, dim, &q->cos, e)) || (rc = dev_alloc(q->d, DTYPE_F32, 2, dim, &q->sin, e))) goto done;
    if ((rc = dev_put(q->d, &q->cos, cs, bytes, e)) || (rc = dev_put(q->d, &q->sin, sn, bytes, e))) goto done;
done:
    free(cs);
    free(sn);
    return rc;
}

static int load_weights(struct qwen3 *q, struct weights *w, struct err *e)
{
    const struct text_conf *c = &q->conf;
    struct loader           l = {w, q->d, e, 0};
    int64_t                 h = c->hidden, hq = (int64_t)c->n_heads * c->head_dim, hk = (int64_t)c->n_kv_heads * c->head_dim;
    char                    p[32];

    load2(&l, &q->table, c->vocab, h, "embed_tokens.weight");
    for (int i = 0; i < q->n_layers; i++) {
        struct layer *y = &q->layer[i];
        snprintf(p, sizeof p, "layers.%d", i);
        load1(&l, &y->norm1, h, "%s.input_layernorm.weight", p);
        joined_load(&l, &y->qkv, h, p, (struct joined_part[]){{"self_attn.q_proj", hq}, {"self_attn.k_proj", hk}, {"self_attn.v_proj", hk}}, 3);
        load2(&l, &y->wo, h, hq, "%s.self_attn.o_proj.weight", p);
        load1(&l, &y->norm_q, c->head_dim, "%s.self_attn.q_norm.weight", p);
        load1(&l, &y->norm_k, c->head_dim, "%s.self_attn.k_norm.weight", p);
        load1(&l, &y->norm2, h, "%s.post_attention_layernorm.weight", p);
        joined_load(&l, &y->gate_up, h, p, (struct joined_part[]){{"mlp.gate_proj", c->ffn}, {"mlp.up_proj", c->ffn}}, 2);
        load2(&l, &y->down, h, c->ffn, "%s.mlp.down_proj.weight", p);
    }
    return l.rc;
}

int qwen3_open(struct qwen3 **out, const struct text_conf *conf, struct weights *w, struct dev *d, int n_tok_max, struct err *e)
{
    struct qwen3 *q = calloc(1, sizeof *q);
    int           rc;

    assert(n_tok_max > 0 && conf->n_layers >= 2);
    if (!q) return err_set(e, ERR_NOMEM, "no memory for the text encoder");
    q->conf = *conf;
    q->d = d;
    q->n_tok_max = n_tok_max;
    q->n_layers = conf->n_layers - 1;
    q->layer = calloc((size_t)q->n_layers, sizeof *q->layer);
    if (!q->layer) {
        rc = err_set(e, ERR_NOMEM, "no memory for %d layers of the text encoder", q->n_layers);
        goto done;
    }
    if ((rc = load_weights(q, w, e)) || (rc = make_rope(q, e))) goto done;
    *out = q;
    q = NULL;
done:
    qwen3_free(q);
    return rc;
}

void qwen3_free(struct qwen3 *q)
{
    if (!q) return;
    dev_forget(q->d); /* what was recorded uses these weights and tables */
    dev_free(q->d, &q->cos);
    dev_free(q->d, &q->sin);
    free(q->layer);
    free(q);
}

/* What the layers work on: x [n, hidden], the residual stream; h [n, hidden], what the next product takes. */
struct run {
    struct qwen3 *q;
    struct tensor x, h;
};

/* h = o(attention(rope(norm(q)), rope(norm(k)), v)), q k v of h */
static void attention(struct run *r, const struct layer *y)
{
    struct qwen3 *q = r->q;
    struct dev   *d = q->d;
    size_t        mark = dev_mark(d);
    int64_t       n = tensor_rows(&r->x), dh = q->conf.head_dim, hq = q->conf.n_heads, hk = q->conf.n_kv_heads;
    struct tensor qkv = dev_new2(d, r->x.type, n, (hq + 2 * hk) * dh), a = dev_new2(d, r->x.type, n, hq * dh);
    struct tensor qs = tensor_cols_of(&qkv, 0, hq * dh), ks = tensor_cols_of(&qkv, hq * dh, hk * dh), vs = tensor_cols_of(&qkv, (hq + hk) * dh, hk * dh);
    struct tensor qk = tensor_cols_of(&qkv, 0, (hq + hk) * dh), qkh = tensor_heads(&qk, hq + hk);
    struct tensor qh = tensor_heads(&qs, hq), kh = tensor_heads(&ks, hk), vh = tensor_heads(&vs, hk), ah = tensor_heads(&a, hq);
    struct tensor cs = tensor_slice(&q->cos, 0, n), sn = tensor_slice(&q->sin, 0, n);

    joined_linear(d, &qkv, &r->h, &y->qkv);
    op_norm_rope(d, &qkh, &(struct norm_rope){hq, &y->norm_q, &y->norm_k, q->conf.norm_eps, ROPE_HALVES, &cs, &sn});
    op_attention(d, &ah, &qh, &kh, &vh, (float)(1 / sqrt((double)dh)), true);
    op_linear(d, &r->h, &a, &y->wo, NULL);
    dev_reset(d, mark);
}

/* h = down(silu(gate(h)) * up(h)) */
static void ffn(struct run *r, const struct layer *y)
{
    struct dev   *d = r->q->d;
    size_t        mark = dev_mark(d);
    int64_t       width = r->q->conf.ffn;
    struct tensor both = dev_new2(d, r->x.type, tensor_rows(&r->x), 2 * width);
    struct tensor g = tensor_cols_of(&both, 0, width);

    joined_linear_swiglu(d, &both, &r->h, &y->gate_up);
    op_linear(d, &r->h, &g, &y->down, NULL);
    dev_reset(d, mark);
}

/* x += attention(norm1(x)), x += ffn(norm2(x)), layer by layer. */
static void run_layers(void *ctx)
{
    struct run     *r = ctx;
    struct dev     *d = r->q->d;
    struct add_norm how = {.wh = &r->q->layer[0].norm1, .eps = r->q->conf.norm_eps};

    op_add_norm(d, &r->x, &r->h, NULL, &how);
    for (int i = 0; i < r->q->n_layers; i++) {
        bool more = i + 1 < r->q->n_layers;
        attention(r, &r->q->layer[i]);
        how.wh = &r->q->layer[i].norm2;
        op_add_norm(d, &r->x, &r->h, &r->h, &how);
        ffn(r, &r->q->layer[i]);
        how.wh = more ? &r->q->layer[i + 1].norm1 : NULL;
        op_add_norm(d, &r->x, more ? &r->h : NULL, &r->h, &how);
    }
}

void qwen3_run(struct qwen3 *q, const int32_t *ids, int64_t n, struct tensor *out)
{
    struct dev   *d = q->d;
    size_t        mark = dev_mark(d);
    int64_t       all = padded(q, n), hidden = q->conf.hidden;
    struct run    r = {q, dev_new2(d, out->type, all, hidden), dev_new2(d, out->type, all, hidden)};
    struct tensor real = tensor_slice(&r.x, 0, n), rest = tensor_slice(&r.x, n, all - n);
    struct {
        struct qwen3 *q;
        void         *x, *cos;
        int64_t       n;
    } key = {q, r.x.data, q->cos.data, all};

    assert(n >= 1 && n <= q->n_tok_max && tensor_rows(out) == n && tensor_cols(out) == hidden);
    op_embed_rows(d, &real, &q->table, ids);
    op_embed_rows(d, &rest, &q->table, NO_IDS); /* any ids: no real token sees them */
    dev_repeat(d, &key, sizeof key, run_layers, &r);
    op_copy(d, out, &real);
    dev_reset(d, mark);
}

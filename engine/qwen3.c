/* qwen3.c - see qwen3.h. n tokens, hidden h, hq query heads and hk key heads of dh. */
#include "engine/qwen3.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "kernels/ops.h"

struct layer {
    struct tensor norm1, wq, wk, wv, wo, norm_q, norm_k, norm2, gate, up, down;
};

struct qwen3 {
    struct text_conf conf;
    struct dev      *d;
    int              n_layers, n_tok_max; /* layers that run */
    struct layer    *layer;
    struct tensor    table;    /* [vocab, h] */
    struct tensor    cos, sin; /* F32 [n_tok_max, dh/2], owned */
};

/* transformers: inv_freq = 1 / theta^(2k/dh), angle = position * inv_freq, all in fp32. */
static int make_rope(struct qwen3 *q, struct err *e)
{
    int64_t n = q->n_tok_max, half = q->conf.head_dim / 2, dim[2] = {n, half};
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

    load2(&l, &q->table, c->vocab, h, "embed_tokens.weight");
    for (int i = 0; i < q->n_layers; i++) {
        struct layer *y = &q->layer[i];
        load1(&l, &y->norm1, h, "layers.%d.input_layernorm.weight", i);
        load2(&l, &y->wq, hq, h, "layers.%d.self_attn.q_proj.weight", i);
        load2(&l, &y->wk, hk, h, "layers.%d.self_attn.k_proj.weight", i);
        load2(&l, &y->wv, hk, h, "layers.%d.self_attn.v_proj.weight", i);
        load2(&l, &y->wo, h, hq, "layers.%d.self_attn.o_proj.weight", i);
        load1(&l, &y->norm_q, c->head_dim, "layers.%d.self_attn.q_norm.weight", i);
        load1(&l, &y->norm_k, c->head_dim, "layers.%d.self_attn.k_norm.weight", i);
        load1(&l, &y->norm2, h, "layers.%d.post_attention_layernorm.weight", i);
        load2(&l, &y->gate, c->ffn, h, "layers.%d.mlp.gate_proj.weight", i);
        load2(&l, &y->up, c->ffn, h, "layers.%d.mlp.up_proj.weight", i);
        load2(&l, &y->down, h, c->ffn, "layers.%d.mlp.down_proj.weight", i);
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
    dev_free(q->d, &q->cos);
    dev_free(q->d, &q->sin);
    free(q->layer);
    free(q);
}

/* x += o(attention(rope(norm(q)), rope(norm(k)), v)), q k v of norm1(x).   x [n, h] */
static void attention(struct qwen3 *q, const struct layer *y, struct tensor *x)
{
    struct dev   *d = q->d;
    size_t        mark = dev_mark(d);
    int64_t       n = tensor_rows(x), dh = q->conf.head_dim;
    struct tensor h = dev_new2(d, x->type, n, tensor_cols(x));
    struct tensor qs = dev_new2(d, x->type, n, q->conf.n_heads * dh), a = dev_new2(d, x->type, n, q->conf.n_heads * dh);
    struct tensor ks = dev_new2(d, x->type, n, q->conf.n_kv_heads * dh), vs = dev_new2(d, x->type, n, q->conf.n_kv_heads * dh);
    struct tensor qh = tensor_heads(&qs, q->conf.n_heads), ah = tensor_heads(&a, q->conf.n_heads);        /* [n, hq, dh] */
    struct tensor kh = tensor_heads(&ks, q->conf.n_kv_heads), vh = tensor_heads(&vs, q->conf.n_kv_heads); /* [n, hk, dh] */
    struct tensor cs = tensor_slice(&q->cos, 0, n), sn = tensor_slice(&q->sin, 0, n);

    op_rms_norm(d, &h, x, &y->norm1, q->conf.norm_eps);
    op_linear(d, &qs, &h, &y->wq, NULL);
    op_linear(d, &ks, &h, &y->wk, NULL);
    op_linear(d, &vs, &h, &y->wv, NULL);
    op_rms_norm(d, &qh, &qh, &y->norm_q, q->conf.norm_eps);
    op_rms_norm(d, &kh, &kh, &y->norm_k, q->conf.norm_eps);
    op_rope_halves(d, &qh, &cs, &sn);
    op_rope_halves(d, &kh, &cs, &sn);
    op_attention(d, &ah, &qh, &kh, &vh, (float)(1 / sqrt((double)dh)), true);
    op_linear(d, &h, &a, &y->wo, NULL);
    op_add(d, x, &h);
    dev_reset(d, mark);
}

/* x += down(silu(gate(norm2(x))) * up(norm2(x))).   x [n, h] */
static void ffn(struct qwen3 *q, const struct layer *y, struct tensor *x)
{
    struct dev   *d = q->d;
    size_t        mark = dev_mark(d);
    int64_t       n = tensor_rows(x);
    struct tensor h = dev_new2(d, x->type, n, tensor_cols(x));
    struct tensor g = dev_new2(d, x->type, n, q->conf.ffn), up = dev_new2(d, x->type, n, q->conf.ffn);

    op_rms_norm(d, &h, x, &y->norm2, q->conf.norm_eps);
    op_linear(d, &g, &h, &y->gate, NULL);
    op_linear(d, &up, &h, &y->up, NULL);
    op_swiglu(d, &g, &up);
    op_linear(d, &h, &g, &y->down, NULL);
    op_add(d, x, &h);
    dev_reset(d, mark);
}

void qwen3_run(struct qwen3 *q, const int32_t *ids, int64_t n, struct tensor *out)
{
    assert(n >= 1 && n <= q->n_tok_max && tensor_rows(out) == n && tensor_cols(out) == q->conf.hidden);
    op_embed_rows(q->d, out, &q->table, ids);
    for (int i = 0; i < q->n_layers; i++) {
        attention(q, &q->layer[i], out);
        ffn(q, &q->layer[i], out);
    }
}

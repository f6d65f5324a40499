/* conv.c - 3x3 and 1x1 convolutions on channels-last pictures, and 3x3 behind nearest-2x as four 2x2 ones, in horizontal strips of fixed height.
 *
 * A strip is one single-threaded oneDNN convolution; its halo rows are read from the picture itself, so only the top and bottom strips have
 * padding: at most three shapes per call (first, middle, last). The cut depends on the shape alone, so the result does not depend on the
 * number of threads. Primitives are made per call (oneDNN keeps the code it generated). Where oneDNN is faster on blocked channels (AVX2:
 * twice), the strip is reordered on the way in and out, in the thread's scratch. Weights are put into oneDNN's own order once and
 * kept by their address, which must stay theirs for the life of the device (dev_put() and dev_free() forget).
 * PRECISION_BF16: x and w are rounded to bf16, sums in F32; with the CPU's own bf16 convolutions where it has them.
 * Not here: other strides and paddings. */
#include <dnnl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "kernels/cpu/common.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/half.h"
#include "kernels/cpu/winograd.h"

enum { STRIP_BYTES = 4 << 20, STRIP_PIXELS_MIN = 256, STRIPS_WISHED = 16, SHAPES = 3 };

/* Weights in oneDNN's order. */
struct conv_weight {
    const void         *at; /* as stored */
    enum dtype          type;
    bool                bf16;
    dnnl_memory_desc_t  md; /* of data; with dims co, ci, k, k */
    void               *data;
    struct conv_weight *next;
};

struct step {
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t      prim; /* NULL: not needed */
};

/* How a strip is made: x into oneDNN's order (and type), convolve, out into channels last. */
struct shape {
    int64_t                   height, top, bottom; /* rows of y; padding rows above and below */
    struct step               in, conv, out;
    size_t                    in_bytes, out_bytes, lib_bytes; /* of scratch; multiples of 64 */
    const struct conv_weight *weight;
};

/* h, w of y (of x, too, but for rows that x brings itself). Tap 0 of a pixel lies `above` rows above and `left` columns left of it. */
struct job {
    struct cpu  *c;
    const float *x, *bias, *add; /* x: row 0 of the picture, also when there are rows above */
    float       *y;
    int64_t      h, w, ci, co, k, strip, above, left;
    int64_t      y_row, y_px; /* elements between rows and between pixels of y */
    bool         has_rows;    /* x has a row above and one below: no padding there */
    bool         bf16, native;
    struct shape shape[SHAPES];
    int          n_shapes;
    _Atomic bool failed;
};

void cpu_conv_forget(struct cpu *c, const void *at, size_t bytes)
{
    struct conv_weight *w, *next;

    winograd_forget(c, at, bytes);
    LL_FOREACH_SAFE(c->conv, w, next) {
        if (at && ((const char *)w->at < (const char *)at || (const char *)w->at >= (const char *)at + bytes)) continue;
        LL_DELETE(c->conv, w);
        free(w->data);
        free(w);
    }
}

static size_t md_bytes(const dnnl_memory_desc_t *md)
{
    return (dnnl_memory_desc_get_size(md) + 63) / 64 * 64;
}

static const dnnl_memory_desc_t *md_of(const struct step *s, dnnl_query_t what, int index)
{
    return dnnl_primitive_desc_query_md(s->desc, what, index);
}

/* A reorder; adds: to = to + from. */
static int describe_reorder(struct job *j, struct step *s, const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to,
                            dnnl_primitive_attr_t attr)
{
    return dnnl_reorder_primitive_desc_create(&s->desc, from, j->c->engine, to, j->c->engine, attr) || dnnl_primitive_create(&s->prim, s->desc);
}

/* The primitives of a strip, in the orders oneDNN likes best. */
static int describe(struct job *j, struct shape *s)
{
    dnnl_data_type_t        type = j->native ? dnnl_bf16 : dnnl_f32;
    int64_t                 rows = s->height + j->k - 1 - s->top - s->bottom;
    dnnl_dims_t             x_dim = {1, j->ci, rows, j->w}, y_dim = {1, j->co, s->height, j->w};
    dnnl_memory_desc_t      x, w, b, y, x_plain, y_plain;
    dnnl_convolution_desc_t op;
    dnnl_primitive_attr_t   attr = NULL, sum = NULL;
    dnnl_post_ops_t         post = NULL;
    int                     bad;

    bad = dnnl_memory_desc_init_by_tag(&x, 4, x_dim, type, dnnl_format_tag_any) ||
          dnnl_memory_desc_init_by_tag(&w, 4, (dnnl_dims_t){j->co, j->ci, j->k, j->k}, type, dnnl_format_tag_any) ||
          dnnl_memory_desc_init_by_tag(&b, 1, (dnnl_dims_t){j->co}, dnnl_f32, dnnl_a) ||
          dnnl_memory_desc_init_by_tag(&y, 4, y_dim, dnnl_f32, dnnl_format_tag_any) ||
          dnnl_memory_desc_init_by_tag(&x_plain, 4, x_dim, dnnl_f32, dnnl_nhwc) ||
          dnnl_memory_desc_init_by_strides(&y_plain, 4, y_dim, dnnl_f32, (dnnl_dims_t){s->height * j->y_row, 1, j->y_row, j->y_px}) ||
          dnnl_convolution_forward_desc_init(&op, dnnl_forward_inference, dnnl_convolution_direct, &x, &w, &b, &y, (dnnl_dims_t){1, 1},
                                             (dnnl_dims_t){s->top, j->left}, (dnnl_dims_t){s->bottom, j->k - 1 - j->left}) ||
          dnnl_primitive_attr_create(&attr) || dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user) ||
          dnnl_primitive_desc_create(&s->conv.desc, &op, attr, j->c->engine, NULL) || dnnl_primitive_create(&s->conv.prim, s->conv.desc);
    if (!bad) {
        x = *md_of(&s->conv, dnnl_query_src_md, 0);
        y = *md_of(&s->conv, dnnl_query_dst_md, 0);
        s->lib_bytes = md_bytes(md_of(&s->conv, dnnl_query_scratchpad_md, 0));
    }
    if (!bad && (j->bf16 || !dnnl_memory_desc_equal(&x, &x_plain))) { /* rounding needs a copy in any order */
        s->in_bytes = md_bytes(&x);
        bad = describe_reorder(j, &s->in, &x_plain, &x, NULL);
    }
    if (!bad && (j->add || !dnnl_memory_desc_equal(&y, &y_plain))) {
        s->out_bytes = md_bytes(&y);
        bad = dnnl_primitive_attr_create(&sum) || dnnl_post_ops_create(&post) || (j->add && dnnl_post_ops_append_sum(post, 1.0f)) ||
              dnnl_primitive_attr_set_post_ops(sum, post) || describe_reorder(j, &s->out, &y, &y_plain, sum);
    }
    if (post) dnnl_post_ops_destroy(post);
    if (sum) dnnl_primitive_attr_destroy(sum);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return bad ? ERR_DEVICE : 0;
}

/* Runs a step on n buffers; bytes are taken as they are. */
struct arg {
    int          name;
    dnnl_query_t what;
    int          index;
    const void  *at;
};

static int run_step(struct job *j, const struct step *s, int n, const struct arg *arg)
{
    dnnl_exec_arg_t exec[5] = {{0, NULL}};
    dnnl_stream_t   stream = NULL;
    int             bad = dnnl_stream_create(&stream, j->c->engine, dnnl_stream_default_flags);

    for (int i = 0; i < n && !bad; i++) {
        exec[i].arg = arg[i].name;
        bad = dnnl_memory_create(&exec[i].memory, md_of(s, arg[i].what, arg[i].index), j->c->engine, (void *)arg[i].at);
    }
    bad = bad || dnnl_primitive_execute(s->prim, stream, n, exec) || dnnl_stream_wait(stream);
    for (int i = 0; i < n; i++) {
        if (exec[i].memory) dnnl_memory_destroy(exec[i].memory);
    }
    if (stream) dnnl_stream_destroy(stream);
    return bad ? ERR_DEVICE : 0;
}

static int run_reorder(struct job *j, const struct step *s, const void *from, void *to)
{
    return run_step(j, s, 2, (struct arg[]){{DNNL_ARG_FROM, dnnl_query_src_md, 0, from}, {DNNL_ARG_TO, dnnl_query_dst_md, 0, to}});
}

static void step_free(struct step *s)
{
    if (s->prim) dnnl_primitive_destroy(s->prim);
    if (s->desc) dnnl_primitive_desc_destroy(s->desc);
}

/* w as stored -> w->data in the order of w->md. */
static int reorder(struct job *j, const struct tensor *from, struct conv_weight *w)
{
    int64_t            n = tensor_count(from);
    void              *plain = malloc((size_t)n * (j->native ? sizeof(uint16_t) : sizeof(float)));
    dnnl_memory_desc_t md;
    struct step        s = {NULL, NULL};
    int                rc = ERR_NOMEM;

    w->data = aligned_alloc(64, md_bytes(&w->md));
    if (plain && w->data) {
        if (j->native) to_bf16(plain, from->data, from->type, n);
        else if (j->bf16) to_f32_bf16(plain, from->data, from->type, n);
        else to_f32(plain, from->data, from->type, n);
        rc = dnnl_memory_desc_init_by_tag(&md, 4, (dnnl_dims_t){j->co, j->ci, j->k, j->k}, j->native ? dnnl_bf16 : dnnl_f32, dnnl_oihw) ||
             describe_reorder(j, &s, &md, &w->md, NULL) || run_reorder(j, &s, plain, w->data) ? ERR_DEVICE : 0;
    }
    step_free(&s);
    free(plain);
    return rc;
}

/* The kept weights in the order a shape wants, or new ones. */
static int find_weight(struct job *j, const struct tensor *from, struct shape *s)
{
    const dnnl_memory_desc_t *md = md_of(&s->conv, dnnl_query_weights_md, 0);
    struct conv_weight       *w;
    int                       rc;

    LL_FOREACH(j->c->conv, w) {
        if (w->at == from->data && w->type == from->type && w->bf16 == j->bf16 && dnnl_memory_desc_equal(&w->md, md)) break;
    }
    if (!w) {
        w = calloc(1, sizeof *w);
        if (!w) return ERR_NOMEM;
        w->at = from->data;
        w->type = from->type;
        w->bf16 = j->bf16;
        w->md = *md;
        rc = reorder(j, from, w);
        if (rc) {
            free(w->data);
            free(w);
            return rc;
        }
        LL_PREPEND(j->c->conv, w);
    }
    s->weight = w;
    return 0;
}

/* Strip i of the picture: its rows and padding. */
static struct shape strip_of(const struct job *j, int64_t i)
{
    struct shape s = {.height = j->h - i * j->strip < j->strip ? j->h - i * j->strip : j->strip};

    s.top = i == 0 && !j->has_rows ? j->above : 0;
    s.bottom = i * j->strip + s.height == j->h && !j->has_rows ? j->k - 1 - j->above : 0;
    return s;
}

static struct shape *find_shape(struct job *j, const struct shape *like)
{
    for (int i = 0; i < j->n_shapes; i++) {
        struct shape *s = &j->shape[i];

        if (s->height == like->height && s->top == like->top && s->bottom == like->bottom) return s;
    }
    return NULL;
}

static void strip(void *ctx, int64_t chunk, int thread)
{
    struct job         *j = ctx;
    const struct shape  like = strip_of(j, chunk);
    const struct shape *s = find_shape(j, &like);
    int64_t             row = chunk * j->strip - j->above + s->top, at_y = chunk * j->strip * j->y_row;
    const float        *x = j->x + row * j->w * j->ci;
    float              *y = j->y + at_y;
    char               *in = pool_scratch(j->c->pool, thread), *out = in + s->in_bytes, *lib = out + s->out_bytes;
    int                 bad = 0;

    if (s->in.prim) bad = run_reorder(j, &s->in, x, in);
    if (j->bf16 && !j->native) round_bf16((float *)in, (const float *)in, (int64_t)(s->in_bytes / sizeof(float)));
    if (j->add && j->add != j->y) memcpy(y, j->add + at_y, (size_t)(s->height * j->y_row) * sizeof *y);
    bad = bad || run_step(j, &s->conv, 5, (struct arg[]){{DNNL_ARG_SRC, dnnl_query_src_md, 0, s->in.prim ? (const void *)in : x},
                                                         {DNNL_ARG_WEIGHTS, dnnl_query_weights_md, 0, s->weight->data},
                                                         {DNNL_ARG_BIAS, dnnl_query_weights_md, 1, j->bias},
                                                         {DNNL_ARG_DST, dnnl_query_dst_md, 0, s->out.prim ? (void *)out : y},
                                                         {DNNL_ARG_SCRATCHPAD, dnnl_query_scratchpad_md, 0, lib}});
    bad = bad || (s->out.prim && run_reorder(j, &s->out, out, y));
    if (bad) j->failed = true;
}

/* Rows per strip: enough pixels to be worth a call, enough strips for many threads, within STRIP_BYTES of scratch. By shape alone. */
static int64_t strip_height(const struct job *j)
{
    int64_t line_bytes = j->w * (j->ci + j->co) * (int64_t)sizeof(float), halo_bytes = (j->k - 1) * j->w * j->ci * (int64_t)sizeof(float);
    int64_t most = (STRIP_BYTES - halo_bytes) / line_bytes, wish = (j->h + STRIPS_WISHED - 1) / STRIPS_WISHED;

    if (wish * j->w < STRIP_PIXELS_MIN) wish = (STRIP_PIXELS_MIN + j->w - 1) / j->w;
    if (wish > most) wish = most;
    if (wish > j->h) wish = j->h;
    return wish > 0 ? wish : 1;
}

/* Makes the primitives of all strips; scratch: the most bytes one needs. */
static int plan(struct job *j, const struct tensor *w, int64_t n_strips, size_t *scratch)
{
    int64_t which[SHAPES] = {0, 1, n_strips - 1};

    for (int i = 0; i < SHAPES; i++) {
        struct shape like = strip_of(j, which[i]), *s = &j->shape[j->n_shapes];
        size_t       bytes;
        int          rc;

        if (which[i] >= n_strips || find_shape(j, &like)) continue;
        *s = like;
        j->n_shapes++;
        rc = describe(j, s);
        if (!rc) rc = find_weight(j, w, s);
        if (rc) return rc;
        bytes = s->in_bytes + s->out_bytes + s->lib_bytes;
        if (bytes > *scratch) *scratch = bytes;
    }
    return 0;
}

/* from: weight [co,ci,k,k]. Failures stick in the device. */
static void convolve(struct dev *d, struct job *j, const struct tensor *from)
{
    struct cpu *c = cpu_of(d);
    int64_t     n_strips;
    size_t      bytes = 0;
    int         before, rc;

    j->c = c;
    j->bf16 = d->precision == PRECISION_BF16;
    j->native = j->bf16 && c->native_bf16;
    j->strip = strip_height(j);
    n_strips = (j->h + j->strip - 1) / j->strip;
    before = pool_quiet(); /* a primitive remembers how many threads there were when it was made */
    rc = plan(j, from, n_strips, &bytes);
    pool_unquiet(before);
    if (!rc) rc = pool_reserve(c->pool, bytes);
    if (!rc) pool_for(c->pool, n_strips, strip, j);
    for (int i = 0; i < j->n_shapes; i++) {
        step_free(&j->shape[i].in);
        step_free(&j->shape[i].conv);
        step_free(&j->shape[i].out);
    }
    if (rc == ERR_NOMEM) dev_fail(d, ERR_NOMEM, "cpu: no memory for a convolution of %lld to %lld channels", (long long)j->ci, (long long)j->co);
    else if (rc || j->failed) dev_fail(d, ERR_DEVICE, "cpu: oneDNN refused a convolution of %lld to %lld channels", (long long)j->ci, (long long)j->co);
}

void cpu_conv2d(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, const struct tensor *bias,
                const struct tensor *add)
{
    const int64_t width = y->dim[1], ci = x->dim[2], co = y->dim[2], k = w->dim[2];
    const bool    has_rows = x->dim[0] > y->dim[0];
    struct job    j = {.x = (const float *)x->data + (has_rows ? width * ci : 0), .add = add ? add->data : NULL, .y = y->data, .h = y->dim[0],
                       .w = width, .ci = ci, .co = co, .k = k, .above = k / 2, .left = k / 2, .y_row = width * co, .y_px = co, .has_rows = has_rows};

    if (winograd_takes(cpu_of(d), y, w)) cpu_winograd(d, y, x, w, bias, add);
    else if ((j.bias = cpu_vec(d, bias, 0))) convolve(d, &j, w);
}

void cpu_conv_up2x(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, const struct tensor *bias)
{
    const int64_t width = x->dim[1], ci = x->dim[2], co = y->dim[2];
    const float  *b = cpu_vec(d, bias, 0);

    for (int phase = 0; b && phase < 4 && !d->err.code; phase++) {
        const struct tensor from = tensor_slice(w, phase * co, co);
        struct job          j = {.x = x->data, .bias = b, .y = (float *)y->data + (phase / 2 * 2 * width + phase % 2) * co, .h = x->dim[0], .w = width,
                                 .ci = ci, .co = co, .k = 2, .above = 1 - phase / 2, .left = 1 - phase % 2, .y_row = 4 * width * co, .y_px = 2 * co};

        convolve(d, &j, &from);
    }
}

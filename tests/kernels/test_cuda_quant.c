/* test_cuda_quant.c - block kinds and 8-bit floats on the GPU: widened exactly as on the CPU, in every place a weight may have; a product
 * gives the same bytes whether its weight was widened while loading, into the backend's rooms, or into rooms of a measured scratch; lodgers. */
#include "kernels/quant.h"
#include "tests/golden.h"
#include "tests/kernels/gpu.h"

#define GOLDEN TESTS_DIR "/golden/quant/quant.safetensors"

/* Where a block keeps its F16 scales; -1: none. */
static const int scale_at[DTYPE_COUNT][2] = {
    [DTYPE_Q8_0] = {0, -1}, [DTYPE_Q4_0] = {0, -1}, [DTYPE_Q4_1] = {0, 2}, [DTYPE_Q5_0] = {0, -1}, [DTYPE_Q5_1] = {0, 2}, [DTYPE_IQ4_NL] = {0, -1},
    [DTYPE_Q2_K] = {80, 82}, [DTYPE_Q3_K] = {108, -1}, [DTYPE_Q4_K] = {0, 2}, [DTYPE_Q5_K] = {0, 2}, [DTYPE_Q6_K] = {208, -1}, [DTYPE_IQ4_XS] = {0, -1}};

/* Random bytes; tame: with scales near 2^-8, and no F8 that is not a number. */
static uint8_t *blocks_new(struct dice *r, enum dtype type, int64_t n, bool tame)
{
    size_t   bytes = dtype_row_bytes(type, n), block = dtype_block_bytes(type);
    uint8_t *b = malloc(bytes + 1);

    assert_non_null(b);
    for (size_t i = 0; i < bytes; i++) b[i] = (uint8_t)dice_range(r, 0, 255);
    if (!tame) return b;
    for (size_t i = 0; i < bytes && block == 1; i++) b[i] &= 0xbf; /* at most 1.875 or so */
    for (size_t i = 0; i < bytes && block > 1; i += block) {
        for (int k = 0; k < 2 && scale_at[type][k] >= 0; k++) b[i + (size_t)scale_at[type][k] + 1] = (uint8_t)(0x1c | dice_range(r, 0, 3));
    }
    return b;
}

static float *values_of(const uint8_t *blocks, enum dtype type, int64_t n)
{
    float *v = malloc((size_t)n * sizeof *v + 4);

    assert_non_null(v);
    quant_to_f32(v, blocks, type, n);
    return v;
}

static struct tensor host_of(enum dtype type, int rank, const int64_t *dim, void *data, float scale)
{
    struct tensor t = {.type = type, .rank = rank, .pitch = 1, .data = data, .scale = scale};

    for (int i = 0; i < rank; i++) t.dim[i] = dim[i], t.pitch *= i ? dim[i] : 1;
    return t;
}

static struct tensor take(struct dev *d, const struct tensor *host)
{
    struct tensor w;
    struct err    e = {0};

    if (dev_weight(d, host, &w, &e)) fail_msg("%s", e.text);
    return w;
}

/* Bit for bit, but for the payload of a NaN and the sign of nothing. */
static void assert_same(const char *name, const float *got, const float *truth, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (!(got[i] == truth[i] || (isnan(got[i]) && isnan(truth[i])))) {
            fail_msg("%s: value %lld is %.9g, the CPU reads %.9g", name, (long long)i, (double)got[i], (double)truth[i]);
        }
    }
}

static float *read_f32(struct dev *d, const struct tensor *t)
{
    int64_t    n = tensor_count(t);
    char      *bytes = malloc((size_t)n * 4 + 4);
    float     *v = malloc((size_t)n * sizeof *v + 4);
    struct err e = {0};

    assert_true(bytes && v);
    if (dev_get(d, t, bytes, (size_t)n * dtype_bytes(t->type), &e)) fail_msg("%s", e.text);
    to_f32(v, bytes, t->type, n);
    free(bytes);
    return v;
}

/* Rows of a table by ids into both types of output: random blocks, wild numbers among them. */
static void widen_rows(struct dev *d, struct dice *r, enum dtype kind)
{
    const int64_t rows = dice_range(r, 1, 9), n = dice_range(r, 1, 20), block = dtype_block(kind);
    const int64_t c = block == 1 ? dice_range(r, 1, 300) : dice_range(r, 1, 2560 / block) * block;
    uint8_t      *blocks = blocks_new(r, kind, rows * c, false);
    struct tensor host = host_of(kind, 2, (int64_t[]){rows, c}, blocks, block == 1 && dice_range(r, 0, 1) ? 0.37f : 0.0f), w;
    float        *all = values_of(blocks, kind, rows * c), *truth = malloc((size_t)(n * c) * sizeof *truth);
    int32_t       ids[20];

    if (rows == 1) host.scale = 0.0f; /* a vector has taken its scale already: another test */
    assert_non_null(truth);
    w = take(d, &host);
    assert_int_equal(w.type, rows == 1 ? DTYPE_F32 : kind);
    for (int64_t i = 0; i < n; i++) {
        ids[i] = (int32_t)dice_range(r, 0, rows - 1);
        for (int64_t k = 0; k < c; k++) truth[i * c + k] = all[ids[i] * c + k] * (host.scale != 0.0f ? host.scale : 1.0f);
    }
    for (int half = 0; half <= (d->act_type == DTYPE_BF16); half++) {
        struct tensor wide = dev_new2(d, half ? DTYPE_BF16 : DTYPE_F32, n, c + 3), y = tensor_cols_of(&wide, 0, c), dense = dev_new2(d, wide.type, n, c);

        op_embed_rows(d, &y, &w, ids);
        op_copy(d, &dense, &y);
        gpu_sync(d);
        float *got = read_f32(d, &dense);
        if (half) round_bf16(truth, truth, n * c);
        assert_same(dtype_name(kind), got, truth, n * c);
        free(got);
    }
    dev_reset(d, 0);
    free(blocks);
    free(all);
    free(truth);
}

static void test_rows_are_widened_exactly(void **state)
{
    (void)state;
    for (int p = PRECISION_F32; p <= PRECISION_BF16; p++) {
        struct dev *d = gpu_dev((enum precision)p);

        for (int seed = 1; seed <= 12; seed++) {
            struct dice r = {.state = (uint64_t)seed};
            for (enum dtype t = DTYPE_F8_E4M3; t < DTYPE_COUNT; t++) widen_rows(d, &r, t);
        }
        dev_close(d);
    }
}

/* The reference's own blocks and values. */
static void test_golden_blocks(void **state)
{
    struct dev *d = gpu_dev(PRECISION_F32);

    (void)state;
    for (enum dtype t = DTYPE_F8_E4M3; t < DTYPE_COUNT; t++) {
        char          key[64];
        size_t        n_words, n;
        const int32_t ids[4] = {0, 1, 2, 3};

        snprintf(key, sizeof key, "%s.blocks", dtype_name(t));
        void *blocks = golden_read(GOLDEN, key, &n_words);
        snprintf(key, sizeof key, "%s.values", dtype_name(t));
        float        *truth = golden_read(GOLDEN, key, &n);
        struct tensor host = host_of(t, 2, (int64_t[]){4, (int64_t)n / 4}, blocks, 0), w = take(d, &host), y = dev_new2(d, DTYPE_F32, 4, (int64_t)n / 4);

        op_embed_rows(d, &y, &w, ids);
        float *got = read_f32(d, &y);
        assert_same(dtype_name(t), got, truth, (int64_t)n);
        dev_reset(d, 0);
        free(got);
        free(truth);
        free(blocks);
    }
    dev_close(d);
}

/* Products in a row without a wait between them, so that widening runs ahead; every output is kept. */
enum { PRODUCTS = 28 };

struct queue { /* the same products for every way of widening */
    struct tensor host[PRODUCTS];
    float        *x[PRODUCTS];
    int64_t       n[PRODUCTS];
};

static void queue_make(struct queue *q, struct dice *r)
{
    for (int i = 0; i < PRODUCTS; i++) {
        const enum dtype kind = (enum dtype)(DTYPE_F8_E4M3 + i % (DTYPE_COUNT - DTYPE_F8_E4M3));
        const int64_t    block = dtype_block(kind), m = dice_range(r, 2, 700), k = block == 1 ? dice_range(r, 1, 999) : dice_range(r, 1, 6) * 256;

        q->host[i] = host_of(kind, 2, (int64_t[]){m, k}, blocks_new(r, kind, m * k, true), block == 1 && i % 3 ? 0.037f : 0.0f);
        q->n[i] = dice_range(r, 1, 300);
        q->x[i] = malloc((size_t)(q->n[i] * k) * sizeof(float));
        assert_non_null(q->x[i]);
        near_fill_normal(r, q->x[i], (size_t)(q->n[i] * k), 1.0f);
        round_bf16(q->x[i], q->x[i], q->n[i] * k);
    }
}

static void queue_calls(struct dev *d, const struct tensor *x, const struct tensor *w, struct tensor *y)
{
    for (int i = 0; i < PRODUCTS; i++) op_linear(d, &y[i], &x[i], &w[i], NULL);
}

/* All outputs one after the other as F32. measured: the rooms lie in the scratch. */
static float **queue_run(const struct queue *q, enum precision p, bool expand, bool measured)
{
    struct dev    *d = gpu_dev(p);
    struct tensor  w[PRODUCTS], x[PRODUCTS], y[PRODUCTS];
    struct err     e = {0};
    float        **out = calloc(PRODUCTS, sizeof *out);

    assert_non_null(out);
    d->expand = expand;
    if (measured && dev_weight_room(d, (size_t)3 << 20, &e)) fail_msg("%s", e.text); /* some lie in it, the rest do not fit */
    for (int i = 0; i < PRODUCTS; i++) {
        w[i] = take(d, &q->host[i]);
        assert_int_equal(w[i].type, expand ? d->act_type : q->host[i].type);
    }
    for (int pass = !measured; pass < 2; pass++) {
        size_t bytes;

        if (pass == 0) dev_measure_begin(d);
        for (int i = 0; i < PRODUCTS; i++) {
            x[i] = dev_new2(d, DTYPE_F32, q->n[i], w[i].dim[1]);
            y[i] = dev_new2(d, DTYPE_F32, q->n[i], w[i].dim[0]);
            if (pass && dev_put(d, &x[i], q->x[i], (size_t)tensor_count(&x[i]) * 4, &e)) fail_msg("%s", e.text);
        }
        queue_calls(d, x, w, y);
        if (pass == 0 && (dev_measure_end(d, &bytes, &e) || dev_scratch_reserve(d, bytes, &e))) fail_msg("%s", e.text);
    }
    if (measured) assert_true(expand ? d->scratch.room == 0 : d->scratch.room > 0);
    queue_calls(d, x, w, y); /* again: rooms are in use from before */
    gpu_sync(d);
    for (int i = 0; i < PRODUCTS; i++) out[i] = read_f32(d, &y[i]);
    dev_close(d);
    return out;
}

/* A product against naive double of the CPU's reading of the weight. */
static void check_truth(const struct queue *q, float **got, enum precision p)
{
    for (int i = 0; i < PRODUCTS; i++) {
        const struct tensor *w = &q->host[i];
        const int64_t        n = q->n[i], m = w->dim[0], k = w->dim[1];
        float               *v = values_of(w->data, w->type, m * k);
        double              *truth = truth_new(n * m), rms = 0.0;

        if (p == PRECISION_BF16) round_bf16(v, v, m * k);
        for (int64_t a = 0; a < n; a++) {
            for (int64_t b = 0; b < m; b++) {
                double sum = 0.0;

                for (int64_t l = 0; l < k; l++) sum += (double)q->x[i][a * k + l] * (double)v[b * k + l];
                truth[a * m + b] = sum * (w->scale != 0.0f ? (double)w->scale : 1.0);
            }
        }
        if (!near_rms(dtype_name(w->type), got[i], truth, (size_t)(n * m), 2e-6, &rms)) fail_msg("%s: relative RMS %g", dtype_name(w->type), rms);
        free(v);
        free(truth);
    }
}

static void test_products_are_the_same_however_widened(void **state)
{
    (void)state;
    gpu_or_skip();
    for (int p = PRECISION_F32; p <= PRECISION_BF16; p++) {
        struct dice  r = {.state = 77};
        struct queue q;

        queue_make(&q, &r);
        float **early = queue_run(&q, (enum precision)p, true, false), **late = queue_run(&q, (enum precision)p, false, false);
        float **inside = queue_run(&q, (enum precision)p, false, true);
        check_truth(&q, early, (enum precision)p);
        for (int i = 0; i < PRODUCTS; i++) {
            size_t bytes = (size_t)(q.n[i] * q.host[i].dim[0]) * sizeof(float);

            assert_memory_equal(early[i], late[i], bytes);
            assert_memory_equal(early[i], inside[i], bytes);
            free(early[i]);
            free(late[i]);
            free(inside[i]);
            free(q.x[i]);
            free(q.host[i].data);
        }
        free(early);
        free(late);
        free(inside);
    }
}

/* Vectors and single rows are floats at once, with their scale; a convolution's weight is widened, too. */
static void test_vectors_and_convolutions(void **state)
{
    struct dev *d = gpu_dev(PRECISION_F32);
    struct dice r = {.state = 5};

    (void)state;
    for (enum dtype t = DTYPE_F8_E4M3; t < DTYPE_COUNT; t++) {
        const int64_t c = 512, row[2] = {1, c}, conv[4] = {3, 256, 1, 1};
        uint8_t      *blocks = blocks_new(&r, t, 768, true);
        float        *truth = values_of(blocks, t, 768), scale = dtype_block(t) == 1 ? 0.11f : 0.0f, *got;
        struct tensor host = host_of(t, 2, row, blocks, scale), w = take(d, &host), y = dev_new2(d, DTYPE_F32, 2, c);

        assert_int_equal(w.type, DTYPE_F32);
        op_fill_rows(d, &y, &w);
        got = read_f32(d, &y);
        for (int64_t i = 0; i < 2 * c; i++) assert_true(got[i] == truth[i % c] * (scale != 0.0f ? scale : 1.0f));
        free(got);

        host = host_of(t, 4, conv, blocks, 0.0f);
        float         one[512] = {[7] = 1.0f, [256 + 9] = 1.0f}, none[3] = {0};
        struct tensor bias_host = host_of(DTYPE_F32, 1, (int64_t[]){3}, none, 0), k = take(d, &host), bias = take(d, &bias_host);
        struct tensor x = dev_new3(d, DTYPE_F32, 1, 2, 256), z = dev_new3(d, DTYPE_F32, 1, 2, 3);
        struct err    e = {0};

        if (dev_put(d, &x, one, sizeof one, &e)) fail_msg("%s", e.text);
        op_conv2d(d, &z, &x, &k, &bias, NULL);
        got = read_f32(d, &z);
        for (int o = 0; o < 3; o++) assert_true(got[o] == truth[o * 256 + 7] && got[3 + o] == truth[o * 256 + 9]);
        free(got);
        dev_reset(d, 0);
        free(truth);
        free(blocks);
    }
    dev_close(d);
}

/* Weights that lodge in the scratch for a stage, brought back from their image, give what the first ones gave; a stack may not grow into them. */
static void test_lodgers(void **state)
{
    struct dev    *d = gpu_dev(PRECISION_BF16);
    struct dice    r = {.state = 3};
    struct queue   q;
    struct err     e = {0};
    struct tensor  w[2];
    float         *first = NULL;
    size_t         bytes, stack = (size_t)8 << 20;
    void          *image;

    (void)state;
    queue_make(&q, &r);
    dev_measure_begin(d);
    for (int i = 0; i < 2; i++) w[i] = take(d, &q.host[2 + i]);
    assert_true(!w[0].data && !w[1].data);
    bytes = d->measured_weights;
    assert_int_equal(dev_measure_end(d, &(size_t){0}, &e), 0);
    assert_true(bytes >= dtype_row_bytes(w[0].type, tensor_count(&w[0])) + dtype_row_bytes(w[1].type, tensor_count(&w[1])));
    assert_int_equal(dev_scratch_reserve(d, stack + DEV_LODGE_BYTES(bytes), &e), 0);
    assert_non_null(image = dev_pinned(d, bytes));
    for (int stay = 0; stay < 3; stay++) {
        if (dev_lodge(d, bytes, stay ? image : NULL, &e)) fail_msg("%s", e.text);
        for (int i = 0; i < 2; i++) w[i] = take(d, &q.host[2 + i]);
        if (!stay) assert_int_equal(dev_lodge_save(d, image, &e), 0);
        struct tensor x = dev_new2(d, DTYPE_F32, q.n[3], w[1].dim[1]), y = dev_new2(d, DTYPE_F32, q.n[3], w[1].dim[0]);
        if (dev_put(d, &x, q.x[3], (size_t)tensor_count(&x) * 4, &e)) fail_msg("%s", e.text);
        op_linear(d, &y, &x, &w[1], NULL);
        gpu_sync(d);
        float *got = read_f32(d, &y);
        if (first) assert_memory_equal(got, first, (size_t)tensor_count(&y) * sizeof *got);
        (void)dev_new1(d, DTYPE_U8, (int64_t)stack);
        assert_int_equal(dev_sync(d, &e), ERR_NOMEM);
        dev_reset(d, 0);
        dev_lodge_end(d);
        struct tensor whole = dev_new1(d, DTYPE_U8, (int64_t)(stack + bytes)); /* another stage writes over them */
        void         *junk = calloc(1, stack + bytes);
        assert_non_null(junk);
        assert_int_equal(dev_put(d, &whole, junk, stack + bytes, &e), 0);
        free(junk);
        dev_reset(d, 0);
        if (first) free(got);
        else first = got;
    }
    free(first);
    assert_int_equal(dev_lodge(d, stack + bytes + 1024, NULL, &e), ERR_NOMEM);
    for (int i = 0; i < PRODUCTS; i++) free(q.x[i]), free(q.host[i].data);
    dev_unpin(d, image);
    dev_trim(d);
    assert_true(d->scratch.cap == 0);
    dev_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_are_widened_exactly),
        cmocka_unit_test(test_golden_blocks),
        cmocka_unit_test(test_products_are_the_same_however_widened),
        cmocka_unit_test(test_vectors_and_convolutions),
        cmocka_unit_test(test_lodgers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

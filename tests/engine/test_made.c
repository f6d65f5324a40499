/* test_made.c - made-up weights: shapes and kinds as asked, sane values, the same in every run; and a model of them paints in time. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "engine/made.h"
#include "engine/noise.h"
#include "kernels/quant.h"
#include "tests/engine/tiny.h"

/* Mean and deviation of a tensor's values. */
static void look(const struct tensor *t, double *mean, double *deviation)
{
    int64_t n = tensor_count(t);
    float  *v = malloc((size_t)n * sizeof *v);
    double  sum = 0, squares = 0;

    assert_non_null(v);
    if (t->type == DTYPE_F32) memcpy(v, t->data, (size_t)n * sizeof *v);
    else if (t->type == DTYPE_BF16)
        for (int64_t i = 0; i < n; i++) {
            uint32_t u = (uint32_t)((const uint16_t *)t->data)[i] << 16;
            memcpy(&v[i], &u, sizeof u);
        }
    else quant_to_f32(v, t->data, t->type, n);
    for (int64_t i = 0; i < n; i++) sum += (double)v[i];
    *mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) squares += ((double)v[i] - *mean) * ((double)v[i] - *mean);
    *deviation = sqrt(squares / (double)n);
    free(v);
}

static void values_are_sane(void **state)
{
    static const enum dtype kinds[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F8_E4M3, DTYPE_Q8_0, DTYPE_Q4_0, DTYPE_Q4_K, DTYPE_Q6_K};
    double                  mean, deviation;

    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct made  *m = NULL;
        struct tensor w, odd, norm;

        OK(made_open(&m, kinds[i], &e));
        OK(made_tensor(m, "layers.3.attention.to_q.weight", 2, (int64_t[]){700, 3840}, &w, &e));
        assert_int_equal(w.type, kinds[i]);
        assert_int_equal(w.dim[1], 3840);
        look(&w, &mean, &deviation);
        assert_float_equal(mean, 0, 1e-3);
        assert_float_equal(deviation * sqrt(3840) / 1.2, 1, 0.1);
        OK(made_tensor(m, "x.weight", 2, (int64_t[]){8, 17}, &odd, &e)); /* no whole blocks */
        assert_int_equal(odd.type, dtype_block(kinds[i]) > 1 ? DTYPE_BF16 : kinds[i]);
        OK(made_tensor(m, "layers.3.attention_norm1.weight", 1, (int64_t[]){3840}, &norm, &e));
        assert_int_equal(norm.type, DTYPE_F32);
        look(&norm, &mean, &deviation);
        assert_float_equal(mean, 1, 0.02);
        assert_float_equal(deviation, 0.15, 0.02);
        assert_int_equal(made_values(m), 700 * 3840 + 8 * 17 + 3840);
        made_free(m);
    }
}

/* Equal names, equal bytes; other names, other bytes: or queries would be keys. */
static void names_choose(void **state)
{
    const int64_t dim[] = {64, 3840};
    struct made  *a = NULL, *b = NULL;
    struct tensor q, k, again;

    (void)state;
    OK(made_open(&a, DTYPE_BF16, &e));
    OK(made_open(&b, DTYPE_BF16, &e));
    OK(made_tensor(a, "to_q.weight", 2, dim, &q, &e));
    OK(made_tensor(a, "to_k.weight", 2, dim, &k, &e));
    OK(made_tensor(b, "to_q.weight", 2, dim, &again, &e));
    assert_memory_equal(q.data, again.data, 64 * 3840 * 2);
    assert_memory_not_equal(q.data, k.data, 64 * 3840 * 2);
    made_free(a);
    made_free(b);
}

static void some_kinds_are_refused(void **state)
{
    struct made *m = NULL;
    struct err   e = {0};

    (void)state;
    assert_int_equal(made_open(&m, DTYPE_IQ4_NL, &e), ERR_ARG);
    assert_non_null(strstr(e.text, "cannot be made up"));
    assert_null(m);
}

static void a_model_of_them_runs(void **state)
{
    struct model_conf   conf;
    struct buf          json;
    struct engine_made  made = {.conf = &conf, .dit = DTYPE_Q8_0, .text = DTYPE_BF16, .vae = DTYPE_BF16};
    struct engine_opts  o = {.made = &made, .device = "cpu", .parts = ENGINE_BOTH, .n_threads = 1};
    struct gen          gen = {.width_px = 64, .height_px = 48, .n_steps = 3, .cfg_trunc = 1, .seed = 1, .noise_threads = NOISE_THREADS_H100};
    struct engine      *g = NULL;
    struct embed       *p = NULL;
    struct latent      *z = NULL;
    struct image        image = {0};
    struct engine_times t;

    (void)state;
    buf_init(&json, 16 << 20);
    OK(file_read(TINY_MODEL "/tokenizer/tokenizer.json", &json, &e));
    made.tokenizer_json = buf_str(&json);
    OK(config_open(&conf, TINY_MODEL, NULL, &e));
    OK(engine_open(&g, &o, &e));
    engine_times(g, &t);
    assert_true(t.text_ms < 0 && t.decode_ms < 0 && t.n_passes == 0);
    OK(engine_encode(g, str_of("a cat"), &p, &e));
    OK(engine_denoise(g, p, NULL, &gen, NULL, &z, &e));
    OK(engine_decode(g, z, &image, &e));
    engine_times(g, &t);
    assert_int_equal(t.n_passes, 3);
    assert_true(t.text_ms > 0 && t.caption_ms > 0 && t.decode_ms > 0);
    for (int i = 0; i < 3; i++) assert_true(t.pass_ms[i] > 0);
    assert_true(t.denoise_ms >= t.pass_ms[0] + t.pass_ms[1] + t.pass_ms[2] - 0.01);
    assert_true(t.image_ms >= t.text_ms + t.caption_ms + t.denoise_ms + t.decode_ms);
    assert_true(t.memory_used_bytes > 0 && t.memory_total_bytes > t.memory_used_bytes);
    image_free(&image);
    latent_free(z);
    embed_free(p);
    engine_free(g);
    buf_release(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(values_are_sane), cmocka_unit_test(names_choose), cmocka_unit_test(some_kinds_are_refused),
                                       cmocka_unit_test(a_model_of_them_runs)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

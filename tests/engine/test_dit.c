/* test_dit.c - one pass of the denoiser against diffusers. Case 2 is one step from sigma 1 to 0: latents = noise + prediction. */
#include "tests/engine/parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/dit.h"
#include "tests/golden.h"
#include "tests/near.h"

static struct parts p;
static struct dit  *m;

static int open_all(void **state)
{
    (void)state;
    parts_open(&p, TINY_MODEL "/transformer");
    OK(dit_open(&m, &p.conf.dit, p.w, p.d, &e));
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    dit_free(m);
    parts_close(&p);
    return 0;
}

/* Refined caption of a golden embedding on the scratch stack. */
static struct tensor caption_of(const char *name, int64_t *n_cap)
{
    size_t          n;
    float          *v = golden_read(TINY_GOLDEN, name, &n);
    const struct dit_rope *r;
    *n_cap = (int64_t)n / p.conf.text.hidden;
    struct tensor raw = parts_put(&p, v, 2, (const int64_t[]){ *n_cap, p.conf.text.hidden });
    struct tensor cap = dev_new2(p.d, p.d->act_type, dit_padded(*n_cap), p.conf.dit.dim);
    OK(dit_rope_open(m, 0, 0, *n_cap, &r, &e));
    dit_caption(m, &raw, r, &cap);
    OK(dev_sync(p.d, &e));
    dit_rope_close(m, r);
    free(v);
    return cap;
}

static void one_pass_equals_diffusers(void **state)
{
    size_t          n, n2;
    float          *noise = golden_read(TINY_GOLDEN, "noise2", &n), *latents = golden_read(TINY_GOLDEN, "latents2", &n2);
    int64_t         n_cap;
    double          rms;
    const struct dit_rope *r;
    (void)state;
    assert_int_equal(n, 16 * 8 * 8);
    assert_int_equal(n2, n);
    struct tensor cap = caption_of("embeds2", &n_cap), z = parts_put(&p, noise, 3, (const int64_t[]){ 16, 8, 8 });
    struct tensor pred = dev_new3(p.d, DTYPE_F32, 16, 8, 8);
    OK(dit_rope_open(m, 4, 4, n_cap, &r, &e));
    struct tensor mod = dev_new2(p.d, DTYPE_F32, 1, dit_mod_cols(&p.conf.dit));
    dit_modulate(m, (const float[]){ 0 }, 1, &mod);
    dit_step(m, &z, &mod, &cap, r, &pred);
    float *got = malloc(n * sizeof *got);
    assert_non_null(got);
    parts_get(&p, &pred, got);
    for (size_t i = 0; i < n; i++)
        latents[i] -= noise[i];
    bool ok = near_rms_f32("prediction", got, latents, n, 5e-5, &rms);
    print_message("prediction relative RMS %.2e\n", rms);
    assert_true(ok);
    dit_rope_close(m, r);
    dev_reset(p.d, 0);
    free(noise);
    free(latents);
    free(got);
}

static void rotary_rows_stand_where_they_should(void **state)
{
    const struct dit_rope *r;
    const int64_t   half = p.conf.dit.head_dim / 2;
    float          *cs;
    (void)state;
    OK(dit_rope_open(m, 3, 5, 19, &r, &e)); /* 15 patches -> 32, 19 ids -> 32 */
    assert_int_equal(r->n_img_padded, 32);
    assert_int_equal(r->n_cap_padded, 32);
    cs = malloc((size_t)(64 * half) * sizeof *cs);
    assert_non_null(cs);
    parts_get(&p, &r->cos, cs);
    const int t = 0, h = p.conf.dit.axes_dims[0] / 2, w = h + p.conf.dit.axes_dims[1] / 2; /* first pair of each axis: frequency 1 */
    const struct { int row, at[3]; } rows[] = { { 0, { 33, 0, 0 } }, { 14, { 33, 2, 4 } }, { 15, { 0, 0, 0 } }, { 31, { 0, 0, 0 } },
                                                { 32, { 1, 0, 0 } }, { 50, { 19, 0, 0 } }, { 63, { 32, 0, 0 } } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const float *row = cs + rows[i].row * half;
        assert_true(fabs((double)row[t] - cos(rows[i].at[0])) < 1e-6);
        assert_true(fabs((double)row[h] - cos(rows[i].at[1])) < 1e-6);
        assert_true(fabs((double)row[w] - cos(rows[i].at[2])) < 1e-6);
        assert_true(fabs((double)row[t + 1] - cos(rows[i].at[0] * pow(256, -2.0 / 8))) < 1e-6);
    }
    dit_rope_close(m, r);
    free(cs);
}

static void positions_outside_are_refused(void **state)
{
    struct err e = { 0 };
    (void)state;
    assert_int_equal(dit_check(&p.conf.dit, 512, 512, 512, &e), 0);
    assert_int_equal(dit_check(&p.conf.dit, 513, 1, 1, &e), ERR_LIMIT);
    assert_non_null(strstr(e.text, "at most 512 x 512"));
    assert_int_equal(dit_check(&p.conf.dit, 1, 513, 1, &e), ERR_LIMIT);
    assert_int_equal(dit_check(&p.conf.dit, 1, 1, 992, &e), 0); /* 992 + 1 < 1024 */
    assert_int_equal(dit_check(&p.conf.dit, 1, 1, 993, &e), ERR_LIMIT);
    assert_non_null(strstr(e.text, "at most 992"));
}

static void shapes_of_the_file_are_checked(void **state)
{
    struct dit_conf conf = p.conf.dit;
    struct dit     *none = NULL;
    struct err      e = { 0 };
    (void)state;
    conf.n_layers = 3;
    assert_int_equal(dit_open(&none, &conf, p.w, p.d, &e), ERR_NOTFOUND);
    assert_non_null(strstr(e.text, "layers.2.attention_norm1.weight"));
    conf = p.conf.dit, conf.ffn = 342;
    assert_int_equal(dit_open(&none, &conf, p.w, p.d, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "feed_forward.w1.weight is [341,128], the config asks for [342,128]"));
    assert_null(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_pass_equals_diffusers),     cmocka_unit_test(rotary_rows_stand_where_they_should),
        cmocka_unit_test(positions_outside_are_refused), cmocka_unit_test(shapes_of_the_file_are_checked),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}

/* test_engine.c - the whole engine against diffusers: embeddings, latents and pixels of tiny-a, and what must not change a byte.
 * Requests that cannot run get a sentence. Hostile model folders: test_hostile.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/str.h"
#include "tests/engine/tiny.h"
#include "tests/golden.h"
#include "tests/near.h"

static struct engine *open_with(enum engine_precision precision, int n_threads)
{
    struct engine     *g = NULL;
    struct err         e = { 0 };
    struct engine_opts o = { .model_dir = TINY_MODEL, .device = "cpu", .parts = ENGINE_BOTH, .precision = precision, .n_threads = n_threads };
    if (engine_open(&g, &o, &e))
        fail_msg("%s", e.text);
    return g;
}

/* The bytes of latents and pixels of case i, as one hash. */
static void digest_case(struct engine *g, int i, uint8_t out[32])
{
    struct latent *z = tiny_denoise(g, i);
    struct image   img;
    struct sha256  s;
    int            dim[3];
    const float   *values;

    OK(latent_get(z, dim, &values, &e));
    OK(engine_decode(g, z, &img, &e));
    sha256_init(&s);
    sha256_put(&s, values, (size_t)(dim[0] * dim[1] * dim[2]) * sizeof *values);
    sha256_put(&s, img.rgb, (size_t)img.width_px * (size_t)img.height_px * 3);
    sha256_take(&s, out);
    image_free(&img);
    latent_free(z);
}

static void embeddings_equal_transformers(void **state)
{
    struct engine *g = open_with(ENGINE_F32, 2);
    char           text[1024], name[32];
    (void)state;
    for (int i = 0; i < TINY_CASES; i++) {
        struct embed *p = NULL;
        int64_t       n_tok, n_feat;
        size_t        n;
        double        rms;
        OK(engine_encode(g, str_of(tiny_prompt(i, text)), &p, &e));
        snprintf(name, sizeof name, "embeds%d", i);
        float *truth = golden_read(TINY_GOLDEN, name, &n);
        OK(embed_get(p, &n_tok, &n_feat, NULL, 0, &e));
        assert_int_equal(n_tok * n_feat, n);
        float *got = malloc(n * sizeof *got);
        OK(embed_get(p, &n_tok, &n_feat, got, (int64_t)n, &e));
        assert_true(near_rms_f32(name, got, truth, n, 1e-5, &rms));
        print_message("%s relative RMS %.2e\n", name, rms);
        free(got);
        free(truth);
        embed_free(p);
    }
    engine_free(g);
}

static void latents_near(struct engine *g, int i, double limit)
{
    struct latent *z = tiny_denoise(g, i);
    char           name[32];
    int            dim[3];
    const float   *values;
    size_t         n;
    double         rms;

    snprintf(name, sizeof name, "latents%d", i);
    float *truth = golden_read(TINY_GOLDEN, name, &n);
    OK(latent_get(z, dim, &values, &e));
    assert_int_equal(dim[0] * dim[1] * dim[2], n);
    bool ok = near_rms_f32(name, values, truth, n, limit, &rms);
    print_message("%s relative RMS %.3e (limit %.3e)\n", name, rms, limit);
    assert_true(ok);
    free(truth);
    latent_free(z);
}

static void f32_latents_equal_diffusers(void **state)
{
    struct engine *g = open_with(ENGINE_F32, 2);
    (void)state;
    for (int i = 0; i < TINY_CASES; i++)
        latents_near(g, i, 5e-5);
    engine_free(g);
}

static void bf16_latents_are_as_near_as_torch(void **state)
{
    struct engine *g = open_with(ENGINE_BF16, 2);
    (void)state;
    for (int i = 0; i < TINY_CASES; i++)
        latents_near(g, i, 1.2 * tiny_cases[i].torch_bf16);
    engine_free(g);
}

static void pixels_equal_diffusers(void **state)
{
    struct engine *g = open_with(ENGINE_F32, 2);
    char           path[512];
    (void)state;
    for (int i = 0; i < TINY_CASES; i++) {
        struct latent *z = tiny_denoise(g, i);
        struct image   img, truth;
        size_t         len, n_off;
        snprintf(path, sizeof path, TESTS_DIR "/golden/tiny-a/case%d.png", i);
        char *png = golden_file(path, &len);
        OK(png_read((struct str){ png, len }, &truth, NULL, NULL, &e));
        OK(engine_decode(g, z, &img, &e));
        assert_int_equal(img.width_px, truth.width_px);
        assert_int_equal(img.height_px, truth.height_px);
        size_t n = (size_t)img.width_px * (size_t)img.height_px * 3;
        assert_true(near_u8(path, img.rgb, truth.rgb, n, 1, &n_off));
        print_message("case%d: %zu of %zu bytes off by 1\n", i, n_off, n);
        image_free(&img);
        image_free(&truth);
        free(png);
        latent_free(z);
    }
    engine_free(g);
}

static void threads_order_and_history_change_no_byte(void **state)
{
    static const enum engine_precision precision[] = { ENGINE_F32, ENGINE_BF16 };
    (void)state;
    for (int p = 0; p < 2; p++) {
        uint8_t first[TINY_CASES][32], again[32];
        int     n = p == 0 ? TINY_CASES : TINY_CASES - 1; /* the largest picture once is enough */
        for (int threads = 1; threads <= 3; threads++) {
            struct engine *g = open_with(precision[p], threads);
            for (int k = 0; k < n; k++) {
                int i = threads == 2 ? n - 1 - k : k; /* another order: other prompts are in the cache */
                digest_case(g, i, threads == 1 ? first[i] : again);
                if (threads > 1)
                    assert_memory_equal(first[i], again, 32);
            }
            digest_case(g, 3, again); /* now from the cache, with a work space grown by others */
            assert_memory_equal(first[3], again, 32);
            engine_free(g);
        }
    }
}

static void cached_prompts_are_the_same_object(void **state)
{
    struct engine *g = open_with(ENGINE_F32, 1);
    struct embed  *a = NULL, *b = NULL, *c = NULL;
    (void)state;
    OK(engine_encode(g, str_of("one"), &a, &e));
    OK(engine_encode(g, str_of("two"), &b, &e));
    OK(engine_encode(g, str_of("one"), &c, &e));
    assert_ptr_equal(a, c);
    assert_ptr_not_equal(a, b);
    embed_free(a);
    embed_free(b);
    embed_free(c);
    engine_free(g);
}

static void sentence(struct engine *g, struct gen gen, int code, const char *part)
{
    struct err e = { 0 };
    assert_int_equal(engine_check(g, &gen, &e), code);
    if (code && !strstr(e.text, part))
        fail_msg("\"%s\" does not say \"%s\"", e.text, part);
}

static void requests_that_cannot_run_get_a_sentence(void **state)
{
    struct engine *g = open_with(ENGINE_F32, 1);
    struct gen     ok = tiny_gen(0), b;
    (void)state;
    sentence(g, ok, 0, "");
    b = ok, b.width_px = 1000, sentence(g, b, ERR_ARG, "992 and 1008");
    b = ok, b.height_px = 1000, sentence(g, b, ERR_ARG, "height 1000 is not a multiple of 16");
    b = ok, b.width_px = 0, sentence(g, b, ERR_ARG, "the smallest is 16");
    b = ok, b.width_px = -64, sentence(g, b, ERR_ARG, "the smallest is 16");
    b = ok, b.width_px = 100000, sentence(g, b, ERR_LIMIT, "goes to 8192");
    b = ok, b.height_px = 8193, sentence(g, b, ERR_LIMIT, "goes to 8192");
    b = ok, b.width_px = b.height_px = 8208, sentence(g, b, ERR_LIMIT, "goes to 8192");
    b = ok, b.n_steps = 0, sentence(g, b, ERR_ARG, "0 steps");
    b = ok, b.n_steps = 10001, sentence(g, b, ERR_ARG, "1 to 10000");
    b = ok, b.guidance = NAN, sentence(g, b, ERR_ARG, "guidance");
    b = ok, b.guidance = -1, sentence(g, b, ERR_ARG, "guidance");
    b = ok, b.guidance = INFINITY, sentence(g, b, ERR_ARG, "guidance");
    b = ok, b.cfg_norm = NAN, sentence(g, b, ERR_ARG, "normalization");
    b = ok, b.cfg_trunc = NAN, sentence(g, b, ERR_ARG, "truncation");
    b = ok, b.noise_threads = 100, sentence(g, b, ERR_ARG, "multiple of 256");
    engine_free(g);
}

struct stopper { int stop_at, calls; };

static int on_step(void *ctx, int done, int n_steps)
{
    struct stopper *s = ctx;
    s->calls++;
    assert_int_equal(done, s->calls);
    assert_int_equal(n_steps, 8);
    return done == s->stop_at;
}

static void hooks_count_passes_and_cancel(void **state)
{
    struct engine   *g = open_with(ENGINE_F32, 1);
    struct stopper   s = { 3, 0 };
    struct gen_hooks h = { &s, on_step };
    struct gen       gen = tiny_gen(0);
    struct embed    *p = NULL;
    struct latent   *z = NULL;
    struct err       err = { 0 };
    (void)state;
    OK(engine_encode(g, str_of(TINY_CAT), &p, &e));
    assert_int_equal(engine_denoise(g, p, NULL, &gen, &h, &z, &err), ERR_CANCELED);
    assert_int_equal(s.calls, 3);
    assert_null(z);
    s = (struct stopper){ 100, 0 };
    OK(engine_denoise(g, p, NULL, &gen, &h, &z, &e));
    assert_int_equal(s.calls, 8);
    latent_free(z);
    gen.guidance = 2; /* and no negative prompt */
    assert_int_equal(engine_denoise(g, p, NULL, &gen, &h, &z, &err), ERR_ARG);
    embed_free(p);
    engine_free(g);
}

static void parts_refuse_what_they_do_not_have(void **state)
{
    struct engine     *text = NULL, *image = NULL, *both = open_with(ENGINE_F32, 1);
    struct engine_opts o = { .model_dir = TINY_MODEL, .device = "cpu", .parts = ENGINE_TEXT, .precision = ENGINE_F32, .n_threads = 1 };
    struct gen         gen = tiny_gen(0);
    struct embed      *p = NULL;
    struct latent     *z = NULL;
    struct err         err = { 0 };
    struct image       img;
    const int          dim[3] = { 16, 4, 4 };
    float              values[256] = { 0 };
    (void)state;
    OK(engine_open(&text, &o, &e));
    o.parts = ENGINE_IMAGE;
    OK(engine_open(&image, &o, &e));
    assert_int_equal(engine_encode(image, str_of("x"), &p, &err), ERR_STATE);
    OK(engine_encode(text, str_of("x"), &p, &e));
    assert_int_equal(engine_denoise(image, p, NULL, &gen, NULL, &z, &err), ERR_STATE);
    assert_int_equal(engine_denoise(text, p, NULL, &gen, NULL, &z, &err), ERR_STATE);
    OK(latent_new(image, dim, values, &z, &e));
    assert_int_equal(engine_decode(text, z, &img, &err), ERR_STATE);
    OK(engine_decode(image, z, &img, &e));
    assert_int_equal(img.width_px, 32);
    image_free(&img);
    latent_free(z);
    values[7] = NAN;
    assert_int_equal(latent_new(image, dim, values, &z, &err), ERR_NAN);
    assert_int_equal(latent_new(image, (const int[3]){ 4, 4, 4 }, values, &z, &err), ERR_ARG);
    assert_memory_equal(engine_profile(text)->digest, engine_profile(image)->digest, 32);
    assert_memory_equal(engine_profile(text)->digest, engine_profile(both)->digest, 32);
    embed_free(p);
    engine_free(text);
    engine_free(image);
    engine_free(both);
}

static void the_profile_tells_what_it_is(void **state)
{
    struct engine               *g = open_with(ENGINE_F32, 1);
    const struct engine_profile *p = engine_profile(g);
    (void)state;
    assert_string_equal(p->name, "turbo");
    assert_int_equal(p->n_steps, 8);
    assert_true(p->guidance == 0 && p->cfg_norm == 0 && p->cfg_trunc == 1);
    assert_int_equal(p->multiple_px, 16);
    assert_int_equal(p->tokens_max, 512);
    print_message("%s\n", p->about);
    engine_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_profile_tells_what_it_is),
        cmocka_unit_test(embeddings_equal_transformers),
        cmocka_unit_test(f32_latents_equal_diffusers),
        cmocka_unit_test(bf16_latents_are_as_near_as_torch),
        cmocka_unit_test(pixels_equal_diffusers),
        cmocka_unit_test(threads_order_and_history_change_no_byte),
        cmocka_unit_test(cached_prompts_are_the_same_object),
        cmocka_unit_test(requests_that_cannot_run_get_a_sentence),
        cmocka_unit_test(hooks_count_passes_and_cancel),
        cmocka_unit_test(parts_refuse_what_they_do_not_have),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

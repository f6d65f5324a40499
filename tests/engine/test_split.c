/* test_split.c - text encoder, transformers and VAE as engines of their own: the bytes of one engine that does it all; sizes of parts, asked without
 * loading, are what engines then take. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/inside.h"
#include "engine/latent.h"
#include "tests/engine/tiny.h"

enum { TEXT, IMAGE_A, IMAGE_B, VAE, RANKS };

static struct engine *open_part(enum engine_part parts, enum engine_precision precision)
{
    struct engine_opts o = { .model_dir = TINY_MODEL, .device = "cpu", .parts = parts, .precision = precision, .n_threads = 1 };
    struct engine     *g = NULL;

    OK(engine_open(&g, &o, &e));
    return g;
}

static void open_all(struct engine *g[RANKS], enum engine_precision precision, int64_t deadline_ms)
{
    g[TEXT] = open_part(ENGINE_TEXT, precision);
    g[IMAGE_A] = open_part(ENGINE_DIT, precision);
    g[IMAGE_B] = open_part(ENGINE_IMAGE, precision);
    g[VAE] = open_part(ENGINE_VAE, precision);
    OK(engine_link(g, RANKS, deadline_ms, &e));
    assert_string_equal(engine_link_about(g[VAE]), "memory");
}

static void close_all(struct engine *g[RANKS])
{
    engine_unlink(g, RANKS);
    for (int i = 0; i < RANKS; i++) engine_free(g[i]);
}

static void encode(struct engine *g, uint64_t ticket, enum engine_side side, const char *prompt)
{
    struct embed *p = NULL;

    OK(engine_encode(g, str_of(prompt), &p, &e));
    OK(engine_send(g, p, ticket, side, &e));
    embed_free(p);
}

static void split(struct engine *g[RANKS], int i, int image, uint64_t ticket, struct latent **z, struct image *img)
{
    char           text[1024];
    struct gen     gen = tiny_gen(i);
    struct embed  *pos = NULL, *neg = NULL;
    struct latent *far = NULL;

    encode(g[TEXT], ticket, ENGINE_POS, tiny_prompt(i, text));
    if (gen.guidance > 0) encode(g[TEXT], ticket, ENGINE_NEG, tiny_cases[i].negative ? tiny_cases[i].negative : "");
    OK(engine_recv(g[image], ticket, ENGINE_POS, &pos, &e));
    if (gen.guidance > 0) OK(engine_recv(g[image], ticket, ENGINE_NEG, &neg, &e));
    engine_drop(g[image], ticket);
    OK(engine_denoise(g[image], pos, neg, &gen, NULL, z, &e));
    embed_free(pos);
    embed_free(neg);
    OK(engine_send_latent(g[image], *z, ticket, &e));
    OK(engine_recv_latent(g[VAE], ticket, &far, &e));
    engine_drop(g[VAE], ticket);
    OK(engine_decode(g[VAE], far, img, &e));
    latent_free(far);
}

static void whole(struct engine *g, int i, struct latent **z, struct image *img)
{
    char          text[1024];
    struct gen    gen = tiny_gen(i);
    struct embed *pos = NULL, *neg = NULL;

    OK(engine_encode(g, str_of(tiny_prompt(i, text)), &pos, &e));
    if (gen.guidance > 0) OK(engine_encode(g, str_of(tiny_cases[i].negative ? tiny_cases[i].negative : ""), &neg, &e));
    OK(engine_denoise(g, pos, neg, &gen, NULL, z, &e));
    OK(engine_decode(g, *z, img, &e));
    embed_free(pos);
    embed_free(neg);
}

/* All eight cases, on either image rank in turn, in both precisions: latents and pixels of one engine, bit for bit. */
static void same_bytes(void **state)
{
    static const enum engine_precision precision[] = { ENGINE_F32, ENGINE_BF16 };
    uint64_t                           ticket = 1;

    (void)state;
    for (int k = 0; k < 2; k++) {
        struct engine *g[RANKS], *one = open_part(ENGINE_BOTH, precision[k]);

        open_all(g, precision[k], 60000);
        for (int i = 0; i < TINY_CASES; i++) {
            struct latent *want = NULL, *got = NULL;
            struct image   want_img, got_img;

            whole(one, i, &want, &want_img);
            split(g, i, i % 2 ? IMAGE_A : IMAGE_B, ticket++, &got, &got_img);
            assert_int_equal(latent_count(want), latent_count(got));
            assert_memory_equal(want->values, got->values, latent_count(want) * sizeof(float));
            assert_int_equal(want_img.width_px, got_img.width_px);
            assert_memory_equal(want_img.rgb, got_img.rgb, (size_t)want_img.width_px * (size_t)want_img.height_px * 3);
            latent_free(want);
            latent_free(got);
            image_free(&want_img);
            image_free(&got_img);
        }
        close_all(g);
        engine_free(one);
    }
}

/* A prompt that this image rank has seen is not carried again; its raw values are those of the text encoder. */
static void remembered(void **state)
{
    struct engine *g[RANKS];
    struct embed  *p = NULL, *first = NULL, *second = NULL;
    int64_t        n, c;
    float         *want, *got;

    (void)state;
    open_all(g, ENGINE_F32, 60000);
    OK(engine_encode(g[TEXT], str_of(TINY_ROBOT), &p, &e));
    OK(engine_send(g[TEXT], p, 1, ENGINE_POS, &e));
    OK(engine_send(g[TEXT], p, 2, ENGINE_POS, &e));
    OK(engine_recv(g[IMAGE_A], 1, ENGINE_POS, &first, &e));
    OK(engine_recv(g[IMAGE_A], 2, ENGINE_POS, &second, &e));
    assert_ptr_equal(first, second);
    OK(embed_get(p, &n, &c, NULL, 0, &e));
    want = calloc((size_t)(n * c), sizeof *want);
    got = calloc((size_t)(n * c), sizeof *got);
    OK(embed_get(p, &n, &c, want, n * c, &e));
    OK(embed_get(first, &n, &c, got, n * c, &e));
    assert_memory_equal(want, got, (size_t)(n * c) * sizeof *want);
    engine_drop(g[IMAGE_A], 1);
    engine_drop(g[IMAGE_A], 2);
    embed_free(p);
    embed_free(first);
    embed_free(second);
    free(want);
    free(got);
    close_all(g);
}

static void refusals(void **state)
{
    struct engine *g[RANKS], *alone = open_part(ENGINE_TEXT, ENGINE_F32), *image = open_part(ENGINE_DIT, ENGINE_F32);
    struct embed  *p = NULL, *q = NULL;
    struct latent *z = NULL;
    struct gen     gen = tiny_gen(0);
    struct image   img;
    struct err     why = { 0 };

    (void)state;
    OK(engine_encode(alone, str_of(TINY_CAT), &p, &e));
    assert_int_equal(engine_send(alone, p, 1, ENGINE_POS, &why), ERR_STATE); /* not linked */
    assert_int_equal(engine_recv(image, 1, ENGINE_POS, &q, &why), ERR_STATE);
    assert_int_equal(engine_denoise(image, p, NULL, &gen, NULL, &z, &why), ERR_STATE); /* it has no caption */
    assert_string_equal(engine_link_about(alone), "");
    engine_link_fail(alone, "nobody hears");
    embed_free(p);
    engine_free(alone);
    engine_free(image);
    open_all(g, ENGINE_F32, 50);
    assert_int_equal(engine_encode(g[IMAGE_A], str_of(TINY_CAT), &p, &why), ERR_STATE);
    assert_int_equal(engine_decode(g[TEXT], NULL, &img, &why), ERR_STATE);
    assert_int_equal(engine_recv_latent(g[IMAGE_A], 1, &z, &why), ERR_STATE); /* no VAE there */
    assert_int_equal(engine_recv(g[VAE], 1, ENGINE_POS, &q, &why), ERR_STATE);
    assert_int_equal(engine_recv(g[IMAGE_A], 1, ENGINE_POS, &q, &why), ERR_DEVICE); /* it never comes: the link is down */
    assert_int_equal(engine_recv_latent(g[VAE], 9, &z, &why), ERR_DEVICE);
    assert_non_null(strstr(why.text, "ticket 1")); /* by the first one's fault */
    close_all(g);
}

static void sizes(void **state)
{
    struct engine_opts  o = { .model_dir = TINY_MODEL, .device = "cpu", .precision = ENGINE_F32, .n_threads = 1 };
    struct engine_sizes s;
    struct engine_plan  all, text, none;
    struct engine      *g = open_part(ENGINE_BOTH, ENGINE_F32);
    size_t              work;

    (void)state;
    OK(engine_sizes(&o, &s, &e));
    assert_string_equal(s.device, "cpu");
    assert_false(s.on_gpu);
    assert_int_equal(s.text.weights_bytes[0], weights_bytes(g->model.text));
    assert_int_equal(s.dit.weights_bytes[0], weights_bytes(g->model.dit));
    assert_int_equal(s.vae.weights_bytes[1], weights_bytes(g->model.vae));
    OK(engine_measure_text(g, g->profile.tokens_max, &work, &e));
    assert_true(s.text.work_bytes[0] > 0 && s.text.work_bytes[0] <= work);
    assert_true(s.dit.work_bytes[0] > 0 && s.vae.work_bytes[0] > 0);
    OK(engine_sizes_plan(&s, ENGINE_BOTH, 0, &all, &e));
    OK(engine_sizes_plan(&s, ENGINE_TEXT, 0, &text, &e));
    assert_int_equal(all.weights_bytes, s.text.weights_bytes[0] + s.dit.weights_bytes[0] + s.vae.weights_bytes[0]);
    assert_int_equal(text.total_bytes, s.text.weights_bytes[0] + s.text.work_bytes[0]);
    engine_free(g);
    s.on_gpu = true; /* as if: what fits into a budget, and what does not */
    s.free_bytes = (size_t)64 << 30;
    OK(engine_sizes_plan(&s, ENGINE_DIT, (size_t)2 << 30, &all, &e));
    assert_int_equal(all.total_bytes, s.dit.weights_bytes[0] + s.dit.work_bytes[0] + all.kernels_bytes);
    assert_non_null(strstr(all.about, "transformer"));
    assert_null(strstr(all.about, "text encoder"));
    {
        struct err why = { 0 };
        assert_int_equal(engine_sizes_plan(&s, ENGINE_BOTH, 1 << 20, &none, &why), ERR_NOMEM);
        assert_non_null(strstr(why.text, "at least"));
        o.model_dir = "/nowhere";
        assert_int_equal(engine_sizes(&o, &s, &why), ERR_NOTFOUND);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bytes),
        cmocka_unit_test(remembered),
        cmocka_unit_test(refusals),
        cmocka_unit_test(sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

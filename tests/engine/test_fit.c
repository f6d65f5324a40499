/* test_fit.c - on a GPU: every way of keeping a model gives the same bytes; what does not fit is refused before it starts; memory that ran out
 * is given back and tried again once; a thousand requests would find it flat (bench_soak.c counts). Skips, and says why, without a device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "engine/inside.h"
#include "engine/made.h"
#include "kernels/ops.h"
#include "tests/engine/tiny.h"

static struct model_conf conf;
static struct buf        tokenizer;

static void load_shapes(void)
{
    struct dev *d = NULL;
    struct err  why = { 0 };

    if (dev_open(&d, "cuda:0", NULL, &why)) {
        assert_int_equal(why.code, ERR_DEVICE);
        print_message("skipped: %s\n", why.text);
        skip();
    }
    dev_close(d);
    if (tokenizer.len) return;
    OK(config_open(&conf, TINY_MODEL, NULL, &e));
    buf_init(&tokenizer, (size_t)16 << 20);
    OK(file_read(TINY_MODEL "/tokenizer/tokenizer.json", &tokenizer, &e));
}

/* Made-up weights of these kinds; e NULL: it must open. */
static struct engine *open_made(enum dtype dit, enum dtype text, enum engine_precision precision, size_t budget, struct err *why)
{
    const struct engine_made made = { .conf = &conf, .dit = dit, .text = text, .vae = DTYPE_BF16, .tokenizer_json = buf_str(&tokenizer) };
    struct engine_opts       o = { .made = &made, .device = "cuda:0", .parts = ENGINE_BOTH, .precision = precision, .vram_budget_bytes = budget };
    struct engine           *g = NULL;
    struct err               e = { 0 };

    if (engine_open(&g, &o, &e) && !why) fail_msg("%s", e.text);
    if (why) *why = e;
    return g;
}

static uint64_t hash_of(uint64_t h, const void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3u;
    return h;
}

/* Latents and pixels of two cases, one of them guided, and a third prompt between. */
static uint64_t paint(struct engine *g)
{
    static const int cases[] = { 0, 3, 1, 0 };
    uint64_t         h = 0xcbf29ce484222325u;

    for (int k = 0; k < 4; k++) {
        char           text[1024];
        const int      i = cases[k];
        struct gen     gen = tiny_gen(i);
        struct embed  *pos = NULL, *neg = NULL;
        struct latent *z = NULL;
        struct image   img;
        const float   *v;
        int            dim[3];

        OK(engine_check(g, &gen, &e));
        OK(engine_encode(g, str_of(tiny_prompt(i, text)), &pos, &e));
        if (gen.guidance > 0) OK(engine_encode(g, str_of(tiny_cases[i].negative), &neg, &e));
        OK(engine_denoise(g, pos, neg, &gen, NULL, &z, &e));
        OK(engine_decode(g, z, &img, &e));
        OK(latent_get(z, dim, &v, &e));
        h = hash_of(h, v, (size_t)(dim[0] * dim[1] * dim[2]) * sizeof *v);
        h = hash_of(h, img.rgb, (size_t)img.width_px * (size_t)img.height_px * 3);
        image_free(&img);
        latent_free(z);
        embed_free(pos);
        embed_free(neg);
    }
    return h;
}

/* What this plan takes: one byte less makes the next way. */
static size_t need_of(const struct engine *g)
{
    return g->plan.weights_bytes + g->plan.work_bytes + PLAN_KERNELS_BYTES;
}

static void walk(enum dtype dit, enum dtype text, enum engine_precision precision, int n_ways)
{
    struct err    e = { 0 };
    size_t        budget = 0;
    uint64_t      first = 0;
    int           n = 0;

    for (;; n++) {
        struct engine *g = open_made(dit, text, precision, budget, &e);
        uint64_t       h;

        if (!g) break;
        h = paint(g);
        print_message("%s\n  %016llx\n", engine_profile(g)->plan, (unsigned long long)h);
        first = n ? first : h;
        assert_true(h == first);
        budget = need_of(g) - 1;
        if (g->home.stay == PLAN_PARKED) { /* as on a host where nothing can be locked */
            dev_unpin(g->d, g->home.image);
            g->home.image = NULL;
            g->home.saved = false;
            g->home.stay = PLAN_RELEASED;
            cache_release(&g->cache);
            assert_true(paint(g) == first);
        }
        engine_free(g);
    }
    assert_int_equal(e.code, ERR_NOMEM);
    assert_non_null(strstr(e.text, "--vram-budget"));
    assert_int_equal(n, n_ways);
}

static void test_same_bytes_whatever_the_plan(void **state)
{
    (void)state;
    load_shapes();
    walk(DTYPE_Q8_0, DTYPE_Q4_0, ENGINE_BF16, 4);
    walk(DTYPE_F8_E4M3, DTYPE_Q8_0, ENGINE_F32, 4);
    walk(DTYPE_BF16, DTYPE_BF16, ENGINE_BF16, 2);
}

/* A picture beyond the plan is refused by the check, and by the stage, before anything runs; the next one is painted. */
static void test_too_large_is_refused(void **state)
{
    struct gen     gen = tiny_gen(0);
    struct embed  *pos = NULL;
    struct latent *z = NULL;
    struct err     why = { 0 };

    (void)state;
    load_shapes();
    struct engine *g = open_made(DTYPE_BF16, DTYPE_BF16, ENGINE_BF16, 0, NULL);
    uint64_t       before = paint(g);
    size_t         budget = need_of(g);
    engine_free(g);
    g = open_made(DTYPE_BF16, DTYPE_BF16, ENGINE_BF16, budget, NULL);
    gen.width_px = conf.dit.axes_lens[2] * g->profile.multiple_px;
    gen.height_px = conf.dit.axes_lens[1] * g->profile.multiple_px;
    gen.guidance = 4; /* more work space than was planned for */
    if (gen.width_px > 2048) gen.width_px = 2048;
    if (gen.height_px > 2048) gen.height_px = 2048;
    OK(engine_encode(g, str_of("x"), &pos, &e));
    size_t saved = g->memory_bytes;
    g->memory_bytes = 4096; /* whatever tiny-a needs, it is more */
    assert_int_equal(engine_check(g, &gen, &why), ERR_NOMEM);
    assert_true(strstr(why.text, "GiB of work space") && strstr(why.text, "ask for a smaller one"));
    assert_int_equal(engine_denoise(g, pos, pos, &gen, NULL, &z, &why), ERR_NOMEM);
    embed_free(pos);
    g->memory_bytes = saved;
    assert_true(paint(g) == before);
    engine_free(g);
    assert_null(open_made(DTYPE_BF16, DTYPE_BF16, ENGINE_BF16, (size_t)1 << 50, &why));
    assert_true(why.code == ERR_NOMEM && strstr(why.text, "free"));
}

/* Somebody else takes all but a little of the GPU: what this engine kept for speed is given back, one more try; then a sentence with sizes. */
static void test_memory_runs_out(void **state)
{
    struct dev_memory m;
    struct tensor     hog[64];
    struct embed     *pos = NULL;
    struct latent    *z = NULL;
    struct gen        gen = tiny_gen(0);
    struct err        why = { 0 };
    int               n = 0;

    (void)state;
    load_shapes();
    struct engine *g = open_made(DTYPE_Q8_0, DTYPE_Q8_0, ENGINE_BF16, 0, NULL);
    uint64_t       before = paint(g);
    struct dev    *other = NULL;
    OK(dev_open(&other, "cuda:0", NULL, &e));
    OK(engine_encode(g, str_of("what is not in the cache"), &pos, &e));
    dev_trim(g->d);
    for (size_t step = (size_t)8 << 30; step >= (size_t)2 << 20 && n < 64;) {
        int64_t bytes = (int64_t)step;
        if (dev_alloc(other, DTYPE_U8, 1, &bytes, &hog[n], NULL)) step /= 2;
        else n++;
    }
    dev_memory(other, &m);
    print_message("%zu MiB left\n", (m.total_bytes - m.used_bytes) >> 20);
    gen.width_px = gen.height_px = 1024;
    assert_int_equal(engine_denoise(g, pos, NULL, &gen, NULL, &z, &why), ERR_NOMEM);
    print_message("%s\n", why.text);
    assert_non_null(strstr(why.text, "GiB of"));
    while (n) dev_free(other, &hog[--n]);
    dev_close(other);
    embed_free(pos);
    assert_true(paint(g) == before);
    engine_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bytes_whatever_the_plan),
        cmocka_unit_test(test_too_large_is_refused),
        cmocka_unit_test(test_memory_runs_out),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    buf_release(&tokenizer);
    return rc;
}

/* test_vae.c - the decoder alone: golden latents to golden pixels. */
#include "tests/engine/parts.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/png.h"
#include "engine/vae.h"
#include "tests/golden.h"
#include "tests/near.h"

static void golden_latents_give_golden_pixels(void **state)
{
    struct parts p;
    struct vae  *v = NULL;
    (void)state;
    parts_open(&p, TINY_MODEL "/vae");
    OK(vae_open(&v, &p.conf.vae, p.w, p.d, &e));
    assert_int_equal(vae_scale(&p.conf.vae), 8);
    for (int i = 0; i < TINY_CASES; i++) {
        char         name[32], path[512];
        size_t       n, len, n_off;
        struct image truth;
        snprintf(name, sizeof name, "latents%d", i);
        snprintf(path, sizeof path, TESTS_DIR "/golden/tiny-a/case%d.png", i);
        float *latents = golden_read(TINY_GOLDEN, name, &n);
        char  *png = golden_file(path, &len);
        OK(png_read((struct str){ png, len }, &truth, NULL, NULL, &e));
        int64_t       h = tiny_cases[i].h / 8, w = tiny_cases[i].w / 8;
        struct tensor z = parts_put(&p, latents, 3, (const int64_t[]){ 16, h, w }), rgb = dev_new3(p.d, DTYPE_U8, 8 * h, 8 * w, 3);
        size_t        n_rgb = (size_t)tensor_count(&rgb);
        uint8_t      *got = malloc(n_rgb);
        assert_non_null(got);
        vae_decode(v, &z, &rgb);
        parts_get(&p, &rgb, got);
        assert_int_equal(n_rgb, (size_t)truth.width_px * (size_t)truth.height_px * 3);
        assert_true(near_u8(name, got, truth.rgb, n_rgb, 1, &n_off));
        print_message("%s: %zu of %zu bytes off by 1\n", name, n_off, n_rgb);
        dev_reset(p.d, 0);
        image_free(&truth);
        free(got);
        free(png);
        free(latents);
    }
    vae_free(v);
    parts_close(&p);
}

/* Case 7 into out; returns the work space. */
static size_t decode_case_7(struct dev *d, struct vae *v, uint8_t *out, size_t n_rgb)
{
    const int64_t h = tiny_cases[7].h / 8, w = tiny_cases[7].w / 8;
    size_t        n, space;
    float        *latents = golden_read(TINY_GOLDEN, "latents7", &n);

    dev_measure_begin(d);
    struct tensor z = dev_new3(d, DTYPE_F32, 16, h, w), rgb = dev_new3(d, DTYPE_U8, 8 * h, 8 * w, 3);
    vae_decode(v, &z, &rgb);
    OK(dev_measure_end(d, &space, &e));
    OK(dev_scratch_reserve(d, space, &e)); /* what was measured is enough */
    z = dev_new3(d, DTYPE_F32, 16, h, w), rgb = dev_new3(d, DTYPE_U8, 8 * h, 8 * w, 3);
    OK(dev_put(d, &z, latents, n * sizeof *latents, &e));
    assert_true(vae_decode(v, &z, &rgb));
    OK(dev_get(d, &rgb, out, n_rgb, &e));
    OK(dev_sync(d, &e));
    dev_reset(d, 0);
    free(latents);
    return space;
}

/* The whole picture at once and strips of eight rows to some more: on a CPU the same bytes. On a GPU libraries may take another kernel for another
 * height, so last bits differ, and a byte may fall on its neighbour: of the many in bf16, of a few in F32. */
static void strips_on(const char *device, enum precision precision, int limit, double share)
{
    static const size_t bytes[] = { 1, 100 << 10, 1 << 20 };
    const size_t        n = (size_t)tiny_cases[7].h * (size_t)tiny_cases[7].w * 3;
    struct dev_opts     o = { .precision = precision, .n_threads = 2 };
    struct model_conf   conf;
    struct weights     *file = NULL;
    struct dev         *d = NULL;
    struct vae         *v = NULL;
    struct err          refused = { 0 };
    uint8_t            *whole = malloc(n), *got = malloc(n);

    assert_true(whole && got);
    OK(config_open(&conf, TINY_MODEL, NULL, &e));
    if (dev_open(&d, device, &o, &refused)) {
        print_message("%s: not here: %s\n", device, refused.text);
    } else {
        OK(weights_open(&file, TINY_MODEL "/vae", NULL, &e));
        OK(vae_open(&v, &conf.vae, file, d, &e));
        size_t space = decode_case_7(d, v, whole, n);
        for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++) {
            size_t n_off;
            vae_strips(v, bytes[i]);
            size_t less = decode_case_7(d, v, got, n);
            assert_true(near_u8("strips", got, whole, n, limit, &n_off));
            assert_true(less < space && (double)n_off <= share * (double)n);
            print_message("%s precision %d: strips of %zu bytes: work space %zu of %zu KiB, %zu of %zu bytes differ\n", device, (int)precision, bytes[i], less >> 10,
                          space >> 10, n_off, n);
        }
        vae_free(v);
        dev_close(d);
        weights_free(file);
    }
    free(whole);
    free(got);
}

static void strips_are_exact(void **state)
{
    (void)state;
    strips_on("cpu", PRECISION_F32, 0, 0);
    strips_on("cpu", PRECISION_BF16, 0, 0);
    strips_on("cpu", PRECISION_AUTO, 0, 0);
    strips_on("cuda:0", PRECISION_F32, 1, 1e-3);
    strips_on("cuda:0", PRECISION_BF16, 6, 0.6);
}

static void shapes_of_the_file_are_checked(void **state)
{
    struct parts p;
    struct vae  *v = NULL;
    struct err   e = { 0 };
    (void)state;
    parts_open(&p, TINY_MODEL "/vae");
    p.conf.vae.layers_per_block = 3;
    assert_int_equal(vae_open(&v, &p.conf.vae, p.w, p.d, &e), ERR_NOTFOUND);
    assert_non_null(strstr(e.text, "decoder.up_blocks.0.resnets.3.norm1.weight"));
    p.conf.vae.layers_per_block = 2, p.conf.vae.post_quant = true;
    assert_int_equal(vae_open(&v, &p.conf.vae, p.w, p.d, &e), ERR_NOTFOUND);
    assert_non_null(strstr(e.text, "post_quant_conv.weight"));
    p.conf.vae.post_quant = false, p.conf.vae.channels[0] = 32;
    assert_int_equal(vae_open(&v, &p.conf.vae, p.w, p.d, &e), ERR_FORMAT);
    assert_null(v);
    parts_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_latents_give_golden_pixels),
        cmocka_unit_test(strips_are_exact),
        cmocka_unit_test(shapes_of_the_file_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

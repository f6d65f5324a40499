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
        cmocka_unit_test(shapes_of_the_file_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

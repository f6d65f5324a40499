/* test_meta.c - the texts inside a picture: exact, parseable, made from the spec alone. */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "base/png.h"
#include "worker/meta.h"

static const uint8_t digest[32] = {0xab, 0xcd, 0xef, 1, 2, 3};

static struct meta sample(void)
{
    struct meta m = {.model = str_of("turbo"), .digest = digest};

    spec_init(&m.spec);
    m.spec.prompt = str_of("a \"cat\"\nwith a \\ and \xc3\xa9, Steps: 3");
    m.spec.negative = str_of("blurry");
    m.spec.width_px = 512;
    m.spec.height_px = 768;
    m.spec.steps = 8;
    m.spec.guidance = 2.3f;
    m.spec.cfg_norm = 1;
    m.spec.cfg_trunc = 0.7f;
    m.spec.seed = UINT64_MAX;
    return m;
}

static void parameters(void **state)
{
    struct meta m = sample();
    struct buf  b;
    struct err  e = {0};

    (void)state;
    buf_init(&b, META_MAX_BYTES);
    assert_int_equal(meta_parameters(&m, &b, &e), 0);
    assert_string_equal(b.at,
                        "a \"cat\"\nwith a \\ and \xc3\xa9, Steps: 3\nNegative prompt: blurry\n"
                        "Steps: 8, Sampler: Euler, Schedule type: flow-match, CFG scale: 3.3, Seed: 18446744073709551615, Size: 512x768, "
                        "Model: turbo, Model hash: abcdef0102, Version: zfarm " ZFARM_VERSION ", RNG: torch-cuda:h100, Guidance: 2.29999995, "
                        "CFG normalization: 1, CFG truncation: 0.699999988");
    buf_clear(&b);
    m.spec.negative = str_of("");
    m.spec.guidance = 0;
    m.spec.rng = (struct rng){RNG_TORCH_CPU, 0};
    assert_int_equal(meta_parameters(&m, &b, &e), 0);
    assert_null(strstr(b.at, "Negative"));
    assert_null(strstr(b.at, "truncation"));
    assert_non_null(strstr(b.at, "RNG: torch-cpu, Guidance: 0"));
    buf_release(&b);
}

static void json(void **state)
{
    struct meta  m = sample();
    struct buf   b;
    struct err   e = {0};
    json_t      *j;

    (void)state;
    buf_init(&b, META_MAX_BYTES);
    m.spec.seed = 1ull << 62;
    assert_int_equal(meta_json(&m, &b, &e), 0);
    j = json_loadb(b.at, b.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(j);
    assert_string_equal(json_string_value(json_object_get(j, "prompt")), m.spec.prompt.at);
    assert_string_equal(json_string_value(json_object_get(j, "negative_prompt")), "blurry");
    assert_true(json_integer_value(json_object_get(j, "seed")) == 1ll << 62);
    assert_int_equal(json_integer_value(json_object_get(j, "steps")), 8);
    assert_true((float)json_number_value(json_object_get(j, "guidance")) == 2.3f);
    assert_true((float)json_number_value(json_object_get(j, "cfg_truncation")) == 0.7f);
    assert_int_equal(json_integer_value(json_object_get(j, "width")), 512);
    assert_string_equal(json_string_value(json_object_get(j, "rng")), "torch-cuda:h100");
    assert_int_equal(strlen(json_string_value(json_object_get(j, "model_digest"))), 64);
    assert_int_equal(json_object_size(j), 13);
    json_decref(j);
    buf_release(&b);
}

/* Through a PNG and back. */
static void inside_a_picture(void **state)
{
    struct meta     m = sample();
    uint8_t         rgb[16 * 16 * 3] = {7};
    struct image    img = {16, 16, rgb}, back = {0};
    struct buf      parameters_text, json_text, png;
    struct png_text text[2], got[4];
    size_t          n_got = 4;
    struct err      e = {0};

    (void)state;
    buf_init(&parameters_text, META_MAX_BYTES);
    buf_init(&json_text, META_MAX_BYTES);
    buf_init(&png, 1 << 20);
    assert_int_equal(meta_parameters(&m, &parameters_text, &e), 0);
    assert_int_equal(meta_json(&m, &json_text, &e), 0);
    text[0] = (struct png_text){(char *)(uintptr_t)"parameters", buf_str(&parameters_text)};
    text[1] = (struct png_text){(char *)(uintptr_t)"zfarm", buf_str(&json_text)};
    if (png_write(&img, text, 2, 6, &png, &e)) fail_msg("%s", e.text);
    if (png_read(buf_str(&png), &back, got, &n_got, &e)) fail_msg("%s", e.text);
    assert_int_equal(n_got, 2);
    assert_true(str_eq(got[0].value, buf_str(&parameters_text)));
    assert_true(str_eq(got[1].value, buf_str(&json_text)));
    png_texts_free(got, n_got);
    image_free(&back);
    buf_release(&parameters_text);
    buf_release(&json_text);
    buf_release(&png);
}

static void too_long(void **state)
{
    struct meta m = sample();
    static char text[PROMPT_MAX_BYTES];
    struct buf  b;
    struct err  e = {0};

    (void)state;
    memset(text, 1, sizeof text); /* each byte becomes six in JSON */
    m.spec.prompt = m.spec.negative = (struct str){text, sizeof text};
    buf_init(&b, META_MAX_BYTES);
    assert_int_equal(meta_json(&m, &b, &e), ERR_LIMIT);
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(parameters), cmocka_unit_test(json), cmocka_unit_test(inside_a_picture),
                                       cmocka_unit_test(too_long)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

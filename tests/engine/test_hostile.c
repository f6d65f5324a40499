/* test_hostile.c - model folders that are damaged or lie: engine_open answers with one sentence that names the thing, never more.
 * Each case copies tiny-a, spoils one file and opens it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/str.h"
#include "tests/engine/tiny.h"
#include "tests/golden.h"
#include "tests/tmp.h"

static const char *const FILES[] = { "model_index.json",
                                     "scheduler/scheduler_config.json",
                                     "text_encoder/config.json",
                                     "text_encoder/model.safetensors",
                                     "tokenizer/tokenizer.json",
                                     "transformer/config.json",
                                     "transformer/diffusion_pytorch_model.safetensors",
                                     "vae/config.json",
                                     "vae/diffusion_pytorch_model.safetensors" };
#define N_FILES    (sizeof FILES / sizeof *FILES)
#define DIT_FILE   "transformer/diffusion_pytorch_model.safetensors"
#define TEXT_FILE  "text_encoder/model.safetensors"
#define VAE_FILE   "vae/diffusion_pytorch_model.safetensors"

static char *read_model(const char *name, size_t *len)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", TINY_MODEL, name);
    return golden_file(path, len);
}

static void put(struct tmp *t, const char *name, const char *at, size_t len)
{
    struct err e = { 0 };
    if (file_write(tmp_path(t, name), at, len, FILE_REPLACE, &e))
        fail_msg("%s", e.text);
}

static void copy_model(struct tmp *t)
{
    static const char *const folders[] = { "scheduler", "text_encoder", "tokenizer", "transformer", "vae" };
    tmp_open(t);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        assert_int_equal(file_make_folder(tmp_path(t, folders[i]), NULL), 0);
    for (size_t i = 0; i < N_FILES; i++) {
        size_t len;
        char  *at = read_model(FILES[i], &len);
        put(t, FILES[i], at, len);
        free(at);
    }
}

/* Every `from` of the file becomes `to`, of the same length. */
static void swap(struct tmp *t, const char *name, const char *from, const char *to)
{
    size_t len, n = strlen(from), hits = 0;
    char  *at = read_model(name, &len);
    assert_int_equal(n, strlen(to));
    for (char *p = at; (p = memmem(p, len - (size_t)(p - at), from, n)); p += n, hits++)
        memcpy(p, to, n);
    if (!hits)
        fail_msg("%s has no %s", name, from);
    put(t, name, at, len);
    free(at);
}

static int open_dir(const char *dir, struct engine **g, struct err *e)
{
    struct engine_opts o = { .model_dir = dir, .device = "cpu", .parts = ENGINE_BOTH, .precision = ENGINE_F32, .n_threads = 1 };
    return engine_open(g, &o, e);
}

static void refused(struct tmp *t, int code, const char *part)
{
    struct engine *g = NULL;
    struct err     e = { 0 };
    int            rc = open_dir(t->dir, &g, &e);
    if (rc != code || !strstr(e.text, part) || strchr(e.text, '\n'))
        fail_msg("code %d \"%s\", expected %d \"%s\"", rc, e.text, code, part);
    assert_null(g);
}

static void every_file_is_needed(void **state)
{
    struct tmp t;
    (void)state;
    copy_model(&t);
    for (size_t i = 0; i < N_FILES; i++) {
        size_t      len;
        char       *at = read_model(FILES[i], &len);
        struct err  e = { 0 };
        struct engine *g = NULL;
        assert_int_equal(unlink(tmp_path(&t, FILES[i])), 0);
        assert_true(open_dir(t.dir, &g, &e) < 0);
        assert_true(e.text[0] != 0);
        put(&t, FILES[i], at, len);
        free(at);
    }
    struct engine *g = NULL;
    assert_int_equal(open_dir(t.dir, &g, NULL), 0);
    engine_free(g);
    tmp_close(&t);
}

static void every_file_cut_short_is_refused(void **state)
{
    struct tmp t;
    (void)state;
    copy_model(&t);
    for (size_t i = 0; i < N_FILES; i++) {
        size_t len, cuts[4];
        char  *at = read_model(FILES[i], &len);
        cuts[0] = 0, cuts[1] = 7, cuts[2] = len / 2, cuts[3] = len - 2;
        for (int k = 0; k < 4; k++) {
            struct err     e = { 0 };
            struct engine *g = NULL;
            put(&t, FILES[i], at, cuts[k]);
            assert_int_equal(open_dir(t.dir, &g, &e), ERR_FORMAT);
            if (!strstr(e.text, strrchr(FILES[i], '/') ? strrchr(FILES[i], '/') : FILES[i]))
                fail_msg("\"%s\" does not name %s", e.text, FILES[i]);
        }
        put(&t, FILES[i], at, len);
        free(at);
    }
    tmp_close(&t);
}

static void lies_in_the_files_are_named(void **state)
{
    struct tmp t;
    (void)state;
    copy_model(&t);
    swap(&t, DIT_FILE, "\"x_pad_token\"", "\"x_pad_tokem\"");
    refused(&t, ERR_NOTFOUND, "tensor x_pad_token is missing");
    swap(&t, DIT_FILE, "\"shape\":[128,341]", "\"shape\":[341,128]");
    refused(&t, ERR_FORMAT, "feed_forward.w2.weight is [341,128], the config asks for [128,341]");
    swap(&t, DIT_FILE, "\"BF16\"", "\"I16\" ");
    refused(&t, ERR_FORMAT, "dtype I16");
    swap(&t, DIT_FILE, "\"data_offsets\":[0,", "\"data_offsets\":[2,");
    refused(&t, ERR_FORMAT, "need");

    size_t len;
    char  *at = read_model(DIT_FILE, &len);
    memset(at, 0xff, 8); /* a header of 2^64 - 1 bytes */
    put(&t, DIT_FILE, at, len);
    refused(&t, ERR_LIMIT, "the limit is 16777216");
    free(at);
    swap(&t, DIT_FILE, "\"shape\":[128,341]", "\"shape\":[128,341]"); /* as it was */

    swap(&t, "text_encoder/config.json", "\"head_dim\": 32", "\"head_dim\": 0 ");
    refused(&t, ERR_FORMAT, "\"head_dim\" is 0");
    swap(&t, "text_encoder/config.json", "\"head_dim\": 32", "\"head_dim\": 16"); /* allowed, but not what the file holds */
    refused(&t, ERR_FORMAT, "q_proj.weight is [128,64], the config asks for [64,64]");
    swap(&t, "text_encoder/config.json", "\"vocab_size\": 1280", "\"vocab_size\": 1000");
    refused(&t, ERR_FORMAT, "vocab_size is 1000");
    swap(&t, "text_encoder/config.json", "\"vocab_size\": 1280", "\"vocab_size\": 1280");
    put(&t, "tokenizer/tokenizer.json", "this is not JSON", 16);
    refused(&t, ERR_FORMAT, "tokenizer.json");
    tmp_close(&t);
}

static void weights_out_of_range_give_an_error_not_a_picture(void **state)
{
    struct tmp     t;
    struct engine *g = NULL;
    struct embed  *p = NULL;
    struct latent *z = NULL;
    struct err     e = { 0 };
    struct image   img = { 0 };
    struct gen     gen = tiny_gen(5);
    size_t         len;
    (void)state;
    copy_model(&t);
    char *at = read_model(TEXT_FILE, &len);
    memset(at + len - 300000, 0xff, 200000); /* NaNs in bf16 */
    put(&t, TEXT_FILE, at, len);
    free(at);
    assert_int_equal(open_dir(t.dir, &g, &e), 0);
    assert_int_equal(engine_encode(g, str_of(TINY_CAT), &p, &e), ERR_NAN);
    assert_null(p);
    engine_free(g);
    g = NULL;
    swap(&t, TEXT_FILE, "BF16", "BF16");
    at = read_model(DIT_FILE, &len);
    memset(at + len / 2, 0xff, len / 4);
    put(&t, DIT_FILE, at, len);
    free(at);
    assert_int_equal(open_dir(t.dir, &g, &e), 0);
    assert_int_equal(engine_encode(g, str_of(""), &p, &e), 0);
    assert_int_equal(engine_denoise(g, p, NULL, &gen, NULL, &z, &e), ERR_NAN);
    assert_non_null(strstr(e.text, "not finite after pass 1 of 2"));
    assert_null(z);
    embed_free(p);
    engine_free(g);
    g = NULL;
    swap(&t, DIT_FILE, "BF16", "BF16");
    at = read_model(VAE_FILE, &len);
    memset(at + len - 896294 + 9344, 0xff, 2); /* decoder.conv_out.bias[0] */
    put(&t, VAE_FILE, at, len);
    free(at);
    assert_int_equal(open_dir(t.dir, &g, &e), 0);
    assert_int_equal(engine_encode(g, str_of(""), &p, &e), 0);
    assert_int_equal(engine_denoise(g, p, NULL, &gen, NULL, &z, &e), 0);
    assert_int_equal(engine_decode(g, z, &img, &e), ERR_NAN);
    assert_non_null(strstr(e.text, "the picture is not finite"));
    assert_null(img.rgb);
    latent_free(z);
    embed_free(p);
    engine_free(g);
    tmp_close(&t);
}

/* Reading on would be SIGBUS. */
static void a_file_cut_while_it_is_used_is_an_error(void **state)
{
    struct tmp     t;
    struct engine *g = NULL;
    struct embed  *p = NULL;
    struct latent *z = NULL;
    struct image   img;
    struct err     e = { 0 };
    struct gen     gen = tiny_gen(5);
    (void)state;
    copy_model(&t);
    assert_int_equal(open_dir(t.dir, &g, &e), 0);
    assert_int_equal(engine_encode(g, str_of(""), &p, &e), 0);
    assert_int_equal(engine_denoise(g, p, NULL, &gen, NULL, &z, &e), 0);
    for (size_t i = 0; i < N_FILES; i++)
        if (strstr(FILES[i], ".safetensors"))
            assert_int_equal(truncate(tmp_path(&t, FILES[i]), 4096), 0);
    struct latent *none = NULL;
    struct embed  *other = NULL;
    assert_int_equal(engine_encode(g, str_of("x"), &other, &e), ERR_IO);
    assert_int_equal(engine_denoise(g, p, NULL, &gen, NULL, &none, &e), ERR_IO);
    assert_int_equal(engine_decode(g, z, &img, &e), ERR_IO);
    latent_free(z);
    embed_free(p);
    engine_free(g);
    tmp_close(&t);
}

static void options_are_checked(void **state)
{
    struct engine     *g = NULL;
    struct err         e = { 0 };
    struct engine_opts o = { .model_dir = TINY_MODEL, .device = "cpu", .parts = ENGINE_BOTH };
    (void)state;
    o.n_threads = -1;
    assert_int_equal(engine_open(&g, &o, &e), ERR_ARG);
    o.n_threads = 1, o.parts = 0;
    assert_int_equal(engine_open(&g, &o, &e), ERR_ARG);
    o.parts = ENGINE_BOTH, o.cache_embeds = 1 << 20;
    assert_int_equal(engine_open(&g, &o, &e), ERR_ARG);
    o.cache_embeds = 0, o.device = "tpu";
    assert_int_equal(engine_open(&g, &o, &e), ERR_ARG);
    assert_non_null(strstr(e.text, "tpu"));
    o.device = "cpu", o.model_dir = NULL;
    assert_int_equal(engine_open(&g, &o, &e), ERR_ARG);
    assert_null(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_file_is_needed),
        cmocka_unit_test(every_file_cut_short_is_refused),
        cmocka_unit_test(lies_in_the_files_are_named),
        cmocka_unit_test(weights_out_of_range_give_an_error_not_a_picture),
        cmocka_unit_test(a_file_cut_while_it_is_used_is_an_error),
        cmocka_unit_test(options_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

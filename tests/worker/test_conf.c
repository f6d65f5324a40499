/* test_conf.c - how a model is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "worker/conf.h"

static void model_names(void **state)
{
    static const struct { const char *text, *name, *dir; } good[] = {
        {"turbo=/models/z", "turbo", "/models/z"}, {"/models/z-image", "z-image", "/models/z-image"}, {"/models/z/", "z", "/models/z/"},
        {"z", "z", "z"}, {"/m/a=b", "a=b", "/m/a=b"}, {"a=b=c", "a", "b=c"}, {"/usr/..//usr", "usr", "/usr/..//usr"}};
    static const char *const bad[] = {"", "=x", "=", "a\x01=x", "a\xff=x",
                                      "0123456789012345678901234567890123456789012345678901234567890123456789=x",
                                      "/0123456789012345678901234567890123456789012345678901234567890123456789"};
    struct worker_conf c;
    struct err         e = {0};

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        worker_conf_init(&c);
        if (worker_conf_model(&c, good[i].text, &e)) fail_msg("%s: %s", good[i].text, e.text);
        assert_string_equal(c.model, good[i].name);
        assert_string_equal(c.model_dir, good[i].dir);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        worker_conf_init(&c);
        if (!worker_conf_model(&c, bad[i], &e)) fail_msg("\"%s\" was taken", bad[i]);
    }
}

/* A model is a folder, three files, or both; a set of files is named by its transformer. */
static void sets_of_files(void **state)
{
    struct worker_conf c;
    struct err         e = {0};

    (void)state;
    worker_conf_init(&c);
    c.dit = "/m/z-Q8_0.gguf";
    assert_int_equal(worker_conf_check(&c, &e), ERR_ARG);
    assert_non_null(strstr(e.text, "--text-encoder"));
    c.text_encoder = "/m/qwen.gguf";
    c.vae = "/m/ae.safetensors";
    assert_int_equal(worker_conf_check(&c, &e), 0);
    assert_string_equal(c.model, "z-Q8_0");
    assert_null(c.model_dir);
    worker_conf_init(&c);
    assert_int_equal(worker_conf_model(&c, "mine=", &e), 0);
    assert_string_equal(c.model, "mine");
    assert_null(c.model_dir);
    assert_int_equal(worker_conf_check(&c, &e), ERR_ARG);
    c.dit = c.text_encoder = c.vae = "x";
    assert_int_equal(worker_conf_check(&c, &e), 0);
    assert_string_equal(c.model, "mine");
}

static void defaults(void **state)
{
    struct worker_conf c;

    (void)state;
    worker_conf_init(&c);
    assert_int_equal(c.n_slots, 2);
    assert_int_equal(c.n_threads, 0);
    assert_non_null(strchr(c.name, ':'));
}

/* Words of --place, in the order they come; what goes with what; as many slots as keep a group busy. */
static void places(void **state)
{
    static const char *const words[] = {"image=cuda:1,cuda:2", "text=cuda:0", "vae=cuda:0"};
    struct worker_conf c;
    struct err         e = {0};
    char               line[PLACE_LINE_BYTES];

    (void)state;
    worker_conf_init(&c);
    assert_int_equal(worker_conf_model(&c, "x", &e), 0);
    for (size_t i = 0; i < 3; i++) assert_int_equal(worker_conf_place(&c, words[i], &e), 0);
    assert_int_equal(worker_conf_place(&c, "auto", &e), ERR_ARG);
    assert_int_equal(worker_conf_place(&c, "", &e), ERR_ARG);
    assert_int_equal(worker_conf_place(&c, "text=cpu image=cpu", &e), ERR_ARG);
    assert_int_equal(worker_conf_check(&c, &e), 0);
    assert_string_equal(place_line(&c.place, line), "text=cuda:0 image=cuda:1,cuda:2 vae=cuda:0");
    assert_int_equal(c.n_slots, 4);
    c.slots_given = true;
    c.n_slots = 7;
    assert_int_equal(worker_conf_check(&c, &e), 0);
    assert_int_equal(c.n_slots, 7);
    c.device_given = true;
    assert_int_equal(worker_conf_check(&c, &e), ERR_ARG);
    assert_non_null(strstr(e.text, "--device goes without --place"));
    c.device_is_last = true; /* the foreman's word */
    assert_int_equal(worker_conf_check(&c, &e), 0);
    assert_string_equal(c.place_words, "");

    worker_conf_init(&c);
    assert_int_equal(worker_conf_model(&c, "x", &e), 0);
    assert_int_equal(worker_conf_place(&c, "auto", &e), 0);
    assert_int_equal(worker_conf_check(&c, &e), 0); /* it is asked for later */
    assert_int_equal(c.place.n_image, 0);
    assert_int_equal(worker_conf_place(&c, "text=cpu", &e), ERR_ARG);
    worker_conf_init(&c);
    assert_int_equal(worker_conf_model(&c, "x", &e), 0);
    assert_int_equal(worker_conf_place(&c, "text=cpu", &e), 0);
    assert_int_equal(worker_conf_check(&c, &e), ERR_ARG);
    while (worker_conf_place(&c, "image=cpu", &e) == 0) continue;
    assert_non_null(strstr(e.text, "placements of more than"));
}

static void budgets(void **state)
{
    static const char *const bad[] = {"", "0", "-1", "0.2", "1025", "nan", "inf", "12 GiB", "1e400"};
    struct err e = {0};
    size_t     bytes = 7;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(worker_conf_budget(bad[i], &bytes, &e), ERR_ARG);
        assert_non_null(strstr(e.text, "0.25 to 1024"));
    }
    assert_int_equal(bytes, 7);
    assert_int_equal(worker_conf_budget("11.5", &bytes, &e), 0);
    assert_int_equal(bytes, (size_t)23 << 29);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(model_names), cmocka_unit_test(sets_of_files), cmocka_unit_test(defaults),
                                       cmocka_unit_test(budgets), cmocka_unit_test(places)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

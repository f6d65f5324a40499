/* test_foreman.c - which devices a word means. The processes: tests/cluster/16-devices.sh. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "worker/foreman.h"

static int n_asked;

static int none(void)
{
    n_asked++;
    return 0;
}

static int three(void)
{
    n_asked++;
    return 3;
}

static void words(void **state)
{
    static const struct { const char *text; int n; const char *first, *last; } good[] = {
        {"auto", 1, "auto", "auto"}, {"cpu", 1, "cpu", "cpu"}, {"cuda:7", 1, "cuda:7", "cuda:7"}, {"cuda:0,cuda:2", 2, "cuda:0", "cuda:2"},
        {"cpu,cpu,cpu", 3, "cpu", "cpu"}, {"cuda:all", 3, "cuda:0", "cuda:2"}, {"cuda:all,cpu", 4, "cuda:0", "cpu"}};
    static const char *const bad[] = {"", "gpu", "cuda", "cuda:", "cuda:x", "cuda:-1", "cuda:1234", "cpu,", ",cpu", "cpu,,cpu", "cuda:0,cuda:0",
                                      "cuda:all,cuda:1", "cuda:0 cuda:1", "cuda:00000000000000000000000000000000000000", "CPU"};
    struct foreman_set set;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct err e = {0};
        if (foreman_devices(&set, good[i].text, three, &e)) fail_msg("%s: %s", good[i].text, e.text);
        assert_int_equal(set.n, good[i].n);
        assert_string_equal(set.word[0], good[i].first);
        assert_string_equal(set.word[set.n - 1], good[i].last);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err e = {0};
        if (foreman_devices(&set, bad[i], three, &e) != ERR_ARG) fail_msg("\"%s\" was taken", bad[i]);
        assert_true(strstr(e.text, "no device") || strstr(e.text, "named twice"));
    }
}

/* Without a GPU the first one is still asked for: opening it says what is missing. */
static void no_gpu(void **state)
{
    struct foreman_set set;
    struct err         e = {0};

    (void)state;
    n_asked = 0;
    assert_int_equal(foreman_devices(&set, "cuda:all", none, &e), 0);
    assert_int_equal(set.n, 1);
    assert_string_equal(set.word[0], "cuda:0");
    assert_int_equal(n_asked, 1);
    assert_int_equal(foreman_devices(&set, "cuda:0,cpu", none, &e), 0);
    assert_int_equal(n_asked, 1); /* nobody is asked for what was named */
}

static void too_many(void **state)
{
    char               text[5 * (FOREMAN_DEVICES_MAX + 1) + 1] = "";
    struct foreman_set set;
    struct err         e = {0};

    (void)state;
    for (int i = 0; i <= FOREMAN_DEVICES_MAX; i++) memcpy(text + 4 * i, i < FOREMAN_DEVICES_MAX ? "cpu," : "cpu", 5 - (i == FOREMAN_DEVICES_MAX));
    assert_int_equal(foreman_devices(&set, text, none, &e), ERR_ARG);
    assert_non_null(strstr(e.text, "more than 64"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(words), cmocka_unit_test(no_gpu), cmocka_unit_test(too_many)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_err.c - sentences: born, prefixed, cut, never overrun; codes without a struct. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "base/err.h"

static void test_set_and_in(void **state)
{
    struct err e = {0};

    (void)state;
    assert_int_equal(err_set(&e, ERR_FORMAT, "%s: tensor %d", "a.gguf", 7), ERR_FORMAT);
    assert_string_equal(e.text, "a.gguf: tensor 7");
    assert_int_equal(err_in(&e, "dit: layer %d", 3), ERR_FORMAT);
    assert_string_equal(e.text, "dit: layer 3: a.gguf: tensor 7");
    assert_int_equal(err_set(&e, ERR_IO, "again: %s", e.text), ERR_IO); /* its own text as an argument */
    assert_string_equal(e.text, "again: dit: layer 3: a.gguf: tensor 7");
    errno = ENOSPC;
    assert_int_equal(err_errno(&e, ERR_IO, "x.png"), ERR_IO);
    assert_string_equal(e.text, "x.png: No space left on device");
}

static void test_null(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, ERR_LIMIT, "x"), ERR_LIMIT);
    assert_int_equal(err_errno(NULL, ERR_IO, "x"), ERR_IO);
    assert_int_equal(err_in(NULL, "x"), ERR_STATE);
}

static void test_cut(void **state)
{
    struct err e = {0};
    char       longer[2 * ERR_TEXT_BYTES];

    (void)state;
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    err_set(&e, ERR_ARG, "%s", longer);
    assert_int_equal(strlen(e.text), ERR_TEXT_BYTES - 1);
    err_in(&e, "%s", longer);
    assert_in_range(strlen(e.text), 300, ERR_TEXT_BYTES - 1);
    errno = EIO;
    err_errno(&e, ERR_IO, "%s", longer);
    assert_int_equal(strlen(e.text), ERR_TEXT_BYTES - 1);
}

static void test_names(void **state)
{
    (void)state;
    for (int code = ERR_CRASHED; code <= ERR_OK; code++) {
        assert_string_not_equal(err_name(code), "unknown");
        for (int other = ERR_CRASHED; other < code; other++) assert_string_not_equal(err_name(code), err_name(other));
    }
    assert_string_equal(err_name(-999), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_set_and_in), cmocka_unit_test(test_null), cmocka_unit_test(test_cut), cmocka_unit_test(test_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

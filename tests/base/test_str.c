/* test_str.c - str and buf: edges of UTF-8, of numbers and of the ceiling. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/str.h"

static void test_pieces(void **state)
{
    struct str s = str_of("  cat \t\r\n"), none = str_of(NULL);

    (void)state;
    assert_true(str_is(str_trim(s), "cat"));
    assert_true(str_is(str_trim(str_of(" \t")), ""));
    assert_true(str_is(none, "") && str_eq(none, str_of("")));
    assert_false(str_eq(str_of("a"), str_of("b")));
    assert_false(str_is(str_of("cat"), "ca"));
    assert_true(str_is(str_sub(str_of("abcdef"), 2, 3), "cde"));
    assert_true(str_is(str_sub(str_of("abc"), 1, SIZE_MAX), "bc"));
    assert_int_equal(str_sub(str_of("abc"), 9, 1).len, 0);
    assert_int_equal(str_sub(none, 0, 1).len, 0);
    assert_true(str_starts(str_of("tcp://x"), "tcp://") && str_starts(none, ""));
    assert_false(str_starts(str_of("tc"), "tcp"));
}

static void test_utf8(void **state)
{
    static const struct {
        const char *bytes;
        size_t      len, bad_at;
    } rows[] = {
        {"", 0, 0},
        {"plain", 5, 5},
        {"\xC2\x80\xDF\xBF", 4, 4},
        {"\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF", 12, 12},
        {"\xF0\x90\x80\x80\xF4\x8F\xBF\xBF", 8, 8},
        {"a\0b", 3, 1},
        {"a\x80", 2, 1},             /* a lone continuation */
        {"\xC0\xAF", 2, 0},          /* overlong '/' */
        {"\xC1\xBF", 2, 0},
        {"ab\xE0\x9F\xBF", 5, 2},    /* overlong */
        {"\xED\xA0\x80", 3, 0},      /* surrogate */
        {"\xF0\x8F\xBF\xBF", 4, 0},  /* overlong */
        {"\xF4\x90\x80\x80", 4, 0},  /* over U+10FFFF */
        {"\xF5\x80\x80\x80", 4, 0},
        {"\xFF", 1, 0},
        {"x\xC3", 2, 1},             /* cut */
        {"x\xE4\xBD", 3, 1},
        {"x\xF0\x9F\x98", 4, 1},
        {"\xE4\xBD\x41", 3, 0},      /* the third byte is not one */
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct str s = {rows[i].bytes, rows[i].len};
        assert_int_equal(str_utf8_bad_at(s), rows[i].bad_at);
        assert_int_equal(str_utf8_ok(s), rows[i].bad_at == rows[i].len);
    }
}

static void test_integers(void **state)
{
    static const char *const bad[] = {"", " 1", "1 ", "+1", "0x1", "1.0", "--1", "-", "abc", "18446744073709551616", "99999999999999999999"};
    uint64_t                 u = 7;
    int64_t                  v = 7;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(str_to_u64(str_of(bad[i]), &u), ERR_ARG);
        assert_int_equal(str_to_i64(str_of(bad[i]), &v), ERR_ARG);
    }
    assert_int_equal(str_to_u64(str_of("-1"), &u), ERR_ARG);
    assert_int_equal(str_to_i64(str_of("9223372036854775808"), &v), ERR_ARG);
    assert_int_equal(str_to_i64(str_of("-9223372036854775809"), &v), ERR_ARG);
    assert_int_equal(u, 7);
    assert_int_equal(v, 7);
    assert_int_equal(str_to_u64((struct str){"12345", 3}, &u), 0); /* no NUL behind */
    assert_int_equal(u, 123);
    assert_int_equal(str_to_u64(str_of("18446744073709551615"), &u), 0);
    assert_true(u == UINT64_MAX);
    assert_int_equal(str_to_i64(str_of("-9223372036854775808"), &v), 0);
    assert_true(v == INT64_MIN);
    assert_int_equal(str_to_i64(str_of("9223372036854775807"), &v), 0);
    assert_true(v == INT64_MAX);
    assert_int_equal(str_to_i64(str_of("-0"), &v), 0);
    assert_true(v == 0);
}

static void test_floats(void **state)
{
    static const char *const bad[] = {"", " 1", "1 ", "nan", "inf", "-inf", "NaN", "0x1p3", "1e999", "-1e999", "+1", "1e", "e5", ".", "-", "1.2.3", "1,5",
                                      "00000000000000000000000000000000000000000000000000000000000000001"};
    double                   v = 7;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_int_equal(str_to_f64(str_of(bad[i]), &v), ERR_ARG);
    assert_int_equal(str_to_f64((struct str){"1\0", 2}, &v), ERR_ARG);
    assert_true(v == 7);
    assert_int_equal(str_to_f64(str_of("-1.5e2"), &v), 0);
    assert_true(v == -150);
    assert_int_equal(str_to_f64((struct str){".25xyz", 3}, &v), 0);
    assert_true(v == 0.25);
}

static void test_buf_ceiling(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 10);
    assert_null(b.at);
    assert_true(str_is(buf_str(&b), ""));
    assert_int_equal(buf_puts(&b, "12345678"), 0);
    assert_int_equal(buf_puts(&b, "abc"), ERR_LIMIT);
    assert_int_equal(buf_printf(&b, "%d", 123), ERR_LIMIT);
    assert_null(buf_grow(&b, 3));
    assert_int_equal(buf_put(&b, "x", SIZE_MAX), ERR_LIMIT);
    assert_string_equal(b.at, "12345678");
    assert_int_equal(buf_printf(&b, "%d", 99), 0);
    assert_string_equal(b.at, "1234567899");
    assert_int_equal(buf_putc(&b, 'x'), ERR_LIMIT);
    assert_int_equal(buf_put(&b, NULL, 0), 0);
    buf_clear(&b);
    assert_string_equal(b.at, "");
    memset(buf_grow(&b, 4), 'z', 4);
    assert_string_equal(b.at, "zzzz");
    buf_release(&b);
    assert_int_equal(buf_puts(&b, "again"), 0); /* usable after release, same ceiling */
    assert_int_equal(buf_puts(&b, "123456"), ERR_LIMIT);
    buf_release(&b);
    buf_init(&b, 0);
    assert_int_equal(buf_putc(&b, 'x'), ERR_LIMIT);
    buf_release(&b);
}

static void test_buf_growth(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, SIZE_MAX);
    for (int i = 0; i < 5000; i++) assert_int_equal(buf_printf(&b, "%04d ", i), 0);
    assert_int_equal(b.len, 25000);
    assert_memory_equal(b.at + 4999 * 5, "4999 ", 6);
    assert_int_equal(buf_put(&b, "x", SIZE_MAX / 2 - 30000), ERR_NOMEM);
    assert_int_equal(b.len, 25000);
    buf_release(&b);
}

static void json_strings(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 64);
    assert_int_equal(buf_put_json(&b, (struct str){"a\"\\\n\t\x01\x7f\xc3\xa9", 9}), 0);
    assert_string_equal(b.at, "\"a\\\"\\\\\\n\\t\\u0001\\u007f\xc3\xa9\"");
    buf_clear(&b);
    assert_int_equal(buf_put_json(&b, str_of("")), 0);
    assert_string_equal(b.at, "\"\"");
    buf_release(&b);
    buf_init(&b, 4);
    assert_int_equal(buf_put_json(&b, str_of("long")), ERR_LIMIT);
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces), cmocka_unit_test(test_utf8),        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_floats), cmocka_unit_test(test_buf_ceiling), cmocka_unit_test(json_strings),
        cmocka_unit_test(test_buf_growth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_fields.c - file names that clients may be given, and words that are almost right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "client/fields.h"
#include "client/print.h"
#include "client/suggest.h"

static void file_names(void **state)
{
    static const struct {
        const char *label, *name; /* NULL: refused */
    } row[] = {
        {"", "00007-42.png"}, {"cat", "cat.png"}, {"{seed}_{index}", "42_00007.png"}, {"a{x}{seed", "a{x}{seed.png"}, {"caf\xC3\xA9", "caf\xC3\xA9.png"},
        {"../x", NULL}, {"/etc/x", NULL}, {".hidden", NULL}, {"-rf", NULL}, {"a\\b", NULL}, {"a\nb", NULL}, {"\xff", NULL},
    };
    char       name[FIELD_NAME_MAX_BYTES], *large = calloc(1, 401);
    struct err e;

    (void)state;
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        int rc = field_file_name(str_of(row[k].label), 7, 42, name, &e);

        assert_int_equal(rc != 0, row[k].name == NULL);
        if (row[k].name) assert_string_equal(name, row[k].name);
    }
    memset(large, 'x', 400);
    assert_int_not_equal(field_file_name(str_of(large), 7, 42, name, &e), 0);
    free(large);
}

static void labels(void **state)
{
    struct row r;
    char       label[LABEL_MAX_BYTES + 1];
    struct err e;

    (void)state;
    row_init(&r);
    assert_int_equal(row_label(&r, label, &e), 0);
    assert_string_equal(label, "{index}-{seed}");
    r.name = str_of("cat.png");
    assert_int_equal(row_label(&r, label, &e), 0);
    assert_string_equal(label, "cat");
    r.n = 2;
    assert_int_equal(row_label(&r, label, &e), 0);
    assert_string_equal(label, "cat-{seed}");
    r.name = str_of("{seed}_cat");
    assert_int_equal(row_label(&r, label, &e), 0);
    assert_string_equal(label, "{seed}_cat");
}

static void suggestions(void **state)
{
    static const char *const word[] = {"generate", "batch", "jobs", "show", "watch", "gather", "cancel", "workers", "up"};
    static const struct {
        const char *said, *meant;
    } row[] = {{"genrate", "generate"}, {"gen", "generate"}, {"bacth", "batch"}, {"job", "jobs"}, {"wacth", "watch"}, {"xyz", NULL}, {"", NULL}, {"frobnicate", NULL}};

    (void)state;
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        const char *near = suggest(str_of(row[k].said), word, sizeof word / sizeof word[0]);

        if (!row[k].meant) assert_null(near);
        else if (!near || strcmp(near, row[k].meant) != 0) fail_msg("%s: %s", row[k].said, near ? near : "nothing");
    }
}

static void spans_and_safe_text(void **state)
{
    static const struct {
        int64_t     ms;
        const char *text;
    } row[] = {{-1, "-"}, {0, "0 ms"}, {999, "999 ms"}, {1500, "1.5 s"}, {59999, "59 s"}, {65000, "1 min 05 s"}, {7500000, "2 h 05 min"}, {270000000, "3 d 3 h"}};
    struct buf b;

    (void)state;
    buf_init(&b, 4096);
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        buf_clear(&b);
        print_span(&b, row[k].ms);
        assert_string_equal(b.at, row[k].text);
    }
    buf_clear(&b);
    print_safe(&b, str_of("a\x1b[31mb\xC2\x9b" "c\xff\xE6\x97\xA5"), 100); /* an escape, a C1 control, a broken byte, a character */
    assert_string_equal(b.at, "a?[31mb?c?\xE6\x97\xA5");
    buf_clear(&b);
    print_safe(&b, str_of("\xE6\x97\xA5\xE6\x97\xA5\xE6\x97\xA5\xE6\x97\xA5\xE6\x97\xA5\xE6\x97\xA5"), 5);
    assert_string_equal(b.at, "\xE6\x97\xA5\xE6\x97\xA5...");
    buf_clear(&b);
    print_quoted(&b, str_of("\"\\\n\x01\xff"));
    assert_string_equal(b.at, "\"\\\"\\\\\\n\\u0001?\"");
    buf_release(&b);
}

static void sizes_that_were_said(void **state)
{
    struct row r;
    struct err e;

    (void)state;
    row_init(&r);
    assert_int_equal(field_set(&r, str_of("width"), str_of("100"), &e), ERR_ARG);
    assert_int_equal(field_set(&r, str_of("width"), str_of("0"), &e), ERR_ARG); /* who wants the model's own says nothing */
    assert_int_equal(field_set(&r, str_of("height"), str_of("96"), &e), 0);
    assert_true(r.spec.width_px == 0 && r.spec.height_px == 96); /* 0: the model's own */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(file_names), cmocka_unit_test(labels), cmocka_unit_test(suggestions), cmocka_unit_test(sizes_that_were_said),
                                       cmocka_unit_test(spans_and_safe_text)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_tokenizer.c - tokenizer.c and bpe.c against the ids HF gives (the real Qwen2 tokenizer and tiny-a's), and against time. */
#include "engine/tokenizer.h"

#include <setjmp.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>
#include <jansson.h>

#include "engine/prompt.h"
#include "tests/golden.h"

static struct tokenizer *real;

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int open_real(void **state)
{
    struct err e = {0};
    (void)state;
    mkdir(BUILD_DIR "/qwen2", 0777);
    assert_int_equal(system("gzip -dc '" TESTS_DIR "/golden/qwen2/tokenizer.json.gz' > '" BUILD_DIR "/qwen2/tokenizer.json'"), 0);
    double from = seconds();
    if (tokenizer_open(&real, BUILD_DIR "/qwen2", &e))
        fail_msg("%s", e.text);
    print_message("opening the real tokenizer took %.0f ms\n", 1e3 * (seconds() - from));
    return 0;
}

static int close_real(void **state)
{
    (void)state;
    tokenizer_free(real);
    return 0;
}

static bool same_ids(const json_t *want, const int32_t *got, size_t n)
{
    if (json_array_size(want) != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (json_integer_value(json_array_get(want, i)) != got[i])
            return false;
    return true;
}

static void goldens_are_equal(void **state)
{
    int32_t *ids = malloc(100000 * sizeof *ids);
    size_t   n, n_raw = 0, n_chat = 0, rows = 0;
    char    *file = golden_file(TESTS_DIR "/golden/qwen2/cases.jsonl", NULL), *rest = file;
    (void)state;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        if (!*line)
            continue;
        json_t    *row = json_loads(line, JSON_ALLOW_NUL, NULL);
        struct err e = {0};
        assert_non_null(row);
        json_t    *p = json_object_get(row, "prompt");
        struct str prompt = {json_string_value(p), json_string_length(p)};
        rows++;
        if (tokenizer_encode(real, prompt, ids, 100000, &n, &e))
            fail_msg("row %zu: %s", rows, e.text);
        if (same_ids(json_object_get(row, "raw"), ids, n))
            n_raw++;
        else
            print_message("row %zu: raw ids differ: %s\n", rows, prompt.at);
        assert_int_equal(prompt_ids(real, prompt, ids, PROMPT_TOKENS_MAX, &n, &e), 0);
        if (same_ids(json_object_get(row, "chat512"), ids, n))
            n_chat++;
        else
            print_message("row %zu: chat ids differ: %s\n", rows, prompt.at);
        json_decref(row);
    }
    free(file);
    free(ids);
    print_message("%zu rows, raw %zu equal, chat %zu equal\n", rows, n_raw, n_chat);
    assert_int_equal(rows, 263);
    assert_int_equal(n_raw, rows);
    assert_int_equal(n_chat, rows);
}

/* Where Unicode versions and normalisers differ: young letters, digits and marks, Hangul at its edges, odd blanks. HF tokenizers 0.23.3. */
static void unicode_corners_are_equal(void **state)
{
    static int32_t ids[4096];
    size_t         n, rows = 0;
    char          *file = golden_file(TESTS_DIR "/golden/qwen2/unicode.jsonl", NULL), *rest = file;
    (void)state;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        if (!*line)
            continue;
        json_t *row = json_loads(line, JSON_ALLOW_NUL, NULL), *p = json_object_get(row, "prompt");
        assert_non_null(row);
        rows++;
        assert_int_equal(tokenizer_encode(real, (struct str){json_string_value(p), json_string_length(p)}, ids, 4096, &n, NULL), 0);
        if (!same_ids(json_object_get(row, "raw"), ids, n))
            fail_msg("unicode.jsonl row %zu: ids differ: %s", rows, line);
        json_decref(row);
    }
    free(file);
    assert_true(rows > 200);
}

static void tiny_cases_are_equal(void **state)
{
    struct tokenizer *t = NULL;
    json_t           *cases = json_load_file(TESTS_DIR "/golden/tiny-a/cases.json", 0, NULL), *one;
    size_t            i;
    (void)state;
    assert_non_null(cases);
    assert_int_equal(tokenizer_open(&t, TESTS_DIR "/golden/tiny-a/model/tokenizer", NULL), 0);
    json_array_foreach(cases, i, one) {
        int32_t ids[PROMPT_TOKENS_MAX];
        size_t  n = 0;
        assert_int_equal(prompt_ids(t, str_of(json_string_value(json_object_get(one, "prompt"))), ids, PROMPT_TOKENS_MAX, &n, NULL), 0);
        assert_true(same_ids(json_object_get(one, "ids"), ids, n));
    }
    assert_int_equal(tokenizer_vocab(t), 1226);
    tokenizer_free(t);
    json_decref(cases);
}

static void vocab_and_bytes(void **state)
{
    int32_t ids[16];
    size_t  n;
    (void)state;
    assert_int_equal(tokenizer_vocab(real), 151669);
    assert_int_equal(tokenizer_id(real, str_of("<|im_start|>")), 151644);
    assert_int_equal(tokenizer_id(real, str_of("nothing")), -1);
    assert_int_equal(tokenizer_encode(real, str_of(" cat\n"), ids, 16, &n, NULL), 0);
    assert_true(str_is(tokenizer_bytes(real, ids[0]), " cat"));
    assert_true(str_is(tokenizer_bytes(real, 151645), "<|im_end|>"));
    assert_int_equal(tokenizer_bytes(real, 151669).len, 0);
    assert_int_equal(tokenizer_bytes(real, -1).len, 0);
}

/* The kept ids are the first of the whole, the total is told, nothing is written past cap. */
static void cap_cuts_on_the_right(void **state)
{
    int32_t    all[64], some[64];
    size_t     n_all = 0, n = 0;
    struct str text = str_of("a sleek black helmeted robot, <|im_end|> and a cat");
    (void)state;
    assert_int_equal(tokenizer_encode(real, text, all, 64, &n_all, NULL), 0);
    for (size_t cap = 0; cap <= n_all; cap++) {
        memset(some, 0x7f, sizeof some);
        assert_int_equal(tokenizer_encode(real, text, cap ? some : NULL, cap, &n, NULL), 0);
        assert_int_equal(n, n_all);
        assert_memory_equal(some, all, cap * sizeof *all);
        assert_int_equal(some[cap], 0x7f7f7f7f);
    }
    assert_int_equal(tokenizer_encode(real, (struct str){0}, NULL, 0, &n, NULL), 0);
    assert_int_equal(n, 0);
}

static void bad_text_names_the_byte(void **state)
{
    static const struct { const char *at; size_t len, bad; } c[] = {
        {"abc\xff", 4, 3}, {"\xc3", 1, 0}, {"ab\xed\xa0\x80", 5, 2}, {"a\xc0\x80", 3, 1}, {"\xf4\x90\x80\x80", 4, 0}, {"cat\xe2\x82", 5, 3},
    };
    int32_t ids[8];
    size_t  n = 77;
    (void)state;
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        struct err e = {0};
        char       want[40];
        snprintf(want, sizeof want, "at byte %zu ", c[i].bad);
        assert_int_equal(tokenizer_encode(real, (struct str){c[i].at, c[i].len}, ids, 8, &n, &e), ERR_ARG);
        assert_non_null(strstr(e.text, want));
        assert_int_equal(prompt_ids(real, (struct str){c[i].at, c[i].len}, ids, 8, &n, &e), ERR_ARG);
        assert_non_null(strstr(e.text, want));
        assert_int_equal(n, 77);
    }
    char *big = calloc(1, TOKENIZER_TEXT_MAX + 1);
    assert_int_equal(tokenizer_encode(real, (struct str){big, TOKENIZER_TEXT_MAX + 1}, ids, 8, &n, NULL), ERR_LIMIT);
    memset(big, 'a', TOKENIZER_TEXT_MAX);
    assert_int_equal(prompt_ids(real, (struct str){big, TOKENIZER_TEXT_MAX}, ids, 8, &n, NULL), ERR_LIMIT);
    free(big);
}

/* One megabyte each of the shapes that are slow when something is quadratic. */
static void a_megabyte_is_quick(void **state)
{
    static const char *const unit[] = {"a", " ", "ab", "\xcc\x81\xcc\xa7", "\xe4\xb8\x80", "\n", " \t", "!", "<|im_", "<|im_end|>", "e\xcc\x81", "'s", "\xea\xb0\x80\xe1\x86\xa8"};
    size_t                   len = 1 << 20;
    char                    *text = malloc(len);
    (void)state;
    for (size_t i = 0; i < sizeof unit / sizeof *unit; i++) {
        size_t u = strlen(unit[i]), used = 0, n = 0;
        while (used + u <= len) {
            memcpy(text + used, unit[i], u);
            used += u;
        }
        double from = seconds();
        assert_int_equal(tokenizer_encode(real, (struct str){text, used}, NULL, 0, &n, NULL), 0);
        double took = seconds() - from;
        print_message("1 MiB of '%s': %zu ids, %.0f ms\n", unit[i], n, 1e3 * took);
        assert_true(n > 0 && took < 30); /* a quadratic one needs minutes */
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens_are_equal),     cmocka_unit_test(unicode_corners_are_equal), cmocka_unit_test(tiny_cases_are_equal),
        cmocka_unit_test(vocab_and_bytes),
        cmocka_unit_test(cap_cuts_on_the_right), cmocka_unit_test(bad_text_names_the_byte), cmocka_unit_test(a_megabyte_is_quick),
    };
    return cmocka_run_group_tests(tests, open_real, close_real);
}

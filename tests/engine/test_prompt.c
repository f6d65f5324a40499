/* test_prompt.c - prompt.c: the envelope, the cut, what a prompt may hold. Golden ids are in test_tokenizer.c. */
#include "engine/prompt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "tests/golden.h"

#define MODEL TESTS_DIR "/golden/tiny-a/model/tokenizer"

static struct tokenizer *t;

static int open_tiny(void **state)
{
    (void)state;
    return tokenizer_open(&t, MODEL, NULL);
}

static int close_tiny(void **state)
{
    (void)state;
    tokenizer_free(t);
    return 0;
}

static void the_envelope_is_the_templates(void **state)
{
    int32_t ids[64], want[64];
    size_t  n = 0, n_want = 0;
    (void)state;
    assert_int_equal(prompt_ids(t, str_of("a cat"), ids, 64, &n, NULL), 0);
    assert_int_equal(tokenizer_encode(t, str_of("<|im_start|>user\na cat<|im_end|>\n<|im_start|>assistant\n"), want, 64, &n_want, NULL), 0);
    assert_int_equal(n, n_want);
    assert_memory_equal(ids, want, n * sizeof *ids);
    assert_int_equal(ids[0], 1201);
    assert_int_equal(prompt_ids(t, (struct str){0}, ids, 64, &n, NULL), 0);
    assert_true(n > 4);
}

static void a_long_prompt_is_cut_on_the_right(void **state)
{
    static char text[4000];
    int32_t     ids[PROMPT_TOKENS_MAX + 1], few[10];
    size_t      n = 0;
    (void)state;
    for (size_t i = 0; i + 2 < sizeof text; i += 2)
        memcpy(text + i, "x ", 2);
    ids[PROMPT_TOKENS_MAX] = -7;
    assert_int_equal(prompt_ids(t, str_of(text), ids, PROMPT_TOKENS_MAX, &n, NULL), 0);
    assert_int_equal(n, PROMPT_TOKENS_MAX);
    assert_int_equal(ids[PROMPT_TOKENS_MAX], -7);
    assert_int_equal(ids[0], 1201);
    assert_int_not_equal(ids[PROMPT_TOKENS_MAX - 1], 1202);
    assert_int_equal(prompt_ids(t, str_of(text), few, 10, &n, NULL), 0);
    assert_int_equal(n, 10);
    assert_memory_equal(few, ids, sizeof few);
}

static void markers_and_nul_in_a_prompt(void **state)
{
    int32_t ids[64];
    size_t  n = 0;
    int     marks = 0;
    (void)state;
    assert_int_equal(prompt_ids(t, str_of("x<|im_end|>y"), ids, 64, &n, NULL), 0);
    for (size_t i = 0; i < n; i++)
        marks += ids[i] == 1202;
    assert_int_equal(marks, 2);
    assert_int_equal(prompt_ids(t, (struct str){"a\0b", 3}, ids, 64, &n, NULL), 0);
}

static void the_offset_is_the_prompts_own(void **state)
{
    struct err e = {0};
    int32_t    ids[8];
    size_t     n = 0;
    (void)state;
    assert_int_equal(prompt_ids(t, (struct str){"caf\xe9", 4}, ids, 8, &n, &e), ERR_ARG);
    assert_non_null(strstr(e.text, "byte 3 "));
}

static void no_markers_no_prompt(void **state)
{
    json_t           *root = json_load_file(MODEL "/tokenizer.json", 0, NULL);
    struct tokenizer *bare = NULL;
    struct err        e = {0};
    int32_t           ids[8];
    size_t            n = 0;
    (void)state;
    assert_non_null(root);
    json_object_set_new(root, "added_tokens", json_array());
    char *text = json_dumps(root, 0);
    assert_int_equal(tokenizer_open_mem(&bare, str_of(text), &e), 0);
    assert_int_equal(prompt_ids(bare, str_of("a"), ids, 8, &n, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "<|im_start|>"));
    tokenizer_free(bare);
    free(text);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_envelope_is_the_templates), cmocka_unit_test(a_long_prompt_is_cut_on_the_right), cmocka_unit_test(markers_and_nul_in_a_prompt),
        cmocka_unit_test(the_offset_is_the_prompts_own), cmocka_unit_test(no_markers_no_prompt),
    };
    return cmocka_run_group_tests(tests, open_tiny, close_tiny);
}

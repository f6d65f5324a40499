/* test_batch.c - tables of good and bad prompt files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/batch.h"

static struct row defaults(void)
{
    struct row r;

    row_init(&r);
    r.spec.seed = 40;
    r.spec.width_px = r.spec.height_px = 64;
    r.spec.steps = 5;
    return r;
}

static int parse(struct batch *b, const char *text, enum batch_kind kind, struct err *e)
{
    static const char *const name[] = {"", "p.txt", "p.jsonl", "p.csv"};
    struct row               d = defaults();

    *e = (struct err){0};
    return batch_parse(b, name[kind], str_of(text), kind, &d, "sheet.png", e);
}

static void name_is(const struct batch *b, uint32_t index, uint64_t seed, const char *file)
{
    char     name[FIELD_NAME_MAX_BYTES];
    uint64_t s;

    batch_image(b, index, &s, name);
    assert_true(s == seed);
    assert_string_equal(name, file);
}

static void txt(void **state)
{
    struct batch b;
    struct err   e;

    (void)state;
    assert_int_equal(parse(&b, "\xEF\xBB\xBF# a comment\r\n  a cat \r\n\r\n\\# not a comment\n\t\ncaf\xC3\xA9", BATCH_TXT, &e), 0);
    assert_int_equal(b.n_rows, 3);
    assert_int_equal(b.n_images, 3);
    assert_true(str_is(b.row[0].spec.prompt, "a cat"));
    assert_int_equal(b.row[0].line, 2);
    assert_true(str_is(b.row[1].spec.prompt, "# not a comment"));
    assert_true(str_is(b.row[2].spec.prompt, "caf\xC3\xA9"));
    assert_int_equal(b.row[2].spec.steps, 5);
    name_is(&b, 0, 40, "00000-40.png");
    name_is(&b, 2, 42, "00002-42.png");
    batch_release(&b);
}

static void jsonl(void **state)
{
    struct batch b;
    struct err   e;

    (void)state;
    assert_int_equal(parse(&b,
        "{\"prompt\": \"a\", \"negative_prompt\": \"n\", \"width\": 128, \"height\": \"48\", \"num_inference_steps\": 9, \"guidance_scale\": 3.5, "
        "\"cfg_normalization\": true, \"cfg_truncation\": 0.5, \"seed\": 7, \"rng\": \"torch-cpu\", \"n\": 3, \"model\": \"turbo\", \"name\": \"cat\"}\n"
        "\n{\"prompt\": \"\", \"seed\": \"18446744073709551615\", \"steps\": null}\n{\"prompt\": \"line\\nbreak\"}", BATCH_JSONL, &e), 0);
    assert_int_equal(b.n_rows, 3);
    assert_int_equal(b.n_images, 5);
    assert_int_equal(b.row[0].spec.width_px, 128);
    assert_int_equal(b.row[0].spec.height_px, 48);
    assert_int_equal(b.row[0].spec.steps, 8);
    assert_true(b.row[0].spec.guidance == 3.5f && b.row[0].spec.cfg_norm == 1.0f && b.row[0].spec.cfg_trunc == 0.5f);
    assert_int_equal(b.row[0].spec.rng.kind, RNG_TORCH_CPU);
    assert_true(str_is(b.row[0].spec.model, "turbo"));
    assert_int_equal(b.row[1].spec.prompt.len, 0);
    assert_int_equal(b.row[1].spec.steps, 5);
    assert_true(b.row[1].spec.seed == UINT64_MAX);
    name_is(&b, 0, 7, "cat-7.png");
    name_is(&b, 2, 9, "cat-9.png");
    name_is(&b, 4, 44, "00004-44.png"); /* default seed + index */
    batch_release(&b);
}

static void csv(void **state)
{
    struct batch b;
    struct err   e;

    (void)state;
    assert_int_equal(parse(&b,
        "prompt,seed,name\r\n\"a \"\"red\"\" cat,\nwith a hat\",5,\r\nplain , 6,dog\r\n", BATCH_CSV, &e), ERR_ARG); /* " 6" is no number */
    assert_non_null(strstr(e.text, "p.csv:4: seed"));
    assert_int_equal(parse(&b,
        "prompt,seed,name\r\n\"a \"\"red\"\" cat,\nwith a hat\",5,\r\n\r\nplain,,dog\r\n,9,{index}_x.png", BATCH_CSV, &e), 0);
    assert_int_equal(b.n_rows, 3);
    assert_true(str_is(b.row[0].spec.prompt, "a \"red\" cat,\nwith a hat"));
    assert_int_equal(b.row[0].line, 2);
    assert_int_equal(b.row[1].line, 5);
    assert_int_equal(b.row[2].spec.prompt.len, 0);
    name_is(&b, 0, 5, "00000-5.png");
    name_is(&b, 1, 41, "dog.png");
    name_is(&b, 2, 9, "00002_x.png");
    batch_release(&b);
}

static void csv_of_spreadsheets(void **state)
{
    struct batch b;
    struct err   e;

    (void)state;
    assert_int_equal(parse(&b, "\xEF\xBB\xBFprompt;seed;name\r\n\"a cat; a \"\"dog\"\"\";5;\r\na, b;;two\r\n", BATCH_CSV, &e), 0);
    assert_int_equal(b.n_rows, 2);
    assert_true(str_is(b.row[0].spec.prompt, "a cat; a \"dog\""));
    assert_true(str_is(b.row[1].spec.prompt, "a, b"));
    name_is(&b, 0, 5, "00000-5.png");
    name_is(&b, 1, 41, "two.png");
    batch_release(&b);
    assert_int_equal(parse(&b, "\r\nseed\tprompt\n7\ta cat; x, y\n", BATCH_CSV, &e), 0);
    assert_true(str_is(b.row[0].spec.prompt, "a cat; x, y"));
    name_is(&b, 0, 7, "00000-7.png");
    batch_release(&b);
    assert_int_equal(parse(&b, "prompt\na cat; a dog\n", BATCH_CSV, &e), 0); /* one column: nothing to part */
    assert_true(str_is(b.row[0].spec.prompt, "a cat; a dog"));
    batch_release(&b);
}

static void bad_files(void **state)
{
    static const struct {
        enum batch_kind kind;
        const char     *text, *sentence;
    } row[] = {
        {BATCH_TXT, "", "p.txt has no prompts"},
        {BATCH_TXT, "# only\n\n", "p.txt has no prompts"},
        {BATCH_TXT, "ok\n\xff\xfe bad", "p.txt:2: prompt is not valid UTF-8"},
        {BATCH_TXT, "\xff\xfe" "a", "is UTF-16"},
        {BATCH_JSONL, "{\"prompt\": \"a\"}\n{\"prompt\": \"b\"", "p.jsonl:2: not JSON"},
        {BATCH_JSONL, "[1]", "p.jsonl:1: not a JSON object"},
        {BATCH_JSONL, "{\"width\": 64}", "p.jsonl:1: the field prompt is missing"},
        {BATCH_JSONL, "{\"prompt\": null}", "p.jsonl:1: prompt is null"},
        {BATCH_JSONL, "{\"prompt\": 5}", "p.jsonl:1: prompt takes text"},
        {BATCH_JSONL, "{\"prompt\": \"a\", \"promt\": \"b\"}", "p.jsonl:1: unknown field \"promt\": did you mean prompt?"},
        {BATCH_JSONL, "{\"prompt\": \"a\", \"sede\": null}", "p.jsonl:1: unknown field \"sede\": did you mean seed?"},
        {BATCH_JSONL, "{\"prompt\": \"a\", \"width\": 1000}", "p.jsonl:1: width 1000 is not a multiple of 16: use 992 or 1008"},
        {BATCH_JSONL, "{\"prompt\": \"a\", \"width\": 64.5}", "p.jsonl:1: width \"64.5\" is not a whole number"},
        {BATCH_JSONL, "{\"prompt\": \"a\", \"seed\": -1}", "p.jsonl:1: seed \"-1\""},
        {BATCH_JSONL, "{\"prompt\": \"a\", \"seed\": true}", "p.jsonl:1: seed takes text or a number"},
        {BATCH_JSONL, "{\"prompt\": \"a\", \"guidance\": []}", "p.jsonl:1: guidance takes text or a number"},
        {BATCH_JSONL, "{\"prompt\": \"a\", \"steps\": 4, \"num_inference_steps\": 5}", "p.jsonl:1: steps and num_inference_steps"},
        {BATCH_JSONL, "{\"prompt\": \"a\", \"prompt\": \"b\"}", "p.jsonl:1: not JSON"},
        {BATCH_JSONL, "{\"prompt\": \"a\", \"n\": 100001}", "p.jsonl:1: n 100001 is outside"},
        {BATCH_JSONL, "{\"prompt\": \"a\", \"n\": 100000}\n{\"prompt\": \"b\"}", "p.jsonl:2: more than 100000 images"},
        {BATCH_JSONL, "{\"prompt\": \"a\", \"name\": \"../x\"}", "p.jsonl:1: name cannot be a file's name"},
        {BATCH_JSONL, "{\"prompt\": \"a\", \"name\": \"-x\"}", "p.jsonl:1: name cannot be a file's name"},
        {BATCH_JSONL, "{\"prompt\": \"a\", \"name\": \"sheet\"}", "p.jsonl:1: the name sheet.png is the contact sheet's"},
        {BATCH_JSONL, "{\"prompt\": \"a\", \"name\": \"x\"}\n{\"prompt\": \"a\"}\n{\"prompt\": \"a\", \"name\": \"x\"}",
         "p.jsonl:3: the file name x.png is already taken by line 1"},
        {BATCH_JSONL, "{\"prompt\": \"a\", \"seed\": 18446744073709551615, \"n\": 2}", "p.jsonl:1: "},
        {BATCH_JSONL, "{\"prompt\":\"a\\u0000b\"}", "p.jsonl:1: prompt holds a zero byte"},
        {BATCH_JSONL, "{\"prompt\":\"a\",\"seed\":18446744073709551615}", "a number this large goes in quotes"},
        {BATCH_CSV, "prompt;seed\na,1\n", "p.csv:2: 1 cells, but the header has 2 columns"},
        {BATCH_CSV, "seed\n1\n", "p.csv:1: the header row has no column prompt"},
        {BATCH_CSV, "prompt,promt\na,b", "p.csv:1: unknown field \"promt\""},
        {BATCH_CSV, "prompt,seed,prompt\n", "p.csv:1: the column prompt is there twice"},
        {BATCH_CSV, "prompt,seed\na\n", "p.csv:2: 1 cells, but the header has 2 columns"},
        {BATCH_CSV, "prompt,seed\na,1,2\n", "p.csv:2: 3 cells"},
        {BATCH_CSV, "prompt\n\"open\nstill", "p.csv:2: the quote that opens on line 2 never closes"},
        {BATCH_CSV, "prompt\na\"b\n", "p.csv:2: a quote inside a cell"},
        {BATCH_CSV, "prompt\n\"a\"b\n", "p.csv:2: text after a closing quote"},
        {BATCH_CSV, "prompt,steps\n\"a\nb\",0\n", "p.csv:2: steps 0 is outside"},
        {BATCH_CSV, "prompt\n", "p.csv has no prompts"},
    };

    (void)state;
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        struct batch b;
        struct err   e;
        int          rc = parse(&b, row[k].text, row[k].kind, &e);

        if (rc == 0 || !strstr(e.text, row[k].sentence)) fail_msg("row %zu: %d, said: %s", k, rc, e.text);
        assert_int_equal(rc, e.code);
    }
}

static void long_prompt(void **state)
{
    size_t       n = 1 << 20;
    char        *text = malloc(n + 1);
    struct batch b;
    struct err   e;

    (void)state;
    assert_non_null(text);
    memset(text, 'a', n);
    text[n] = '\0';
    assert_int_equal(parse(&b, text, BATCH_TXT, &e), ERR_LIMIT);
    assert_string_equal(e.text, "p.txt:1: prompt has 1048576 bytes; the limit is 32768");
    text[PROMPT_MAX_BYTES] = '\0';
    assert_int_equal(parse(&b, text, BATCH_TXT, &e), 0);
    batch_release(&b);
    free(text);
}

static void hash_tells_changes(void **state)
{
    struct batch b;
    struct err   e;
    uint8_t      one[32], two[32], other[32];

    (void)state;
    assert_int_equal(parse(&b, "a\nb\n", BATCH_TXT, &e), 0);
    assert_int_equal(batch_hash(&b, one, &e), 0);
    batch_release(&b);
    assert_int_equal(parse(&b, "# the same images\na\r\n\nb", BATCH_TXT, &e), 0);
    assert_int_equal(batch_hash(&b, two, &e), 0);
    batch_release(&b);
    assert_int_equal(parse(&b, "a\nc\n", BATCH_TXT, &e), 0);
    assert_int_equal(batch_hash(&b, other, &e), 0);
    batch_release(&b);
    assert_memory_equal(one, two, 32);
    assert_memory_not_equal(one, other, 32);
}

static void kinds(void **state)
{
    enum batch_kind k;
    struct err      e = {0};
    struct row      d = defaults();
    struct batch    b;

    (void)state;
    assert_int_equal(batch_kind_of("a/b.csv", &k, &e), 0);
    assert_int_equal(k, BATCH_CSV);
    assert_int_equal(batch_kind_of("a.b/c", &k, &e), ERR_ARG);
    assert_int_not_equal(batch_read(&b, "/nonexistent/x.txt", &d, NULL, &e), 0);
    assert_non_null(strstr(e.text, "/nonexistent/x.txt"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(txt),       cmocka_unit_test(jsonl),       cmocka_unit_test(csv), cmocka_unit_test(csv_of_spreadsheets),   cmocka_unit_test(bad_files),
        cmocka_unit_test(long_prompt), cmocka_unit_test(hash_tells_changes), cmocka_unit_test(kinds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

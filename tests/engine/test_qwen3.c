/* test_qwen3.c - the encoder alone against transformers' hidden_states[-2], and what causality promises. */
#include "tests/engine/parts.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine/prompt.h"
#include "engine/qwen3.h"
#include "tests/golden.h"
#include "tests/near.h"

static struct parts      p;
static struct qwen3     *q;
static struct tokenizer *tok;

static int open_all(void **state)
{
    (void)state;
    parts_open(&p, TINY_MODEL "/text_encoder");
    OK(qwen3_open(&q, &p.conf.text, p.w, p.d, 512, &e));
    OK(tokenizer_open(&tok, TINY_MODEL "/tokenizer", &e));
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    qwen3_free(q);
    tokenizer_free(tok);
    parts_close(&p);
    return 0;
}

/* malloc'd [n, hidden] */
static float *run(const int32_t *ids, size_t n)
{
    struct tensor h = dev_new2(p.d, p.d->act_type, (int64_t)n, p.conf.text.hidden), f = dev_new2(p.d, DTYPE_F32, (int64_t)n, p.conf.text.hidden);
    float        *out = malloc((size_t)tensor_count(&f) * sizeof *out);
    assert_non_null(out);
    qwen3_run(q, ids, (int64_t)n, &h);
    op_copy(p.d, &f, &h);
    parts_get(&p, &f, out);
    dev_reset(p.d, 0);
    return out;
}

static void the_residual_before_the_last_layer(void **state)
{
    char text[1024], name[32];
    (void)state;
    for (int i = 0; i < TINY_CASES; i++) {
        int32_t ids[PROMPT_TOKENS_MAX];
        size_t  n = 0, n_truth;
        double  rms;
        OK(prompt_ids(tok, str_of(tiny_prompt(i, text)), ids, PROMPT_TOKENS_MAX, &n, &e));
        snprintf(name, sizeof name, "embeds%d", i);
        float *truth = golden_read(TINY_GOLDEN, name, &n_truth), *got = run(ids, n);
        assert_int_equal(n * (size_t)p.conf.text.hidden, n_truth);
        assert_true(near_rms_f32(name, got, truth, n_truth, 1e-5, &rms));
        print_message("%s relative RMS %.2e\n", name, rms);
        free(got);
        free(truth);
    }
}

/* Later ids never reach earlier rows: that is why padding need not be computed. */
static void a_prefix_does_not_see_what_follows(void **state)
{
    int32_t ids[40];
    (void)state;
    for (int i = 0; i < 40; i++)
        ids[i] = (i * 37 + 11) % p.conf.text.vocab;
    float *whole = run(ids, 40), *part = run(ids, 17);
    assert_true(near_rms_f32("prefix", part, whole, (size_t)(17 * p.conf.text.hidden), 1e-6, NULL));
    ids[3] ^= 1; /* and earlier ones do */
    float *other = run(ids, 17);
    assert_false(memcmp(other + 16 * p.conf.text.hidden, part + 16 * p.conf.text.hidden, sizeof *part * (size_t)p.conf.text.hidden) == 0);
    assert_memory_equal(other, part, 3 * sizeof *part * (size_t)p.conf.text.hidden);
    free(whole);
    free(part);
    free(other);
}

static void a_missing_layer_is_named(void **state)
{
    struct text_conf conf = p.conf.text;
    struct qwen3    *none = NULL;
    struct err       e = { 0 };
    (void)state;
    conf.n_layers = 6; /* the file has 4: layers 0..4 are asked for */
    assert_int_equal(qwen3_open(&none, &conf, p.w, p.d, 512, &e), ERR_NOTFOUND);
    assert_non_null(strstr(e.text, "tensor layers.4.input_layernorm.weight is missing"));
    conf = p.conf.text, conf.ffn = 161;
    assert_int_equal(qwen3_open(&none, &conf, p.w, p.d, 512, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "is [160,64], the config asks for [161,64]"));
    assert_null(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_residual_before_the_last_layer),
        cmocka_unit_test(a_prefix_does_not_see_what_follows),
        cmocka_unit_test(a_missing_layer_is_named),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}

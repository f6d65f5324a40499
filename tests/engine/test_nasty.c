/* test_nasty.c - every file that broke another reader is refused with a sentence, every one at the edge of a limit is judged right,
 * by the readers as they stand; and each once more cut short at every byte, where only a sentence may come of it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "engine/config.h"
#include "engine/gguf.h"
#include "engine/safetensors.h"
#include "engine/tokenizer.h"
#include "tests/fuzz/nasty.h"

static int read_gguf(struct str bytes, struct err *e)
{
    struct gguf g;
    int         rc = gguf_parse(&g, bytes, "nasty", e);
    if (!rc) gguf_close(&g);
    return rc;
}

static int read_safetensors(struct str bytes, struct err *e)
{
    struct safetensors s;
    int                rc = safetensors_parse(&s, bytes, "nasty", e);
    if (!rc) safetensors_close(&s);
    return rc;
}

static int read_index(struct str bytes, struct err *e)
{
    struct safetensors_index x;
    int                      rc = safetensors_index_parse(&x, bytes, "nasty", e);
    if (!rc) safetensors_index_release(&x);
    return rc;
}

static int read_vocab(struct str bytes, struct err *e)
{
    struct tokenizer *t = NULL;
    int               rc = tokenizer_open_mem(&t, bytes, e);
    tokenizer_free(t);
    return rc;
}

static int read_text(struct str bytes, struct err *e)
{
    struct text_conf c;
    return config_text(&c, bytes, "nasty", e);
}

static int read_dit(struct str bytes, struct err *e)
{
    struct dit_conf c;
    return config_dit(&c, bytes, "nasty", e);
}

static int read_vae(struct str bytes, struct err *e)
{
    struct vae_conf c;
    return config_vae(&c, bytes, "nasty", e);
}

static const struct {
    const char *parser;
    int (*read)(struct str, struct err *);
} readers[] = {{"gguf", read_gguf},   {"gguf_tokenizer", read_vocab}, {"safetensors", read_safetensors}, {"index", read_index},
               {"vocab", read_vocab}, {"config_text", read_text},     {"config_dit", read_dit},          {"config_vae", read_vae}};

static int read_it(const struct nasty *n, size_t len, struct err *e)
{
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++)
        if (!strcmp(readers[i].parser, n->parser)) {
            char *copy = malloc(len + 1); /* exactly as long, so that the sanitizer sees one byte too many */
            int   rc;
            assert_non_null(copy);
            if (len) memcpy(copy, n->at, len);
            copy = realloc(copy, len ? len : 1);
            rc = readers[i].read((struct str){copy, len}, e);
            free(copy);
            return rc;
        }
    fail_msg("nobody reads %s", n->parser);
    return 0;
}

static void judge(void *ctx, const struct nasty *n)
{
    struct err e = {0};
    int        rc = read_it(n, n->len, &e);
    (*(int *)ctx)++;
    if (n->accepted && rc) fail_msg("%s/%s should be accepted: %s", n->parser, n->name, e.text);
    if (!n->accepted && !rc) fail_msg("%s/%s was accepted", n->parser, n->name);
    if (rc && (e.code != rc || strlen(e.text) < 10)) fail_msg("%s/%s: refused without a sentence: \"%s\"", n->parser, n->name, e.text);
}

static void cut(void *ctx, const struct nasty *n)
{
    struct err e = {0};
    for (size_t len = 0; n->len < 600 && len < n->len; len++) {
        (*(int *)ctx)++;
        if (read_it(n, len, &e) && (!e.code || !e.text[0])) fail_msg("%s/%s cut to %zu: no sentence", n->parser, n->name, len);
    }
}

static void each_is_judged_right(void **state)
{
    int n = 0;
    (void)state;
    nasty_each(judge, &n);
    print_message("%d files\n", n);
    assert_true(n > 250);
}

static void each_may_be_cut_anywhere(void **state)
{
    int n = 0;
    (void)state;
    nasty_each(cut, &n);
    assert_true(n > 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_is_judged_right), cmocka_unit_test(each_may_be_cut_anywhere)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_vocab.c - vocab.c: what is accepted, and one sentence for each thing that is not. Cases are edits of tiny-a's tokenizer.json. */
#include "engine/vocab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "engine/tokenizer.h"
#include "tests/golden.h"

static char  *text;
static size_t text_len;

static int load(void **state)
{
    (void)state;
    text = golden_file(TESTS_DIR "/golden/tiny-a/model/tokenizer/tokenizer.json", &text_len);
    return 0;
}

static int unload(void **state)
{
    (void)state;
    free(text);
    return 0;
}

static json_t *fresh(void)
{
    json_t *root = json_loadb(text, text_len, 0, NULL);
    assert_non_null(root);
    return root;
}

/* A value deep inside: "model.vocab", "pre_tokenizer.pretokenizers.0.pattern". */
static json_t *at(json_t *root, const char *path)
{
    char copy[200], *rest = copy;
    snprintf(copy, sizeof copy, "%s", path);
    for (char *part; root && (part = strsep(&rest, ".")) != NULL;)
        root = json_is_array(root) ? json_array_get(root, strtoul(part, NULL, 10)) : json_object_get(root, part);
    return root;
}

static int parse(json_t *root, struct vocab *v, struct err *e)
{
    char *dump = json_dumps(root, JSON_COMPACT);
    assert_non_null(dump);
    int rc = vocab_parse(v, str_of(dump), e);
    free(dump);
    json_decref(root);
    return rc;
}

/* Sets `key` of the object at `path` to the JSON in `value` (NULL deletes) and expects a refusal that says `words`. */
static void refused(const char *path, const char *key, const char *value, int code, const char *words)
{
    json_t      *root = fresh(), *o = *path ? at(root, path) : root;
    struct vocab v;
    struct err   e = {0};
    json_t      *new = value ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;

    assert_non_null(o);
    assert_true(!value || new);
    if (json_is_array(o))
        assert_int_equal(strcmp(key, "append") ? json_array_set_new(o, strtoul(key, NULL, 10), new) : json_array_append_new(o, new), 0);
    else if (new)
        assert_int_equal(json_object_set_new(o, key, new), 0);
    else
        assert_int_equal(json_object_del(o, key), 0);
    int rc = parse(root, &v, &e);
    if (rc != code || !strstr(e.text, words))
        fail_msg("%s.%s = %s: got %d '%s', wanted %d '%s'", path, key, value ? value : "(deleted)", rc, e.text, code, words);
    assert_null(v.token);
}

static void tiny_is_accepted(void **state)
{
    struct vocab v;
    (void)state;
    assert_int_equal(parse(fresh(), &v, NULL), 0);
    assert_int_equal(v.n_tokens, 1226);
    assert_int_equal(v.n_added, 26);
    assert_int_equal(v.n_merges, 944);
    assert_false(v.ignore_merges);
    for (int b = 0; b < 256; b++) {
        struct str s = v.token[v.byte_id[b]];
        assert_int_equal(s.len, 1);
        assert_int_equal((uint8_t)s.at[0], b);
        assert_int_equal(vocab_find(&v, s), v.byte_id[b]);
    }
    for (int32_t i = 0; i < v.n_merges; i++) {
        struct str l = v.token[v.merge[i].left], r = v.token[v.merge[i].right], s = v.token[v.merge[i].result];
        assert_int_equal(l.len + r.len, s.len);
        assert_memory_equal(s.at, l.at, l.len);
        assert_memory_equal(s.at + l.len, r.at, r.len);
    }
    assert_int_equal(vocab_find(&v, str_of("no such token at all")), -1);
    vocab_release(&v);
}

static void both_spellings_of_merges_are_one(void **state)
{
    struct vocab pairs, texts;
    json_t      *root = fresh(), *merges = at(root, "model.merges");
    (void)state;
    for (size_t i = 0; i < json_array_size(merges); i++) {
        char        both[600];
        json_t     *m = json_array_get(merges, i);
        assert_true(json_is_array(m));
        snprintf(both, sizeof both, "%s %s", json_string_value(json_array_get(m, 0)), json_string_value(json_array_get(m, 1)));
        json_array_set_new(merges, i, json_string(both));
    }
    assert_int_equal(parse(root, &texts, NULL), 0);
    assert_int_equal(parse(fresh(), &pairs, NULL), 0);
    assert_int_equal(pairs.n_merges, texts.n_merges);
    assert_memory_equal(pairs.merge, texts.merge, (size_t)pairs.n_merges * sizeof *pairs.merge);
    vocab_release(&pairs);
    vocab_release(&texts);
}

static void ignore_merges_takes_whole_pieces(void **state)
{
    static const char *const word = "zqxjkv"; /* no merge of tiny-a makes it */
    struct tokenizer *t = NULL;
    int32_t           ids[16];
    size_t            n = 0;
    (void)state;
    for (int ignore = 0; ignore < 2; ignore++) {
        json_t *root = fresh();
        json_object_set_new(at(root, "model.vocab"), word, json_integer(1226));
        json_object_set_new(at(root, "model"), "ignore_merges", json_boolean(ignore));
        char *dump = json_dumps(root, 0);
        assert_int_equal(tokenizer_open_mem(&t, str_of(dump), NULL), 0);
        assert_int_equal(tokenizer_encode(t, str_of(word), ids, 16, &n, NULL), 0);
        assert_int_equal(n, ignore ? 1 : 6);
        if (ignore)
            assert_int_equal(ids[0], 1226);
        tokenizer_free(t);
        free(dump);
        json_decref(root);
    }
}

/* Two equal pairs: the later rank counts. Added tokens: leftmost, then longest. */
static void odd_but_valid(void **state)
{
    struct tokenizer *t = NULL;
    json_t           *root = fresh(), *added = at(root, "added_tokens");
    int32_t           ids[16];
    size_t            n = 0;
    (void)state;
    static const char *const more[] = {"<a", "<a>", "<a><b>", "a><"};
    for (int i = 0; i < 4; i++)
        json_array_append_new(added, json_pack("{s:i,s:s,s:b,s:b,s:b,s:b,s:b}", "id", 1226 + i, "content", more[i], "single_word", 0, "lstrip", 0, "rstrip", 0,
                                               "normalized", 0, "special", 0));
    char *dump = json_dumps(root, 0);
    assert_int_equal(tokenizer_open_mem(&t, str_of(dump), NULL), 0);
    assert_int_equal(tokenizer_encode(t, str_of("<a><b><a><c><aa><"), ids, 16, &n, NULL), 0);
    static const int32_t want[] = {1228, 1227};
    assert_memory_equal(ids, want, sizeof want);
    assert_int_equal(ids[n - 1], 1229);
    assert_int_equal(ids[n - 2], 1226);
    tokenizer_free(t);
    free(dump);
    json_decref(root);
}

static void refusals(void **state)
{
    (void)state;
    refused("", "normalizer", "null", ERR_FORMAT, "NFC");
    refused("", "pre_tokenizer", "null", ERR_FORMAT, "pre_tokenizer");
    refused("pre_tokenizer.pretokenizers.0.pattern", "Regex", "\"(a+)+\"", ERR_FORMAT, "never run");
    refused("pre_tokenizer.pretokenizers.0", "behavior", "\"Removed\"", ERR_FORMAT, "Isolated");
    refused("pre_tokenizer.pretokenizers.0", "invert", "true", ERR_FORMAT, "invert");
    refused("pre_tokenizer.pretokenizers.1", "add_prefix_space", "true", ERR_FORMAT, "add_prefix_space");
    refused("pre_tokenizer.pretokenizers", "append", "{}", ERR_FORMAT, "pre_tokenizer");
    refused("post_processor.single", "append", "{\"SpecialToken\":{\"id\":\"x\"}}", ERR_FORMAT, "post_processor");
    refused("model", "type", "\"Unigram\"", ERR_FORMAT, "BPE");
    refused("model", "dropout", "0.1", ERR_FORMAT, "dropout");
    refused("model", "end_of_word_suffix", "\"</w>\"", ERR_FORMAT, "suffix");
    refused("model", "vocab", "[]", ERR_LIMIT, "model.vocab");
    refused("model", "vocab", NULL, ERR_LIMIT, "model.vocab");
    refused("model.vocab", "!", NULL, ERR_FORMAT, "byte 0x21");
    refused("model.vocab", "!", "-1", ERR_FORMAT, "id must be");
    refused("model.vocab", "!", "1e3", ERR_FORMAT, "id must be");
    refused("model.vocab", "!", "400000", ERR_FORMAT, "id must be");
    refused("model.vocab", "!", "1", ERR_FORMAT, "share the id");
    refused("model.vocab", "!", "\"0\"", ERR_FORMAT, "id must be");
    refused("model.vocab", "gapgap", "1300", ERR_FORMAT, "dense");
    refused("model.vocab", "", "1226", ERR_LIMIT, "bytes long");
    refused("model", "merges", "{}", ERR_LIMIT, "merges");
    refused("model.merges", "append", "\"ab\"", ERR_FORMAT, "merge 944");
    refused("model.merges", "append", "\"a b c\"", ERR_FORMAT, "merge 944");
    refused("model.merges", "append", "[\"a\"]", ERR_FORMAT, "merge 944");
    refused("model.merges", "append", "[\"a\",7]", ERR_FORMAT, "merge 944");
    refused("model.merges", "append", "[\"q\",\"qqq\"]", ERR_FORMAT, "not in model.vocab");
    refused("model.merges", "3", "[\"\\u4e00\",\"a\"]", ERR_FORMAT, "not in model.vocab");
    refused("added_tokens.0", "content", "\"\"", ERR_FORMAT, "content");
    refused("added_tokens.0", "id", "5", ERR_FORMAT, "takes the id");
    refused("added_tokens.0", "normalized", "true", ERR_FORMAT, "normalized");
    refused("added_tokens.0", "lstrip", "true", ERR_FORMAT, "lstrip");
    refused("added_tokens.0", "single_word", NULL, ERR_FORMAT, "single_word");
    refused("added_tokens.0", "content", "\"!\"", ERR_FORMAT, "model.vocab says 0");
    refused("", "added_tokens", "7", ERR_LIMIT, "added_tokens");
}

static void long_tokens_are_refused(void **state)
{
    json_t      *root = fresh();
    char         big[VOCAB_TOKEN_MAX + 2];
    struct vocab v;
    struct err   e = {0};
    (void)state;
    memset(big, 'a', sizeof big);
    big[VOCAB_TOKEN_MAX + 1] = 0;
    json_object_set_new(at(root, "model.vocab"), big, json_integer(1226));
    assert_int_equal(parse(root, &v, &e), ERR_LIMIT);
    assert_non_null(strstr(e.text, "513 bytes"));
    big[VOCAB_TOKEN_MAX] = 0;
    root = fresh();
    json_object_set_new(at(root, "model.vocab"), big, json_integer(1226));
    assert_int_equal(parse(root, &v, &e), 0);
    vocab_release(&v);
    root = fresh(); /* a merge of two texts that are too long together */
    json_array_append_new(at(root, "model.merges"), json_pack("[ss]", big, big));
    assert_int_equal(parse(root, &v, &e), ERR_FORMAT);
}

static void not_json(void **state)
{
    struct vocab v;
    struct err   e = {0};
    char         deep[40];
    (void)state;
    assert_int_equal(vocab_parse(&v, (struct str){0}, &e), ERR_FORMAT);
    assert_int_equal(vocab_parse(&v, str_of("hello"), &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "JSON"));
    assert_int_equal(vocab_parse(&v, str_of("[]"), &e), ERR_FORMAT);
    assert_int_equal(vocab_parse(&v, str_of("{}"), &e), ERR_FORMAT);
    memset(deep, '[', sizeof deep);
    assert_int_equal(vocab_parse(&v, (struct str){deep, sizeof deep}, &e), ERR_LIMIT);
    assert_non_null(strstr(e.text, "nested"));
    assert_int_equal(vocab_parse(&v, (struct str){text, VOCAB_FILE_MAX + 1}, &e), ERR_LIMIT);
    for (size_t cut = 0; cut < text_len; cut += 997)
        assert_int_not_equal(vocab_parse(&v, (struct str){text, cut}, &e), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_is_accepted), cmocka_unit_test(both_spellings_of_merges_are_one), cmocka_unit_test(ignore_merges_takes_whole_pieces),
        cmocka_unit_test(odd_but_valid),    cmocka_unit_test(refusals),                         cmocka_unit_test(long_tokens_are_refused),
        cmocka_unit_test(not_json),
    };
    return cmocka_run_group_tests(tests, load, unload);
}

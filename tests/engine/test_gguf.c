/* test_gguf.c - a file with one of everything is read whole; each published cause of a broken reader, rebuilt as bytes, is refused with a
 * sentence (RELIABILITY's table of CVEs and pull requests); what the writer makes reads back the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/gguf.h"
#include "engine/tokenizer.h"
#include "tests/engine/gguf_bytes.h"
#include "tests/tmp.h"

static struct gguf_bytes file;

static int parse(struct gguf *g, struct err *e)
{
    *e = (struct err){ 0 };
    /* exactly as many bytes as the file has, so that a sanitizer sees one too many */
    char *copy = malloc(file.len + !file.len);
    assert_non_null(copy);
    memcpy(copy, file.at, file.len);
    int rc = gguf_parse(g, (struct str){ copy, file.len }, "file", e);
    if (rc)
        free(copy);
    return rc; /* accepted: the copy leaks into g->header.at, freed by shut() */
}

static void shut(struct gguf *g)
{
    char *copy = (char *)(uintptr_t)g->header.at;
    gguf_close(g);
    free(copy);
}

static void refused(const char *cause, int code, const char *part)
{
    struct gguf g;
    struct err  e;
    int         rc = parse(&g, &e);
    if (rc == 0)
        fail_msg("%s was accepted", cause);
    if (rc != code || e.code != code || !strstr(e.text, part))
        fail_msg("%s: code %d \"%s\", expected %d \"%s\"", cause, rc, e.text, code, part);
}

static void a_valid_file_is_read(void **state)
{
    (void)state;
    struct gguf              g;
    struct err               e;
    struct str               s;
    uint64_t                 u = 0;
    double                   f = 0;
    const struct gguf_value *a;
    size_t                   at = 0;

    gb_valid(&file);
    if (parse(&g, &e))
        fail_msg("%s", e.text);
    assert_int_equal(g.n, 3);
    assert_string_equal(g.entry[0].name, "first");
    assert_string_equal(g.entry[1].name, "second");
    assert_int_equal(g.entry[1].rank, 2);
    assert_int_equal(g.entry[1].dim[0], 2); /* outermost first */
    assert_int_equal(g.entry[1].dim[1], 32);
    assert_int_equal(g.entry[1].type, DTYPE_Q8_0);
    assert_int_equal(g.entry[1].bytes, 68);
    assert_string_equal(g.entry[2].type_word, "Q6_K");
    assert_int_equal(g.data[g.entry[1].begin], 64);
    assert_int_equal(g.data_bytes, 402);
    assert_int_equal(g.align_bytes, 64);

    assert_int_equal(gguf_uint(&g, "k.u8", &u, &e), 0);
    assert_int_equal(u, 200);
    assert_int_equal(gguf_uint(&g, "k.u64", &u, &e), 0);
    assert_int_equal(u, 1ull << 40);
    assert_int_equal(gguf_uint(&g, "k.i64", &u, &e), 0);
    assert_int_equal(gguf_uint(&g, "k.i8", &u, &e), ERR_FORMAT); /* -1 */
    assert_int_equal(gguf_uint(&g, "k.f32", &u, &e), ERR_FORMAT);
    assert_int_equal(gguf_uint(&g, "k.ints", &u, &e), ERR_FORMAT);
    assert_int_equal(gguf_uint(&g, "k.bool", &u, &e), ERR_FORMAT);
    assert_int_equal(gguf_uint(&g, "k.none", &u, &e), ERR_NOTFOUND);
    assert_non_null(strstr(e.text, "k.none"));
    assert_int_equal(gguf_real(&g, "k.f32", &f, &e), 0);
    assert_true(f == 1.5);
    assert_int_equal(gguf_real(&g, "k.f64", &f, &e), ERR_FORMAT); /* NaN */
    assert_int_equal(gguf_real(&g, "k.u8", &f, &e), ERR_FORMAT);
    assert_int_equal(gguf_str(&g, "general.architecture", &s, &e), 0);
    assert_true(str_is(s, "zimage"));
    assert_int_equal(gguf_str(&g, "k.nothing", &s, &e), 0);
    assert_int_equal(s.len, 0);
    assert_int_equal(gguf_str(&g, "k.strings", &s, &e), ERR_FORMAT);
    assert_int_equal(gguf_array(&g, "k.strings", GGUF_STR, &a, &e), 0);
    assert_int_equal(a->n, 3);
    assert_true(str_is(gguf_next(a, &at), "one"));
    assert_true(str_is(gguf_next(a, &at), ""));
    assert_true(str_is(gguf_next(a, &at), "three"));
    assert_int_equal(at, a->bytes.len);
    assert_int_equal(gguf_array(&g, "k.ints", GGUF_I32, &a, &e), 0);
    assert_int_equal(gguf_i32(a, 0), -2);
    assert_int_equal(gguf_array(&g, "k.ints", GGUF_F32, &a, &e), ERR_FORMAT); /* tokenizer.ggml.scores: u8[] read as float[] */
    assert_non_null(strstr(e.text, "array of i32"));
    shut(&g);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    gb_valid(&file);
    size_t whole = file.len;
    for (file.len = 0; file.len < whole; file.len++)
        refused("a cut file", ERR_FORMAT, "file: ");
}

/* Each 8-byte field of the valid file replaced by numbers that break arithmetic: refused, or accepted with everything inside. */
static void edges_in_every_field(void **state)
{
    (void)state;
    static const uint64_t edge[] = { 0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff,
                                     0xffffffffffffffe0, 0x2000000000000000 };
    gb_valid(&file);
    struct gguf_bytes good = file;
    int               n_refused = 0;
    for (size_t at = 0; at + 8 <= good.len; at++)
        for (size_t k = 0; k < sizeof edge / sizeof *edge; k++) {
            struct gguf g;
            struct err  e;
            file = good;
            memcpy(file.at + at, &edge[k], 8);
            if (parse(&g, &e)) {
                assert_true(e.code && e.text[0]);
                n_refused++;
                continue;
            }
            for (size_t i = 0; i < g.n; i++)
                assert_true(g.entry[i].begin <= g.data_bytes && g.entry[i].bytes <= g.data_bytes - g.entry[i].begin);
            shut(&g);
        }
    assert_true(n_refused > 1000);
}

/* One tensor of a shape, a type and a place, with n bytes of data. */
static void one_tensor(uint32_t rank, const uint64_t *dim, uint32_t type, uint64_t begin, size_t n)
{
    gb_head(&file, 3, 1, 0);
    gb_tensor(&file, "t", rank, dim, type, begin);
    gb_data(&file, 32, n);
}

#define D(...) ((const uint64_t[]){ __VA_ARGS__ })

static void lies_about_tensors(void **state)
{
    (void)state;
    one_tensor(1, D(8), 0, 0, 31);
    refused("CVE-2026-7482: ends behind the file", ERR_FORMAT, "ends behind the data");
    one_tensor(1, D(8), 0, 0xffffffffffffffe0, 32);
    refused("offset + size wraps", ERR_FORMAT, "ends behind the data");
    one_tensor(1, D(8), 0, 32, 32);
    refused("begins at the end", ERR_FORMAT, "ends behind the data");
    one_tensor(4, D(1u << 30, 1u << 30, 1u << 30, 1u << 30), 0, 0, 32);
    refused("CVE-2026-33298: ggml_nbytes wraps", ERR_FORMAT, "larger than any file");
    one_tensor(4, D(0x7fffffff, 0x7fffffff, 2, 2), 0, 0, 32);
    refused("issue 27203: ggml_nelements overflows", ERR_FORMAT, "larger than any file");
    one_tensor(2, D(0x7fffffff, 0x7fffffff), 24, 0, 32);
    refused("PR 24759: 2^62 bytes, padding", ERR_FORMAT, "ends behind the data");
    one_tensor(1, D(0xfffffffffffffffe), 24, 0, 32);
    refused("PR 24759: 2^64 - 2 bytes", ERR_FORMAT, "must be 1 to");
    one_tensor(2, D(8, 0), 0, 0, 32);
    refused("PR 25596: ne[1] = 0", ERR_FORMAT, "dimension 1 is 0");
    one_tensor(1, D(0x8000000000000000), 0, 0, 32);
    refused("CVE-2024-21802: a negative dimension", ERR_FORMAT, "must be 1 to");
    one_tensor(0, D(0), 0, 0, 32);
    refused("no dimensions", ERR_FORMAT, "has 0 dimensions");
    one_tensor(5, D(1, 1, 1, 1, 1), 0, 0, 32);
    refused("gguflib: five dimensions", ERR_FORMAT, "has 5 dimensions");
    one_tensor(1, D(1), 0, 0, 32);
    memset(file.at + 24 + 8 + 1, 0xff, 4);
    refused("2^32 - 1 dimensions", ERR_FORMAT, "dimensions");
    one_tensor(1, D(33), 8, 0, 68);
    refused("half a block", ERR_FORMAT, "do not divide into blocks of 32");
    one_tensor(1, D(32), 12, 0, 144);
    refused("half a super-block", ERR_FORMAT, "do not divide into blocks of 256");
    one_tensor(1, D(8), 99, 0, 32);
    refused("an unknown type", ERR_FORMAT, "ggml type 99");
    one_tensor(1, D(256), 16, 0, 66);
    refused("IQ2_XXS", ERR_FORMAT, "does not read");
    one_tensor(1, D(1), 0, 8, 64);
    refused("an offset that is not aligned", ERR_FORMAT, "not a multiple of 32");
    gb_head(&file, 3, 2, 0);
    gb_tensor(&file, "a", 1, D(16), 0, 0);
    gb_tensor(&file, "b", 1, D(8), 0, 32);
    gb_data(&file, 32, 128);
    refused("tensors that overlap", ERR_FORMAT, "inside a");
    gb_head(&file, 3, 2, 0);
    gb_tensor(&file, "a", 1, D(8), 0, 0);
    gb_tensor(&file, "a", 1, D(8), 0, 32);
    gb_data(&file, 32, 64);
    refused("a name twice", ERR_FORMAT, "there twice");
    gb_head(&file, 3, 1, 0);
    gb_tensor(&file, "", 1, D(8), 0, 0);
    gb_data(&file, 32, 64);
    refused("no name", ERR_FORMAT, "is empty");
    gb_head(&file, 3, 1, 0);
    gb_tensor(&file, "0123456789012345678901234567890123456789012345678901234567890123", 1, D(8), 0, 0);
    gb_data(&file, 32, 64);
    refused("a name of 64 bytes", ERR_LIMIT, "the limit is 63");
    gb_head(&file, 3, 1, 0);
    gb_tensor(&file, "a\nb", 1, D(8), 0, 0);
    gb_data(&file, 32, 64);
    refused("a name of two lines", ERR_FORMAT, "printable");
}

static void lies_about_metadata(void **state)
{
    (void)state;
    gb_head(&file, 3, 0, 1ull << 60);
    refused("CVE-2024-23605: n_kv is multiplied", ERR_LIMIT, "keys");
    gb_head(&file, 3, 0, 65536);
    refused("n_kv that does not fit", ERR_FORMAT, "do not fit");
    gb_head(&file, 3, 1ull << 60, 0);
    refused("CVE-2024-21836: n_tensors", ERR_LIMIT, "tensors");
    gb_head(&file, 3, 65536, 0);
    refused("n_tensors that does not fit", ERR_FORMAT, "do not fit");
    gb_head(&file, 3, 0, 1);
    gb_num(&file, 0xffffffffffffffff, 8);
    gb_data(&file, 32, 64);
    refused("CVE-2024-25664: a key of 2^64 - 1 bytes (+ 1 wraps)", ERR_LIMIT, "the limit is 255");
    gb_head(&file, 3, 0, 1);
    gb_key(&file, "s", 8), gb_num(&file, 0xffffffffffffffff, 8);
    gb_data(&file, 32, 64);
    refused("CVE-2024-23496: a string of 2^64 - 1 bytes", ERR_LIMIT, "the limit is");
    gb_head(&file, 3, 0, 1);
    gb_key(&file, "a", 9), gb_num(&file, 10, 4), gb_num(&file, 0x2000000000000001, 8);
    gb_data(&file, 32, 64);
    refused("CVE-2024-21825: an array whose bytes wrap", ERR_FORMAT, "ends inside an array");
    gb_head(&file, 3, 0, 1);
    gb_key(&file, "a", 9), gb_num(&file, 8, 4), gb_num(&file, 0x2000000000000001, 8);
    gb_data(&file, 32, 64);
    refused("CVE-2024-25668: an array of strings whose pointers wrap", ERR_FORMAT, "ends inside an array");
    gb_head(&file, 3, 0, 1);
    gb_key(&file, "a", 9), gb_num(&file, 9, 4), gb_num(&file, 1, 8), gb_num(&file, 9, 4), gb_num(&file, 1, 8);
    gb_data(&file, 32, 64);
    refused("nested arrays", ERR_FORMAT, "array of arrays");
    gb_head(&file, 3, 0, 1);
    gb_key(&file, "a", 13), gb_num(&file, 0, 8);
    refused("an unknown type", ERR_FORMAT, "unknown type 13");
    gb_head(&file, 3, 0, 1);
    gb_key(&file, "b", 7), gb_num(&file, 2, 1), gb_num(&file, 0, 8);
    refused("a bool of 2", ERR_FORMAT, "bool of value 2");
    gb_head(&file, 3, 0, 2);
    gb_key(&file, "k", 0), gb_num(&file, 2, 1), gb_key(&file, "k", 0), gb_num(&file, 2, 1);
    refused("a key twice", ERR_FORMAT, "there twice");
    gb_head(&file, 3, 0, 1);
    gb_key(&file, "", 0), gb_num(&file, 2, 8);
    refused("an empty key", ERR_FORMAT, "is empty");
}

static void lies_about_alignment(void **state)
{
    (void)state;
    static const uint32_t bad[] = { 0, 1, 4, 24, 131072, 0x80000000, 0xffffffff };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gb_head(&file, 3, 0, 1);
        gb_key(&file, "general.alignment", 4), gb_num(&file, bad[i], 4);
        refused("oss-sec 2026-05-15: alignment", ERR_FORMAT, "power of two from 8 to 65536");
    }
    gb_head(&file, 3, 0, 1);
    gb_key(&file, "general.alignment", 8), gb_text(&file, "32");
    refused("PR 25596: alignment of another type", ERR_FORMAT, "must be a u32");
    gb_head(&file, 3, 0, 1);
    gb_key(&file, "general.alignment", 10), gb_num(&file, 32, 8);
    refused("alignment as u64", ERR_FORMAT, "must be a u32");
}

static void other_files_are_named(void **state)
{
    (void)state;
    gb_head(&file, 1, 0, 0);
    refused("version 1", ERR_FORMAT, "version 1");
    gb_head(&file, 0x03000000, 0, 0);
    refused("a big-endian file", ERR_FORMAT, "big-endian");
    memcpy(file.at, "GGML", 4);
    refused("GGML", ERR_FORMAT, "does not begin with");
    gb_head(&file, 2, 0, 0);
    struct gguf g;
    struct err  e;
    assert_int_equal(parse(&g, &e), 0); /* version 2, empty */
    assert_int_equal(g.n + g.n_values + g.data_bytes, 0);
    shut(&g);
}

static void what_is_written_reads_back(void **state)
{
    (void)state;
    struct gguf_head h;
    struct buf       out;
    struct gguf      g, again;
    struct err       e = { 0 };
    struct tmp       tmp;
    uint64_t         begin[3] = { 9, 9, 9 };
    struct str       s;
    uint64_t         u = 0;
    double           f = 0;

    gguf_head_init(&h);
    buf_init(&out, 1 << 20);
    gguf_put_str(&h, "general.architecture", str_of("zimage"));
    gguf_put_u32(&h, "general.file_type", 7);
    gguf_put_f32(&h, "a.b", 0.5f);
    gguf_put_array(&h, "i", GGUF_I32, 2, (struct str){ "\1\0\0\0\2\0\0\0", 8 });
    assert_int_equal(gguf_put_tensor(&h, "x", DTYPE_Q4_K, 2, (int64_t[]){ 3, 512 }, &begin[0], &e), 0);
    assert_int_equal(gguf_put_tensor(&h, "y", DTYPE_BF16, 1, (int64_t[]){ 5 }, &begin[1], &e), 0);
    assert_int_equal(gguf_put_tensor(&h, "z", DTYPE_F32, 4, (int64_t[]){ 2, 3, 1, 1 }, &begin[2], &e), 0);
    assert_int_equal(gguf_put_tensor(&h, "w", DTYPE_Q4_K, 1, (int64_t[]){ 100 }, &u, &e), ERR_ARG);
    assert_int_equal(gguf_put_tensor(&h, "w", DTYPE_F8_E4M3, 1, (int64_t[]){ 100 }, &u, &e), ERR_ARG);
    assert_int_equal(gguf_head_bytes(&h, &out, &e), 0);
    assert_int_equal(out.len % GGUF_ALIGN, 0);
    for (uint64_t i = 0; i < h.data_bytes; i++)
        buf_putc(&out, (char)i);
    tmp_open(&tmp);
    tmp_write(&tmp, "a.gguf", out.at, out.len);
    if (gguf_open(&g, tmp_path(&tmp, "a.gguf"), &e))
        fail_msg("%s", e.text);
    assert_int_equal(g.n, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(g.entry[i].begin, begin[i]);
    assert_int_equal(g.entry[0].bytes, 3 * 2 * 144);
    assert_int_equal(g.entry[2].rank, 4);
    assert_int_equal(g.entry[2].dim[1], 3);
    assert_int_equal(gguf_str(&g, "general.architecture", &s, &e), 0);
    assert_int_equal(gguf_uint(&g, "general.file_type", &u, &e), 0);
    assert_int_equal(gguf_real(&g, "a.b", &f, &e), 0);
    assert_true(str_is(s, "zimage") && u == 7 && f == 0.5);

    /* metadata of a file that was read goes into another as it is */
    gguf_head_release(&h);
    gguf_head_init(&h);
    buf_clear(&out);
    for (size_t i = 0; i < g.n_values; i++)
        gguf_put_value(&h, &g.value[i]);
    assert_int_equal(gguf_head_bytes(&h, &out, &e), 0);
    assert_int_equal(gguf_parse(&again, buf_str(&out), "again", &e), 0);
    assert_int_equal(again.n_values, g.n_values);
    for (size_t i = 0; i < g.n_values; i++)
        assert_true(str_eq(g.value[i].bytes, again.value[i].bytes) && str_eq(g.value[i].key, again.value[i].key));
    gguf_close(&again);
    gguf_close(&g);
    gguf_head_release(&h);
    buf_release(&out);
    tmp_close(&tmp);
}

/* The tokenizer inside: what encodes, and each thing that may be wrong with it. */
static void tokenizer_inside(void **state)
{
    (void)state;
    static const struct { const char *from, *to; const char *part; } bad[] = {
        { "gpt2", "bert", "not supported" },          { "qwen2", "llama", "not supported" },       { "t h", "t q", "not in model.vocab" },
        { "t h", "tth", "must be two tokens" },       { "[PAD258]", "th\0\0\0\0\0\0", "is not a text" }, { "[PAD258]", "\xff\xfe\xff\xff....", "is not a text" },
        { "tokenizer.ggml.merges", "tokenizer.ggml.merge_", "no tokenizer.ggml.merges" },
        { "tokenizer.ggml.token_type", "tokenizer.ggml.token_typo", "no tokenizer.ggml.token_type" },
    };
    struct tokenizer *t = NULL;
    struct err        e = { 0 };
    int32_t           ids[8];
    size_t            n = 0;

    gb_tokenizer(&file);
    struct gguf_bytes good = file;
    if (tokenizer_open_mem(&t, (struct str){ (const char *)file.at, file.len }, &e))
        fail_msg("%s", e.text);
    assert_int_equal(tokenizer_vocab(t), 259);
    assert_int_equal(tokenizer_encode(t, str_of("tha<|im_end|>"), ids, 8, &n, &e), 0);
    assert_int_equal(n, 3);
    assert_true(ids[0] == 256 && ids[1] == 'a' && ids[2] == 257);
    tokenizer_free(t);
    t = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        file = good;
        uint8_t *at = memmem(file.at, file.len, bad[i].from, strlen(bad[i].from));
        assert_non_null(at);
        memcpy(at, bad[i].to, strlen(bad[i].from));
        e = (struct err){ 0 };
        if (!tokenizer_open_mem(&t, (struct str){ (const char *)file.at, file.len }, &e) || !strstr(e.text, bad[i].part))
            fail_msg("%s: \"%s\" does not say \"%s\"", bad[i].to, e.text, bad[i].part);
    }
    file = good; /* one type too few: counts must agree */
    uint8_t *at = memmem(file.at, file.len, "token_type", 10);
    at[10 + 4 + 4] = 2;
    at[10 + 4 + 5] = 0;
    assert_true(tokenizer_open_mem(&t, (struct str){ (const char *)file.at, file.len }, &e) < 0);
    assert_null(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_valid_file_is_read), cmocka_unit_test(every_truncation_is_refused), cmocka_unit_test(edges_in_every_field),
        cmocka_unit_test(lies_about_tensors),   cmocka_unit_test(lies_about_metadata),         cmocka_unit_test(lies_about_alignment),
        cmocka_unit_test(other_files_are_named), cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(tokenizer_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

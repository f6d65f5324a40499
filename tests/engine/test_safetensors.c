/* test_safetensors.c - a valid header is read whole; every kind of lie in one is refused with a sentence that names it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/safetensors.h"
#include "tests/engine/tiny.h"
#include "tests/tmp.h"

/* length, header, n_data zero bytes */
static char *build(const char *header, size_t n_data, size_t *len)
{
    size_t n = strlen(header);
    char  *at = calloc(1, 8 + n + n_data + 1);
    assert_non_null(at);
    for (int i = 0; i < 8; i++)
        at[i] = (char)(n >> 8 * i);
    memcpy(at + 8, header, n);
    *len = 8 + n + n_data;
    return at;
}

static void refused(const char *header, size_t n_data, int code, const char *part)
{
    struct safetensors s;
    struct err         e = { 0 };
    size_t             len;
    char              *bytes = build(header, n_data, &len);
    int                rc = safetensors_parse(&s, (struct str){ bytes, len }, "file", &e);
    if (rc != code || e.code != code || !strstr(e.text, part))
        fail_msg("%s: code %d \"%s\", expected %d \"%s\"", header, rc, e.text, code, part);
    free(bytes);
}

#define T(name, dtype, shape, from, to) "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" from "," to "]}"

static void a_valid_file_is_read(void **state)
{
    struct safetensors s;
    struct err         e = { 0 };
    size_t             len;
    char *bytes = build("{\"__metadata__\":{\"format\":\"pt\"}," T("b", "BF16", "[2,3]", "8", "20") "," T("a", "F32", "[2]", "0", "8") ","
                        T("i", "I64", "[]", "20", "28") "," T("none", "F32", "[0,4]", "20", "20") "}   ", 28, &len);
    (void)state;
    if (safetensors_parse(&s, (struct str){ bytes, len }, "file", &e))
        fail_msg("%s", e.text);
    assert_int_equal(s.n, 4);
    assert_string_equal(s.entry[0].name, "a"); /* in the order of their data */
    assert_string_equal(s.entry[1].name, "b");
    assert_string_equal(s.entry[2].name, "none");
    assert_int_equal(s.entry[1].type, DTYPE_BF16);
    assert_int_equal(s.entry[1].rank, 2);
    assert_int_equal(s.entry[1].dim[1], 3);
    assert_int_equal(s.entry[1].begin, 8);
    assert_int_equal(s.entry[1].bytes, 12);
    assert_true(s.entry[1].usable);
    assert_false(s.entry[3].usable); /* listed, not used */
    assert_string_equal(s.entry[3].type_word, "I64");
    assert_ptr_equal(s.data + s.data_bytes, bytes + len);
    safetensors_close(&s);
    free(bytes);
}

static void lies_are_refused(void **state)
{
    (void)state;
    refused("", 0, ERR_FORMAT, "does not begin with '{'");
    refused("[]", 0, ERR_FORMAT, "does not begin with '{'");
    refused("{", 0, ERR_FORMAT, "not valid JSON");
    refused("{} x", 0, ERR_FORMAT, "not valid JSON");
    refused("{\"a\":1}", 0, ERR_FORMAT, "lacks dtype");
    refused("{\"__metadata__\":3}", 0, ERR_FORMAT, "__metadata__");
    refused("{\"__metadata__\":{\"a\":3}}", 0, ERR_FORMAT, "not a string");
    refused("{" T("a", "F32", "[1]", "0", "4") "," T("a", "F32", "[1]", "4", "8") "}", 8, ERR_FORMAT, "not valid JSON: duplicate");
    refused("{" T("a", "Q4", "[1]", "0", "4") "}", 4, ERR_FORMAT, "tensor a has an unknown dtype");
    refused("{" T("a", "F32", "[2]", "0", "4") "}", 4, ERR_FORMAT, "need 8 bytes, data_offsets give 4");
    refused("{" T("a", "F32", "[1]", "0", "4") "}", 3, ERR_FORMAT, "ends at byte 4 of the data, the file has 3");
    refused("{" T("a", "F32", "[1]", "0", "4") "}", 5, ERR_FORMAT, "1 bytes after the last tensor");
    refused("{" T("a", "F32", "[1]", "1", "5") "}", 5, ERR_FORMAT, "bytes 0..1 of the data belong to no tensor");
    refused("{" T("a", "F32", "[2]", "0", "8") "," T("b", "F32", "[2]", "4", "12") "}", 12, ERR_FORMAT, "overlap");
    refused("{" T("a", "F32", "[1]", "0", "4") "," T("b", "F32", "[1]", "8", "12") "}", 12, ERR_FORMAT, "bytes 4..8");
    refused("{" T("a", "F32", "[-1]", "0", "4") "}", 4, ERR_FORMAT, "dimension 0");
    refused("{" T("a", "F32", "[1.0]", "0", "4") "}", 4, ERR_FORMAT, "dimension 0");
    refused("{" T("a", "F32", "[1]", "4", "0") "}", 4, ERR_FORMAT, "rising");
    refused("{" T("a", "F32", "[1]", "-4", "0") "}", 4, ERR_FORMAT, "rising");
    refused("{" T("a", "F32", "[1]", "0", "4.0") "}", 4, ERR_FORMAT, "rising");
    refused("{" T("a", "F32", "[1]", "0", "99999999999999999999") "}", 4, ERR_FORMAT, "not valid JSON");
    refused("{" T("a", "F32", "[1]", "0", "9223372036854775807") "}", 4, ERR_FORMAT, "truncated?");
    refused("{" T("a", "F32", "[1]", "9223372036854775807", "9223372036854775807") "}", 4, ERR_FORMAT, "truncated?");
    refused("{" T("a", "F32", "[4611686018427387904,4611686018427387904]", "0", "0") "}", 0, ERR_FORMAT, "larger than any file");
    refused("{" T("a", "F32", "[4611686018427387904]", "0", "0") "}", 0, ERR_FORMAT, "larger than any file"); /* * 4 wraps to 0 */
    refused("{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4, ERR_LIMIT, "9 dimensions");
    refused("{" T("", "F32", "[1]", "0", "4") "}", 4, ERR_FORMAT, "name");
    refused("{" T("a\\n", "F32", "[1]", "0", "4") "}", 4, ERR_FORMAT, "control");
    refused("{\"\xff\":1}", 0, ERR_FORMAT, "not valid JSON");
    refused("{\"\\ud800\":1}", 0, ERR_FORMAT, "not valid JSON");
    refused("{\"a\":[[[[[[1]]]]]]}", 0, ERR_FORMAT, "nests deeper");
}

/* Numbers above 2^53 must not pass through a double: these two differ by one. */
static void integers_keep_64_bits(void **state)
{
    (void)state;
    refused("{" T("a", "U8", "[9007199254740993]", "0", "9007199254740992") "}", 8, ERR_FORMAT, "ends at byte 9007199254740992");
    refused("{" T("a", "U8", "[1]", "9007199254740993", "9007199254740994") "}", 8, ERR_FORMAT, "ends at byte 9007199254740994");
}

static void header_length_is_not_believed(void **state)
{
    static const uint64_t lengths[] = { 0, 1, 0x7fffffff, 0x80000000, 0xffffffff, INT64_MAX, (uint64_t)1 << 63, UINT64_MAX, UINT64_MAX - 7,
                                        SAFETENSORS_HEADER_MAX + 1 };
    struct safetensors    s;
    struct err            e = { 0 };
    size_t                len;
    char                 *bytes = build("{" T("a", "F32", "[1]", "0", "4") "}", 4, &len);
    (void)state;
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        for (int i = 0; i < 8; i++)
            bytes[i] = (char)(lengths[k] >> 8 * i);
        assert_true(safetensors_parse(&s, (struct str){ bytes, len }, "file", &e) < 0);
    }
    free(bytes);
}

static void every_truncation_is_refused(void **state)
{
    struct safetensors s;
    size_t             len;
    char *bytes = build("{" T("a", "F32", "[2]", "0", "8") "," T("b", "BF16", "[2]", "8", "12") "}", 12, &len);
    (void)state;
    for (size_t n = 0; n < len; n++) {
        struct err e = { 0 };
        char      *cut = malloc(n ? n : 1); /* its own block, so that a sanitizer sees a byte too far */
        assert_non_null(cut);
        memcpy(cut, bytes, n);
        assert_true(safetensors_parse(&s, (struct str){ cut, n }, "file", &e) < 0);
        assert_true(e.text[0]);
        free(cut);
    }
    free(bytes);
}

static void what_is_written_is_read(void **state)
{
    struct buf         b;
    struct safetensors s;
    struct err         e = { 0 };
    const float        v[6] = { 1, -2, 3.5f, 0, 1e-30f, 7 };
    (void)state;
    for (size_t n_name = 1; n_name < 10; n_name++) { /* every padding */
        char name[16] = "aaaaaaaaaaaaaaa";
        name[n_name] = 0;
        buf_init(&b, 4096);
        assert_int_equal(safetensors_write(&b, name, 3, (const int64_t[]){ 1, 2, 3 }, v, &e), 0);
        assert_int_equal(safetensors_parse(&s, buf_str(&b), "buf", &e), 0);
        assert_int_equal(s.n, 1);
        assert_string_equal(s.entry[0].name, name);
        assert_int_equal(s.entry[0].rank, 3);
        assert_int_equal(s.entry[0].dim[2], 3);
        assert_int_equal((s.data - (const uint8_t *)b.at) % 8, 0);
        assert_memory_equal(s.data, v, sizeof v);
        safetensors_close(&s);
        buf_release(&b);
    }
    buf_init(&b, 40);
    assert_int_equal(safetensors_write(&b, "a", 1, (const int64_t[]){ 6 }, v, &e), ERR_LIMIT);
    buf_release(&b);
    buf_init(&b, 4096);
    assert_int_equal(safetensors_write(&b, "a", 2, (const int64_t[]){ INT64_MAX, 6 }, v, &e), ERR_LIMIT);
    buf_release(&b);
}

static void files_are_mapped(void **state)
{
    struct safetensors s;
    struct err         e = { 0 };
    struct tmp         t;
    (void)state;
    assert_int_equal(safetensors_open(&s, TINY_GOLDEN, &e), 0);
    assert_int_equal(s.n, 24);
    safetensors_close(&s);
    tmp_open(&t);
    assert_int_equal(safetensors_open(&s, tmp_path(&t, "none.safetensors"), &e), ERR_NOTFOUND);
    assert_non_null(strstr(e.text, "none.safetensors"));
    tmp_write(&t, "empty.safetensors", "", 0);
    assert_int_equal(safetensors_open(&s, tmp_path(&t, "empty.safetensors"), &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "too few"));
    assert_int_equal(safetensors_open(&s, t.dir, &e), ERR_IO); /* a folder */
    tmp_close(&t);
}

static int index_of(const char *json, struct safetensors_index *x, struct err *e)
{
    return safetensors_index_parse(x, str_of(json), "index", e);
}

static void indexes_list_plain_files(void **state)
{
    struct safetensors_index x;
    struct err               e = { 0 };
    (void)state;
    assert_int_equal(index_of("{\"metadata\":{\"total_size\":4},\"weight_map\":{\"a\":\"2.safetensors\",\"b\":\"1.safetensors\",\"c\":\"2.safetensors\"}}",
                              &x, &e), 0);
    assert_int_equal(x.n_files, 2);
    assert_string_equal(x.file[0], "1.safetensors");
    assert_int_equal(x.n, 3);
    for (size_t i = 0; i < x.n; i++)
        assert_int_equal(x.file_of[i], strcmp(x.tensor[i], "b") == 0 ? 0 : 1);
    safetensors_index_release(&x);
    assert_int_equal(index_of("{}", &x, &e), ERR_FORMAT);
    assert_int_equal(index_of("{\"weight_map\":{}}", &x, &e), ERR_LIMIT);
    assert_int_equal(index_of("{\"weight_map\":{\"a\":1}}", &x, &e), ERR_FORMAT);
    assert_int_equal(index_of("{\"weight_map\":{\"a\":\"../../etc/passwd\"}}", &x, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "plain file name"));
    assert_int_equal(index_of("{\"weight_map\":{\"a\":\"x\",\"a\":\"y\"}}", &x, &e), ERR_FORMAT);
    assert_int_equal(index_of("", &x, &e), ERR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_valid_file_is_read),          cmocka_unit_test(lies_are_refused),
        cmocka_unit_test(integers_keep_64_bits),         cmocka_unit_test(header_length_is_not_believed),
        cmocka_unit_test(every_truncation_is_refused),   cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(files_are_mapped),              cmocka_unit_test(indexes_list_plain_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

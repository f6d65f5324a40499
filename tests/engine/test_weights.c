/* test_weights.c - names to tensors over one file or shards; what is missing, of another shape or cut is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/str.h"
#include "engine/weights.h"
#include "tests/engine/tiny.h"
#include "tests/tmp.h"

/* A file of the given header and data; header padded only when asked, so that data can lie at odd addresses. */
static void put_file(struct tmp *t, const char *name, const char *header, const void *data, size_t n_data)
{
    struct buf b;
    uint64_t   n = strlen(header);
    buf_init(&b, 1 << 20);
    assert_int_equal(buf_put(&b, &n, 8), 0);
    assert_int_equal(buf_puts(&b, header), 0);
    assert_int_equal(buf_put(&b, data, n_data), 0);
    tmp_write(t, name, b.at, b.len);
    buf_release(&b);
}

static const float six[6] = { 1, 2, 3, 4, 5, 6 };

#define ONE_FILE "{\"model.a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},\"n\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[16,24]}}"
#define A_IN(from, to) "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[" from "," to "]}}"

static void one_file_answers_by_name(void **state)
{
    static const char *const pads[] = { "", " ", "  ", "   ", "    ", "     ", "      ", "       " };
    (void)state;
    for (size_t i = 0; i < 8; i++) { /* one of these puts the data at each odd address */
        struct tmp      t;
        struct weights *w = NULL;
        struct tensor   a;
        struct err      e = { 0 };
        char            header[400];
        tmp_open(&t);
        snprintf(header, sizeof header, "%s%s", ONE_FILE, pads[i]);
        put_file(&t, "model.safetensors", header, six, 24);
        if (weights_open(&w, t.dir, "model.", &e))
            fail_msg("%s", e.text);
        assert_true(weights_has(w, "a") && weights_has(w, "model.a") && !weights_has(w, "b"));
        assert_int_equal(weights_get(w, "a", 2, (const int64_t[]){ 2, 2 }, &a, &e), 0);
        assert_memory_equal(a.data, six, 16);
        assert_int_equal((uintptr_t)a.data % sizeof(float), 0);
        assert_true(a.pitch == 2 && a.rank == 2 && a.type == DTYPE_F32);
        assert_int_equal(weights_values(w), 5);
        assert_int_equal(weights_bytes(w), 24);
        assert_int_equal(weights_type(w), DTYPE_F32);

        assert_int_equal(weights_get(w, "b", 1, (const int64_t[]){ 1 }, &a, &e), ERR_NOTFOUND);
        assert_non_null(strstr(e.text, "tensor b is missing"));
        assert_non_null(strstr(e.text, "model.safetensors"));
        assert_int_equal(weights_get(w, "a", 2, (const int64_t[]){ 2, 3 }, &a, &e), ERR_FORMAT);
        assert_non_null(strstr(e.text, "tensor a is [2,2], the config asks for [2,3]"));
        assert_int_equal(weights_get(w, "a", 1, (const int64_t[]){ 4 }, &a, &e), ERR_FORMAT);
        assert_int_equal(weights_get(w, "n", 1, (const int64_t[]){ 1 }, &a, &e), ERR_FORMAT);
        assert_non_null(strstr(e.text, "dtype I64, supported are F32, BF16 and F16"));
        weights_free(w);
        tmp_close(&t);
    }
}

static void shards_are_one_component(void **state)
{
    struct tmp      t;
    struct weights *w = NULL;
    struct tensor   a;
    struct err      e = { 0 };
    (void)state;
    tmp_open(&t);
    put_file(&t, "m-1.safetensors", A_IN("0", "4"), six, 4);
    put_file(&t, "m-2.safetensors", "{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", six + 1, 4);
    static const char good[] = "{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"}}";
    tmp_write(&t, "model.safetensors.index.json", good, sizeof good - 1);
    if (weights_open(&w, t.dir, NULL, &e))
        fail_msg("%s", e.text);
    assert_int_equal(weights_get(w, "b", 1, (const int64_t[]){ 1 }, &a, &e), 0);
    assert_true(*(const float *)a.data == 2);
    assert_int_equal(weights_get(w, "c", 1, (const int64_t[]){ 1 }, &a, &e), ERR_NOTFOUND);
    weights_free(w);
    w = NULL;

    static const struct { const char *index, *part; } bad[] = {
        { "{\"weight_map\":{\"a\":\"m-1.safetensors\",\"c\":\"m-2.safetensors\"}}", "says that tensor c is in m-2.safetensors" },
        { "{\"weight_map\":{\"a\":\"m-2.safetensors\",\"b\":\"m-1.safetensors\"}}", "but it is not" },
        { "{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-3.safetensors\"}}", "m-3.safetensors" },
        { "{\"weight_map\":{\"a\":\"../m-1.safetensors\"}}", "plain file name" },
        { "{\"weight_map\"", "not valid JSON" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tmp_write(&t, "model.safetensors.index.json", bad[i].index, strlen(bad[i].index));
        e = (struct err){ 0 };
        assert_true(weights_open(&w, t.dir, NULL, &e) < 0);
        if (!strstr(e.text, bad[i].part))
            fail_msg("\"%s\" does not say \"%s\"", e.text, bad[i].part);
    }
    put_file(&t, "m-2.safetensors", A_IN("0", "4"), six, 4);
    static const char twice[] = "{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"}}";
    tmp_write(&t, "model.safetensors.index.json", twice, sizeof twice - 1);
    assert_int_equal(weights_open(&w, t.dir, NULL, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "two shards"));
    tmp_close(&t);
}

static void folders_name_their_files(void **state)
{
    struct tmp      t;
    struct weights *w = NULL;
    struct err      e = { 0 };
    (void)state;
    tmp_open(&t);
    tmp_write(&t, "pytorch_model.bin", "x", 1);
    assert_int_equal(weights_open(&w, t.dir, NULL, &e), ERR_NOTFOUND);
    assert_non_null(strstr(e.text, "holds no .safetensors file"));
    put_file(&t, "other.safetensors", A_IN("0", "4"), six, 4);
    assert_int_equal(weights_open(&w, t.dir, NULL, &e), 0); /* the only one */
    weights_free(w);
    w = NULL;
    put_file(&t, "second.safetensors", A_IN("0", "4"), six, 4);
    assert_int_equal(weights_open(&w, t.dir, NULL, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "holds 2 files"));
    put_file(&t, "model.safetensors", A_IN("0", "4"), six, 4);
    assert_int_equal(weights_open(&w, t.dir, NULL, &e), 0);
    weights_free(w);
    w = NULL;
    assert_int_equal(weights_open(&w, "/nonexistent/folder", NULL, &e), ERR_NOTFOUND);
    assert_null(w);
    tmp_close(&t);
}

static void a_file_cut_under_us_is_noticed(void **state)
{
    struct tmp      t;
    struct weights *w = NULL;
    struct err      e = { 0 };
    (void)state;
    tmp_open(&t);
    put_file(&t, "model.safetensors", A_IN("0", "4"), six, 4);
    assert_int_equal(weights_open(&w, t.dir, NULL, &e), 0);
    assert_int_equal(weights_check(w, &e), 0);
    assert_int_equal(truncate(tmp_path(&t, "model.safetensors"), 20), 0);
    assert_int_equal(weights_check(w, &e), ERR_IO);
    assert_non_null(strstr(e.text, "model.safetensors"));
    weights_free(w);
    tmp_close(&t);
}

static void the_loader_stops_at_the_first_error(void **state)
{
    struct weights *w = NULL;
    struct dev     *d = NULL;
    struct tensor   t;
    struct err      e = { 0 };
    (void)state;
    assert_int_equal(weights_open(&w, TINY_MODEL "/transformer", NULL, &e), 0);
    assert_int_equal(dev_open(&d, "cpu", NULL, &e), 0);
    struct loader l = { w, d, &e, 0 };
    load2(&l, &t, 1, 128, "x_pad_token");
    assert_int_equal(l.rc, 0);
    assert_int_equal(t.type, DTYPE_BF16);
    load1(&l, &t, 128, "layers.%d.nothing", 7);
    assert_int_equal(l.rc, ERR_NOTFOUND);
    load2(&l, &t, 1, 128, "x_pad_tokens");
    assert_non_null(strstr(e.text, "layers.7.nothing"));
    dev_close(d);
    weights_free(w);
}

static void count_taken(void *ctx, int64_t bytes)
{
    int64_t *sums = ctx;
    sums[0]++;
    sums[1] += bytes;
}

static void who_watches_hears_of_each_tensor(void **state)
{
    struct tmp      t;
    struct weights *w = NULL;
    struct dev_opts o = { .n_threads = 1 };
    struct dev     *d = NULL;
    struct tensor   a;
    struct err      e = { 0 };
    int64_t         sums[2] = { 0, 0 };
    bool            fresh;
    void           *room;

    (void)state;
    tmp_open(&t);
    put_file(&t, "model.safetensors", ONE_FILE, six, 24);
    assert_int_equal(dev_open(&d, "cpu", &o, &e), 0);
    assert_int_equal(weights_open(&w, t.dir, "model.", &e), 0);
    weights_watch(w, count_taken, sums);
    struct loader l = { w, d, &e, 0 };
    load2(&l, &a, 2, 2, "%s", "a");
    assert_int_equal(l.rc, 0);
    weights_let_go(w); /* its bytes are still there */
    assert_memory_equal(a.data, six, 16);
    weights_watch(w, NULL, NULL);
    load2(&l, &a, 2, 2, "%s", "a");
    assert_true(sums[0] == 1 && sums[1] == 16);

    room = weights_room(w, "a", 8, &fresh);
    assert_true(room && fresh);
    assert_ptr_equal(weights_room(w, "a", 8, &fresh), room);
    assert_false(fresh);
    assert_true(weights_room(w, "b", 8, &fresh) != room && fresh);
    dev_close(d);
    weights_free(w);
    tmp_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_file_answers_by_name),       cmocka_unit_test(shards_are_one_component),
        cmocka_unit_test(folders_name_their_files),       cmocka_unit_test(a_file_cut_under_us_is_noticed),
        cmocka_unit_test(the_loader_stops_at_the_first_error), cmocka_unit_test(who_watches_hears_of_each_tensor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

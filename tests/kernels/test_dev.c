/* test_dev.c - opening by name, the scratch stack, the measuring pass, the sticky error, weights. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "kernels/dev.h"
#include "kernels/ops.h"

static struct dev *opened(const char *name, int n_threads)
{
    struct dev_opts o = {PRECISION_F32, n_threads};
    struct dev     *d = NULL;
    struct err      e = {0};

    if (dev_open(&d, name, &o, &e)) fail_msg("%s", e.text);
    return d;
}

static void test_names(void **state)
{
    static const struct { const char *name; int code; } wrong[] = {{"", ERR_ARG}, {"gpu", ERR_ARG}, {"cuda", ERR_ARG}, {"cuda:", ERR_ARG},
                                                                   {"cuda:x", ERR_ARG}, {"cuda:-1", ERR_ARG}, {"cuda:12345", ERR_ARG},
                                                                   {"cuda:999", ERR_DEVICE}, {"CPU", ERR_ARG}};
    struct dev *d = opened("cpu", 2), *none = NULL;
    struct err  e = {0};

    (void)state;
    assert_string_equal(d->name, "cpu");
    assert_int_equal(d->act_type, DTYPE_F32);
    assert_int_equal(d->precision, PRECISION_F32);
    assert_non_null(strstr(d->about, "2 threads"));
    dev_close(d);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        memset(&e, 0, sizeof e);
        assert_int_equal(dev_open(&none, wrong[i].name, NULL, &e), wrong[i].code);
        assert_int_equal(e.code, wrong[i].code);
        assert_true(e.text[0]);
        assert_null(none);
    }
    assert_int_equal(dev_open(&none, "cpu", &(struct dev_opts){PRECISION_F32, -1}, &e), ERR_ARG);
    assert_int_equal(dev_open(&none, "cpu", &(struct dev_opts){PRECISION_F32, DEV_THREADS_MAX + 1}, &e), ERR_ARG);
    assert_int_equal(dev_open(&d, "auto", NULL, &e), 0); /* the first GPU where there is one, else the CPU */
    assert_true(strcmp(d->name, "cpu") == 0 || strcmp(d->name, "cuda:0") == 0);
    assert_true(d->precision == PRECISION_F32 || d->precision == PRECISION_BF16); /* resolved */
    dev_close(d);
    dev_close(NULL);
}

static void test_scratch(void **state)
{
    struct dev   *d = opened("cpu", 1);
    struct err    e = {0};
    struct tensor a, b, c;
    size_t        mark;

    (void)state;
    assert_int_equal(dev_scratch_reserve(d, 4096, &e), 0);
    a = dev_new2(d, DTYPE_F32, 3, 5);
    mark = dev_mark(d);
    b = dev_new1(d, DTYPE_U8, 1);
    c = dev_new3(d, DTYPE_BF16, 2, 3, 4);
    assert_true(a.data && b.data && c.data && a.pitch == 5 && b.pitch == 1 && c.pitch == 12);
    assert_true((uintptr_t)a.data % 64 == 0 && (uintptr_t)b.data % 64 == 0 && (uintptr_t)c.data % 64 == 0);
    assert_true((char *)b.data >= (char *)a.data + 60 && (char *)c.data > (char *)b.data);
    dev_reset(d, mark);
    assert_ptr_equal(dev_new1(d, DTYPE_F32, 1).data, b.data);
    assert_int_equal(d->err.code, 0);
    c = dev_new1(d, DTYPE_F32, 4096); /* past the ceiling */
    assert_null(c.data);
    assert_int_equal(d->err.code, ERR_NOMEM);
    assert_int_equal(dev_sync(d, &e), ERR_NOMEM);
    assert_int_equal(e.code, ERR_NOMEM);
    assert_int_equal(dev_sync(d, &e), 0); /* told once */
    dev_reset(d, 0);
    dev_new(d, DTYPE_F32, 4, (int64_t[]){1 << 20, 1 << 20, 1 << 20, 1 << 20}); /* the product does not fit */
    assert_int_equal(dev_sync(d, &e), ERR_NOMEM);
    assert_int_equal(dev_scratch_reserve(d, SIZE_MAX - 8192, &e), ERR_NOMEM);
    assert_int_equal(dev_scratch_reserve(d, 0, &e), 0);
    dev_close(d);
}

/* A small forward, as the engine writes it. */
static void forward(struct dev *d, const struct tensor *w, const struct tensor *x, struct tensor *out)
{
    size_t        mark = dev_mark(d);
    struct tensor h = dev_new2(d, d->act_type, 3, 4), g = dev_new2(d, d->act_type, 3, 4);

    op_linear(d, &h, x, w, NULL);
    op_linear(d, &g, x, w, NULL);
    op_swiglu(d, &g, &h);
    op_copy(d, out, &g);
    dev_reset(d, mark);
}

/* The measuring pass touches nothing and says exactly what the real pass needs: one byte less fails. */
static void test_measuring(void **state)
{
    struct dev   *d = opened("cpu", 2);
    struct err    e = {0};
    struct tensor w, x, out;
    float         one[16] = {1, 2, 3, 4, 5}, got[12];
    size_t        need;

    (void)state;
    assert_int_equal(dev_alloc(d, DTYPE_F32, 2, (int64_t[]){4, 4}, &w, &e), 0);
    assert_int_equal(dev_alloc(d, DTYPE_F32, 2, (int64_t[]){3, 4}, &x, &e), 0);
    assert_int_equal(dev_alloc(d, DTYPE_F32, 2, (int64_t[]){3, 4}, &out, &e), 0);
    assert_int_equal(dev_put(d, &w, one, sizeof one, &e), 0);
    assert_int_equal(dev_put(d, &x, one, 48, &e), 0);
    assert_int_equal(dev_put(d, &out, one, 48, &e), 0);
    d->measuring = true;
    forward(d, &w, &x, &out);
    d->measuring = false;
    need = d->scratch.high;
    assert_true(need >= 96 && dev_mark(d) == 0);
    assert_int_equal(dev_sync(d, &e), 0);
    assert_int_equal(dev_get(d, &out, got, sizeof got, &e), 0);
    assert_memory_equal(got, one, sizeof got); /* nothing was written */

    assert_int_equal(dev_scratch_reserve(d, need, &e), 0);
    forward(d, &w, &x, &out);
    assert_int_equal(dev_sync(d, &e), 0);
    assert_int_equal(d->scratch.high, need);
    assert_int_equal(dev_get(d, &out, got, sizeof got, &e), 0);
    assert_true(got[0] != one[0]);

    assert_int_equal(dev_scratch_reserve(d, need - 1, &e), 0);
    forward(d, &w, &x, &out);
    assert_int_equal(dev_sync(d, &e), ERR_NOMEM);
    dev_free(d, &w);
    dev_free(d, &x);
    dev_free(d, &out);
    dev_close(d);
}

/* Long-lived memory is counted, not taken, in a measuring pass. Lodgers lie at the end of the scratch; the stack ends before them, and what
 * was saved comes back to where they lay. */
static void test_lodgers(void **state)
{
    struct dev   *d = opened("cpu", 1);
    struct err    e = {0};
    struct tensor a;
    size_t        bytes;
    char          image[1024];

    (void)state;
    dev_measure_begin(d);
    assert_int_equal(dev_alloc(d, DTYPE_F32, 1, (int64_t[]){100}, &a, &e), 0);
    assert_null(a.data);
    assert_int_equal(d->measured_weights, 512);
    assert_int_equal(dev_measure_end(d, &bytes, &e), 0);
    assert_int_equal(bytes, 0);

    assert_int_equal(dev_scratch_reserve(d, 1024 + DEV_LODGE_BYTES(1000), &e), 0);
    assert_int_equal(dev_lodge(d, 1000, NULL, &e), 0);
    char *first = dev_lodger(d, 700), *second = dev_lodger(d, 100);
    assert_true(first && second == first + 768 && !dev_lodger(d, 1));
    assert_true(first >= d->scratch.base + 1024 && second + 256 <= d->scratch.base + d->scratch.cap);
    memset(first, 'a', 700);
    memset(second, 'b', 100);
    assert_int_equal(dev_lodge_save(d, image, &e), 0);
    assert_non_null(dev_new1(d, DTYPE_U8, 1024).data);
    assert_null(dev_new1(d, DTYPE_U8, 256).data); /* would reach into them */
    assert_int_equal(dev_sync(d, &e), ERR_NOMEM);
    dev_reset(d, 0);
    dev_lodge_end(d);
    memset(dev_new1(d, DTYPE_U8, 2000).data, 'x', 2000);
    dev_reset(d, 0);
    assert_int_equal(dev_lodge(d, 1000, image, &e), 0);
    assert_true(d->scratch.settled && dev_lodger(d, 700) == first && dev_lodger(d, 100) == second && first[699] == 'a' && second[99] == 'b');
    dev_lodge_end(d);
    assert_int_equal(dev_lodge(d, 4096, NULL, &e), ERR_NOMEM);
    dev_trim(d);
    assert_int_equal(d->scratch.cap, 0);
    dev_close(d);
}

static void test_sticky(void **state)
{
    struct dev   *d = opened("cpu", 1);
    struct err    e = {0};
    float         at[2] = {1.0f, 2.0f}, got[2] = {7.0f, 7.0f};
    struct tensor x;

    (void)state;
    assert_int_equal(dev_alloc(d, DTYPE_F32, 1, (int64_t[]){2}, &x, &e), 0);
    assert_int_equal(dev_put(d, &x, at, sizeof at, &e), 0);
    dev_fail(d, ERR_DEVICE, "the first of %d", 2);
    dev_fail(d, ERR_NOMEM, "the second");
    op_add(d, &x, &x); /* does nothing */
    assert_true(op_sum_squares(d, &x) == 0.0);
    assert_int_equal(dev_get(d, &x, got, sizeof got, &e), ERR_DEVICE);
    assert_string_equal(e.text, "the first of 2");
    assert_true(got[0] == 7.0f); /* no bytes were handed out */
    assert_int_equal(dev_get(d, &x, got, sizeof got, &e), 0);
    assert_true(got[0] == 1.0f && got[1] == 2.0f);
    op_add(d, &x, &x); /* works again */
    assert_int_equal(dev_get(d, &x, got, sizeof got, &e), 0);
    assert_true(got[0] == 2.0f && got[1] == 4.0f);
    dev_free(d, &x);
    assert_null(x.data);
    dev_close(d);
}

/* Borrowed where it lies; copied only when a file put it at an odd address. */
static void test_weight(void **state)
{
    static _Alignas(16) char bytes[64];
    struct dev   *d = opened("cpu", 1);
    struct err    e = {0};
    float         v[3] = {1.5f, -2.0f, 3.0f};
    struct tensor t = {.type = DTYPE_F32, .rank = 1, .dim = {3}, .pitch = 1, .data = bytes + 16}, w;

    (void)state;
    memcpy(bytes + 16, v, sizeof v);
    assert_int_equal(dev_weight(d, &t, &w, &e), 0);
    assert_ptr_equal(w.data, bytes + 16);
    assert_ptr_equal(w.dev, d);
    for (int i = 0; i < 40; i++) {
        t.data = bytes + 17;
        memcpy(bytes + 17, v, sizeof v);
        assert_int_equal(dev_weight(d, &t, &w, &e), 0);
        assert_true((uintptr_t)w.data % 4 == 0);
        assert_memory_equal(w.data, v, sizeof v);
    }
    dev_close(d);
}

/* Marks follow each other in time; one that was never made is told apart; none are made while measuring. */
static void test_stamps(void **state)
{
    struct dev       *d = opened("cpu", 1);
    struct dev_memory m;

    (void)state;
    assert_true(dev_stamp_ms(d, 0, 1) < 0);
    dev_stamp(d, 0);
    d->measuring = true;
    dev_stamp(d, 1);
    d->measuring = false;
    assert_true(dev_stamp_ms(d, 0, 1) < 0);
    sleep_ms(20);
    dev_stamp(d, 1);
    dev_stamp(d, DEV_STAMPS - 1);
    assert_true(dev_stamp_ms(d, 0, 1) >= 20);
    assert_true(dev_stamp_ms(d, 1, DEV_STAMPS - 1) >= 0);
    assert_true(dev_stamp_ms(d, 1, 0) <= -20);
    dev_memory(d, &m);
    assert_in_range(m.used_bytes, 1 << 16, m.total_bytes);
    dev_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names), cmocka_unit_test(test_scratch), cmocka_unit_test(test_measuring),
                                       cmocka_unit_test(test_lodgers), cmocka_unit_test(test_sticky), cmocka_unit_test(test_weight), cmocka_unit_test(test_stamps)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

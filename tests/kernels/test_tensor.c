/* test_tensor.c - shapes, views, slices. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "kernels/tensor.h"

static float data[64];

static struct tensor dense(int64_t n, int64_t c)
{
    return (struct tensor){.type = DTYPE_F32, .rank = 2, .dim = {n, c}, .pitch = c, .data = data};
}

static void test_dtypes(void **state)
{
    const size_t      bytes[] = {4, 2, 2, 4, 1};
    const char *const name[] = {"f32", "bf16", "f16", "i32", "u8"};

    (void)state;
    for (int i = 0; i < 5; i++) { /* block kinds: test_quant.c */
        assert_int_equal(dtype_bytes((enum dtype)i), bytes[i]);
        assert_string_equal(dtype_name((enum dtype)i), name[i]);
    }
}

static void test_views(void **state)
{
    struct tensor t = dense(6, 8), cols = tensor_cols_of(&t, 2, 4), heads = tensor_heads(&cols, 2), rows = tensor_slice(&cols, 1, 3);
    struct tensor flat = tensor_view(&t, 1, (int64_t[]){48}), box = tensor_view(&t, 3, (int64_t[]){4, 3, 4});
    struct tensor inner = tensor_view(&cols, 3, (int64_t[]){6, 2, 2}), none = tensor_slice(&t, 6, 0), one = tensor_slice(&cols, 2, 1);

    (void)state;
    assert_true(tensor_dense(&t) && !tensor_dense(&cols) && tensor_dense(&flat) && tensor_dense(&box) && tensor_dense(&one));
    assert_true(cols.data == data + 2 && cols.pitch == 8 && tensor_cols(&cols) == 4 && tensor_rows(&cols) == 6 && tensor_count(&cols) == 24);
    assert_true(heads.rank == 3 && heads.dim[0] == 6 && heads.dim[1] == 2 && heads.dim[2] == 2 && heads.pitch == 8 && heads.data == cols.data);
    assert_true(rows.data == data + 10 && rows.dim[0] == 3 && rows.pitch == 8);
    assert_true(flat.pitch == 1 && flat.rank == 1 && tensor_count(&flat) == 48 && box.pitch == 12);
    assert_true(inner.pitch == 8 && inner.data == cols.data && tensor_same_shape(&inner, &heads));
    assert_true(tensor_count(&none) == 0 && !tensor_same_shape(&t, &flat));
    t.data = NULL; /* measuring: views of nothing stay nothing */
    assert_null(tensor_slice(&t, 3, 1).data);
    assert_null(tensor_cols_of(&t, 3, 1).data);
}

static void test_text(void **state)
{
    struct tensor t = dense(4128, 3840), deep = {.type = DTYPE_BF16, .rank = 4, .dim = {512, 256, 3, 3}};
    char          text[64], tight[8];

    (void)state;
    assert_string_equal(tensor_text(&t, text, sizeof text), "[4128,3840] f32");
    assert_string_equal(tensor_text(&deep, text, sizeof text), "[512,256,3,3] bf16");
    assert_true(strlen(tensor_text(&deep, tight, sizeof tight)) < sizeof tight);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_dtypes), cmocka_unit_test(test_views), cmocka_unit_test(test_text)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

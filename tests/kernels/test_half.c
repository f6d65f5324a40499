/* test_half.c - 16-bit floats: every one of the 65536 of each kind, and rounding to nearest even. */
#include "tests/kernels/twin.h"

static double f16_truth(uint32_t h)
{
    double sign = h & 0x8000 ? -1.0 : 1.0;
    int    e = (int)(h >> 10) & 31, m = (int)h & 1023;

    if (e == 31) return m ? NAN : sign * INFINITY;
    return sign * (e ? ldexp(1024.0 + m, e - 25) : ldexp((double)m, -24));
}

static void test_f16(void **state)
{
    static uint16_t h[65536], back[65536];
    static float    f[65536];

    (void)state;
    for (uint32_t i = 0; i < 65536; i++) h[i] = (uint16_t)i;
    to_f32(f, h, DTYPE_F16, 65536);
    from_f32(back, DTYPE_F16, f, 65536);
    for (uint32_t i = 0; i < 65536; i++) {
        if (isnan(f16_truth(i))) {
            assert_true(isnan(f[i]) && (back[i] & 0x7c00) == 0x7c00 && (back[i] & 1023));
        } else {
            assert_true((double)f[i] == f16_truth(i) && back[i] == i);
        }
    }
    for (uint32_t i = 0; i < 0x7bff; i++) { /* between two neighbours: the middle goes to the even one, the rest to the nearer */
        float    mid[3] = {0.0f};
        uint16_t got[3];

        mid[0] = (float)((f16_truth(i) + f16_truth(i + 1)) / 2);
        mid[1] = nextafterf(mid[0], 0.0f);
        mid[2] = nextafterf(mid[0], INFINITY);
        from_f32(got, DTYPE_F16, mid, 3);
        assert_true(got[0] == (i & 1 ? i + 1 : i) && got[1] == i && got[2] == i + 1);
    }
    from_f32(back, DTYPE_F16, (float[]){65519.0f, 65520.0f, 65536.0f, 1e30f, -1e30f, 1e-9f, -1e-9f}, 7);
    assert_true(back[0] == 0x7bff && back[1] == 0x7c00 && back[2] == 0x7c00 && back[3] == 0x7c00 && back[4] == 0xfc00);
    assert_true(back[5] == 0 && back[6] == 0x8000);
}

static void test_bf16(void **state)
{
    static uint16_t h[65536], back[65536];
    static float    f[65536];

    (void)state;
    for (uint32_t i = 0; i < 65536; i++) h[i] = (uint16_t)i;
    to_f32(f, h, DTYPE_BF16, 65536);
    from_f32(back, DTYPE_BF16, f, 65536);
    for (uint32_t i = 0; i < 65536; i++) {
        uint32_t u;

        memcpy(&u, &f[i], 4);
        assert_true(u == i << 16);
        assert_true(isnan(f[i]) ? (back[i] & 0x7f80) == 0x7f80 && (back[i] & 0x7f) : back[i] == i);
    }
    for (uint32_t i = 0; i < 0x7f7f; i++) {
        uint32_t u[3] = {(i << 16) + 0x8000, (i << 16) + 0x7fff, (i << 16) + 0x8001};
        float    mid[3], kept[3];
        uint16_t got[3];

        memcpy(mid, u, sizeof mid);
        from_f32(got, DTYPE_BF16, mid, 3);
        assert_true(got[0] == (i & 1 ? i + 1 : i) && got[1] == i && got[2] == i + 1);
        round_bf16(kept, mid, 3);
        to_f32(mid, got, DTYPE_BF16, 3);
        assert_memory_equal(kept, mid, sizeof kept);
    }
    from_f32(back, DTYPE_BF16, (float[]){3.4e38f, INFINITY, -INFINITY, NAN}, 4);
    assert_true(back[0] == 0x7f80 && back[1] == 0x7f80 && back[2] == 0xff80 && (back[3] & 0x7f));
}

/* Every way between the types says the same. */
static void test_ways(void **state)
{
    struct dice r = {.state = 9};
    float       f[101], wide[101], via[101];
    uint16_t    h[101], b[101];

    (void)state;
    near_fill_normal(&r, f, 101, 1.0f);
    from_f32(h, DTYPE_F16, f, 101);
    to_f32(wide, h, DTYPE_F16, 101);
    to_f32_bf16(via, h, DTYPE_F16, 101);
    round_bf16(wide, wide, 101);
    assert_memory_equal(via, wide, sizeof wide);
    to_bf16(b, h, DTYPE_F16, 101);
    to_f32(wide, b, DTYPE_BF16, 101);
    assert_memory_equal(via, wide, sizeof wide);
    to_bf16(b, f, DTYPE_F32, 101);
    to_f32(wide, b, DTYPE_BF16, 101);
    to_f32_bf16(via, f, DTYPE_F32, 101);
    assert_memory_equal(via, wide, sizeof wide);
    to_bf16(h, b, DTYPE_BF16, 101);
    assert_memory_equal(h, b, sizeof b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_f16), cmocka_unit_test(test_bf16), cmocka_unit_test(test_ways)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

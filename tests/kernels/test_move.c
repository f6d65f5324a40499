/* test_move.c - elements that only change place or type must arrive exactly. */
#include "tests/kernels/twin.h"

static void embed_blocks(struct scene *s)
{
    static const enum dtype kind[] = {DTYPE_F8_E4M3, DTYPE_Q8_0, DTYPE_Q6_K, DTYPE_Q4_K};
    struct tensor table = twin_weight(s, kind[dice_range(&s->r, 0, 3)], 1.0f, 2, (int64_t[]){9, 512}), y = twin_new(s, true, 2, (int64_t[]){3, 512});
    const int32_t ids[3] = {8, 0, 4};
    double       *truth = s->check ? twin_truth(3 * 512) : NULL;

    if (table.type == DTYPE_F8_E4M3) table.scale = 0.25f;
    for (int64_t i = 0; truth && i < 3 * 512; i++) truth[i] = twin_at(&table, ids[i / 512] * 512 + i % 512);
    op_embed_rows(s->d, &y, &table, ids);
    twin_check(s, "embed_rows", &y, truth);
}

static void embed(struct scene *s)
{
    int64_t       n = dice_range(&s->r, 1, 40), vocab = dice_range(&s->r, 1, 50), c = dice_range(&s->r, 1, 300);
    struct tensor table = twin_weight(s, twin_type(s), 1.0f, 2, (int64_t[]){vocab, c}), y = twin_new(s, true, 2, (int64_t[]){n, c});
    double       *truth = twin_truth(n * c);
    int32_t       ids[40];

    for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)dice_range(&s->r, 0, vocab - 1);
    for (int64_t i = 0; i < n * c; i++) truth[i] = twin_at(&table, ids[i / c] * c + i % c);
    op_embed_rows(s->d, &y, &table, ids);
    twin_check(s, "embed_rows", &y, truth);
    twin_check_gaps(&y);
}

static void fill(struct scene *s)
{
    int64_t       n = dice_range(&s->r, 1, 40), c = dice_range(&s->r, 1, 300);
    struct tensor row = twin_weight(s, twin_type(s), 1.0f, 1, &c), y = twin_new(s, true, 2, (int64_t[]){n, c});
    double       *truth = twin_truth(n * c);

    for (int64_t i = 0; i < n * c; i++) truth[i] = twin_at(&row, i % c);
    op_fill_rows(s->d, &y, &row);
    twin_check(s, "fill_rows", &y, truth);
    twin_check_gaps(&y);
}

/* Patches there, against the definition, and back, against the start; rows beyond the picture are not read. */
static void patches(struct scene *s)
{
    int           p = (int)dice_range(&s->r, 1, 3);
    int64_t       c = dice_range(&s->r, 1, 17), gh = dice_range(&s->r, 1, 20), gw = dice_range(&s->r, 1, 20), h = gh * p, w = gw * p;
    int64_t       extra = dice_range(&s->r, 0, 3), f = (int64_t)p * p * c;
    struct tensor z = twin_random(s, false, 1.0f, 3, (int64_t[]){c, h, w}), back = twin_new(s, false, 3, (int64_t[]){c, h, w});
    struct tensor all = twin_new(s, true, 2, (int64_t[]){gh * gw + extra, f}), y = tensor_slice(&all, 0, gh * gw);
    double       *truth = twin_truth(c * h * w), *again = twin_truth(c * h * w);

    for (int64_t i = 0; i < c * h * w; i++) {
        int64_t token = i / f, a = i % f / c / p, b = i % f / c % p, ch = i % c;

        truth[i] = twin_at(&z, (ch * h + token / gw * p + a) * w + token % gw * p + b);
        again[i] = twin_at(&z, i);
    }
    op_patchify(s->d, &y, &z, p);
    twin_check(s, "patchify", &y, truth);
    op_unpatchify(s->d, &back, &all, p);
    twin_check(s, "unpatchify", &back, again);
}

static void nhwc(struct scene *s)
{
    int64_t       c = dice_range(&s->r, 1, 20), h = dice_range(&s->r, 1, 30), w = dice_range(&s->r, 1, 30);
    float         mul = (float)dice_normal(&s->r), add = (float)dice_normal(&s->r);
    struct tensor z = twin_random(s, false, 1.0f, 3, (int64_t[]){c, h, w}), y = twin_new(s, false, 3, (int64_t[]){h, w, c});
    double       *truth = twin_truth(c * h * w);

    for (int64_t i = 0; i < c * h * w; i++) truth[i] = twin_at(&z, i % c * h * w + i / c) * (double)mul + (double)add;
    op_to_nhwc(s->d, &y, &z, mul, add);
    twin_check(s, "to_nhwc", &y, truth);
}

/* F32 -> a 16-bit type -> the other -> F32, each step against the rounding of half.c (itself tested on all values). */
static void copies(struct scene *s)
{
    int64_t       n = dice_range(&s->r, 1, 20), c = dice_range(&s->r, 1, 1200);
    enum dtype    one = twin_type(s), two = twin_type(s);
    struct tensor x = twin_random(s, true, 1.0f, 2, (int64_t[]){n, c}), y = twin_new(s, true, 2, (int64_t[]){n, c});
    struct tensor a = dev_new2(s->d, one, n, c), b = dev_new2(s->d, two, n, c);
    double       *truth = twin_truth(n * c);

    for (int64_t i = 0; i < n * c; i++) {
        float    f = twin_row(&x, i / c)[i % c];
        uint32_t h; /* room for either width */

        from_f32(&h, one, &f, 1);
        to_f32(&f, &h, one, 1);
        from_f32(&h, two, &f, 1);
        to_f32(&f, &h, two, 1);
        truth[i] = (double)f;
    }
    op_copy(s->d, &a, &x);
    op_copy(s->d, &b, &a);
    op_copy(s->d, &y, &b);
    twin_check(s, "copy", &y, truth);
    twin_check_gaps(&y);
}

static void test_all(void **state)
{
    static scene_fn *const scenes[] = {embed, embed_blocks, fill, patches, copies};

    (void)state;
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) twin_run(scenes[i], PRECISION_F32, 0.0, 15);
    twin_run(nhwc, PRECISION_F32, 2e-7, 15);
}

/* Integers and bytes travel too. */
static void test_copy_bytes(void **state)
{
    struct dev   *d = twin_dev(PRECISION_F32, 2);
    struct tensor x = dev_new2(d, DTYPE_U8, 7, 11), y = dev_new2(d, DTYPE_U8, 7, 11), i = dev_new1(d, DTYPE_I32, 5), j = dev_new1(d, DTYPE_I32, 5);

    (void)state;
    for (int k = 0; k < 77; k++) ((uint8_t *)x.data)[k] = (uint8_t)(k * 3);
    for (int k = 0; k < 5; k++) ((int32_t *)i.data)[k] = -k;
    op_copy(d, &y, &x);
    op_copy(d, &j, &i);
    assert_memory_equal(x.data, y.data, 77);
    assert_memory_equal(i.data, j.data, 20);
    dev_close(d);
}

static void test_rgb(void **state)
{
    /* x -> round((x/2 + 0.5) * 255): 1/255 of x is half a level; half-way values go to the even level */
    static const struct { float x; int y; } row[] = {{-1.0f, 0},  {1.0f, 255},   {0.0f, 128} /* 127.5 */, {-5.0f, 0}, {7.0f, 255},
                                                     {0.5f, 191}, {-0.5f, 64}, {NAN, 0}, {INFINITY, 255}, {-INFINITY, 0}, {0.999f, 255}, {-0.9999f, 0}};
    struct dev   *d = twin_dev(PRECISION_F32, 2);
    struct tensor x = dev_new3(d, DTYPE_F32, 2, 2, 3), y = dev_new3(d, DTYPE_U8, 2, 2, 3);

    (void)state;
    for (int i = 0; i < 12; i++) ((float *)x.data)[i] = row[i].x;
    op_to_rgb8(d, &y, &x);
    for (int i = 0; i < 12; i++) assert_int_equal(((uint8_t *)y.data)[i], row[i].y);
    dev_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all), cmocka_unit_test(test_copy_bytes), cmocka_unit_test(test_rgb)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_png.c - pixels and texts come back; the same input gives the same bytes; hostile files get a sentence.
 * Foreign files (palette, 16 bits, interlaced, compressed texts) are made here with libpng itself. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/png.h"
#include "tests/near.h"

static struct err e;

static struct image make_image(int width_px, int height_px)
{
    struct image img = {.width_px = width_px, .height_px = height_px, .rgb = malloc((size_t)width_px * height_px * 3)};
    struct dice  r = {.state = 3};

    assert_non_null(img.rgb);
    for (int i = 0; i < width_px * height_px * 3; i++) img.rgb[i] = (uint8_t)(i % 200 + dice_range(&r, 0, 9));
    return img;
}

static struct png_text text_of(const char *key, const char *value)
{
    return (struct png_text){.key = (char *)(uintptr_t)key, .value = str_of(value)};
}

static void test_roundtrip(void **state)
{
    static const int sides[][2] = {{1, 1}, {16, 16}, {37, 5}, {3, 300}, {513, 64}};
    struct png_text  text[3] = {text_of("parameters", "a red fox\nSteps: 8, Seed: 42"), text_of("prompt", "\xE7\x8C\xAB caf\xC3\xA9 \xF0\x9F\xA6\x8A"), text_of("empty", "")};

    (void)state;
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++) {
        struct image    img = make_image(sides[i][0], sides[i][1]), back;
        struct png_text got[PNG_TEXTS_MAX];
        size_t          n = PNG_TEXTS_MAX;
        struct buf      b;
        int             w, h;

        buf_init(&b, 1 << 22);
        assert_int_equal(buf_puts(&b, "head"), 0); /* appended behind what was there */
        assert_int_equal(png_write(&img, text, 3, (int)i * 2, &b, &e), 0);
        assert_memory_equal(b.at, "head", 4);
        assert_int_equal(png_size(str_sub(buf_str(&b), 4, SIZE_MAX), &w, &h, &e), 0);
        assert_true(w == img.width_px && h == img.height_px);
        assert_int_equal(png_read(str_sub(buf_str(&b), 4, SIZE_MAX), &back, got, &n, &e), 0);
        assert_true(back.width_px == w && back.height_px == h);
        assert_memory_equal(back.rgb, img.rgb, (size_t)w * h * 3);
        assert_int_equal(n, 3);
        for (int k = 0; k < 3; k++) {
            assert_string_equal(got[k].key, text[k].key);
            assert_true(str_eq(got[k].value, text[k].value));
        }
        png_texts_free(got, n);
        image_free(&back);
        image_free(&img);
        buf_release(&b);
    }
}

static void test_same_bytes(void **state)
{
    struct image    img = make_image(64, 48), back;
    struct png_text text[2] = {text_of("plain", "abc"), text_of("wide", "\xC3\xA9")};
    struct buf      a, b;

    (void)state;
    buf_init(&a, 1 << 20);
    buf_init(&b, 1 << 20);
    assert_int_equal(png_write(&img, text, 2, 6, &a, &e) | png_write(&img, text, 2, 6, &b, &e), 0);
    assert_true(str_eq(buf_str(&a), buf_str(&b)));
    assert_non_null(memmem(a.at, a.len, "tEXtplain\0abc", 13));
    assert_non_null(memmem(a.at, a.len, "iTXtwide\0\0\0\0\0\xC3\xA9", 15)); /* not compressed */
    assert_null(memmem(a.at, a.len, "tIME", 4));
    assert_int_equal(png_read(buf_str(&a), &back, NULL, NULL, &e), 0); /* texts may be passed over */
    image_free(&back);
    buf_clear(&b);
    text[0].value = str_of("abd");
    assert_int_equal(png_write(&img, text, 2, 6, &b, &e), 0);
    assert_false(str_eq(buf_str(&a), buf_str(&b)));
    image_free(&img);
    buf_release(&a);
    buf_release(&b);
}

static void test_write_refused(void **state)
{
    static const char *const bad_key[] = {"", " a", "a ", "a  b", "a\nb", "a\x7f", "12345678901234567890123456789012345678901234567890123456789012345678901234567890"};
    struct image             img = make_image(100, 100), none = {0}, wide = {.width_px = PNG_SIDE_MAX_PX + 1, .height_px = 1, .rgb = img.rgb};
    struct png_text          t = text_of("k", "v"), many[PNG_TEXTS_MAX + 1];
    struct buf               b, small;
    char                    *big = calloc(1, PNG_TEXT_MAX_BYTES + 1);

    (void)state;
    assert_non_null(big);
    buf_init(&b, 1 << 20);
    buf_init(&small, 500);
    assert_int_equal(png_write(&none, NULL, 0, 6, &b, &e), ERR_LIMIT);
    assert_int_equal(png_write(&wide, NULL, 0, 6, &b, &e), ERR_LIMIT);
    assert_int_equal(png_write(&img, NULL, 0, 10, &b, &e), ERR_ARG);
    assert_int_equal(png_write(&img, NULL, 0, -1, &b, &e), ERR_ARG);
    for (size_t i = 0; i < sizeof bad_key / sizeof *bad_key; i++) {
        t = text_of(bad_key[i], "v");
        assert_int_equal(png_write(&img, &t, 1, 6, &b, &e), ERR_ARG);
    }
    t = text_of("k", "\xff");
    assert_int_equal(png_write(&img, &t, 1, 6, &b, &e), ERR_ARG);
    t.value = (struct str){"a\0b", 3};
    assert_int_equal(png_write(&img, &t, 1, 6, &b, &e), ERR_ARG);
    memset(big, 'a', PNG_TEXT_MAX_BYTES + 1);
    t.value = (struct str){big, PNG_TEXT_MAX_BYTES + 1};
    assert_int_equal(png_write(&img, &t, 1, 6, &b, &e), ERR_LIMIT);
    for (int i = 0; i <= PNG_TEXTS_MAX; i++) many[i] = text_of("k", "v");
    assert_int_equal(png_write(&img, many, PNG_TEXTS_MAX + 1, 6, &b, &e), ERR_LIMIT);
    assert_int_equal(b.len, 0);
    assert_int_equal(buf_puts(&small, "kept"), 0);
    assert_int_equal(png_write(&img, NULL, 0, 6, &small, &e), ERR_LIMIT);
    assert_true(str_is(buf_str(&small), "kept"));
    free(big);
    image_free(&img);
    buf_release(&b);
    buf_release(&small);
}

/* The largest texts that may be written are read back: sixteen of the maximum length. */
static void test_largest_texts(void **state)
{
    struct image    img = make_image(2, 2), back;
    struct png_text text[PNG_TEXTS_MAX], got[PNG_TEXTS_MAX];
    char           *big = malloc(PNG_TEXT_MAX_BYTES);
    struct buf      b;
    size_t          n = PNG_TEXTS_MAX;

    (void)state;
    assert_non_null(big);
    for (size_t i = 0; i < PNG_TEXT_MAX_BYTES; i++) big[i] = i % 2 ? '\xA9' : '\xC3';
    for (int i = 0; i < PNG_TEXTS_MAX; i++) text[i] = (struct png_text){.key = (char *)(uintptr_t)"key", .value = {big, PNG_TEXT_MAX_BYTES}};
    buf_init(&b, 1 << 24);
    assert_int_equal(png_write(&img, text, PNG_TEXTS_MAX, 6, &b, &e), 0);
    assert_int_equal(png_read(buf_str(&b), &back, got, &n, &e), 0);
    assert_int_equal(n, PNG_TEXTS_MAX);
    for (size_t i = 0; i < n; i++) assert_true(str_eq(got[i].value, text[i].value));
    png_texts_free(got, n);
    image_free(&back);
    n = PNG_TEXTS_MAX - 1; /* one more than there is room for */
    assert_int_equal(png_read(buf_str(&b), &back, got, &n, &e), ERR_LIMIT);
    assert_int_equal(n, 0);
    assert_null(back.rgb);
    free(big);
    image_free(&img);
    buf_release(&b);
}

/* ---- foreign files ---- */

static void collect(png_structp png, png_bytep at, size_t len)
{
    if (buf_put(png_get_io_ptr(png), at, len)) abort();
}

static void no_flush(png_structp png)
{
    (void)png;
}

/* width x 4 pixels whose rows are the given bytes; text may be NULL. A failure of libpng aborts. */
static void foreign(struct buf *b, int width, int bits, int color, int interlace, const uint8_t *row, png_text *text, int n_text)
{
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop   info = png_create_info_struct(png);
    png_color   palette[4] = {{1, 2, 3}, {255, 0, 0}, {0, 255, 0}, {9, 8, 7}};
    png_byte    alpha[2] = {0, 128};

    buf_init(b, 1 << 24);
    png_set_write_fn(png, b, collect, no_flush);
    png_set_IHDR(png, info, (png_uint_32)width, 4, bits, color, interlace, 0, 0);
    if (color == PNG_COLOR_TYPE_PALETTE) {
        png_set_PLTE(png, info, palette, 4);
        png_set_tRNS(png, info, alpha, 2, NULL);
    }
    if (n_text) png_set_text(png, info, text, n_text);
    png_write_info(png, info);
    for (int pass = 0; pass < (interlace ? png_set_interlace_handling(png) : 1); pass++)
        for (int y = 0; y < 4; y++) png_write_row(png, row);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
}

static void expect_pixels(struct buf *b, const uint8_t *want, size_t n)
{
    struct image img;
    int          rc = png_read(buf_str(b), &img, NULL, NULL, &e);

    if (rc) fail_msg("%s", e.text);
    assert_int_equal(img.height_px, 4);
    for (int y = 0; y < 4; y++) assert_memory_equal(img.rgb + y * n, want, n);
    image_free(&img);
    buf_release(b);
}

static void test_foreign(void **state)
{
    static const uint8_t rgba16[] = {0x12, 0x12, 0xFF, 0xFF, 0, 0, 0x80, 0, 1, 1, 2, 2, 3, 3, 0, 0}, palette2[] = {0x1B}, gray1[] = {0xA0}, gray_alpha[] = {7, 0, 9, 255};
    struct buf           b;

    (void)state;
    foreign(&b, 2, 16, PNG_COLOR_TYPE_RGBA, PNG_INTERLACE_NONE, rgba16, NULL, 0);
    expect_pixels(&b, (const uint8_t[]){0x12, 255, 0, 1, 2, 3}, 6);
    foreign(&b, 4, 2, PNG_COLOR_TYPE_PALETTE, PNG_INTERLACE_NONE, palette2, NULL, 0);
    expect_pixels(&b, (const uint8_t[]){1, 2, 3, 255, 0, 0, 0, 255, 0, 9, 8, 7}, 12);
    foreign(&b, 3, 1, PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE, gray1, NULL, 0);
    expect_pixels(&b, (const uint8_t[]){255, 255, 255, 0, 0, 0, 255, 255, 255}, 9);
    foreign(&b, 2, 8, PNG_COLOR_TYPE_GRAY_ALPHA, PNG_INTERLACE_ADAM7, gray_alpha, NULL, 0);
    expect_pixels(&b, (const uint8_t[]){7, 7, 7, 9, 9, 9}, 6);
}

static void test_foreign_texts(void **state)
{
    png_text        latin = {.compression = PNG_TEXT_COMPRESSION_zTXt, .key = (char *)(uintptr_t)"note", .text = (char *)(uintptr_t)"caf\xE9"}, bomb = latin;
    char           *big = calloc(1, 1 << 20);
    struct png_text got[2];
    struct image    img;
    struct buf      b;
    size_t          n = 2;

    (void)state;
    foreign(&b, 1, 8, PNG_COLOR_TYPE_GRAY, 0, (const uint8_t *)"x", &latin, 1);
    assert_int_equal(png_read(buf_str(&b), &img, got, &n, &e), 0);
    assert_int_equal(n, 1);
    assert_true(str_is(got[0].value, "caf\xC3\xA9")); /* Latin-1 becomes UTF-8 */
    png_texts_free(got, n);
    image_free(&img);
    buf_release(&b);
    assert_non_null(big);
    memset(big, 'a', (1 << 20) - 1);
    bomb.text = big;
    foreign(&b, 1, 8, PNG_COLOR_TYPE_GRAY, 0, (const uint8_t *)"x", &bomb, 1); /* 1 KB that unfolds to 1 MB: more than our bound, less than libpng's */
    assert_true(b.len < 3000);
    n = 2;
    assert_int_equal(png_read(buf_str(&b), &img, got, &n, &e), ERR_FORMAT);
    assert_int_equal(png_read(buf_str(&b), &img, NULL, NULL, &e), ERR_FORMAT);
    buf_release(&b);
    bomb.compression = PNG_TEXT_COMPRESSION_NONE;
    foreign(&b, 1, 8, PNG_COLOR_TYPE_GRAY, 0, (const uint8_t *)"x", &bomb, 1);
    assert_int_equal(png_read(buf_str(&b), &img, got, &n, &e), ERR_FORMAT);
    buf_release(&b);
    bomb.compression = PNG_ITXT_COMPRESSION_NONE;
    bomb.text = (char *)(uintptr_t)"not \xff UTF-8";
    foreign(&b, 1, 8, PNG_COLOR_TYPE_GRAY, 0, (const uint8_t *)"x", &bomb, 1);
    n = 2;
    assert_int_equal(png_read(buf_str(&b), &img, got, &n, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "UTF-8"));
    buf_release(&b);
    free(big);
}

/* Cut anywhere, or one byte changed anywhere: an error and nothing given back. */
static void test_damage(void **state)
{
    struct image    img = make_image(24, 9), back;
    struct png_text text[2] = {text_of("a", "plain"), text_of("b", "\xC3\xA9")}, got[4];
    struct buf      b;
    size_t          n;

    (void)state;
    buf_init(&b, 1 << 20);
    assert_int_equal(png_write(&img, text, 2, 9, &b, &e), 0);
    for (size_t cut = 0; cut < b.len; cut++) {
        char *exact = malloc(cut + 1); /* a sanitizer sees one byte too far */
        assert_non_null(exact);
        memcpy(exact, b.at, cut);
        n = 4;
        assert_int_equal(png_read((struct str){exact, cut}, &back, got, &n, &e), ERR_FORMAT);
        assert_true(back.rgb == NULL && n == 0);
        free(exact);
    }
    for (size_t i = 0; i < b.len; i++) {
        for (int bit = 0; bit < 8; bit += 3) {
            b.at[i] ^= (char)(1 << bit);
            n = 4;
            assert_true(png_read(buf_str(&b), &back, got, &n, &e) < 0);
            assert_true(back.rgb == NULL && n == 0);
            b.at[i] ^= (char)(1 << bit);
        }
    }
    assert_int_equal(buf_putc(&b, 'x'), 0);
    assert_int_equal(png_read(buf_str(&b), &back, NULL, NULL, &e), ERR_FORMAT); /* something behind the end */
    assert_non_null(strstr(e.text, "1 bytes follow"));
    image_free(&img);
    buf_release(&b);
}

static void test_huge(void **state)
{
    static const uint32_t sides[][2] = {{0, 1}, {1, 0}, {PNG_SIDE_MAX_PX + 1, 1}, {1, PNG_SIDE_MAX_PX + 1}, {0xFFFFFFFFu, 0xFFFFFFFFu}, {0x7FFFFFFFu, 2}, {16384, 16384}};
    struct image          back;
    int                   w = 7, h = 7;

    (void)state;
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++) {
        uint8_t    p[33] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
        struct str s = {(const char *)p, sizeof p};

        for (int k = 0; k < 4; k++) {
            p[16 + k] = (uint8_t)(sides[i][0] >> (24 - 8 * k));
            p[20 + k] = (uint8_t)(sides[i][1] >> (24 - 8 * k));
        }
        assert_int_equal(png_size(s, &w, &h, &e), ERR_LIMIT);
        assert_int_equal(png_read(s, &back, NULL, NULL, &e), ERR_LIMIT);
    }
    assert_true(w == 7 && h == 7);
    assert_int_equal(png_size(str_of("GIF89a and more bytes than a header has"), &w, &h, &e), ERR_FORMAT);
    assert_int_equal(png_size(str_of(NULL), &w, &h, &e), ERR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roundtrip), cmocka_unit_test(test_same_bytes),    cmocka_unit_test(test_write_refused), cmocka_unit_test(test_largest_texts),
        cmocka_unit_test(test_foreign),   cmocka_unit_test(test_foreign_texts), cmocka_unit_test(test_damage),        cmocka_unit_test(test_huge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

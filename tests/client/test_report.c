/* test_report.c - the pixels of a contact sheet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "client/report.h"
#include "tests/tmp.h"

static struct image plain(int w, int h, uint8_t r, uint8_t g, uint8_t b)
{
    struct image img = {.width_px = w, .height_px = h, .rgb = malloc((size_t)w * (size_t)h * 3)};

    for (int i = 0; i < w * h; i++) {
        img.rgb[3 * i] = r;
        img.rgb[3 * i + 1] = g;
        img.rgb[3 * i + 2] = b;
    }
    return img;
}

static void thumbs_are_area_averages(void **state)
{
    static const struct {
        int w, h, side, out_w, out_h;
    } row[] = {{64, 64, 16, 16, 16},  {96, 48, 32, 32, 16}, {48, 96, 32, 16, 32},
               {100, 70, 64, 64, 44}, {20, 10, 64, 20, 10}, {1000, 1, 10, 10, 1}};
    struct image img, t;
    struct err   e;

    (void)state;
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        double want = 0, got = 0;

        img = plain(row[k].w, row[k].h, 0, 200, 77);
        for (int i = 0; i < row[k].w * row[k].h; i++) want += img.rgb[3 * i] = (uint8_t)((unsigned)i * 2654435761u >> 13);
        assert_int_equal(report_thumb(&img, row[k].side, &t, &e), 0);
        assert_int_equal(t.width_px, row[k].out_w);
        assert_int_equal(t.height_px, row[k].out_h);
        for (int i = 0; i < t.width_px * t.height_px; i++) {
            got += t.rgb[3 * i];
            assert_int_equal(t.rgb[3 * i + 1], 200);
            assert_int_equal(t.rgb[3 * i + 2], 77);
        }
        want /= row[k].w * row[k].h;
        got /= t.width_px * t.height_px;
        assert_true(want - got < 0.6 && got - want < 0.6); /* the mean survives */
        image_free(&img);
        image_free(&t);
    }
    img = plain(4, 2, 0, 0, 0); /* 4x2 -> 2x1: exact means of 2x2 */
    for (int i = 0; i < 8; i++) img.rgb[3 * i] = (uint8_t)(10 * i);
    assert_int_equal(report_thumb(&img, 2, &t, &e), 0);
    assert_int_equal(t.rgb[0], (0 + 10 + 40 + 50 + 2) / 4);
    assert_int_equal(t.rgb[3], (20 + 30 + 60 + 70 + 2) / 4);
    image_free(&img);
    image_free(&t);
    img = plain(3, 3, 0, 0, 0); /* 3x3 -> 2x2: the middle counts half on each side */
    img.rgb[3 * 4] = 90;
    assert_int_equal(report_thumb(&img, 2, &t, &e), 0);
    for (int i = 0; i < 4; i++) assert_int_equal(t.rgb[3 * i], 10); /* 90 * 0.25 / 2.25 */
    image_free(&img);
    image_free(&t);
}

static void grids_fit(void **state)
{
    static const struct {
        uint32_t n;
        int      cols, rows;
    } row[] = {{1, 1, 1}, {2, 2, 1}, {5, 3, 2}, {8, 3, 3}, {9, 3, 3}, {1000, 32, 32}, {100000, 317, 316}};
    struct report_grid g;
    struct err         e;

    (void)state;
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        assert_int_equal(report_grid(row[k].n, &g, &e), 0);
        assert_int_equal(g.cols, row[k].cols);
        assert_int_equal(g.rows, row[k].rows);
        assert_true(g.width_px <= PNG_SIDE_MAX_PX && g.height_px <= PNG_SIDE_MAX_PX);
    }
    assert_int_equal(report_grid(10000000, &g, &e), ERR_LIMIT);
}

static const uint8_t *pixel(const struct image *s, int x, int y)
{
    return s->rgb + ((size_t)y * (size_t)s->width_px + (size_t)x) * 3;
}

static void sheet_of_three(void **state)
{
    static const uint32_t index[] = {0, 1, 107};
    struct tmp            t;
    struct image          red = plain(512, 256, 200, 0, 0), blue = plain(64, 64, 0, 0, 200), sheet;
    struct buf            b, again;
    struct report_grid    g;
    struct err            e = {0};
    char                 *file[3] = {NULL, NULL, NULL};
    int                   ink = 0, y;

    (void)state;
    tmp_open(&t);
    buf_init(&b, 1 << 24);
    buf_init(&again, 1 << 24);
    assert_int_equal(png_write(&red, NULL, 0, 1, &b, &e), 0);
    file[0] = strdup(tmp_path(&t, "red.png"));
    assert_int_equal(file_write(file[0], b.at, b.len, FILE_NEW, &e), 0);
    buf_clear(&b);
    assert_int_equal(png_write(&blue, NULL, 0, 1, &b, &e), 0);
    file[2] = strdup(tmp_path(&t, "blue.png"));
    assert_int_equal(file_write(file[2], b.at, b.len, FILE_NEW, &e), 0);
    if (report_sheet(tmp_path(&t, "sheet.png"), file, index, 3, &e)) fail_msg("%s", e.text);
    assert_int_equal(file_read(tmp_path(&t, "sheet.png"), &b, &e), 0);
    assert_int_equal(png_read(buf_str(&b), &sheet, NULL, NULL, &e), 0);
    assert_int_equal(report_grid(3, &g, &e), 0);
    assert_int_equal(sheet.width_px, g.width_px);
    assert_int_equal(sheet.height_px, g.height_px);
    assert_int_equal(pixel(&sheet, 0, 0)[0], 0x2b);                                         /* ground */
    assert_int_equal(pixel(&sheet, g.gutter_px + 128, g.gutter_px + 128)[0], 200);          /* red, in the middle of its cell */
    assert_int_equal(pixel(&sheet, g.gutter_px + 128, g.gutter_px + 10)[0], 0x2b);          /* above it: 2:1 */
    assert_int_equal(pixel(&sheet, 2 * g.gutter_px + 256 + 128, g.gutter_px + 5)[0], 0x1f); /* the missing one */
    y = 2 * g.gutter_px + 256 + g.text_px;
    assert_int_equal(pixel(&sheet, g.gutter_px + 128, y + 128)[2], 200); /* blue, not enlarged */
    assert_int_equal(pixel(&sheet, g.gutter_px + 128 + 40, y + 128)[2], 0x2b);
    for (int x = 0; x < 30; x++)
        for (int r = 0; r < g.text_px; r++) ink += pixel(&sheet, g.gutter_px + x, y + 256 + r)[0] == 0xb4;
    assert_int_equal(ink, 4 * (8 + 12 + 7)); /* 1, 0 and 7 have so many dots, of 2x2 pixels */
    if (report_sheet(tmp_path(&t, "again.png"), file, index, 3, &e)) fail_msg("%s", e.text);
    assert_int_equal(file_read(tmp_path(&t, "again.png"), &again, &e), 0);
    assert_int_equal(again.len, b.len);
    assert_memory_equal(again.at, b.at, b.len);
    tmp_write(&t, "bad.png", "not a png", 9);
    file[1] = strdup(tmp_path(&t, "bad.png"));
    assert_int_not_equal(report_sheet(tmp_path(&t, "none.png"), file, index, 3, &e), 0);
    assert_non_null(strstr(e.text, "bad.png"));
    assert_false(file_exists(tmp_path(&t, "none.png")));
    image_free(&red);
    image_free(&blue);
    image_free(&sheet);
    buf_release(&b);
    buf_release(&again);
    for (int k = 0; k < 3; k++) free(file[k]);
    tmp_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(thumbs_are_area_averages), cmocka_unit_test(grids_fit),
                                       cmocka_unit_test(sheet_of_three)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

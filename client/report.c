/* report.c - thumbnails in a grid.
 * Believes: a picture is judged on a quiet ground: grey 0x2b, frames 0x1f where a picture is missing, numbers in light grey.
 * Averages are of the stored values in integer arithmetic, so that a sheet is the same everywhere. */
#include "client/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define GROUND          0x2b
#define FRAME           0x1f
#define INK             0xb4
#define SHEET_PIXELS    (1 << 25)
#define SHEET_BYTES_MAX ((size_t)256 << 20)
#define IMAGE_BYTES_MAX ((size_t)256 << 20)

/* 3x5 digits, a row per 3 bits from the top. */
static const uint16_t digit[10] = {075557, 026227, 071747, 071717, 055711, 074717, 074757, 071122, 075757, 075717};

int report_grid(uint32_t n, struct report_grid *g, struct err *e)
{
    static const int size[] = {256, 192, 128, 96, 64, 48, 32, 16};

    for (size_t k = 0; k < sizeof size / sizeof size[0]; k++) {
        int64_t cols = 1, rows, cell_w, cell_h;

        g->thumb_px = size[k];
        g->gutter_px = size[k] >= 96 ? 12 : size[k] >= 32 ? 6 : 2;
        g->text_px = size[k] >= 64 ? 14 : size[k] >= 32 ? 7 : 0;
        cell_w = g->thumb_px + g->gutter_px;
        cell_h = g->thumb_px + g->text_px + g->gutter_px;
        while (cols * cols < n) cols++;
        rows = (n + cols - 1) / cols;
        if (cols * cell_w + g->gutter_px > PNG_SIDE_MAX_PX || rows * cell_h + g->gutter_px > PNG_SIDE_MAX_PX) continue;
        g->cols = (int)cols;
        g->rows = (int)rows;
        g->width_px = (int)(cols * cell_w) + g->gutter_px;
        g->height_px = (int)(rows * cell_h) + g->gutter_px;
        if ((int64_t)g->width_px * g->height_px <= SHEET_PIXELS) return 0;
    }
    return err_set(e, ERR_LIMIT, "%" PRIu32 " images do not fit on one contact sheet", n);
}

/* Sum of src over the source interval [at, at + 1) * from / to along one side, in units of 1/to of a pixel. */
struct span {
    int first, n;   /* source pixels touched */
    int head, tail; /* weight of the first and the last, of `to` per whole pixel */
};

static struct span span_of(int at, int from, int to)
{
    int64_t     low = (int64_t)at * from, high = low + from; /* in 1/to source pixels */
    struct span s;

    s.first = (int)(low / to);
    s.n = (int)((high + to - 1) / to) - s.first;
    s.head = to - (int)(low % to);
    s.tail = (int)(high - (int64_t)(s.first + s.n - 1) * to);
    if (s.n == 1) s.head = from < s.head ? from : s.head;
    return s;
}

static int weight(const struct span *s, int k, int to)
{
    if (k == 0) return s->head;
    return k == s->n - 1 ? s->tail : to;
}

int report_thumb(const struct image *src, int side_px, struct image *out, struct err *e)
{
    int long_px = src->width_px > src->height_px ? src->width_px : src->height_px;
    int w = src->width_px, h = src->height_px;

    if (long_px > side_px) {
        w = (int)((int64_t)w * side_px / long_px);
        h = (int)((int64_t)h * side_px / long_px);
    }
    *out = (struct image){.width_px = w < 1 ? 1 : w, .height_px = h < 1 ? 1 : h};
    w = out->width_px;
    h = out->height_px;
    out->rgb = malloc((size_t)w * (size_t)h * 3);
    if (!out->rgb) return err_set(e, ERR_NOMEM, "no memory for a thumbnail");
    for (int y = 0; y < h; y++) {
        struct span sy = span_of(y, src->height_px, h);

        for (int x = 0; x < w; x++) {
            struct span sx = span_of(x, src->width_px, w);
            uint64_t    sum[3] = {0}, all = (uint64_t)src->width_px * (uint64_t)src->height_px;

            for (int j = 0; j < sy.n; j++) {
                for (int i = 0; i < sx.n; i++) {
                    const uint8_t *p = src->rgb + ((size_t)(sy.first + j) * (size_t)src->width_px + (size_t)(sx.first + i)) * 3;
                    uint64_t       k = (uint64_t)weight(&sy, j, h) * (uint64_t)weight(&sx, i, w);

                    for (int c = 0; c < 3; c++) sum[c] += k * p[c];
                }
            }
            for (int c = 0; c < 3; c++) out->rgb[((size_t)y * (size_t)w + (size_t)x) * 3 + (size_t)c] = (uint8_t)((sum[c] + all / 2) / all);
        }
    }
    return 0;
}

static void fill(struct image *s, int x0, int y0, int w, int h, uint8_t grey)
{
    for (int y = y0; y < y0 + h && y < s->height_px; y++)
        memset(s->rgb + ((size_t)y * (size_t)s->width_px + (size_t)x0) * 3, grey, (size_t)w * 3);
}

static void number(struct image *s, int x, int y, int scale, uint32_t n)
{
    char text[12];
    int  len = snprintf(text, sizeof text, "%" PRIu32, n);

    for (int k = 0; k < len; k++, x += 4 * scale) {
        for (int r = 0; r < 5; r++)
            for (int c = 0; c < 3; c++)
                if (digit[text[k] - '0'] >> (14 - 3 * r - c) & 1) fill(s, x + c * scale, y + r * scale, scale, scale, INK);
    }
}

static int place(struct image *sheet, const char *file, const struct report_grid *g, int x, int y, struct err *e)
{
    struct buf   bytes;
    struct image img = {0}, thumb = {0};
    int          rc;

    buf_init(&bytes, IMAGE_BYTES_MAX);
    rc = file_read(file, &bytes, e);
    if (rc == 0) {
        rc = png_read(buf_str(&bytes), &img, NULL, NULL, e);
        if (rc) err_in(e, "%.200s", file);
    }
    if (rc == 0) rc = report_thumb(&img, g->thumb_px, &thumb, e);
    for (int r = 0; rc == 0 && r < thumb.height_px; r++) {
        int ox = x + (g->thumb_px - thumb.width_px) / 2, oy = y + (g->thumb_px - thumb.height_px) / 2 + r;

        memcpy(sheet->rgb + ((size_t)oy * (size_t)sheet->width_px + (size_t)ox) * 3, thumb.rgb + (size_t)r * (size_t)thumb.width_px * 3,
               (size_t)thumb.width_px * 3);
    }
    image_free(&thumb);
    image_free(&img);
    buf_release(&bytes);
    return rc;
}

int report_sheet(const char *path, char *const *file, const uint32_t *index, uint32_t n, struct err *e)
{
    struct report_grid g;
    struct image       sheet = {0};
    struct buf         bytes;
    int                rc = report_grid(n, &g, e);

    buf_init(&bytes, SHEET_BYTES_MAX);
    if (rc) goto done;
    sheet = (struct image){.width_px = g.width_px, .height_px = g.height_px};
    sheet.rgb = malloc((size_t)g.width_px * (size_t)g.height_px * 3);
    if (!sheet.rgb) {
        rc = err_set(e, ERR_NOMEM, "no memory for a contact sheet of %dx%d pixels", g.width_px, g.height_px);
        goto done;
    }
    memset(sheet.rgb, GROUND, (size_t)g.width_px * (size_t)g.height_px * 3);
    for (uint32_t k = 0; k < n && rc == 0; k++) {
        int x = g.gutter_px + (int)k % g.cols * (g.thumb_px + g.gutter_px);
        int y = g.gutter_px + (int)k / g.cols * (g.thumb_px + g.text_px + g.gutter_px);

        if (file[k])
            rc = place(&sheet, file[k], &g, x, y, e);
        else
            fill(&sheet, x, y, g.thumb_px, g.thumb_px, FRAME);
        if (g.text_px) number(&sheet, x, y + g.thumb_px + (g.text_px > 7 ? 4 : 2), g.text_px > 7 ? 2 : 1, index[k]);
    }
    if (rc == 0) rc = png_write(&sheet, NULL, 0, 6, &bytes, e);
    if (rc == 0) rc = file_write(path, bytes.at, bytes.len, FILE_REPLACE, e);
done:
    image_free(&sheet);
    buf_release(&bytes);
    return rc;
}

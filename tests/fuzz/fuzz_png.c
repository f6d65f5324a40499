/* fuzz_png.c - any bytes into png_read(): an image or a sentence. What was read is written and must read back the same.
 * The CRCs of the input's chunks are made right first, else every change would end at the same door (test_png.c knocks at that one). */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/png.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
    if (!ok) abort();
}

static uint32_t crc_of(const uint8_t *p, size_t n)
{
    uint32_t c = ~0u;

    while (n--) {
        c ^= *p++;
        for (int i = 0; i < 8; i++) c = (c >> 1) ^ (c & 1 ? 0xEDB88320u : 0);
    }
    return ~c;
}

static void mend(uint8_t *p, size_t size)
{
    for (size_t at = 8; size >= 12 && at <= size - 12;) {
        size_t   len = (size_t)p[at] << 24 | (size_t)p[at + 1] << 16 | (size_t)p[at + 2] << 8 | p[at + 3];
        uint32_t crc;

        if (len > size - 12 - at) return;
        crc = crc_of(p + at + 4, len + 4);
        for (size_t i = 0; i < 4; i++) p[at + 8 + len + i] = (uint8_t)(crc >> (24 - 8 * i));
        at += len + 12;
    }
}

static void read_and_write(struct str bytes)
{
    struct image    img, back;
    struct png_text text[PNG_TEXTS_MAX], got[PNG_TEXTS_MAX];
    size_t          n = PNG_TEXTS_MAX, n_got = PNG_TEXTS_MAX, n_pixels;
    struct buf      out;
    int             w, h;

    if (png_size(bytes, &w, &h, NULL) || (int64_t)w * h > 1 << 20) return; /* large canvases only cost time */
    if (png_read(bytes, &img, text, &n, NULL)) return;
    must(img.width_px == w && img.height_px == h);
    n_pixels = (size_t)w * (size_t)h;
    buf_init(&out, 64u << 20);
    if (png_write(&img, text, n, 1, &out, NULL) == 0) { /* foreign keys may be refused */
        must(png_read(buf_str(&out), &back, got, &n_got, NULL) == 0);
        must(n_got == n && memcmp(img.rgb, back.rgb, n_pixels * 3) == 0);
        for (size_t i = 0; i < n; i++) must(str_eq(text[i].value, got[i].value));
        png_texts_free(got, n_got);
        image_free(&back);
    }
    png_texts_free(text, n);
    image_free(&img);
    buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + 1);

    must(copy != NULL);
    if (size) memcpy(copy, data, size);
    mend(copy, size);
    read_and_write((struct str){(const char *)copy, size});
    free(copy);
    return 0;
}

/* fuzz_png.c - any bytes into png_read(): an image or a sentence. What was read is written and must read back the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/png.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
    if (!ok) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str      bytes = {(const char *)data, size};
    struct image    img, back;
    struct png_text text[PNG_TEXTS_MAX], got[PNG_TEXTS_MAX];
    size_t          n = PNG_TEXTS_MAX, n_got = PNG_TEXTS_MAX, n_pixels;
    struct buf      out;
    int             w, h;

    if (png_size(bytes, &w, &h, NULL) || (int64_t)w * h > 1 << 20) return 0; /* large canvases only cost time */
    if (png_read(bytes, &img, text, &n, NULL)) return 0;
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
    return 0;
}

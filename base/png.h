/* png.h - pixels <-> PNG bytes, with text chunks (libpng; the only room that says png_*).
 *
 *   png_write(&img, text, n_text, &buf, &e);        RGB8, deterministic: same pixels and texts give the same bytes
 *   png_read(bytes, &img, texts..., &e);            hostile input is normal: bounded before any pixel is allocated
 *
 * Text is written as iTXt (UTF-8, uncompressed) when it is not plain ASCII, else tEXt. No time stamps. */
#ifndef BASE_PNG_H
#define BASE_PNG_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define PNG_SIDE_MAX_PX    16384
#define PNG_PIXELS_MAX_PX  (1u << 26)
#define PNG_TEXT_MAX_BYTES (256u * 1024)
#define PNG_TEXTS_MAX      16

struct image {
    int      width_px, height_px;
    uint8_t *rgb; /* [height][width][3], owned; image_free() */
};

struct png_text {
    char      *key; /* owned when read; 1..79 bytes of Latin-1 */
    struct str value; /* UTF-8 */
};

void image_free(struct image *img);
/* level: zlib 0..9. Appends to out. */
int png_write(const struct image *img, const struct png_text *text, size_t n_text, int level, struct buf *out, struct err *e);
/* Reads 8/16-bit gray, palette, RGB(A) into RGB8. texts may be NULL; *n_text in: capacity, out: found (freed by png_texts_free). */
int  png_read(struct str bytes, struct image *out, struct png_text *text, size_t *n_text, struct err *e);
void png_texts_free(struct png_text *text, size_t n_text);
/* Only the header: dimensions of a PNG; for checking results without decoding. */
int png_size(struct str bytes, int *width_px, int *height_px, struct err *e);

#endif

/* report.h - a contact sheet: every image small, on one PNG, with its index under it.
 *
 *   report_sheet("out/sheet.png", file, index, n, &e);     file[k] may be NULL: an empty frame
 *
 * A grid of equal cells on a neutral ground; thumbnails by area averaging, never enlarged; a small digit font of our own.
 * Deterministic: the same images give the same bytes. Not here: pages to compare (a later room). */
#ifndef CLIENT_REPORT_H
#define CLIENT_REPORT_H

#include <stdint.h>

#include "base/err.h"
#include "base/png.h"

/* Images are read one at a time. ERR_IO, ERR_FORMAT name the file; ERR_LIMIT when n cannot fit on one sheet. Replaces path. */
int report_sheet(const char *path, char *const *file, const uint32_t *index, uint32_t n, struct err *e);

/* The grid for n cells: thumb_px 16..256 chosen so that the sheet stays within bounds. ERR_LIMIT when even 16 does not. */
struct report_grid {
    int cols, rows, thumb_px, gutter_px, text_px, width_px, height_px;
};
int report_grid(uint32_t n, struct report_grid *g, struct err *e);
/* Source scaled to fit into side x side pixels, keeping its shape, by area average. *out is the caller's (image_free). */
int report_thumb(const struct image *src, int side_px, struct image *out, struct err *e);

#endif

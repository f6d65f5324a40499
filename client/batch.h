/* batch.h - files of prompts: .txt (a prompt per line), .jsonl (an object per line), .csv (RFC 4180 with a header row).
 *
 *   struct batch b; batch_read(&b, "prompts.csv", &defaults, &e);   b.row[0..b.n_rows), b.n_images   batch_release(&b);
 *
 * .txt: blanks at both ends of a line go, empty lines and lines that begin with # are skipped; \# begins a prompt with #.
 * .jsonl/.csv: fields and columns by the names of fields.h; prompt is required; what is left out, null or an empty cell takes the
 * default (an empty prompt cell is an empty prompt). A BOM and CRLF are fine. Every error begins with file:line.
 * A row without a seed of its own takes default seed + index of its first image: image k of a plain file has seed + k.
 * Two images never get one file name: the error names both lines.
 * Not here: options (args.c), which images are there already (manifest.c). */
#ifndef CLIENT_BATCH_H
#define CLIENT_BATCH_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "client/fields.h"

#define BATCH_FILE_MAX_BYTES ((size_t)256 << 20)

enum batch_kind { BATCH_TXT = 1, BATCH_JSONL, BATCH_CSV };

struct batch {
    struct arena texts; /* prompts and names */
    struct row  *row;
    size_t       n_rows, cap;
    uint32_t     n_images;
    char         source[64]; /* the file's last name, for sentences */
};

/* By the ending of the path. ERR_ARG for another ending. */
int batch_kind_of(const char *path, enum batch_kind *kind, struct err *e);
/* defaults: seed is the batch's first; its prompt and name are not used. reserved: a file name no image may take ("sheet.png"); or NULL. */
int batch_read(struct batch *b, const char *path, const struct row *defaults, const char *reserved, struct err *e);
int batch_parse(struct batch *b, const char *source, struct str bytes, enum batch_kind kind, const struct row *defaults,
                const char *reserved, struct err *e);
/* A batch of one row, for generate; borrows r's texts. */
int  batch_of_row(struct batch *b, const struct row *r, struct err *e);
void batch_release(struct batch *b);

/* Image index -> its row, its seed, and the file it goes to (name may be NULL). index < n_images. */
const struct row *batch_image(const struct batch *b, uint32_t index, uint64_t *seed, char name[FIELD_NAME_MAX_BYTES]);
/* One hash over every image asked for, in order: the same file and options give the same hash. */
int batch_hash(const struct batch *b, uint8_t sha256[32], struct err *e);

#endif

/* png.c - pixels <-> PNG bytes through libpng's low-level calls.
 * Believes: every input may be hostile. Sizes are checked before libpng sees the bytes, chunks are bounded, any bad CRC is an error.
 * Invariants: P1 all that changes between setjmp and longjmp lives in struct reader / struct writer, never in a local (a longjmp may
 * forget locals).  P2 what png_write() accepts, png_read() reads back.  P3 a failure gives back nothing and leaves out as it was.
 * Not here: what the texts say (worker/task.c, client/report.c). */
#include "base/png.h"

#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNKS_MAX      64 /* ancillary chunks libpng may keep */
#define CHUNK_MAX_BYTES (PNG_TEXT_MAX_BYTES + 1024) /* key, language and flags around a text */
#define HEADER_BYTES    33 /* signature, IHDR with its CRC */
#define KEY_MAX_BYTES   79
#define SENTENCE_BYTES  120

void image_free(struct image *img)
{
    free(img->rgb);
    *img = (struct image){0};
}

void png_texts_free(struct png_text *text, size_t n_text)
{
    for (size_t i = 0; i < n_text; i++) {
        free(text[i].key);
        free((void *)(uintptr_t)text[i].value.at);
        text[i] = (struct png_text){0};
    }
}

static int check_size(uint64_t width_px, uint64_t height_px, struct err *e)
{
    if (width_px < 1 || height_px < 1 || width_px > PNG_SIDE_MAX_PX || height_px > PNG_SIDE_MAX_PX || width_px * height_px > PNG_PIXELS_MAX_PX)
        return err_set(e, ERR_LIMIT, "png: %llu x %llu pixels: a side may have 1 to %d, all together %u", (unsigned long long)width_px,
                       (unsigned long long)height_px, PNG_SIDE_MAX_PX, PNG_PIXELS_MAX_PX);
    return 0;
}

int png_size(struct str bytes, int *width_px, int *height_px, struct err *e)
{
    const uint8_t *p = (const uint8_t *)bytes.at;
    uint32_t       width, height;
    int            rc;

    if (bytes.len < HEADER_BYTES || memcmp(p, "\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16) != 0)
        return err_set(e, ERR_FORMAT, "png: %zu bytes that do not begin as a PNG file", bytes.len);
    width = (uint32_t)p[16] << 24 | (uint32_t)p[17] << 16 | (uint32_t)p[18] << 8 | p[19];
    height = (uint32_t)p[20] << 24 | (uint32_t)p[21] << 16 | (uint32_t)p[22] << 8 | p[23];
    rc = check_size(width, height, e);
    if (rc) return rc;
    *width_px = (int)width;
    *height_px = (int)height;
    return 0;
}

static void on_error(png_structp png, png_const_charp sentence)
{
    snprintf(png_get_error_ptr(png), SENTENCE_BYTES, "%s", sentence);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp sentence)
{
    (void)png;
    (void)sentence;
}

/* ---- writing ---- */

struct writer {
    png_structp png;
    png_infop   info;
    struct buf *out;
    png_text    text[PNG_TEXTS_MAX];
    char       *copy[PNG_TEXTS_MAX]; /* values with their NUL */
    int         rc;                  /* why out refused bytes */
    char        sentence[SENTENCE_BYTES];
};

/* Latin-1 without control bytes, no blank at the ends, no two blanks together (PNG 11.3.4.2). */
static bool key_ok(const char *key)
{
    size_t n = key ? strlen(key) : 0;

    if (n < 1 || n > KEY_MAX_BYTES || key[0] == ' ' || key[n - 1] == ' ') return false;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)key[i];
        if (c < 32 || (c > 126 && c < 161) || (c == ' ' && key[i + 1] == ' ')) return false;
    }
    return true;
}

static bool is_plain(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.at[i] != '\n' && (s.at[i] < 32 || s.at[i] > 126)) return false;
    return true;
}

static int text_prepare(struct writer *w, const struct png_text *text, size_t n_text, struct err *e)
{
    if (n_text > PNG_TEXTS_MAX) return err_set(e, ERR_LIMIT, "png: %zu texts, at most %d fit", n_text, PNG_TEXTS_MAX);
    for (size_t i = 0; i < n_text; i++) {
        struct str v = text[i].value;

        if (!key_ok(text[i].key)) return err_set(e, ERR_ARG, "png: text %zu has no valid key (1 to %d Latin-1 characters)", i, KEY_MAX_BYTES);
        if (v.len > PNG_TEXT_MAX_BYTES)
            return err_set(e, ERR_LIMIT, "png: text '%s' has %zu bytes, at most %u fit", text[i].key, v.len, PNG_TEXT_MAX_BYTES);
        if (!str_utf8_ok(v)) return err_set(e, ERR_ARG, "png: text '%s' is not UTF-8 at byte %zu", text[i].key, str_utf8_bad_at(v));
        w->copy[i] = malloc(v.len + 1);
        if (!w->copy[i]) return err_set(e, ERR_NOMEM, "png: no memory for text '%s'", text[i].key);
        if (v.len) memcpy(w->copy[i], v.at, v.len);
        w->copy[i][v.len] = 0;
        w->text[i].key = text[i].key;
        w->text[i].text = w->copy[i];
        w->text[i].compression = is_plain(v) ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE;
    }
    return 0;
}

static void on_write(png_structp png, png_bytep at, size_t len)
{
    struct writer *w = png_get_io_ptr(png);

    w->rc = buf_put(w->out, at, len);
    if (w->rc) png_error(png, w->rc == ERR_LIMIT ? "the output has no room left" : "no memory for the output");
}

static void on_flush(png_structp png)
{
    (void)png;
}

/* The part libpng may leave by longjmp: no local changes after setjmp. */
static int write_jumping(struct writer *w, const struct image *img, size_t n_text, int level)
{
    if (setjmp(png_jmpbuf(w->png))) return w->rc ? w->rc : ERR_FORMAT;
    png_set_write_fn(w->png, w, on_write, on_flush);
    png_set_user_limits(w->png, PNG_SIDE_MAX_PX, PNG_SIDE_MAX_PX);
    png_set_compression_level(w->png, level);
    png_set_IHDR(w->png, w->info, (png_uint_32)img->width_px, (png_uint_32)img->height_px, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (n_text) png_set_text(w->png, w->info, w->text, (int)n_text);
    png_write_info(w->png, w->info);
    for (size_t y = 0; y < (size_t)img->height_px; y++) png_write_row(w->png, img->rgb + y * (size_t)img->width_px * 3);
    png_write_end(w->png, w->info);
    return 0;
}

int png_write(const struct image *img, const struct png_text *text, size_t n_text, int level, struct buf *out, struct err *e)
{
    struct writer w = {.out = out};
    size_t        before = out->len;
    int           rc;

    if (img->width_px < 0 || img->height_px < 0) return err_set(e, ERR_ARG, "png: %d x %d pixels", img->width_px, img->height_px);
    if (level < 0 || level > 9) return err_set(e, ERR_ARG, "png: compression level %d is not 0 to 9", level);
    rc = check_size((uint64_t)img->width_px, (uint64_t)img->height_px, e);
    if (rc == 0) rc = text_prepare(&w, text, n_text, e);
    if (rc) goto done;
    w.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, w.sentence, on_error, on_warning);
    w.info = w.png ? png_create_info_struct(w.png) : NULL;
    if (!w.info) {
        rc = err_set(e, ERR_NOMEM, "png: no memory for the encoder");
        goto done;
    }
    rc = write_jumping(&w, img, n_text, level);
    if (rc) {
        err_set(e, rc, "png: cannot be written: %s", w.sentence);
        out->len = before;
        if (out->at) out->at[before] = 0;
    }
done:
    png_destroy_write_struct(&w.png, &w.info);
    for (size_t i = 0; i < PNG_TEXTS_MAX; i++) free(w.copy[i]);
    return rc;
}

/* ---- reading ---- */

struct reader {
    png_structp  png;
    png_infop    info;
    struct str   left; /* bytes not yet read */
    struct image img;
    png_bytep   *row;
    int          rc; /* a code better than ERR_FORMAT */
    char         sentence[SENTENCE_BYTES];
};

static void on_read(png_structp png, png_bytep at, size_t len)
{
    struct reader *r = png_get_io_ptr(png);

    if (len > r->left.len) png_error(png, "the file is cut");
    memcpy(at, r->left.at, len);
    r->left.at += len;
    r->left.len -= len;
}

/* Asks libpng for RGB8 whatever the file has; alpha is dropped. */
static void ask_rgb8(png_structp png)
{
    png_set_expand(png); /* palette, 1/2/4-bit gray and tRNS become 8-bit channels */
    png_set_scale_16(png);
    png_set_gray_to_rgb(png);
    png_set_strip_alpha(png);
}

static void rows_alloc(struct reader *r)
{
    size_t stride = (size_t)r->img.width_px * 3, n = (size_t)r->img.height_px;

    if (png_get_rowbytes(r->png, r->info) != stride) png_error(r->png, "the rows do not become RGB8");
    r->img.rgb = malloc(n * stride);
    r->row = malloc(n * sizeof *r->row);
    if (!r->img.rgb || !r->row) {
        r->rc = ERR_NOMEM;
        png_error(r->png, "no memory for the pixels");
    }
    for (size_t y = 0; y < n; y++) r->row[y] = r->img.rgb + y * stride;
}

/* The part libpng may leave by longjmp: no local changes after setjmp. */
static int read_jumping(struct reader *r)
{
    if (setjmp(png_jmpbuf(r->png))) return r->rc ? r->rc : ERR_FORMAT;
    png_set_read_fn(r->png, r, on_read);
    png_set_user_limits(r->png, PNG_SIDE_MAX_PX, PNG_SIDE_MAX_PX);
    png_set_chunk_cache_max(r->png, CHUNKS_MAX);
    png_set_chunk_malloc_max(r->png, CHUNK_MAX_BYTES);
    png_set_benign_errors(r->png, 0); /* a text dropped with a warning would be a loss nobody hears of */
    png_set_crc_action(r->png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_read_info(r->png, r->info);
    ask_rgb8(r->png);
    png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
    rows_alloc(r);
    png_read_image(r->png, r->row);
    png_read_end(r->png, r->info);
    return 0;
}

/* A copy in UTF-8 of a text chunk's value; NULL when there is no memory. */
static char *value_copy(const png_text *t, size_t *len)
{
    bool        latin1 = t->compression == PNG_TEXT_COMPRESSION_NONE || t->compression == PNG_TEXT_COMPRESSION_zTXt;
    const char *from = t->text ? t->text : "";
    size_t      n = strlen(from);
    char       *to = malloc(2 * n + 1), *p = to;

    if (!to) return NULL;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)from[i];
        if (latin1 && c >= 0x80) {
            *p++ = (char)(0xC0 | c >> 6);
            *p++ = (char)(0x80 | (c & 0x3F));
        } else {
            *p++ = (char)c;
        }
    }
    *p = 0;
    *len = (size_t)(p - to);
    return to;
}

static int texts_take(struct reader *r, struct png_text *text, size_t cap, size_t *n_text, struct err *e)
{
    png_textp chunk = NULL;
    int       n = 0;

    png_get_text(r->png, r->info, &chunk, &n);
    if (n > 0 && (size_t)n > cap) return err_set(e, ERR_LIMIT, "png: has %d texts, at most %zu are read", n, cap);
    for (int i = 0; i < n; i++) {
        struct png_text t = {.key = strdup(chunk[i].key)};

        t.value.at = value_copy(&chunk[i], &t.value.len);
        text[(*n_text)++] = t;
        if (!t.key || !t.value.at) return err_set(e, ERR_NOMEM, "png: no memory for the texts");
        if (!str_utf8_ok(t.value)) return err_set(e, ERR_FORMAT, "png: text %d is not UTF-8 at byte %zu", i, str_utf8_bad_at(t.value));
    }
    return 0;
}

int png_read(struct str bytes, struct image *out, struct png_text *text, size_t *n_text, struct err *e)
{
    struct reader r = {.left = bytes};
    size_t        cap = text && n_text ? *n_text : 0;
    int           rc;

    *out = (struct image){0};
    if (n_text) *n_text = 0;
    rc = png_size(bytes, &r.img.width_px, &r.img.height_px, e);
    if (rc) return rc;
    r.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, r.sentence, on_error, on_warning);
    r.info = r.png ? png_create_info_struct(r.png) : NULL;
    if (!r.info) {
        rc = err_set(e, ERR_NOMEM, "png: no memory for the decoder");
        goto done;
    }
    rc = read_jumping(&r);
    if (rc) err_set(e, rc, "png: cannot be read: %s", r.sentence);
    else if (r.left.len) rc = err_set(e, ERR_FORMAT, "png: %zu bytes follow the end", r.left.len);
    else if (text && n_text) rc = texts_take(&r, text, cap, n_text, e);
done:
    png_destroy_read_struct(&r.png, &r.info, NULL);
    free(r.row);
    if (rc == 0) {
        *out = r.img;
        return 0;
    }
    free(r.img.rgb);
    if (n_text) {
        if (text) png_texts_free(text, *n_text);
        *n_text = 0;
    }
    return rc;
}

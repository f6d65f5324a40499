/* safetensors.h - the .safetensors format: header, bounds, shard index; and a small writer.
 *
 *   struct safetensors s;
 *   if (safetensors_open(&s, "model.safetensors", &e)) ...      maps the file and checks every tensor's place
 *   for (i < s.n) s.entry[i].name, .type, .dim, s.data + s.entry[i].begin
 *   safetensors_close(&s);
 *
 * Believes nothing: after 0 is returned every tensor lies inside the data, none overlap, together they cover it exactly, names differ,
 * and bytes == product of the shape * bytes of the dtype. Integers keep all 64 bits. Data may be unaligned: weights.c sees to that.
 * The strings of entries live in the struct, the data in the mapped file (or in the caller's memory after safetensors_parse).
 * Not here: which tensors a model needs, shapes it expects (weights.h). */
#ifndef ENGINE_SAFETENSORS_H
#define ENGINE_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/file.h"
#include "base/str.h"
#include "kernels/tensor.h"

#define SAFETENSORS_HEADER_MAX  (16u << 20) /* bytes of JSON */
#define SAFETENSORS_RANK_MAX    8
#define SAFETENSORS_NAME_MAX    255
#define SAFETENSORS_TENSORS_MAX 65536
#define SAFETENSORS_SHARDS_MAX  1024
#define SAFETENSORS_INDEX_MAX   (16u << 20)

struct safetensors_entry {
    const char *name;                      /* 1..255 bytes of UTF-8 */
    const char *type_word;                 /* as in the file: "BF16" */
    bool        usable;                    /* type is one that this engine computes with; others are listed, not used */
    enum dtype  type;                      /* when usable */
    int         rank;                      /* 0..8 */
    int64_t     dim[SAFETENSORS_RANK_MAX]; /* >= 0 */
    uint64_t    begin, bytes;              /* in data */
};

struct safetensors {
    char                      path[512]; /* for sentences */
    struct safetensors_entry *entry;     /* in the order of their data; owned */
    size_t                    n;
    char                     *names; /* owned */
    const uint8_t            *data;
    uint64_t                  data_bytes;
    struct str                header;      /* JSON text inside the file: what digests cover */
    char                      profile[16]; /* "zfarm.profile" of the metadata, cut; not judged here */
    struct file_map           map;         /* open after safetensors_open */
};

/* bytes are the whole file and must outlive s; path only names it. ERR_FORMAT, ERR_LIMIT, ERR_NOMEM; s is untouched on error. */
int safetensors_parse(struct safetensors *s, struct str bytes, const char *path, struct err *e);
/* Maps path. ERR_IO, and as above. */
int  safetensors_open(struct safetensors *s, const char *path, struct err *e);
void safetensors_close(struct safetensors *s);

/* A shard index (*.safetensors.index.json): which file holds which tensor. */
struct safetensors_index {
    char  **file; /* plain names, each once, sorted */
    size_t  n_files;
    char  **tensor; /* tensor[i] lies in file[file_of[i]] */
    size_t *file_of;
    size_t  n;
};
int  safetensors_index_parse(struct safetensors_index *x, struct str json, const char *path, struct err *e);
void safetensors_index_release(struct safetensors_index *x);

/* Appends a whole file with one F32 tensor to out: header padded so that the data is 8-byte aligned, metadata {"format": "pt"}.
 * name: without quotes, backslashes and control characters. ERR_LIMIT, ERR_NOMEM. */
int safetensors_write(struct buf *out, const char *name, int rank, const int64_t *dim, const float *values, struct err *e);

#endif

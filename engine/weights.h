/* weights.h - one component of a model on disk: tensor name -> tensor, whatever the files, their format and their names.
 *
 *   struct weights *w = NULL;
 *   weights_open(&w, "model/transformer", NULL, &e);             a folder, a .safetensors, an index of shards, a .gguf
 *   weights_take(w, d, "x_pad_token", 2, (int64_t[]){ 1, dim }, &t, &e);
 *   weights_free(w);                                             after the device that borrowed from it
 *
 * Every file is mapped and wholly checked at open (safetensors.h), so a truncated or overlapping one never gets as far as a model.
 * Tensors are asked for by the names of diffusers and Hugging Face; names.h knows the others. A fused tensor answers under three names.
 * Dims of 1 do not count when shapes are compared.
 * Errors name the missing tensor and where it was looked for, or the shape found and the shape expected. Tensors nobody asks for are fine.
 * Tensors lie in the mapped file; one that is not aligned for its dtype is copied once.
 * Not here: the file format (safetensors.h), what a model is made of (qwen3.h, dit.h, vae.h). */
#ifndef ENGINE_WEIGHTS_H
#define ENGINE_WEIGHTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "kernels/dev.h"
#include "kernels/tensor.h"

struct weights;
struct safetensors_entry; /* engine/safetensors.h */
struct gguf;              /* engine/gguf.h */

/* path: a file, or a folder. prefix: names may also be stored as prefix + name ("model."), or NULL.
 * Which files of a folder: diffusion_pytorch_model or model .safetensors, else the same with .safetensors.index.json,
 * else the only index, the only .safetensors or the only .gguf there is. */
int  weights_open(struct weights **out, const char *path, const char *prefix, struct err *e);
void weights_free(struct weights *w); /* NULL is fine */
/* Made-up values instead of files (made.h): whatever tensor is asked for is there. label: for sentences. */
int  weights_made(struct weights **out, const char *label, enum dtype kind, struct err *e);

bool weights_has(const struct weights *w, const char *name);
/* A host tensor of exactly this shape, borrowed from w. ERR_NOTFOUND: no such name. ERR_FORMAT: other shape, or a dtype that is not supported. */
int weights_get(struct weights *w, const char *name, int rank, const int64_t *dim, struct tensor *out, struct err *e);
/* The same, put on the device by dev_weight(). */
int weights_take(struct weights *w, struct dev *d, const char *name, int rank, const int64_t *dim, struct tensor *out, struct err *e);
/* Memory for a tensor that is made from stored ones, w's until weights_free(): the same name gives the same bytes again, *fresh tells the first time.
 * NULL: there is none. */
void *weights_room(struct weights *w, const char *name, size_t bytes, bool *fresh);
/* Told of each tensor that weights_take() or a loader has put on a device: bytes as stored. One at a time; NULL: nobody. */
void weights_watch(struct weights *w, void (*on_taken)(void *ctx, int64_t bytes), void *ctx);
void weights_taken(const struct weights *w, const struct dev *d, const struct tensor *host); /* tells it, for those who call dev_weight() themselves */
/* The files' pages are held no longer; what is read again comes from the files again. For devices that have copied. */
void weights_let_go(struct weights *w);
/* ERR_IO when one of the files was cut since it was opened (reading on would be SIGBUS). */
int  weights_check(const struct weights *w, struct err *e);
void weights_digest(const struct weights *w, struct sha256 *s); /* the headers of all files: names, shapes, dtypes */
/* Tensor i of weights_count(), in the order of the files, under the name it answers to (parts of a fused one count each); *file (may be
 * NULL) receives the path it lies in. Borrowed. */
size_t                          weights_count(const struct weights *w);
const struct safetensors_entry *weights_entry(const struct weights *w, size_t i, const char **file);
const struct safetensors_entry *weights_find(const struct weights *w, const char *name); /* NULL: no such tensor */
const struct gguf              *weights_gguf(const struct weights *w); /* the first file's metadata; NULL when it is no GGUF file */
const char                     *weights_path(const struct weights *w); /* for sentences */
void       weights_profile(const struct weights *w, char name[32]);    /* "zfarm.profile" of the first file's metadata, or ""; not judged */
int64_t    weights_bytes(const struct weights *w);                     /* of all tensors in the files */
int64_t    weights_values(const struct weights *w);                    /* parameters in the files */
enum dtype weights_type(const struct weights *w); /* of the largest usable tensor: what people call the dtype of a checkpoint */

/* Takes many tensors with one check at the end: after the first error the others do nothing.
 *   struct loader l = { w, d, e, 0 };
 *   load2(&l, &b->w1, ffn, dim, "%s.feed_forward.w1.weight", prefix); ...  return l.rc; */
struct loader {
    struct weights *w;
    struct dev     *d;
    struct err     *e;
    int             rc;
};
void load1(struct loader *l, struct tensor *out, int64_t n, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void load2(struct loader *l, struct tensor *out, int64_t n, int64_t c, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* A convolution [co,ci,k,k]. */
void load_conv(struct loader *l, struct tensor *out, int64_t co, int64_t ci, int64_t k, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));

#endif

/* model.c - see model.h. Each part is found, opened, and asked for its numbers; then the parts are held against each other.
 * Not here: parsing (config.c, safetensors.c, gguf.c, vocab.c), guessing numbers (infer.c). */
#include "engine/model.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "engine/gguf.h"
#include "engine/infer.h"
#include "engine/safetensors.h"

#define PATH_BYTES 1024

enum part { PART_TEXT, PART_DIT, PART_VAE, PART_COUNT };

static const char *const part_folder[PART_COUNT] = {"text_encoder", "transformer", "vae"};

/* The file or folder of a part; given is what the user said or NULL. */
static int part_path(const struct engine_opts *o, enum part part, const char *given, char *path, struct err *e)
{
    if (!given) return file_join(path, PATH_BYTES, o->model_dir, part_folder[part], e);
    if ((size_t)snprintf(path, PATH_BYTES, "%s", given) >= PATH_BYTES) return err_set(e, ERR_LIMIT, "the name %.60s... is too long", given);
    return 0;
}

/* path becomes the config of a part, or "" when there is none. */
static int config_path(const struct engine_opts *o, enum part part, const char *part_at, char *path, struct err *e)
{
    char name[64];
    int  rc;
    if (file_is_folder(part_at)) {
        if ((rc = file_join(path, PATH_BYTES, part_at, "config.json", e))) return rc;
        if (file_exists(path)) return 0;
    }
    path[0] = 0;
    if (!o->model_dir) return 0;
    snprintf(name, sizeof name, "%s/config.json", part_folder[part]);
    if ((rc = file_join(path, PATH_BYTES, o->model_dir, name, e))) return rc;
    if (!file_exists(path)) path[0] = 0;
    return 0;
}

static int read_config(struct model *m, enum part part, const char *path, struct sha256 *digest, struct err *e)
{
    struct buf b;
    int        rc;
    buf_init(&b, CONFIG_BYTES_MAX);
    if ((rc = file_read(path, &b, e))) goto done;
    sha256_put(digest, b.at, b.len);
    rc = part == PART_TEXT  ? config_text(&m->conf.text, buf_str(&b), path, e)
         : part == PART_DIT ? config_dit(&m->conf.dit, buf_str(&b), path, e)
                            : config_vae(&m->conf.vae, buf_str(&b), path, e);
done:
    buf_release(&b);
    return rc;
}

static int infer(struct model *m, enum part part, struct err *e)
{
    return part == PART_TEXT  ? infer_text(&m->conf.text, m->text, e)
           : part == PART_DIT ? infer_dit(&m->conf.dit, m->dit, e)
                              : infer_vae(&m->conf.vae, m->vae, e);
}

static int open_part(struct model *m, const struct engine_opts *o, enum part part, const char *given, bool has_conf, struct sha256 *digest,
                     struct err *e)
{
    struct weights **w = part == PART_TEXT ? &m->text : part == PART_DIT ? &m->dit : &m->vae;
    char             path[PATH_BYTES], config[PATH_BYTES] = "";
    int              rc;

    if ((rc = part_path(o, part, given, path, e)) || (rc = weights_open(w, path, part == PART_TEXT ? "model." : NULL, e))) return rc;
    weights_digest(*w, digest);
    if (has_conf) return 0;
    if ((rc = config_path(o, part, path, config, e))) return rc;
    return config[0] ? read_config(m, part, config, digest, e) : infer(m, part, e);
}

/* ---- tokenizer ---- */

static int read_tokenizer(struct model *m, const char *path, struct sha256 *digest, struct err *e)
{
    struct file_map f;
    struct str      bytes;
    int             rc = file_map_open(&f, path, e);
    if (rc) return rc;
    bytes = (struct str){(const char *)f.at, f.len};
    if (!gguf_is(bytes)) sha256_put(digest, f.at, f.len); /* of a GGUF file weights_digest() has taken what matters */
    rc = tokenizer_open_mem(&m->tokenizer, bytes, e);
    file_map_close(&f);
    if (rc) {
        err_in(e, "%s", path);
        return rc;
    }
    if (tokenizer_vocab(m->tokenizer) > (size_t)m->conf.text.vocab)
        return err_set(e, ERR_FORMAT, "%s knows %zu ids, the text encoder's vocab_size is %d: parts of different models", path,
                       tokenizer_vocab(m->tokenizer), m->conf.text.vocab);
    return 0;
}

static int open_tokenizer(struct model *m, const struct engine_opts *o, struct sha256 *digest, struct err *e)
{
    char path[PATH_BYTES];
    int  rc;

    if (o->tokenizer && !file_is_folder(o->tokenizer)) return read_tokenizer(m, o->tokenizer, digest, e);
    if (o->tokenizer) {
        rc = file_join(path, sizeof path, o->tokenizer, "tokenizer.json", e);
        return rc ? rc : read_tokenizer(m, path, digest, e);
    }
    if (o->model_dir) {
        if ((rc = file_join(path, sizeof path, o->model_dir, "tokenizer/tokenizer.json", e))) return rc;
        if (file_exists(path) || !o->text_encoder) return read_tokenizer(m, path, digest, e);
    }
    if (o->text_encoder && file_is_folder(o->text_encoder)) {
        if ((rc = file_join(path, sizeof path, o->text_encoder, "tokenizer.json", e))) return rc;
        if (file_exists(path)) return read_tokenizer(m, path, digest, e);
    }
    if (weights_gguf(m->text)) return read_tokenizer(m, weights_gguf(m->text)->path, digest, e);
    return err_set(e, ERR_NOTFOUND, "%s carries no tokenizer: give the folder of its tokenizer.json (--tokenizer DIR)",
                   weights_path(m->text));
}

/* ---- scheduler and profile ---- */

static int read_word(const char *dir, const char *name, struct model *m, bool *found, struct sha256 *digest, struct err *e)
{
    struct buf b;
    char       path[PATH_BYTES];
    int        rc;

    buf_init(&b, CONFIG_BYTES_MAX);
    if ((rc = file_join(path, sizeof path, dir, name, e))) goto done;
    *found = file_exists(path);
    if (!*found || (rc = file_read(path, &b, e))) goto done;
    sha256_put(digest, b.at, b.len);
    rc = strcmp(name, "model_index.json") == 0 ? config_index(m->conf.hint, buf_str(&b), path, e)
                                               : config_schedule(&m->conf.schedule, buf_str(&b), path, e);
done:
    buf_release(&b);
    return rc;
}

/* Of a model that is not one whole folder. */
static int find_schedule(struct model *m, const struct engine_opts *o, bool *found, struct sha256 *digest, struct err *e)
{
    bool has_index = false;
    int  rc;
    *found = false;
    schedule_conf_default(&m->conf.schedule);
    if (!o->model_dir) return 0;
    if ((rc = read_word(o->model_dir, "model_index.json", m, &has_index, digest, e))) return rc;
    return read_word(o->model_dir, "scheduler/scheduler_config.json", m, found, digest, e);
}

static int find_profile(struct model *m, const struct engine_opts *o, bool has_schedule, struct err *e)
{
    char *hint = m->conf.hint;

    if (!hint[0]) weights_profile(m->dit, hint);
    if (o->profile) snprintf(hint, sizeof m->conf.hint, "%s", o->profile);
    if (!hint[0] && !has_schedule)
        return err_set(e, ERR_ARG, "%s does not say whether it is turbo or base: say --profile turbo or --profile base",
                       weights_path(m->dit));
    if (hint[0] && strcmp(hint, "turbo") != 0 && strcmp(hint, "base") != 0)
        return err_set(e, o->profile ? ERR_ARG : ERR_FORMAT, "the profile \"%s\" is not known: turbo or base", hint);
    if (!has_schedule) m->conf.schedule.shift = strcmp(hint, "base") == 0 ? 6.0 : 3.0; /* as published */
    return 0;
}

int model_open(struct model *m, const struct engine_opts *o, struct sha256 *digest, struct err *e)
{
    const char *given[PART_COUNT] = {o->text_encoder, o->dit, o->vae};
    bool        whole = o->model_dir && !o->text_encoder && !o->dit && !o->vae, has_schedule = true;
    int         rc;

    if (o->model_dir && !whole && !file_is_folder(o->model_dir))
        return err_set(e, ERR_NOTFOUND, "there is no model folder %s", o->model_dir);
    if (whole && (rc = config_open(&m->conf, o->model_dir, digest, e))) return rc;
    if (!whole && (rc = find_schedule(m, o, &has_schedule, digest, e))) return rc;
    for (enum part p = 0; p < PART_COUNT; p++)
        if ((rc = open_part(m, o, p, given[p], whole, digest, e))) return rc;
    if ((rc = find_profile(m, o, has_schedule, e)) ||
        (rc = config_cross_check(&m->conf, o->model_dir ? o->model_dir : weights_path(m->dit), e)))
        return rc;
    sha256_put(digest, m->conf.hint, sizeof m->conf.hint);
    return open_tokenizer(m, o, digest, e);
}

void model_release(struct model *m)
{
    weights_free(m->text);
    weights_free(m->dit);
    weights_free(m->vae);
    tokenizer_free(m->tokenizer);
    *m = (struct model){0};
}

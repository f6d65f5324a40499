/* place.c - see place.h. */
#include "worker/place.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "proto/msg.h"

#define GPU_WORD_MAX 8 /* "cuda:999" */

struct word { /* PART=DEVICES */
    const char *at;
    int         len;
};

static bool is_gpu(const char *word, size_t len)
{
    return len > 5 && len <= GPU_WORD_MAX && strncmp(word, "cuda:", 5) == 0 && strspn(word + 5, "0123456789") >= len - 5 && (word[5] != '0' || len == 6);
}

bool place_is_device(const char *word, size_t len)
{
    return (len == 3 && strncmp(word, "cpu", 3) == 0) || is_gpu(word, len);
}

/* One device of a list; *at moves behind it and its comma. A list that ends with a comma has a last device without a name. */
static int take_device(struct word w, const char **at, char out[PLACE_DEVICE_BYTES], struct err *e)
{
    const char *end = w.at + w.len, *comma = memchr(*at, ',', (size_t)(end - *at));
    size_t      len = (size_t)((comma ? comma : end) - *at);

    if (!place_is_device(*at, len))
        return err_set(e, ERR_ARG, "\"%.*s\": \"%.*s\" is no device for a part of the model: cpu or cuda:N", w.len, w.at, len < 40 ? (int)len : 40, *at);
    snprintf(out, PLACE_DEVICE_BYTES, "%.*s", (int)len, *at);
    *at = comma ? comma + 1 : NULL;
    return 0;
}

static int take_one(struct word w, const char *devices, char out[PLACE_DEVICE_BYTES], struct err *e)
{
    int rc;

    if (out[0]) return err_set(e, ERR_ARG, "\"%.*s\": this part has a device already, %s", w.len, w.at, out);
    if ((rc = take_device(w, &devices, out, e))) return rc;
    return devices ? err_set(e, ERR_ARG, "\"%.*s\": only image may have several devices", w.len, w.at) : 0;
}

static int take_images(struct place *p, struct word w, const char *devices, struct err *e)
{
    int rc = 0;

    if (p->n_image) return err_set(e, ERR_ARG, "\"%.*s\": image is said twice: name all its devices in one list", w.len, w.at);
    while (!rc && devices) {
        if (p->n_image == PLACE_IMAGE_MAX) return err_set(e, ERR_ARG, "\"%.*s\": more than %d devices for image", w.len, w.at, PLACE_IMAGE_MAX);
        rc = take_device(w, &devices, p->image[p->n_image], e);
        if (!rc) p->n_image++;
    }
    return rc;
}

static int take_word(struct place *p, struct word w, struct err *e)
{
    const char *equals = memchr(w.at, '=', (size_t)w.len);
    int         len = equals ? (int)(equals - w.at) : 0;

    if (len == 4 && strncmp(w.at, "text", 4) == 0) return take_one(w, equals + 1, p->text, e);
    if (len == 3 && strncmp(w.at, "vae", 3) == 0) return take_one(w, equals + 1, p->vae, e);
    if (len == 5 && strncmp(w.at, "image", 5) == 0) return take_images(p, w, equals + 1, e);
    return err_set(e, ERR_ARG, "\"%.*s\" places no part of the model: text=DEVICE, image=DEVICE[,DEVICE...] or vae=DEVICE", w.len, w.at);
}

/* A GPU is one rank. */
static int check(const struct place *p, struct err *e)
{
    if (!p->text[0]) return err_set(e, ERR_ARG, "a placement needs a device for the text encoder: text=DEVICE");
    if (!p->n_image) return err_set(e, ERR_ARG, "a placement needs a device for the transformer: image=DEVICE[,DEVICE...]");
    for (int i = 0; i < p->n_image; i++) {
        const char *d = p->image[i];

        if (!strcmp(d, "cpu")) continue;
        if (!strcmp(d, p->text))
            return err_set(e, ERR_ARG, "%s is named for text and for image: place them on two, or use --device %s for all of it", d, d);
        if (!strcmp(d, p->vae)) return err_set(e, ERR_ARG, "%s is named for image and for vae: without vae=, an image device decodes what it made", d);
        for (int k = 0; k < i; k++)
            if (!strcmp(d, p->image[k])) return err_set(e, ERR_ARG, "%s is named twice for image", d);
    }
    return 0;
}

int place_parse(struct place *p, const char *text, struct err *e)
{
    int rc = 0;

    memset(p, 0, sizeof *p);
    if (!*text) return 0;
    if (strlen(text) >= 2 * PLACE_LINE_BYTES) return err_set(e, ERR_ARG, "a placement of %zu bytes", strlen(text));
    for (const char *at = text; !rc && at;) {
        size_t      len = strcspn(at, " ");
        struct word w = {at, (int)len};

        rc = take_word(p, w, e);
        at = at[len] ? at + len + 1 : NULL;
    }
    return rc ? rc : check(p, e);
}

const char *place_line(const struct place *p, char *line)
{
    int n = 0;

    line[0] = 0;
    if (!p->n_image) return line;
    n = snprintf(line, PLACE_LINE_BYTES, "text=%s image=", p->text);
    for (int i = 0; i < p->n_image; i++) n += snprintf(line + n, (size_t)(PLACE_LINE_BYTES - n), "%s%s", i ? "," : "", p->image[i]);
    if (p->vae[0]) n += snprintf(line + n, (size_t)(PLACE_LINE_BYTES - n), " vae=%s", p->vae);
    assert(n < PLACE_LINE_BYTES);
    return line;
}

/* The autoencoder has a rank of its own. */
static bool vae_alone(const struct place *p)
{
    return p->vae[0] && strcmp(p->vae, p->text) != 0;
}

int place_ranks(const struct place *p)
{
    return p->n_image ? 1 + p->n_image + vae_alone(p) : 1;
}

uint32_t place_parts(const struct place *p, int rank)
{
    assert(rank >= 0 && rank < place_ranks(p));
    if (!p->n_image) return RANK_TEXT | RANK_IMAGE | RANK_VAE;
    if (rank == 0) return p->vae[0] && !vae_alone(p) ? RANK_TEXT | RANK_VAE : RANK_TEXT;
    if (rank <= p->n_image) return p->vae[0] ? RANK_IMAGE : RANK_IMAGE | RANK_VAE;
    return RANK_VAE;
}

const char *place_device(const struct place *p, int rank)
{
    assert(rank >= 0 && rank < place_ranks(p));
    if (!p->n_image) return "";
    return rank == 0 ? p->text : rank <= p->n_image ? p->image[rank - 1] : p->vae;
}

int place_decoder(const struct place *p, int rank)
{
    return !p->vae[0] ? rank : vae_alone(p) ? 1 + p->n_image : 0;
}

int place_tasks(const struct place *p)
{
    return p->n_image ? p->n_image + 1 + (p->vae[0] != 0) : 1;
}

/* selftest.c - see selftest.h. */
#include "worker/selftest.h"

#include <string.h>

#include "base/hash.h"
#include "proto/msg.h"

#define SIDE_PX 256
#define TICKET  0 /* of no task */

/* Sent to the rank that paints, when that is another one. */
static int encode(const struct selftest_ranks *r, struct embed **pos, struct err *e)
{
    struct embed *p = NULL;
    int           rc = engine_encode(r->text, str_of("a white cat on a green mat"), &p, e);

    if (rc || r->text == r->image) {
        *pos = p;
        return rc;
    }
    rc = engine_send(r->text, p, TICKET, ENGINE_POS, e);
    embed_free(p);
    if (!rc) rc = engine_recv(r->image, TICKET, ENGINE_POS, pos, e);
    if (!rc) engine_drop(r->image, TICKET);
    return rc;
}

/* The latent where it is decoded. */
static int move(const struct selftest_ranks *r, struct latent **z, struct err *e)
{
    int rc;

    if (r->image == r->vae) return 0;
    rc = engine_send_latent(r->image, *z, TICKET, e);
    latent_free(*z);
    *z = NULL;
    if (!rc) rc = engine_recv_latent(r->vae, TICKET, z, e);
    if (!rc) engine_drop(r->vae, TICKET);
    return rc;
}

static int picture(const struct selftest_ranks *r, uint8_t sha256[32], struct err *e)
{
    const struct engine_profile *p = engine_profile(r->image);
    struct gen     gen = {.n_steps = 1, .cfg_trunc = 1, .seed = 1, .noise = NOISE_TORCH_CUDA, .noise_threads = RNG_H100_THREADS};
    struct embed  *pos = NULL;
    struct latent *z = NULL;
    struct image   image = {0};
    const struct gen_hooks none = {0};
    int            rc;

    gen.width_px = gen.height_px = SIDE_PX / p->multiple_px * p->multiple_px;
    if ((rc = encode(r, &pos, e)) || (rc = engine_denoise(r->image, pos, NULL, &gen, &none, &z, e)) || (rc = move(r, &z, e)) ||
        (rc = engine_decode(r->vae, z, &image, e)))
        goto done;
    sha256_of(image.rgb, (size_t)image.width_px * (size_t)image.height_px * 3, sha256);
done:
    image_free(&image);
    latent_free(z);
    embed_free(pos);
    return rc;
}

int selftest_run(const struct selftest_ranks *r, uint8_t sha256[32], struct err *e)
{
    const struct engine_profile *p = engine_profile(r->image);
    uint8_t                      again[32];
    int                          rc;

    memset(sha256, 0, 32);
    if (strncmp(p->device, "cuda", 4) != 0 || p->multiple_px > SIDE_PX) return 0;
    if ((rc = picture(r, sha256, e)) || (rc = picture(r, again, e))) {
        err_in(e, "the device's self-test failed");
        return rc;
    }
    if (memcmp(sha256, again, sizeof again) != 0)
        return err_set(e, ERR_DEVICE, "%s paints two different pictures from one request: it miscomputes and is not used", p->device);
    return 0;
}

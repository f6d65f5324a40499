/* selftest.c - see selftest.h. */
#include "worker/selftest.h"

#include <string.h>

#include "base/hash.h"
#include "proto/msg.h"

#define SIDE_PX 256

static int picture(struct engine *g, uint8_t sha256[32], struct err *e)
{
    const struct engine_profile *p = engine_profile(g);
    struct gen     gen = {.n_steps = 1, .cfg_trunc = 1, .seed = 1, .noise = NOISE_TORCH_CUDA, .noise_threads = RNG_H100_THREADS};
    struct embed  *pos = NULL;
    struct latent *z = NULL;
    struct image   image = {0};
    const struct gen_hooks none = {0};
    int            rc;

    gen.width_px = gen.height_px = SIDE_PX / p->multiple_px * p->multiple_px;
    if ((rc = engine_encode(g, str_of("a white cat on a green mat"), &pos, e)) || (rc = engine_denoise(g, pos, NULL, &gen, &none, &z, e)) ||
        (rc = engine_decode(g, z, &image, e)))
        goto done;
    sha256_of(image.rgb, (size_t)image.width_px * (size_t)image.height_px * 3, sha256);
done:
    image_free(&image);
    latent_free(z);
    embed_free(pos);
    return rc;
}

int selftest_run(struct engine *g, uint8_t sha256[32], struct err *e)
{
    const struct engine_profile *p = engine_profile(g);
    uint8_t                      again[32];
    int                          rc;

    memset(sha256, 0, 32);
    if (strncmp(p->device, "cuda", 4) != 0 || p->multiple_px > SIDE_PX) return 0;
    if ((rc = picture(g, sha256, e)) || (rc = picture(g, again, e))) {
        err_in(e, "the device's self-test failed");
        return rc;
    }
    if (memcmp(sha256, again, sizeof again) != 0)
        return err_set(e, ERR_DEVICE, "%s paints two different pictures from one request: it miscomputes and is not used", p->device);
    return 0;
}

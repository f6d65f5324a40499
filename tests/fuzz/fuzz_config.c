/* fuzz_config.c - any bytes as a config of a component; the first byte says which. Oracle: what is accepted divides as the networks need. */
#include <stdlib.h>

#include "engine/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int yes)
{
    if (!yes)
        abort();
}

static int text(struct str json, struct err *e)
{
    struct text_conf c;
    int              rc = config_text(&c, json, "fuzz", e);
    if (!rc)
        must(c.head_dim >= 2 && c.head_dim % 2 == 0 && c.n_heads % c.n_kv_heads == 0 && c.n_layers >= 2 && c.hidden > 0 && c.ffn > 0 && c.vocab > 0);
    return rc;
}

static int dit(struct str json, struct err *e)
{
    struct dit_conf c;
    int             rc = config_dit(&c, json, "fuzz", e);
    if (!rc)
        must(c.dim == c.n_heads * c.head_dim && c.axes_dims[0] + c.axes_dims[1] + c.axes_dims[2] == c.head_dim && c.ffn > 0 && c.adaln_dim > 0);
    return rc;
}

static int vae(struct str json, struct err *e)
{
    struct vae_conf c;
    int             rc = config_vae(&c, json, "fuzz", e);
    for (int i = 0; !rc && i < c.n_levels; i++)
        must(c.channels[i] > 0 && c.channels[i] % c.n_groups == 0);
    return rc;
}

static int schedule(struct str json, struct err *e)
{
    struct schedule_conf c;
    float                sigma[5], t[4];
    int                  rc = config_schedule(&c, json, "fuzz", e);
    if (!rc && schedule_make(&c, 4, 1024, sigma, t, e) == 0)
        must(sigma[4] == 0);
    return rc;
}

static int model_index(struct str json, struct err *e)
{
    char hint[32];
    return config_index(hint, json, "fuzz", e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int (*const kind[])(struct str, struct err *) = { text, dit, vae, schedule, model_index };
    struct err e = { 0 };
    if (size < 1)
        return 0;
    if (kind[data[0] % 5]((struct str){ (const char *)data + 1, size - 1 }, &e))
        must(e.code && e.text[0]);
    return 0;
}

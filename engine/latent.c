/* latent.c - see latent.h. Not here: latent_new(), which knows the model's shapes (engine.c). */
#include "engine/latent.h"

#include <stdlib.h>
#include <string.h>

int latent_alloc(const int dim[3], struct latent **out, struct err *e)
{
    struct latent *z = calloc(1, sizeof *z);
    if (!z) return err_set(e, ERR_NOMEM, "no memory for a latent");
    memcpy(z->dim, dim, sizeof z->dim);
    if (!(z->values = malloc(latent_count(z) * sizeof *z->values))) {
        free(z);
        return err_set(e, ERR_NOMEM, "no memory for a latent [%d,%d,%d]", dim[0], dim[1], dim[2]);
    }
    *out = z;
    return 0;
}

size_t latent_count(const struct latent *z)
{
    return (size_t)z->dim[0] * (size_t)z->dim[1] * (size_t)z->dim[2];
}

int latent_get(const struct latent *z, int dim[3], const float **values, struct err *e)
{
    (void)e;
    memcpy(dim, z->dim, sizeof z->dim);
    *values = z->values;
    return 0;
}

void latent_free(struct latent *z)
{
    if (!z) return;
    free(z->values);
    free(z);
}

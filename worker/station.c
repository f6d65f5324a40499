/* station.c - see station.h. */
#include "worker/station.h"

#include <sched.h>
#include <string.h>

_Static_assert((int)RANK_TEXT == (int)ENGINE_TEXT && (int)RANK_IMAGE == (int)ENGINE_DIT && (int)RANK_VAE == (int)ENGINE_VAE,
               "parts of a rank on the wire are parts of an engine");

static int threads_of_process(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

/* CPU ranks compute at the same time: they share the machine's cores. */
static int share(const struct place *place, int n_threads)
{
    int n_cpu = 0, all = n_threads ? n_threads : threads_of_process();

    for (int i = 0; i < place_ranks(place); i++) n_cpu += strcmp(place_device(place, i), "cpu") == 0;
    return n_cpu < 2 ? n_threads : all > n_cpu ? all / n_cpu : 1;
}

void station_init(struct station *s, int index, const struct place *place, const char *device, int n_threads)
{
    *s = (struct station){.index = index, .device = place->n_image ? place_device(place, index) : device, .parts = (enum engine_part)place_parts(place, index),
                       .n_threads = share(place, n_threads), .linked = place_ranks(place) > 1};
}

int station_open(struct station *s, const struct engine_opts *o, struct err *e)
{
    struct engine_opts mine = *o;

    mine.device = s->device;
    mine.parts = s->parts;
    mine.n_threads = s->n_threads;
    return engine_open(&s->engine, &mine, e);
}

bool station_does(const struct station *s, enum station_work work)
{
    static const enum engine_part part[STATION_WORKS] = {ENGINE_TEXT, ENGINE_DIT, ENGINE_VAE};

    return (s->parts & part[work]) != 0;
}

static int encode(struct station *s, struct picture *p, const struct picture_hooks *hooks, struct err *e)
{
    int rc;

    hooks->on_stage(hooks->ctx, p, STAGE_TEXT, 0);
    rc = picture_encode(p, s->engine, e);
    return rc || !s->linked ? rc : picture_send(p, s->engine, e);
}

/* With the decoding when it is this rank's, too: the latent never leaves it. */
static int paint(struct station *s, struct picture *p, const struct picture_hooks *hooks, struct err *e)
{
    int rc;

    if (hooks->on_step(hooks->ctx, p, 0)) return err_set(e, ERR_CANCELED, "canceled");
    if (s->linked && (rc = picture_recv(p, s->engine, e))) return rc;
    if ((rc = picture_paint(p, s->engine, hooks, e))) return rc;
    if (!station_does(s, STATION_DECODE)) return engine_send_latent(s->engine, p->latent, p->ticket, e);
    hooks->on_stage(hooks->ctx, p, STAGE_DECODE, p->gen.n_steps);
    return picture_decode(p, s->engine, e);
}

static int decode(struct station *s, struct picture *p, const struct picture_hooks *hooks, struct err *e)
{
    int rc;

    hooks->on_stage(hooks->ctx, p, STAGE_DECODE, p->gen.n_steps);
    if ((rc = engine_recv_latent(s->engine, p->ticket, &p->latent, e))) return rc;
    engine_drop(s->engine, p->ticket);
    return picture_decode(p, s->engine, e);
}

int station_do(struct station *s, enum station_work work, struct picture *p, const struct picture_hooks *hooks, enum station_work *next, struct err *e)
{
    int rc;

    if (work == STATION_ENCODE) {
        *next = STATION_PAINT;
        rc = encode(s, p, hooks, e);
        if (rc) picture_drop(p);
        return rc;
    }
    *next = work == STATION_PAINT && !station_does(s, STATION_DECODE) ? STATION_DECODE : STATION_DONE;
    rc = work == STATION_PAINT ? paint(s, p, hooks, e) : decode(s, p, hooks, e);
    picture_drop(p); /* what the next rank needs is on its way */
    return rc;
}

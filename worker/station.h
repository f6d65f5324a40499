/* station.h - a device with its engine, and what it does with a picture: encode its prompts, paint it, decode it.
 *
 *   station_open(&s, &opts, &e);                         on the rank's own thread, as everything here
 *   station_do(&s, STATION_PAINT, p, &hooks, &next, &e);    next: the work that p needs now; STATION_DONE: its pixels are there
 *
 * Where other ranks go on with a picture (linked), embeddings are sent when they are made and received when they are painted, and latents the same
 * way, unless this rank decodes what it paints. Not here: who does what when (group.c). */
#ifndef WORKER_STATION_H
#define WORKER_STATION_H

#include "worker/picture.h"
#include "worker/place.h"

enum station_work { STATION_ENCODE, STATION_PAINT, STATION_DECODE, STATION_WORKS, STATION_DONE = STATION_WORKS };

struct station {
    int              index;
    const char      *device; /* as it was asked for; borrowed while it opens */
    enum engine_part parts;
    int              n_threads; /* of a CPU; 0: all */
    bool             linked;
    struct engine   *engine;    /* NULL: not open */
};

/* device: where everything goes without a placement. n_threads: of all CPU ranks together; 0: all that this process may use. */
void station_init(struct station *s, int index, const struct place *place, const char *device, int n_threads);
/* o: all but device, parts and threads. */
int  station_open(struct station *s, const struct engine_opts *o, struct err *e);
bool station_does(const struct station *s, enum station_work work);
int  station_do(struct station *s, enum station_work work, struct picture *p, const struct picture_hooks *hooks, enum station_work *next, struct err *e);

#endif

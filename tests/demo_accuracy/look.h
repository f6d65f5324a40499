/* look.h - what a person would name in a flat-design picture, found in its pixels alone.
 *
 *   struct look l; look_open(&l, &img);  look_sky(&l) -> "night"   look_find(&l, "red", things, 8) -> count   look_close(&l);
 *
 * It believes in colour words (hue, saturation, brightness), in connected patches and in where they lie; it has never seen
 * the painter of the training pictures nor its palette. Not here: captions, scores. */
#ifndef TESTS_DEMO_ACCURACY_LOOK_H
#define TESTS_DEMO_ACCURACY_LOOK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/png.h"

#define LOOK_THINGS_MAX 16

struct hsv { float h, s, v; }; /* 0..360, 0..1, 0..1 */

struct thing {
    int   x0, y0, x1, y1; /* box, last pixel included */
    int   area;
    float cx, cy;         /* centre of mass, shares of the width and height */
};

struct look {
    int         w, h, u;  /* u: the short side */
    const uint8_t *rgb;
    struct hsv *hsv;
    uint8_t    *mask;
    int        *todo;
    uint8_t   (*edge)[6]; /* per row: colour of the left and of the right margin */
};

int         look_open(struct look *l, const struct image *img); /* 0, or -1 when memory is short */
void        look_close(struct look *l);

const char *look_sky(const struct look *l);    /* day sunset night dawn pink purple yellow green red grey */
const char *look_ground(const struct look *l); /* meadow sand snow water */
bool        look_stars(struct look *l);
/* Things of a colour that stand out from the sky behind them, largest first. */
int         look_find(struct look *l, const char *colour, struct thing *out, int max);
const char *look_kind(const struct look *l, const struct thing *t); /* house robot cat boat balloon */
int         look_trees(struct look *l, float *cx);                  /* how many; cx: where they are on average */
bool        look_orb(struct look *l, bool sun, float *cx);          /* is there a sun (or a moon); where */

#endif

/* check.c - do painted pictures show what their captions ask? demo_accuracy WANT.jsonl DIR [--shuffle N] [--verbose] [--floor]
 *
 * Reads DIR/000.png, 001.png ... in the order of the lines, looks (look.h) for each attribute a line names, and prints a table. --shuffle N holds each picture against the caption N lines on: the control, which must score near chance.
 * --floor ends with 1 unless 95 % of the colours and times of day and 90 % of the objects and places are right.
 * A line without its picture is an error. It believes nothing of how the pictures were made. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "look.h"

enum { SKY, GROUND, COLOUR, KIND, PLACE, COUNT, TREES, TREE_PLACE, ORB, ORB_PLACE, STARS, ROWS };
static const char *ROW_NAMES[ROWS] = {"time of day, sky", "ground", "colour of an object", "kind of an object", "place of an object", "how many objects",
                                      "how many trees", "place of a tree", "sun or moon", "place of sun or moon", "stars"};
static int asked[ROWS], right[ROWS];
static bool verbose;

static void score(int row, bool ok, int line, const char *want, const char *got)
{
    asked[row]++;
    right[row] += ok;
    if (verbose && !ok) printf("%03d: %s: wanted %s, saw %s\n", line, ROW_NAMES[row], want, got);
}

static bool at_place(const char *place, float cx)
{
    if (!strcmp(place, "left")) return cx < 0.40f;
    if (!strcmp(place, "right")) return cx > 0.60f;
    return cx > 0.36f && cx < 0.64f;
}

static const char *text_at(json_t *a, size_t i) { return json_string_value(json_array_get(a, i)); }

static void check_objects(struct look *l, json_t *list, int line)
{
    size_t i;
    json_t *o;
    json_array_foreach(list, i, o)
    {
        const char *kind = text_at(o, 0), *colour = text_at(o, 1), *place = text_at(o, 2);
        struct thing t[LOOK_THINGS_MAX];
        int n = look_find(l, colour, t, LOOK_THINGS_MAX), best = 0;
        for (int k = 0; k < n; k++)
            if (!strcmp(look_kind(l, &t[k]), kind)) {
                best = k;
                break;
            }
        bool there = n > 0 && t[best].area * 330 > l->w * l->h;
        char got[64];
        snprintf(got, sizeof got, "%s at %.2f", there ? look_kind(l, &t[best]) : "nothing", there ? (double)t[best].cx : -1.0);
        score(COLOUR, there, line, colour, got);
        score(KIND, there && !strcmp(look_kind(l, &t[best]), kind), line, kind, got);
        if (place) score(PLACE, there && at_place(place, t[best].cx), line, place, got);
    }
}

static void check_group(struct look *l, json_t *g, int line)
{
    const char *kind = text_at(g, 0), *colour = text_at(g, 1);
    int want = (int)json_integer_value(json_array_get(g, 2)), same = 0;
    struct thing t[LOOK_THINGS_MAX];
    int n = look_find(l, colour, t, LOOK_THINGS_MAX);
    for (int i = 0; i < n; i++) same += !strcmp(look_kind(l, &t[i]), kind);
    bool there = n > 0 && t[0].area * 600 > l->w * l->h;
    char a[64], b[64];
    snprintf(a, sizeof a, "%d %s %s", want, colour, kind);
    snprintf(b, sizeof b, "%d, %d of that kind", n, same);
    score(COLOUR, there, line, a, b);
    score(KIND, there && same * 2 > n, line, a, b);
    score(COUNT, n == want, line, a, b);
}

static void check_one(struct look *l, json_t *want, int line)
{
    json_t *v;
    float cx;
    if ((v = json_object_get(want, "sky"))) score(SKY, !strcmp(look_sky(l), json_string_value(v)), line, json_string_value(v), look_sky(l));
    if ((v = json_object_get(want, "ground"))) score(GROUND, !strcmp(look_ground(l), json_string_value(v)), line, json_string_value(v), look_ground(l));
    if ((v = json_object_get(want, "objects"))) check_objects(l, v, line);
    if ((v = json_object_get(want, "group"))) check_group(l, v, line);
    if (json_is_true(json_object_get(want, "stars"))) score(STARS, look_stars(l), line, "stars", "none");
    if ((v = json_object_get(want, "trees"))) {
        int n = look_trees(l, &cx), k = (int)json_integer_value(json_array_get(v, 0));
        const char *place = text_at(v, 1);
        char a[32], b[32];
        snprintf(a, sizeof a, "%d", k);
        snprintf(b, sizeof b, "%d at %.2f", n, (double)cx);
        score(TREES, n == k, line, a, b);
        if (place) score(TREE_PLACE, n > 0 && at_place(place, cx), line, place, b);
    }
    if ((v = json_object_get(want, "orb"))) {
        const char *what = text_at(v, 0), *place = text_at(v, 1);
        bool there = look_orb(l, !strcmp(what, "sun"), &cx);
        char b[32];
        snprintf(b, sizeof b, there ? "it at %.2f" : "none", (double)(there ? cx : 0));
        score(ORB, there, line, what, b);
        if (place) score(ORB_PLACE, there && at_place(place, cx), line, place, b);
    }
}

static int picture_open(const char *dir, int line, struct image *img)
{
    char path[1200];
    struct buf bytes;
    struct err e = {0};
    size_t none = 0;
    snprintf(path, sizeof path, "%s/%03d.png", dir, line);
    buf_init(&bytes, 64u << 20);
    int rc = file_read(path, &bytes, &e);
    if (!rc && (rc = png_read(buf_str(&bytes), img, NULL, &none, &e))) err_in(&e, "%s", path);
    if (rc) fprintf(stderr, "%s\n", e.text);
    buf_release(&bytes);
    return rc;
}

static double percent(int from, int to)
{
    int n = 0, k = 0;
    for (int r = from; r <= to; r++) {
        n += asked[r];
        k += right[r];
    }
    return n ? 100.0 * k / n : 100.0;
}

int main(int argc, char **argv)
{
    int64_t shuffle = 0;
    int n = 0;
    bool floor_asked = false;
    if (argc < 3) {
        fprintf(stderr, "usage: demo_accuracy WANT.jsonl DIR [--shuffle N] [--verbose] [--floor]\n");
        return 2;
    }
    for (int i = 3; i < argc; i++) {
        if (!strcmp(argv[i], "--verbose")) verbose = true;
        else if (!strcmp(argv[i], "--floor")) floor_asked = true;
        else if (!strcmp(argv[i], "--shuffle") && i + 1 < argc) {
            if (str_to_i64(str_of(argv[++i]), &shuffle) || shuffle < 0) {
                fprintf(stderr, "--shuffle takes a number of lines, not %s\n", argv[i]);
                return 2;
            }
        } else {
            fprintf(stderr, "unknown option %s\n", argv[i]);
            return 2;
        }
    }
    FILE *f = fopen(argv[1], "r");
    if (!f) {
        fprintf(stderr, "%s cannot be opened\n", argv[1]);
        return 2;
    }
    static json_t *want[4096];
    static char line[16384];
    while (n < 4096 && fgets(line, sizeof line, f)) {
        json_error_t je;
        if (!(want[n++] = json_loads(line, 0, &je))) {
            fprintf(stderr, "%s line %d is not JSON: %s\n", argv[1], n, je.text);
            return 2;
        }
    }
    fclose(f);
    for (int i = 0; i < n; i++) {
        struct image img = {0};
        struct look l;
        if (picture_open(argv[2], i, &img)) return 2;
        if (look_open(&l, &img)) {
            fprintf(stderr, "there is not enough memory to look at picture %d\n", i);
            return 2;
        }
        check_one(&l, want[(i + shuffle) % n], i);
        look_close(&l);
        image_free(&img);
    }
    for (int i = 0; i < n; i++) json_decref(want[i]);
    for (int r = 0; r < ROWS; r++)
        if (asked[r]) printf("%-24s %4d of %4d  %5.1f %%\n", ROW_NAMES[r], right[r], asked[r], 100.0 * right[r] / asked[r]);
    double colours = percent(SKY, COLOUR), objects = percent(KIND, STARS);
    printf("colours and times of day %5.1f %%   objects, counts and places %5.1f %%   (%d pictures%s)\n", colours, objects, n, shuffle ? ", captions shuffled" : "");
    return floor_asked && (colours < 95.0 || objects < 90.0);
}

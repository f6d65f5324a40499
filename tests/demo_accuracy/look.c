/* look.c - see look.h. Thresholds are readings of the words: "night" is dark, "pink" is a pale red that leans to purple, and so on. */
#include "look.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct hsv hsv_of(const uint8_t *p)
{
    float r = p[0] / 255.0f, g = p[1] / 255.0f, b = p[2] / 255.0f;
    float hi = fmaxf(r, fmaxf(g, b)), lo = fminf(r, fminf(g, b)), d = hi - lo;
    struct hsv c = {0, hi > 0 ? d / hi : 0, hi};
    if (d > 0) {
        c.h = hi == r ? (g - b) / d : hi == g ? 2 + (b - r) / d : 4 + (r - g) / d;
        c.h = c.h < 0 ? c.h * 60 + 360 : c.h * 60;
    }
    return c;
}

static bool hue_in(float h, float from, float to) { return from <= to ? h >= from && h <= to : h >= from || h <= to; }

static int byte_cmp(const void *a, const void *b) { return *(const uint8_t *)a - *(const uint8_t *)b; }

/* Median colour of a rectangle (at most 4096 samples of it). */
static void median_rgb(const struct look *l, int x0, int y0, int x1, int y1, uint8_t out[3])
{
    static uint8_t v[3][4096];
    int n = 0, total = (x1 - x0 + 1) * (y1 - y0 + 1), step = total / 4096 + 1;
    for (int i = 0; i < total && n < 4096; i += step, n++) {
        const uint8_t *p = l->rgb + 3 * ((size_t)(y0 + i / (x1 - x0 + 1)) * l->w + x0 + i % (x1 - x0 + 1));
        for (int c = 0; c < 3; c++) v[c][n] = p[c];
    }
    for (int c = 0; c < 3; c++) {
        qsort(v[c], (size_t)n, 1, byte_cmp);
        out[c] = v[c][n / 2];
    }
}

/* Colour of a band of the sky: of the whole band, its left and its right margin, the one that agrees best with the others
 * (balloons and peaks cover the middle, clouds a margin). */
static struct hsv band(const struct look *l, float y0, float y1)
{
    uint8_t p[3][3];
    int a = (int)(y0 * (float)l->h), b = (int)(y1 * (float)l->h) - 1, m = l->w / 14, best = 0, least = 1 << 20;
    median_rgb(l, 0, a, l->w - 1, b, p[0]);
    median_rgb(l, 0, a, m, b, p[1]);
    median_rgb(l, l->w - 1 - m, a, l->w - 1, b, p[2]);
    for (int k = 0; k < 3; k++) {
        int off = 1 << 20;
        for (int o = 0; o < 3; o++) {
            int d = 0;
            for (int c = 0; c < 3; c++) d += abs(p[k][c] - p[o][c]);
            if (o != k && d < off) off = d;
        }
        if (off < least) {
            least = off;
            best = k;
        }
    }
    return hsv_of(p[best]);
}

static struct hsv median(const struct look *l, float y0, float y1)
{
    uint8_t p[3];
    median_rgb(l, 0, (int)(y0 * (float)l->h), l->w - 1, (int)(y1 * (float)l->h) - 1, p);
    return hsv_of(p);
}

int look_open(struct look *l, const struct image *img)
{
    size_t n = (size_t)img->width_px * img->height_px;
    memset(l, 0, sizeof *l);
    l->w = img->width_px;
    l->h = img->height_px;
    l->u = l->w < l->h ? l->w : l->h;
    l->rgb = img->rgb;
    l->hsv = malloc(n * sizeof *l->hsv);
    l->mask = malloc(n);
    l->todo = malloc(n * sizeof *l->todo);
    l->edge = malloc((size_t)l->h * sizeof *l->edge);
    if (!l->hsv || !l->mask || !l->todo || !l->edge) {
        look_close(l);
        return -1;
    }
    for (size_t i = 0; i < n; i++) l->hsv[i] = hsv_of(img->rgb + 3 * i);
    int m = l->w / 34 + 2;
    for (int y = 0; y < l->h; y++) {
        median_rgb(l, 0, y, m - 1, y, l->edge[y]);
        median_rgb(l, l->w - m, y, l->w - 1, y, l->edge[y] + 3);
    }
    return 0;
}

void look_close(struct look *l)
{
    free(l->hsv);
    free(l->mask);
    free(l->todo);
    free(l->edge);
    memset(l, 0, sizeof *l);
}

/* Largest difference of a channel to the margin that is nearer in colour. */
static int apart(const struct look *l, int x, int y)
{
    const uint8_t *p = l->rgb + 3 * ((size_t)y * l->w + x), *e = l->edge[y];
    int best = 255;
    for (int k = 0; k < 2; k++) {
        int d = 0;
        for (int c = 0; c < 3; c++) d = abs(p[c] - e[3 * k + c]) > d ? abs(p[c] - e[3 * k + c]) : d;
        best = d < best ? d : best;
    }
    return best;
}

/* Connected patches of the mask with at least min pixels, largest first; the mask is used up. */
static int patches(struct look *l, int min, struct thing *out, int max)
{
    int found = 0;
    for (int s = 0; s < l->w * l->h; s++) {
        if (!l->mask[s]) continue;
        struct thing t = {l->w, l->h, 0, 0, 0, 0, 0};
        double sx = 0, sy = 0;
        int n = 0;
        l->todo[n++] = s;
        l->mask[s] = 0;
        while (n) {
            int i = l->todo[--n], x = i % l->w, y = i / l->w;
            t.area++;
            sx += x;
            sy += y;
            t.x0 = x < t.x0 ? x : t.x0;
            t.x1 = x > t.x1 ? x : t.x1;
            t.y0 = y < t.y0 ? y : t.y0;
            t.y1 = y > t.y1 ? y : t.y1;
            for (int dy = -1; dy <= 1; dy++)
                for (int dx = -1; dx <= 1; dx++) {
                    int X = x + dx, Y = y + dy, k = Y * l->w + X;
                    if (X < 0 || Y < 0 || X >= l->w || Y >= l->h || !l->mask[k]) continue;
                    l->mask[k] = 0;
                    l->todo[n++] = k;
                }
        }
        if (t.area < min) continue;
        t.cx = (float)(sx / t.area / l->w);
        t.cy = (float)(sy / t.area / l->h);
        int at = found < max ? found++ : max;
        if (at == max && t.area <= out[max - 1].area) continue;
        if (at == max) at--;
        while (at > 0 && out[at - 1].area < t.area) {
            out[at] = out[at - 1];
            at--;
        }
        out[at] = t;
    }
    return found;
}

const char *look_sky(const struct look *l)
{
    struct hsv top = band(l, 0.0f, 0.05f), mid = band(l, 0.22f, 0.30f), low = band(l, 0.36f, 0.42f);
    if (top.v < 0.40f && mid.v < 0.50f && hue_in(mid.h, 200, 270)) return "night";
    if (top.s < 0.20f && mid.s < 0.20f) return "grey";
    if (hue_in(top.h, 240, 335) && mid.s > 0.45f && (hue_in(mid.h, 3, 45) || hue_in(low.h, 8, 50)) && mid.v > 0.6f) return "sunset";
    if (hue_in(top.h, 205, 275) && top.s < 0.55f && (hue_in(mid.h, 300, 30) || hue_in(low.h, 300, 40))) return "dawn";
    if (hue_in(mid.h, 340, 16) && mid.s > 0.55f) return "red";
    if (hue_in(mid.h, 36, 62)) return "yellow";
    if (hue_in(mid.h, 125, 180)) return "green";
    if (hue_in(mid.h, 180, 240)) return "day";
    if (hue_in(mid.h, 241, 298)) return "purple";
    if (hue_in(mid.h, 299, 350)) return "pink";
    return "none";
}

const char *look_ground(const struct look *l)
{
    struct hsv c = median(l, 0.90f, 1.0f);
    bool dark = !strcmp(look_sky(l), "night");
    if (hue_in(c.h, 65, 150) && c.s > 0.40f) return "meadow";
    if (hue_in(c.h, 12, 60) && c.s > 0.22f && (c.v > 0.62f || dark)) return "sand";
    if (dark ? c.v > 0.58f : c.v > 0.74f && c.s < 0.28f) return "snow";
    return "water";
}

bool look_stars(struct look *l)
{
    struct thing t[64];
    memset(l->mask, 0, (size_t)l->w * l->h);
    for (int y = 0; y < l->h / 2; y++)
        for (int x = 0; x < l->w; x++) {
            float sky = fmaxf(l->edge[y][2], l->edge[y][5]) / 255.0f;
            l->mask[y * l->w + x] = l->hsv[y * l->w + x].v > fminf(sky, 0.55f) + 0.22f;
        }
    int n = patches(l, 1, t, 64), stars = 0;
    for (int i = 0; i < n; i++) stars += t[i].area * 1000 < l->u * l->u && t[i].x1 - t[i].x0 < l->u / 20 + 2;
    return stars >= 5;
}

static bool coloured(struct hsv c, const char *name, bool dark)
{
    if (!strcmp(name, "red")) return hue_in(c.h, 347, 14) && c.s > 0.60f && c.v > 0.45f;
    if (!strcmp(name, "orange")) return hue_in(c.h, 16, 41) && c.s > 0.74f && c.v > 0.55f;
    if (!strcmp(name, "yellow")) return hue_in(c.h, 41, 62) && c.s > 0.66f && c.v > 0.55f;
    if (!strcmp(name, "green")) return hue_in(c.h, 128, 168) && c.s > 0.60f && c.v > (dark ? 0.45f : 0.55f);
    if (!strcmp(name, "blue")) return hue_in(c.h, 213, 248) && c.s > 0.62f && c.v > 0.55f;
    if (!strcmp(name, "purple")) return hue_in(c.h, 255, 298) && c.s > 0.42f && c.v > 0.52f;
    if (!strcmp(name, "pink")) return hue_in(c.h, 303, 346) && c.s > 0.30f && c.v > 0.62f;
    return !strcmp(name, "white") && c.s < (dark ? 0.24f : 0.17f) && c.v > (dark ? 0.72f : 0.86f);
}

static void thing_join(const struct look *l, struct thing *a, const struct thing *b)
{
    (void)l;
    float n = (float)(a->area + b->area);
    a->cx = (a->cx * (float)a->area + b->cx * (float)b->area) / n;
    a->cy = (a->cy * (float)a->area + b->cy * (float)b->area) / n;
    a->x0 = b->x0 < a->x0 ? b->x0 : a->x0;
    a->y0 = b->y0 < a->y0 ? b->y0 : a->y0;
    a->x1 = b->x1 > a->x1 ? b->x1 : a->x1;
    a->y1 = b->y1 > a->y1 ? b->y1 : a->y1;
    a->area += b->area;
}

int look_find(struct look *l, const char *colour, struct thing *out, int max)
{
    bool dark = !strcmp(look_sky(l), "night"), white = !strcmp(colour, "white");
    int horizon = l->h * 62 / 100;
    for (int y = 0; y < l->h; y++)
        for (int x = 0; x < l->w; x++)
            l->mask[y * l->w + x] = coloured(l->hsv[y * l->w + x], colour, dark) && (y > horizon || apart(l, x, y) > 34);
    struct thing t[40];
    int n = patches(l, l->u * l->u / 1400 + 3, t, 40), found = 0;
    for (int i = 0; i < n; i++) { /* what spans the picture is sky, ground or water; clouds, sails and snow caps are not things */
        bool wide = t[i].x1 - t[i].x0 > l->w * 82 / 100, flat = t[i].x1 - t[i].x0 > 12 * (t[i].y1 - t[i].y0 + 1);
        bool cloud = white && t[i].y1 < l->h / 2 && (t[i].x1 - t[i].x0) * 10 > (t[i].y1 - t[i].y0) * 14;
        if (wide || flat || cloud) t[i--] = t[--n];
    }
    for (int i = 0; i < n; i++) /* a head and its body are one thing */
        for (int k = 0; k < n; k++) {
            if (k == i || (white && (t[i].cy < 0.5f || t[k].cy < 0.5f))) continue;
            int lo = t[i].x0 > t[k].x0 ? t[i].x0 : t[k].x0, hi = t[i].x1 < t[k].x1 ? t[i].x1 : t[k].x1;
            int less = t[i].x1 - t[i].x0 < t[k].x1 - t[k].x0 ? t[i].x1 - t[i].x0 : t[k].x1 - t[k].x0;
            int gap = (t[i].y0 > t[k].y0 ? t[i].y0 : t[k].y0) - (t[i].y1 < t[k].y1 ? t[i].y1 : t[k].y1);
            if (hi - lo < less * 6 / 10 || gap > l->u / 18) continue;
            thing_join(l, &t[i], &t[k]);
            t[k] = t[--n];
            i = -1;
            break;
        }
    for (int i = 0; i < n; i++)
        for (int k = i + 1; k < n; k++)
            if (t[k].area > t[i].area) {
                struct thing s = t[i];
                t[i] = t[k];
                t[k] = s;
            }
    for (int i = 0; i < n && found < max; i++)
        if (t[i].area * 100 >= t[0].area * 25) out[found++] = t[i];
    return found;
}

/* Share of the pixels of a box for which the test holds; the box is cut at the picture's edges. */
static float share(const struct look *l, int x0, int y0, int x1, int y1, bool (*test)(struct hsv))
{
    int n = 0, yes = 0;
    for (int y = y0 < 0 ? 0 : y0; y <= y1 && y < l->h; y++)
        for (int x = x0 < 0 ? 0 : x0; x <= x1 && x < l->w; x++, n++) yes += test(l->hsv[y * l->w + x]);
    return n ? (float)yes / (float)n : 0;
}

static bool is_roof(struct hsv c) { return c.v > 0.12f && c.v < 0.44f && c.s < 0.42f && !hue_in(c.h, 195, 250); }
static bool is_sail(struct hsv c) { return c.v > 0.62f && c.s < 0.26f; }
static bool is_eye(struct hsv c) { return hue_in(c.h, 172, 200) && c.s > 0.28f && c.v > 0.50f; }
static bool is_night(struct hsv c) { return c.v < 0.36f; }
static bool is_visor(struct hsv c) { return c.v < 0.36f && c.s < 0.62f && (c.s < 0.30f || hue_in(c.h, 185, 275)); }

const char *look_kind(const struct look *l, const struct thing *t)
{
    int w = t->x1 - t->x0 + 1, h = t->y1 - t->y0 + 1, mx = (t->x0 + t->x1) / 2;
    if (t->cy < 0.46f && t->y1 < l->h * 60 / 100) return "balloon";
    bool sail = share(l, mx - w / 3, t->y0 - w / 2, mx + w / 3, t->y0 - w / 12, is_sail) > 0.30f;
    if (w > h * 26 / 10 || (w > h * 19 / 10 && sail)) return "boat";
    if (share(l, mx - w / 5, t->y0 - w / 4, mx + w / 5, t->y0 - 2, is_roof) > 0.45f && w > h) return "house";
    if (share(l, mx - w / 5, t->y0 + h / 8, mx + w / 5, t->y0 + h * 36 / 100, is_visor) > 0.24f) return "robot";
    int from = t->y0 - w * 8 / 10; /* a head whose colour was read as another: eyes of light in a dark face */
    if (share(l, t->x0, from, t->x1, t->y0 + h * 45 / 100, is_eye) > 0.006f && share(l, mx - w / 4, from, mx + w / 4, t->y0 + h * 40 / 100, is_night) > 0.06f) return "robot";
    /* a white hull with its white sails: narrow on top, wide below */
    if (share(l, t->x0, t->y0 + h / 8, t->x1, t->y0 + h / 4, is_sail) < 0.34f && share(l, t->x0, t->y1 - h / 7, t->x1, t->y1, is_sail) > 0.5f) return "boat";
    return w > h * 125 / 100 ? "house" : "cat";
}

/* Peaks of a skyline top[x0..x1] (smaller is higher) that stand at least rise above the dips beside them. */
static int peaks(const int *top, int n, int rise)
{
    int count = 0, hi = top[0], lo = top[0];
    bool up = true; /* looking for a peak */
    for (int i = 1; i < n; i++) {
        if (up) {
            hi = top[i] < hi ? top[i] : hi;
            if (top[i] > hi + rise) {
                count++;
                up = false;
                lo = top[i];
            }
        } else {
            lo = top[i] > lo ? top[i] : lo;
            if (top[i] < lo - rise) {
                up = true;
                hi = top[i];
            }
        }
    }
    return count + up;
}

static bool is_leaf(struct hsv c, bool dark) { return hue_in(c.h, 116, 174) && c.s > 0.48f && c.v < (dark ? 0.46f : 0.56f) && c.v > 0.12f; }

int look_trees(struct look *l, float *cx)
{
    struct thing t[LOOK_THINGS_MAX];
    int below = l->h * 72 / 100, count = 0;
    bool dark = !strcmp(look_sky(l), "night");
    float sum = 0;
    for (int y = 0; y < l->h; y++)
        for (int x = 0; x < l->w; x++) l->mask[y * l->w + x] = y > l->h / 5 && y < below && is_leaf(l->hsv[y * l->w + x], dark);
    int n = patches(l, l->u * l->u / 420, t, LOOK_THINGS_MAX), *top = malloc((size_t)l->w * sizeof *top);
    for (int i = 0; i < n && top; i++) {
        int h = t[i].y1 - t[i].y0 + 1, w = t[i].x1 - t[i].x0 + 1;
        if (w > l->w * 82 / 100 || h < l->u / 14) continue;
        for (int x = t[i].x0; x <= t[i].x1; x++) {
            int y = t[i].y0;
            while (y < t[i].y1 && !is_leaf(l->hsv[y * l->w + x], dark)) y++;
            top[x - t[i].x0] = y;
        }
        int k = peaks(top, w, h * 3 / 10);
        count += k;
        sum += t[i].cx * (float)k;
    }
    free(top);
    *cx = count ? sum / (float)count : 0.5f;
    return count;
}

bool look_orb(struct look *l, bool sun, float *cx)
{
    struct thing t[LOOK_THINGS_MAX];
    bool gold = !strcmp(look_sky(l), "yellow"), dark = !strcmp(look_sky(l), "night");
    for (int least = gold ? 16 : 26; least < 90; least += 13) { /* a halo may hide the rim: ask for more and more contrast */
        for (int y = 0; y < l->h; y++)
            for (int x = 0; x < l->w; x++) {
                struct hsv c = l->hsv[y * l->w + x];
                bool warm = y < l->h * 55 / 100 && c.v > 0.86f && hue_in(c.h, 20, 75) && apart(l, x, y) > least;
                l->mask[y * l->w + x] = warm && (sun ? (gold ? c.s < 0.34f : c.s > 0.25f) && c.s < 0.74f && !dark : c.s > 0.06f && c.s < 0.34f);
            }
        int n = patches(l, l->u * l->u / 260, t, LOOK_THINGS_MAX);
        for (int i = 0; i < n; i++) {
            int w = t[i].x1 - t[i].x0 + 1, h = t[i].y1 - t[i].y0 + 1;
            if (w > l->u * 27 / 100 || h > l->u * 27 / 100 || w * 10 < h * 4 || w * 10 > h * (sun ? 28 : 18)) continue;
            *cx = t[i].cx;
            return true;
        }
    }
    return false;
}

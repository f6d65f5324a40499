/* draw.cu: the painter of the training pictures. It believes a scene is a list of flat-coloured primitives, back to
 * front, and that one pixel can be computed alone; so the same text is compiled by nvcc (a thread per pixel) and by
 * a C compiler (a loop, `cc -x c`). Coordinates: the short side of the picture is 1, x to the right, y down.
 * It knows nothing of captions or of what a primitive depicts. */
#include <math.h>
#include <stdint.h>
#ifdef __CUDACC__
#define FN static __device__ __forceinline__
#else
#define FN static inline
#endif

#define PRIM 28 /* floats in a primitive: kind, r, g, b, alpha, then its own numbers from index 5 */
enum { SKY, DISC, BOX, POLY, RIDGE, CRESCENT, ELLIPSE, STARS, WATER, SEGMENT, FLOWERS, GLOW, CLOUD, PEAKS };

typedef struct { float r, g, b; } rgb;
FN rgb rgb_of(float r, float g, float b) { rgb c; c.r = r; c.g = g; c.b = b; return c; }

FN float clamp01(float v) { return v < 0 ? 0 : v > 1 ? 1 : v; }
FN float mix1(float a, float b, float t) { return a + (b - a) * t; }
FN float smooth01(float t) { t = clamp01(t); return t * t * (3 - 2 * t); }
FN float hash1(int32_t x, int32_t y, int32_t seed) {
    uint32_t h = (uint32_t)x * 0x9E3779B1u ^ (uint32_t)y * 0x85EBCA77u ^ (uint32_t)seed * 0xC2B2AE3Du;
    h ^= h >> 15; h *= 0x2C1B3C6Du; h ^= h >> 12; h *= 0x297A2D39u; h ^= h >> 15;
    return (float)(h >> 8) * (1.0f / 16777216.0f);
}
FN void over(rgb *c, float r, float g, float b, float a) {
    c->r = mix1(c->r, r, a); c->g = mix1(c->g, g, a); c->b = mix1(c->b, b, a);
}
/* coverage of a shape from its signed distance d (negative inside), s pixels per unit */
FN float cover(float d, float s) { return clamp01(0.5f - d * s); }

FN float dist_poly(const float *p, float x, float y) { /* convex, corners in screen-clockwise order; p[0] = corners */
    int n = (int)p[0];
    float d = -1e9f;
    for (int i = 0; i < n; i++) {
        int j = i + 1 == n ? 0 : i + 1;
        float ex = p[1 + 2 * j] - p[1 + 2 * i], ey = p[2 + 2 * j] - p[2 + 2 * i], l = sqrtf(ex * ex + ey * ey);
        if (l < 1e-6f) continue;
        float e = ((x - p[1 + 2 * i]) * ey - (y - p[2 + 2 * i]) * ex) / l;
        d = e > d ? e : d;
    }
    return d;
}
FN float dist_cloud(const float *p, float x, float y) {
    float d = 1e9f, w = p[2];
    for (int i = 0; i < 5; i++) {
        float t = (i - 2) * 0.5f, r = w * (0.36f - 0.07f * (i - 2) * (i - 2) + 0.16f * hash1(i, 3, (int)p[3]));
        float dx = x - p[0] - t * w, dy = y - p[1] + r * 0.35f, e = sqrtf(dx * dx + dy * dy) - r;
        d = e < d ? e : d;
    }
    float flat = y - p[1] - 0.02f;
    return d > flat ? d : flat;
}

FN void paint(const float *q, float x, float y, float s, rgb *c) {
    const float *p = q + 5;
    float a = q[4], d = 1e9f, r = q[1], g = q[2], b = q[3];
    switch ((int)q[0]) {
    case SKY: { /* p: middle rgb, bottom rgb, y of middle, y of bottom */
        float t = y / p[6];
        if (t < 1) { t = smooth01(t); *c = rgb_of(mix1(r, p[0], t), mix1(g, p[1], t), mix1(b, p[2], t)); }
        else { t = smooth01((y - p[6]) / (p[7] - p[6])); *c = rgb_of(mix1(p[0], p[3], t), mix1(p[1], p[4], t), mix1(p[2], p[5], t)); }
        return; }
    case DISC: { float dx = x - p[0], dy = y - p[1]; d = sqrtf(dx * dx + dy * dy) - p[2]; break; }
    case GLOW: { float dx = x - p[0], dy = y - p[1], t = clamp01(1 - sqrtf(dx * dx + dy * dy) / p[2]); over(c, r, g, b, a * t * t); return; }
    case BOX: {
        float dx = x - p[0], dy = y - p[1], u = fabsf(dx * p[5] + dy * p[6]) - p[2] + p[4], v = fabsf(dy * p[5] - dx * p[6]) - p[3] + p[4];
        float ux = u > 0 ? u : 0, vy = v > 0 ? v : 0, in = u > v ? u : v;
        d = sqrtf(ux * ux + vy * vy) + (in < 0 ? in : 0) - p[4];
        break; }
    case POLY: d = dist_poly(p, x, y); break;
    case ELLIPSE: {
        float dx = x - p[0], dy = y - p[1], u = (dx * p[4] + dy * p[5]) / p[2], v = (dy * p[4] - dx * p[5]) / p[3], k = sqrtf(u * u + v * v);
        float gu = u / p[2], gv = v / p[3], gl = sqrtf(gu * gu + gv * gv);
        d = gl > 1e-6f ? k * (k - 1) / gl : -1;
        break; }
    case SEGMENT: {
        float ex = p[2] - p[0], ey = p[3] - p[1], fx = x - p[0], fy = y - p[1];
        float t = clamp01((fx * ex + fy * ey) / (ex * ex + ey * ey + 1e-9f)), dx = fx - ex * t, dy = fy - ey * t;
        d = sqrtf(dx * dx + dy * dy) - p[4];
        break; }
    case CRESCENT: {
        float dx = x - p[0], dy = y - p[1], ex = dx - p[3], ey = dy - p[4];
        float e = sqrtf(dx * dx + dy * dy) - p[2], f = p[2] * 0.86f - sqrtf(ex * ex + ey * ey);
        d = e > f ? e : f;
        break; }
    case CLOUD: d = dist_cloud(p, x, y); break;
    case RIDGE: { /* rolling ground: base, amp, freq, phase, amp2, freq2, phase2, bottom rgb, depth of the gradient */
        float top = p[0] - p[1] * sinf(p[2] * x + p[3]) - p[4] * sinf(p[5] * x + p[6]), t = smooth01((y - top) / p[10]);
        d = (top - y) * 0.9f;
        r = mix1(r, p[7], t); g = mix1(g, p[8], t); b = mix1(b, p[9], t);
        break; }
    case PEAKS: { /* mountains: base, height, pitch, offset, seed, snow share, foot rgb */
        float best = -1e9f, side = 0, depth = 0, tall = 0, sl = 1;
        int k0 = (int)floorf((x - p[3]) / p[2]);
        for (int k = k0 - 2; k <= k0 + 2; k++) {
            float h = p[1] * (0.5f + 0.5f * hash1(k, 1, (int)p[4])), px = p[3] + p[2] * (k + 0.2f + 0.6f * hash1(k, 2, (int)p[4]));
            float slope = 0.75f + 0.35f * hash1(k, 5, (int)p[4]), e = h - slope * fabsf(x - px);
            if (e > best) { best = e; side = x - px; depth = h - (p[0] - y); tall = h; sl = slope; }
        }
        float top = p[0] - best, cov = cover((top - y) / sqrtf(1 + sl * sl), s) * a;
        if (cov <= 0) return;
        float t = smooth01((y - top) / (tall + 0.05f)), lit = clamp01(0.5f + side * s);
        float kr = mix1(r, p[6], t) * (1.06f - 0.16f * lit), kg = mix1(g, p[7], t) * (1.06f - 0.16f * lit), kb = mix1(b, p[8], t) * (1.06f - 0.13f * lit);
        if (p[5] > 0) {
            float zig = fabsf(x * 14 - floorf(x * 14) - 0.5f) * 0.055f, edge = tall * p[5] + zig, w = cover(depth - edge, s);
            float lum = 0.97f - 0.12f * lit, tone = p[9];
            kr = mix1(kr, lum * tone, w); kg = mix1(kg, lum * tone, w); kb = mix1(kb, (lum + 0.03f) * (tone * 0.8f + 0.2f), w);
        }
        over(c, kr, kg, kb, cov);
        return; }
    case STARS: { /* cell, share of cells, lowest y, seed */
        if (y > p[2]) return;
        int cx = (int)floorf(x / p[0]), cy = (int)floorf(y / p[0]);
        if (hash1(cx, cy, (int)p[3]) > p[1]) return;
        float rad = 0.0045f + 0.0055f * hash1(cx, cy, (int)p[3] + 1), m = rad / p[0];
        float sx = (cx + m + (1 - 2 * m) * hash1(cx, cy, (int)p[3] + 2)) * p[0], sy = (cy + m + (1 - 2 * m) * hash1(cx, cy, (int)p[3] + 3)) * p[0];
        d = sqrtf((x - sx) * (x - sx) + (y - sy) * (y - sy)) - rad;
        break; }
    case FLOWERS: { /* first y, last y, share, seed: dots that grow toward the viewer */
        if (y < p[0]) return;
        float cell = 0.075f;
        int cx = (int)floorf(x / cell), cy = (int)floorf(y / cell);
        if (hash1(cx, cy, (int)p[3]) > p[2]) return;
        float near = clamp01((cy * cell - p[0]) / (p[1] - p[0] + 1e-3f)), rad = 0.007f + 0.009f * near, m = rad / cell;
        float sx = (cx + m + (1 - 2 * m) * hash1(cx, cy, (int)p[3] + 2)) * cell, sy = (cy + m + (1 - 2 * m) * hash1(cx, cy, (int)p[3] + 3)) * cell;
        if (sy < p[0] + rad) return;
        float k = sqrtf((x - sx) * (x - sx) + (y - sy) * (y - sy));
        over(c, r, g, b, a * cover(k - rad, s));
        over(c, 1, 0.93f, 0.55f, a * cover(k - rad * 0.42f, s));
        return; }
    default: return;
    }
    over(c, r, g, b, a * cover(d, s));
}

FN rgb shade(const float *list, int n, float x, float y, float s) {
    rgb c = rgb_of(0, 0, 0);
    for (int i = 0; i < n; i++) {
        const float *q = list + (long)i * PRIM, *p = q + 5;
        if ((int)q[0] != WATER) { paint(q, x, y, s, &c); continue; }
        /* water: top y, bottom y, seed, glint. What lies before it in the list is seen again, upside down, rippled. */
        float cov = cover((p[0] - y) * 1.0f, s) * cover(y - p[1], s);
        if (cov <= 0) continue;
        float dy = y - p[0], wave = sinf(y * 95 / (0.6f + dy * 2) + p[2]) * 0.006f * (1 + 3 * dy);
        float mx = x + wave, my = p[0] - dy * 0.9f - 0.004f;
        if (my < 0) my = 0;
        rgb m = rgb_of(0, 0, 0);
        for (int k = 0; k < i; k++) paint(list + (long)k * PRIM, mx, my, s, &m);
        float t = clamp01(0.38f + dy * 0.55f);
        over(&m, q[1], q[2], q[3], t * q[4]);
        float gl = sinf(x * 5.0f + 37 * floorf(dy * 30) + p[2]) * sinf(dy * 188.5f);
        over(&m, 1, 1, 1, p[3] * clamp01((gl - 0.75f) * 5));
        over(&c, m.r, m.g, m.b, cov);
    }
    return c;
}

/* One picture of a batch. geo: for each picture, first primitive, count. out: [n, 3, h, w] as 0..255. */
FN void pixel(const float *prims, const int32_t *geo, int w, int h, int img, int px, int py, float jx, float jy, uint8_t *out) {
    float s = (float)(w < h ? w : h);
    rgb c = shade(prims + (long)geo[2 * img] * PRIM, geo[2 * img + 1], (px + jx) / s, (py + jy) / s, s);
    long plane = (long)w * h, at = (long)img * 3 * plane + (long)py * w + px;
    out[at] = (uint8_t)(clamp01(c.r) * 255 + 0.5f);
    out[at + plane] = (uint8_t)(clamp01(c.g) * 255 + 0.5f);
    out[at + 2 * plane] = (uint8_t)(clamp01(c.b) * 255 + 0.5f);
}

#ifdef __CUDACC__
__global__ void draw_kernel(const float *prims, const int32_t *geo, int w, int h, uint8_t *out) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at < w * h) pixel(prims, geo, w, h, blockIdx.y, at % w, at / w, 0.5f, 0.5f, out);
}
extern "C" int draw_gpu(const float *prims, const int32_t *geo, int n, int w, int h, uint8_t *out, void *stream) {
    dim3 grid((w * h + 255) / 256, n);
    draw_kernel<<<grid, 256, 0, (cudaStream_t)stream>>>(prims, geo, w, h, out);
    return (int)cudaGetLastError();
}
#else
int draw_cpu(const float *prims, const int32_t *geo, int n, int w, int h, uint8_t *out) {
    for (int i = 0; i < n; i++)
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++) pixel(prims, geo, w, h, i, x, y, 0.5f, 0.5f, out);
    return 0;
}
#endif

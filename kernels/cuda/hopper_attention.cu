/* hopper_attention.cu - softmax(scale q k^T) v of bf16 on sm_90, heads of 128, not causal: what attention.cu does, by wgmma and the copy engine.
 *
 * A block has 128 queries of one head: a warpgroup copies, two have 64 queries each, in registers, and go through keys and values in tiles of 128. They
 * take turns at the products (named barriers): while one multiplies, the other softens. A group asks for its next scores and the sum of its last weights
 * in one go; both are there when its turn is over. A row's reference follows its maximum only where that has risen by more than 2^8, so sums are seldom
 * scaled down; what comes out does not depend on the reference but for rounding. Blocks stay and take tiles in a fixed order; where the last round has
 * tiles for at most half of them, two blocks, a cluster, share one: each goes through half of the keys, and each puts both parts of 64 queries together.
 * Design: FlashAttention-3 (Shah et al. 2024); PTX ISA 8.0.
 *
 * The order of a sum depends on the shape and the number of multiprocessors alone. Queries and keys outside are read as zeros; such keys get no weight,
 * such queries are not written. A row with a NaN score becomes NaN.
 * Not here: other GPUs, heads, types, short attentions (attention.cu). */
#include <string.h>

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/mma.cuh"

#define QUERIES 128
#define KEYS    128
#define DIM     128
#define STAGES  2    /* of keys, and of values */
#define BUFFERS 2    /* of queries; results leave through them */
#define THREADS 384
#define RISE    8.0f /* powers of two */

#define LONG_FROM 512 /* queries and keys */

#define PANEL_BYTES(rows) ((rows) * 128)             /* rows of 64 values */
#define GROUP_BYTES       (2 * PANEL_BYTES(64))      /* 64 queries */
#define Q_BYTES           (2 * GROUP_BYTES)
#define KV_BYTES          (2 * PANEL_BYTES(KEYS))
#define PART_BYTES        (128 * (64 + 4) * 4)       /* of a warpgroup: sums of values, of weights, references */
#define ROOM_BYTES        (BUFFERS * Q_BYTES + 2 * STAGES * KV_BYTES + PART_BYTES + 8 * (2 * BUFFERS + 4 * STAGES + 1))

#define TURN 3 /* the named barriers 3 and 4: whose turn it is to multiply; 1 and 2 are a group's own */

struct work {
    CUtensorMap q, k, v, y; /* boxes of 64 columns and 64, KEYS, KEYS and 64 rows */
    int         n_tiles, tiles_q, tiles_k, n_keys, heads_per_kv;
    int         whole, rounds; /* the first so many rounds have a tile for every block */
    bool        shared;        /* in the last round, a tile is two blocks' */
    float       scale; /* times log2(e) */
};

/* What a block does in a round: a tile of queries, and a range of the tiles of keys. */
struct item {
    int  head, row, first, n;
    bool shared;
};

static __device__ __forceinline__ bool item_of(struct item *it, const struct work *w, int round)
{
    const int block = (int)blockIdx.x, blocks = (int)gridDim.x, half = w->tiles_k / 2;
    int       tile;

    it->shared = w->shared && round == w->whole;
    tile = round * blocks + (it->shared ? block / 2 : block);
    it->head = tile / w->tiles_q, it->row = tile % w->tiles_q * QUERIES;
    it->first = it->shared && block % 2 ? half : 0;
    it->n = !it->shared ? w->tiles_k : block % 2 ? w->tiles_k - half : half;
    return tile < w->n_tiles;
}

struct room { /* addresses in shared memory, the same in both blocks of a cluster */
    uint32_t q, k, v, part, q_full, q_empty, k_full, k_empty, v_full, v_empty, told;
};

static __device__ __forceinline__ struct room room_of(uint32_t at)
{
    struct room s;

    s.q = at;
    s.k = s.q + BUFFERS * Q_BYTES;
    s.v = s.k + STAGES * KV_BYTES;
    s.part = s.v + STAGES * KV_BYTES;
    s.q_full = s.part + PART_BYTES;
    s.q_empty = s.q_full + BUFFERS * 8;
    s.k_full = s.q_empty + BUFFERS * 8;
    s.k_empty = s.k_full + STAGES * 8;
    s.v_full = s.k_empty + STAGES * 8;
    s.v_empty = s.v_full + STAGES * 8;
    s.told = s.v_empty + STAGES * 8;
    return s;
}

/* ---- copies ---- */

static __device__ __forceinline__ void copy_kv(uint32_t to, const CUtensorMap *map, int col, int row, uint32_t full)
{
    barrier_expect(full, KV_BYTES);
    tile_load(to, map, col, row, full);
    tile_load(to + PANEL_BYTES(KEYS), map, col + 64, row, full);
}

static __device__ __forceinline__ void copy_tiles(const struct work *w, const struct room *s)
{
    struct ring q = {0, 1}, k = {0, 1}, v = {0, 1}; /* all are empty: the phase before the first is over */

    for (int round = 0; round < w->rounds; round++) {
        const uint32_t q_full = s->q_full + q.at * 8, to = s->q + q.at * Q_BYTES;
        struct item    it;

        if (!item_of(&it, w, round)) break;
        barrier_wait(s->q_empty + q.at * 8, q.parity);
        barrier_expect(q_full, Q_BYTES);
#pragma unroll
        for (int i = 0; i < 4; i++) tile_load(to + i * PANEL_BYTES(64), &w->q, it.head * DIM + i % 2 * 64, it.row + i / 2 * 64, q_full);
        ring_next<BUFFERS>(&q);
        for (int j = it.first; j < it.first + it.n; j++) {
            const int col = it.head / w->heads_per_kv * DIM;

            barrier_wait(s->k_empty + k.at * 8, k.parity);
            copy_kv(s->k + k.at * KV_BYTES, &w->k, col, j * KEYS, s->k_full + k.at * 8);
            ring_next<STAGES>(&k);
            barrier_wait(s->v_empty + v.at * 8, v.parity);
            copy_kv(s->v + v.at * KV_BYTES, &w->v, col, j * KEYS, s->v_full + v.at * 8);
            ring_next<STAGES>(&v);
        }
    }
}

/* ---- products ---- */

/* 64 queries as products take them. */
static __device__ __forceinline__ void queries_get(uint32_t q[32], uint32_t room)
{
    const int lane = threadIdx.x % 32, row = threadIdx.x % 128 / 32 * 16 + lane % 16;

#pragma unroll
    for (int i = 0; i < DIM / 16; i++) ldmatrix_at(q + 4 * i, tile_at(room + i / 4 * PANEL_BYTES(64), row, i % 4 * 2 + lane / 16));
}

/* s = q k^T. k: KEYS keys. */
static __device__ __forceinline__ void score(float s[64], const uint32_t q[32], uint32_t k)
{
    const uint64_t b = tile_desc(k);

#pragma unroll
    for (int i = 0; i < DIM / 16; i++)
        product_64x128x16<0>(s, q + 4 * i, b + i / 4 * (PANEL_BYTES(KEYS) >> 4) + i % 4 * 2, i > 0);
}

/* o = p v, + o when `more`. p: weights of KEYS keys, packed. */
static __device__ __forceinline__ void weigh(float o[64], const uint32_t p[32], uint32_t v, int more)
{
    const uint64_t b = tile_desc_turned(v, PANEL_BYTES(KEYS));

#pragma unroll
    for (int i = 0; i < KEYS / 16; i++) product_64x128x16<1>(o, p + 4 * i, b + i * (16 * 128 >> 4), more || i > 0);
}

/* ---- softmax ---- */

struct rows { /* of the thread's two rows */
    float reference[2], sum[2]; /* of scores as they come; the sum is this thread's part */
};

static __device__ __forceinline__ float power_of_2(float x)
{
    float y;

    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Keys from `first` on get no weight. */
static __device__ __forceinline__ void mask(float s[64], int first)
{
#pragma unroll
    for (int i = 0; i < 64; i++) {
        if (i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2 >= first) s[i] = -INFINITY;
    }
}

/* The largest score of each row. */
static __device__ __forceinline__ void tops(float top[2], const float s[64])
{
    float most[4][2]; /* four at a time: a maximum takes longer than its turn */

#pragma unroll
    for (int i = 0; i < 32; i++) {
        const float a = fmaxf(s[2 * i], s[2 * i + 1]);

        most[i / 2 % 4][i % 2] = i < 8 ? a : fmaxf(most[i / 2 % 4][i % 2], a);
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        top[i] = fmaxf(fmaxf(most[0][i], most[1][i]), fmaxf(most[2][i], most[3][i]));
        top[i] = fmaxf(top[i], __shfl_xor_sync(0xffffffffu, top[i], 1));
        top[i] = fmaxf(top[i], __shfl_xor_sync(0xffffffffu, top[i], 2));
    }
}

/* p: the weights, packed; they are added to the rows' sums. */
static __device__ __forceinline__ void soften(uint32_t p[32], const float s[64], struct rows *r, float scale)
{
    const float minus[2] = {r->reference[0] == -INFINITY ? 0.0f : -r->reference[0] * scale, r->reference[1] == -INFINITY ? 0.0f : -r->reference[1] * scale};
    float       sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};

#pragma unroll
    for (int i = 0; i < 32; i++) {
        const float a = power_of_2(fmaf(s[2 * i], scale, minus[i % 2])), b = power_of_2(fmaf(s[2 * i + 1], scale, minus[i % 2]));

        sum[i % 4] += a + b;
        p[i] = pack_bf16(a, b);
    }
    r->sum[0] += sum[0] + sum[2];
    r->sum[1] += sum[1] + sum[3];
}

/* The rows' references follow their tops where these have risen far; factor[]: what was summed before is to be multiplied with. Returns whether a row of
 * the warp has one that is not 1. */
static __device__ __forceinline__ bool follow(struct rows *r, const float top[2], float scale, float factor[2])
{
    bool any = false;

#pragma unroll
    for (int i = 0; i < 2; i++) {
        const bool far = (top[i] - r->reference[i]) * scale > RISE;

        factor[i] = 1.0f;
        if (far) {
            factor[i] = power_of_2((r->reference[i] - top[i]) * scale);
            r->reference[i] = top[i];
            r->sum[i] *= factor[i];
        }
        any |= far;
    }
    return __any_sync(0xffffffffu, any);
}

static __device__ __forceinline__ void scale_by(float o[64], const float factor[2])
{
#pragma unroll
    for (int i = 0; i < 64; i++) o[i] *= factor[i / 2 % 2];
}

/* ---- a warpgroup ---- */

/* 64 queries' results, divided by their rows' sums, to y through the room of their queries. */
static __device__ __forceinline__ void send(const struct work *w, uint32_t room, int group, const float o[64], struct rows *r, int col, int row)
{
    const int lane = threadIdx.x % 32, at = threadIdx.x % 128 / 32 * 16 + lane % 16;
    float     by[2];

#pragma unroll
    for (int i = 0; i < 2; i++) {
        r->sum[i] += __shfl_xor_sync(0xffffffffu, r->sum[i], 1);
        r->sum[i] += __shfl_xor_sync(0xffffffffu, r->sum[i], 2);
        by[i] = 1.0f / r->sum[i];
    }
#pragma unroll
    for (int j = 0; j < 8; j++) { /* 16 columns */
        uint32_t v[4];

#pragma unroll
        for (int i = 0; i < 4; i++) v[i] = pack_bf16(o[8 * j + 2 * i] * by[i % 2], o[8 * j + 2 * i + 1] * by[i % 2]);
        stmatrix(tile_at(room + j / 4 * PANEL_BYTES(64), at, j % 4 * 2 + lane / 16), v[0], v[1], v[2], v[3]);
    }
    written_for_copies();
    group_sync(1 + group);
    if (threadIdx.x % 128 == 0) {
        tile_store(&w->y, room, col, row, policy_stays());
        tile_store(&w->y, room + PANEL_BYTES(64), col + 64, row, policy_stays());
        stores_commit();
    }
}

/* The other half of the keys' share of what this group has. */
static __device__ __forceinline__ void join(const struct room *s, float o[64], struct rows *r, float scale)
{
    const uint32_t at = s->part + threadIdx.x % 128 * 16;
    float          theirs[4], mine[2], by[2];

    if (threadIdx.x % 128 == 0) barrier_expect(s->told, PART_BYTES);
    barrier_wait(s->told, 0);
    values_get(theirs, at);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const float top = fmaxf(r->reference[i], theirs[i]);

        mine[i] = r->reference[i] == top ? 1.0f : power_of_2((r->reference[i] - top) * scale);
        by[i] = theirs[i] == top ? 1.0f : power_of_2((theirs[i] - top) * scale);
        r->sum[i] = r->sum[i] * mine[i] + theirs[2 + i] * by[i];
    }
#pragma unroll
    for (int j = 0; j < 16; j++) {
        float v[4];

        values_get(v, at + (j + 1) * 128 * 16);
#pragma unroll
        for (int i = 0; i < 4; i++) o[4 * j + i] = o[4 * j + i] * mine[i / 2] + v[i] * by[i / 2];
    }
}

static __device__ __forceinline__ void give(const struct room *s, const float o[64], const struct rows *r, int to)
{
    const uint32_t at = s->part + threadIdx.x % 128 * 16;
    const float    head[4] = {r->reference[0], r->reference[1], r->sum[0], r->sum[1]};

    values_send(at, head, s->told, to);
#pragma unroll
    for (int j = 0; j < 16; j++) values_send(at + (j + 1) * 128 * 16, o + 4 * j, s->told, to);
}

struct group { /* a warpgroup's way through the rounds */
    const struct work *w;
    const struct room *s;
    int                id;
    struct ring        q, k, v;
    struct rows        rows;
    float              scores[64], o[64];
    uint32_t           queries[32], weights[32];
};

static __device__ __forceinline__ bool tells(void)
{
    return threadIdx.x % 128 == 0;
}

static __device__ __forceinline__ void keys_done(struct group *g)
{
    if (tells()) barrier_arrive_own(g->s->k_empty + g->k.at * 8);
    ring_next<STAGES>(&g->k);
}

static __device__ __forceinline__ void values_done(struct group *g)
{
    if (tells()) barrier_arrive_own(g->s->v_empty + g->v.at * 8);
    ring_next<STAGES>(&g->v);
}

/* Weights of the first tile. */
static __device__ __forceinline__ void first_keys(struct group *g, const struct item *it)
{
    const struct room *s = g->s;

    barrier_wait(s->k_full + g->k.at * 8, g->k.parity);
    turn_wait(TURN + g->id);
    products_begin();
    score(g->scores, g->queries, s->k + g->k.at * KV_BYTES);
    products_commit();
    turn_tell(TURN + 1 - g->id);
    products_wait<0>();
    products_touch(g->scores);
    keys_done(g);
    if ((it->first + 1) * KEYS > g->w->n_keys) mask(g->scores, g->w->n_keys - it->first * KEYS);
    tops(g->rows.reference, g->scores);
    g->rows.sum[0] = g->rows.sum[1] = 0.0f;
    soften(g->weights, g->scores, &g->rows, g->w->scale);
}

/* Tile j's weights, after the values of the one before have been added. */
static __device__ __forceinline__ void next_keys(struct group *g, const struct item *it, int j)
{
    const struct room *s = g->s;
    float              top[2], factor[2];
    bool               any;

    barrier_wait(s->k_full + g->k.at * 8, g->k.parity);
    turn_wait(TURN + g->id);
    products_begin();
    score(g->scores, g->queries, s->k + g->k.at * KV_BYTES);
    products_commit();
    barrier_wait(s->v_full + g->v.at * 8, g->v.parity);
    products_begin();
    weigh(g->o, g->weights, s->v + g->v.at * KV_BYTES, j > 1);
    products_commit();
    turn_tell(TURN + 1 - g->id);
    products_wait<1>();
    products_touch(g->scores);
    keys_done(g);
    if ((it->first + j + 1) * KEYS > g->w->n_keys) mask(g->scores, g->w->n_keys - (it->first + j) * KEYS);
    tops(top, g->scores);
    any = follow(&g->rows, top, g->w->scale, factor);
    computed_here(factor[0] + factor[1], s->part);
    products_wait<0>();
    products_touch(g->o);
    values_done(g);
    if (any) scale_by(g->o, factor);
    soften(g->weights, g->scores, &g->rows, g->w->scale);
}

static __device__ __forceinline__ void last_values(struct group *g, bool more)
{
    barrier_wait(g->s->v_full + g->v.at * 8, g->v.parity);
    products_begin();
    weigh(g->o, g->weights, g->s->v + g->v.at * KV_BYTES, more);
    products_commit();
    products_wait<0>();
    products_touch(g->o);
    values_done(g);
}

static __device__ __forceinline__ void attend(const struct work *w, const struct room *s, int id)
{
    const int    rank = (int)blockIdx.x % 2;
    struct group g;
    int          leaving = -1; /* the buffer of queries through which the last results go */

    g.w = w, g.s = s, g.id = id;
    g.q.at = g.q.parity = g.k.at = g.k.parity = g.v.at = g.v.parity = 0;
    if (id == 1) turn_tell(TURN);
    for (int round = 0; round < w->rounds; round++) {
        const uint32_t room = s->q + g.q.at * Q_BYTES + id * GROUP_BYTES;
        struct item    it;

        if (!item_of(&it, w, round)) break;
        barrier_wait(s->q_full + g.q.at * 8, g.q.parity);
        queries_get(g.queries, room);
        first_keys(&g, &it);
        if (leaving >= 0 && tells()) {
            stores_read();
            barrier_arrive_own(s->q_empty + leaving * 8);
        }
        for (int j = 1; j < it.n; j++) next_keys(&g, &it, j);
        last_values(&g, it.n > 1);
        if (it.shared && id != rank) {
            give(s, g.o, &g.rows, 1 - rank);
        } else {
            if (it.shared) join(s, g.o, &g.rows, w->scale);
            send(w, room, id, g.o, &g.rows, it.head * DIM, it.row + id * 64);
        }
        leaving = g.q.at;
        ring_next<BUFFERS>(&g.q);
    }
    if (tells()) stores_done();
}

static __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(THREADS, 1) attention(const __grid_constant__ struct work w)
{
    extern __shared__ __align__(1024) unsigned char memory[];
    const struct room s = room_of(shared_at(memory));

    if (threadIdx.x == 0) {
        for (int i = 0; i < BUFFERS; i++) barrier_init(s.q_full + i * 8, 1), barrier_init(s.q_empty + i * 8, 2);
        for (int i = 0; i < STAGES; i++) {
            barrier_init(s.k_full + i * 8, 1), barrier_init(s.k_empty + i * 8, 2);
            barrier_init(s.v_full + i * 8, 1), barrier_init(s.v_empty + i * 8, 2);
        }
        barrier_init(s.told, 1);
        barrier_init_done();
    }
    cluster_sync();
    if (threadIdx.x < 128) {
        registers_give<40>();
        if (threadIdx.x == 0) copy_tiles(&w, &s);
    } else {
        registers_take<232>();
        attend(&w, &s, (int)threadIdx.x / 128 - 1);
    }
    cluster_sync(); /* a block does not go while the other may still write into it */
}

/* ---- the host's side ---- */

static bool map_of(struct dev *d, CUtensorMap *map, const struct tensor *t, unsigned rows)
{
    return hopper_map(d, map, t->data, cuda_pitch(t), t->dim[0], t->dim[1] * t->dim[2], rows);
}

/* Are these taken here? Below LONG_FROM smaller tiles fill more of the chip. */
static bool takes(struct dev *d, const struct tensor *y, const struct tensor *q, const struct tensor *k, const struct tensor *v)
{
    const struct operand o[4] = {operand_of(y), operand_of(q), operand_of(k), operand_of(v)};
    const bool          *only = cuda_of(d)->only;

    if (!cuda_of(d)->hopper || only[CUDA_ONLY_PLAIN] || only[CUDA_ONLY_THEIRS] || q->dim[2] != DIM) return false;
    for (int i = 0; i < 4; i++)
        if (o[i].type != DTYPE_BF16 || !wide_of(&o[i], DIM)) return false;
    if (k->dim[0] > INT32_MAX / 2 || (q->dim[0] / QUERIES + 1) * q->dim[1] > INT32_MAX / 2) return false;
    return only[CUDA_ONLY_JOINED] || (q->dim[0] >= LONG_FROM && k->dim[0] >= LONG_FROM);
}

extern "C" bool cuda_attention_hopper(struct dev *d, struct tensor *y, const struct tensor *q, const struct tensor *k, const struct tensor *v, float scale)
{
    const int   at_most = cuda_of(d)->n_sm / 2 * 2;
    struct work w = {};
    int         rest;

    if (!takes(d, y, q, k, v) || !(scale > 0.0f)) return false;
    if (!map_of(d, &w.q, q, 64) || !map_of(d, &w.k, k, KEYS) || !map_of(d, &w.v, v, KEYS) || !map_of(d, &w.y, y, 64)) return false;
    w.tiles_q = (int)((q->dim[0] + QUERIES - 1) / QUERIES), w.tiles_k = (int)((k->dim[0] + KEYS - 1) / KEYS), w.n_keys = (int)k->dim[0];
    w.n_tiles = w.tiles_q * (int)q->dim[1], w.heads_per_kv = (int)(q->dim[1] / k->dim[1]), w.scale = scale * 1.44269504088896341f;
    w.whole = w.n_tiles / at_most, rest = w.n_tiles % at_most, w.rounds = w.whole + (rest > 0);
    w.shared = rest > 0 && 2 * rest <= at_most && w.tiles_k > 1;
    cuda_enter(d);
    attention<<<(unsigned)(w.whole > 0 ? at_most : w.shared ? 2 * rest : (rest + 1) / 2 * 2), THREADS, ROOM_BYTES, cuda_stream(d)>>>(w);
    cuda_note(d, "attention by wgmma");
    return true;
}

bool hopper_attention_open(void)
{
    return cudaFuncSetAttribute(attention, cudaFuncAttributeMaxDynamicSharedMemorySize, ROOM_BYTES) == cudaSuccess;
}

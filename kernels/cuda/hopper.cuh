/* hopper.cuh - what sm_90 has of its own, as thin as it goes: barriers in shared memory that count bytes, copies of tiles by the copy engine (also to
 * both blocks of a cluster), products of a warpgroup. PTX ISA 8.0: mbarrier, cp.async.bulk.tensor, wgmma. Compiles for sm_90a alone.
 * Tiles are rows of 64 bf16 (128 bytes), swizzled by 128 bytes, and start at multiples of 1024. */
#ifndef KERNELS_CUDA_HOPPER_CUH
#define KERNELS_CUDA_HOPPER_CUH

#include <cuda.h>
#include <stdint.h>

#include "kernels/dev.h"

/* hopper.cu: a map of bf16 [n,c] for copies of `rows` rows of 64 columns. */
bool hopper_map(struct dev *d, CUtensorMap *map, const void *at, int64_t ld, int64_t n, int64_t c, unsigned rows);
bool hopper_attention_open(void);

static __device__ __forceinline__ uint32_t shared_at(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* ---- clusters ---- */

static __device__ __forceinline__ uint32_t cluster_rank(void)
{
    uint32_t r;

    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
    return r;
}

static __device__ __forceinline__ void cluster_sync(void)
{
    asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}

/* ---- barriers ---- */

static __device__ __forceinline__ void barrier_init(uint32_t at, uint32_t n)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at), "r"(n) : "memory");
}

static __device__ __forceinline__ void barrier_init_done(void)
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/* Arrives, and says how many bytes are to come. */
static __device__ __forceinline__ void barrier_expect(uint32_t at, uint32_t bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at), "r"(bytes) : "memory");
}

/* Arrives at the barrier of the same place in block `rank` of the cluster. It orders this block's memory alone, as is enough: what it tells of was read
 * by products and will be written by copies, and a fence of the cluster's would wait for the whole GPU each time. */
static __device__ __forceinline__ void barrier_arrive(uint32_t at, uint32_t rank)
{
    asm volatile("{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\nmbarrier.arrive.shared::cluster.b64 _, [there];\n}" ::"r"(at), "r"(rank)
                 : "memory");
}

static __device__ __forceinline__ void barrier_arrive_own(uint32_t at)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at) : "memory");
}

static __device__ __forceinline__ void barrier_wait(uint32_t at, uint32_t parity)
{
    asm volatile("{\n.reg .pred over;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 over, [%0], %1;\n@over bra done;\nbra again;\ndone:\n}" ::"r"(at), "r"(parity)
                 : "memory");
}

/* Writes v to the same place in block `rank` of the cluster, whose barrier hears of 16 bytes. */
static __device__ __forceinline__ void values_send(uint32_t at, const float v[4], uint32_t barrier, uint32_t rank)
{
    asm volatile("{\n.reg .b32 there, full;\nmapa.shared::cluster.u32 there, %0, %6;\nmapa.shared::cluster.u32 full, %5, %6;\n"
                 "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [there], {%1, %2, %3, %4}, [full];\n}" ::"r"(at), "r"(__float_as_uint(v[0])),
                 "r"(__float_as_uint(v[1])), "r"(__float_as_uint(v[2])), "r"(__float_as_uint(v[3])), "r"(barrier), "r"(rank)
                 : "memory");
}

static __device__ __forceinline__ void values_get(float v[4], uint32_t at)
{
    asm volatile("ld.shared.v4.f32 {%0,%1,%2,%3}, [%4];" : "=f"(v[0]), "=f"(v[1]), "=f"(v[2]), "=f"(v[3]) : "r"(at) : "memory");
}

/* Where a ring of N places stands: its next place, and the parity of the phase that is waited for there. */
struct ring {
    int at, parity;
};

template <int N>
static __device__ __forceinline__ void ring_next(struct ring *r)
{
    if (++r->at == N) r->at = 0, r->parity ^= 1;
}

/* ---- the copy engine ---- */

/* How long the L2 cache keeps what a copy moves. A policy, even the usual one, keeps the cache from answering neighbours who ask for the same at the same
 * time at once: where they do, and nothing has to go early, there is none (measured: docs/PERFORMANCE.md). */
static __device__ __forceinline__ uint64_t policy_stays(void)
{
    uint64_t p;

    asm volatile("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(p));
    return p;
}

static __device__ __forceinline__ uint64_t policy_goes(void)
{
    uint64_t p;

    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(p));
    return p;
}

static __device__ __forceinline__ void tile_load(uint32_t to, const CUtensorMap *map, int col, int row, uint32_t full)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(to), "l"(map), "r"(full), "r"(col), "r"(row)
                 : "memory");
}

static __device__ __forceinline__ void tile_load_by(uint32_t to, const CUtensorMap *map, int col, int row, uint32_t full, uint64_t policy)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(to), "l"(map), "r"(full),
                 "r"(col), "r"(row), "l"(policy)
                 : "memory");
}

/* To both blocks of the cluster, which hear of it at their own barriers. */
static __device__ __forceinline__ void tile_load_both(uint32_t to, const CUtensorMap *map, int col, int row, uint32_t full, uint64_t policy)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint [%0], [%1, {%3, %4}], [%2], %5, %6;" ::"r"(to),
                 "l"(map), "r"(full), "r"(col), "r"(row), "h"((uint16_t)3), "l"(policy)
                 : "memory");
}

/* What lies outside of the tensor is not written. */
static __device__ __forceinline__ void tile_store(const CUtensorMap *map, uint32_t from, int col, int row, uint64_t policy)
{
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group.L2::cache_hint [%0, {%2, %3}], [%1], %4;" ::"l"(map), "r"(from), "r"(col), "r"(row), "l"(policy)
                 : "memory");
}

static __device__ __forceinline__ void stores_commit(void)
{
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

/* The shared memory that this thread's stores read is free again. */
static __device__ __forceinline__ void stores_read(void)
{
    asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}

static __device__ __forceinline__ void stores_done(void)
{
    asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

/* What this thread wrote to shared memory is seen by the copy engine, after the next barrier. */
static __device__ __forceinline__ void written_for_copies(void)
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* Four 8x8 matrices of 16 bits; lane l says where row l % 8 of matrix l / 8 begins. */
static __device__ __forceinline__ void stmatrix(uint32_t at, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(at), "r"(a), "r"(b), "r"(c), "r"(d) : "memory");
}

/* Where chunk c of eight columns of row r of a tile lies. */
static __device__ __forceinline__ uint32_t tile_at(uint32_t tile, int r, int c)
{
    return tile + r * 128 + ((c ^ (r & 7)) << 4);
}

/* ---- a warpgroup ---- */

/* A barrier of one warpgroup of 128 threads; 0 is __syncthreads()'s. */
static __device__ __forceinline__ void group_sync(int id)
{
    asm volatile("bar.sync %0, 128;" ::"r"(id) : "memory");
}

/* A barrier of two warpgroups of which one only tells, the other waits. */
static __device__ __forceinline__ void turn_tell(int id)
{
    asm volatile("bar.arrive %0, 256;" ::"r"(id) : "memory");
}

static __device__ __forceinline__ void turn_wait(int id)
{
    asm volatile("bar.sync %0, 256;" ::"r"(id) : "memory");
}

template <int N>
static __device__ __forceinline__ void registers_take(void)
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}

template <int N>
static __device__ __forceinline__ void registers_give(void)
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

static __device__ __forceinline__ void products_begin(void)
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

static __device__ __forceinline__ void products_commit(void)
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* All but the last N committed groups are over. */
template <int N>
static __device__ __forceinline__ void products_wait(void)
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

/* The same for a second operand whose rows lie along n, in panels of 64 columns, `panel_bytes` apart. 16 further rows are 128 more. */
static __device__ __forceinline__ uint64_t tile_desc_turned(uint32_t at, int panel_bytes)
{
    return (uint64_t)((at & 0x3ffff) >> 4) | (uint64_t)(panel_bytes >> 4) << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

/* Products write d behind the compiler's back: what reads it after products_wait() must not be moved before it. */
template <int N>
static __device__ __forceinline__ void products_touch(float (&d)[N])
{
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i])::"memory");
}

/* v, which is not below zero, is computed before what follows: the assembler would else wait for products first and compute then. `at` is never written. */
static __device__ __forceinline__ void computed_here(float v, uint32_t at)
{
    asm volatile("{\n.reg .pred p;\nsetp.lt.f32 p, %0, 0f00000000;\n@p st.shared.f32 [%1], %0;\n}" ::"f"(v), "r"(at) : "memory");
}

/* How wgmma sees a tile whose rows lie along k: eight rows are 1024 bytes, swizzled by 128. 16 further columns are 2 more. */
static __device__ __forceinline__ uint64_t tile_desc(uint32_t at)
{
    return (uint64_t)((at & 0x3ffff) >> 4) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

/* The registers of 64 sums, and their names in a product; 128 are twice as many. */
#define SUMS_8(d, i)  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define SUMS_64(d, i) SUMS_8(d, i), SUMS_8(d, i + 8), SUMS_8(d, i + 16), SUMS_8(d, i + 24), SUMS_8(d, i + 32), SUMS_8(d, i + 40), SUMS_8(d, i + 48), SUMS_8(d, i + 56)
#define NAMES_64                                                                                                                       \
    "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"            \
    "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define NAMES_128                                                                                                                      \
    NAMES_64 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93," \
    "%94,%95,%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,"      \
    "%120,%121,%122,%123,%124,%125,%126,%127"

/* d[64,256] = a[64,16] b[256,16]^T, + d when `more`. Thread t of the group has rows r = t / 32 * 16 + t % 32 / 4 and r + 8:
 * d[4j], d[4j+1] are columns 8j + t % 4 * 2 and the next of row r, d[4j+2], d[4j+3] those of row r + 8. */
static __device__ __forceinline__ void product_64x256x16(float d[128], uint64_t a, uint64_t b, int more)
{
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" NAMES_128 "}, %128, %129, p, 1, 1, 0, 0;\n}"
                 : SUMS_64(d, 0), SUMS_64(d, 64)
                 : "l"(a), "l"(b), "r"(more));
}

/* d[64,128] = a[64,16] b, + d when `more`; d as above. b: [128,16]^T by tile_desc(), or, TURNED, [16,128] by tile_desc_turned(). a: each thread's pairs
 * (row r, columns t % 4 * 2 on), (r + 8, the same), (r, 8 further), (r + 8, 8 further): as ldmatrix() gives them, or sums of products, packed, in the
 * order in which they come. */
template <int TURNED>
static __device__ __forceinline__ void product_64x128x16(float d[64], const uint32_t a[4], uint64_t b, int more)
{
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" NAMES_64 "}, {%64, %65, %66, %67}, %68, p, 1, 1, %70;\n}"
                 : SUMS_64(d, 0)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(more), "n"(TURNED));
}

#endif

/* attention_chunks.cu - attention by products, for F32 and for heads of any width: scores of a chunk of queries, softmax, values.
 * One head at a time; a chunk's scores take at most SCORES_BYTES. Causal: keys beyond the chunk's last query are not touched.
 * Not here: the fused kernel (attention.cu). */
#include "kernels/cuda/common.cuh"

#define SCORES_BYTES ((int64_t)64 << 20)

/* One block per row: p = softmax(s); query first + row sees all n_keys, or those up to itself; the others get 0. p may be s. */
static __global__ void softmax(const float *s, void *p, int type, int64_t ld, int64_t first, int64_t n_keys, bool causal)
{
    __shared__ float room[8];
    const int64_t    row = blockIdx.x, seen = causal && first + row + 1 < n_keys ? first + row + 1 : n_keys;
    const float     *from = s + row * ld;
    float            top = -INFINITY, sum = 0.0f;

    for (int64_t i = threadIdx.x; i < seen; i += 256) top = fmaxf(top, from[i]);
    top = block_max(top, room);
    if (top == -INFINITY) top = 0.0f;
    for (int64_t i = threadIdx.x; i < seen; i += 256) sum += expf(from[i] - top);
    sum = 1.0f / block_sum(sum, room);
    for (int64_t i = threadIdx.x; i < n_keys; i += 256) store1(p, type, row * ld + i, i < seen ? expf(from[i] - top) * sum : 0.0f);
}

static const void *at_element(const void *p, enum dtype type, int64_t i)
{
    return (const char *)p + i * (int64_t)dtype_bytes(type);
}

extern "C" void cuda_attention_chunks(struct dev *d, struct tensor *y, const struct tensor *q, const struct tensor *k, const struct tensor *v, float scale,
                                      bool causal)
{
    const enum dtype type = cuda_product_type(d);
    const int64_t    n = q->dim[0], m = k->dim[0], hq = q->dim[1], dh = q->dim[2], ld = (m + 7) / 8 * 8;
    int64_t          rows = SCORES_BYTES / (ld * 4), ldq, ldk, ldv;
    const void      *qs = cuda_as(d, SLOT_X, q, type, &ldq), *ks = cuda_as(d, SLOT_K, k, type, &ldk), *vs = cuda_as(d, SLOT_V, v, type, &ldv);
    float           *s;
    void            *p;

    rows = rows < 1 ? 1 : rows > n ? n : rows;
    s = (float *)cuda_space(d, SLOT_SCORES, (size_t)(rows * ld) * 4);
    p = type == DTYPE_F32 ? s : cuda_space(d, SLOT_SOFT, (size_t)(rows * ld) * 2);
    if (!qs || !ks || !vs || !s || !p) return;
    for (int64_t head = 0; head < hq; head++) {
        const int64_t kv_at = head / (hq / k->dim[1]) * dh;

        for (int64_t at = 0; at < n && !d->err.code; at += rows) {
            const int64_t here = n - at < rows ? n - at : rows, n_keys = causal && at + here < m ? at + here : m;
            struct gemm   scores = {}, values = {};

            scores.n = here, scores.m = n_keys, scores.k = dh, scores.type = type, scores.y_type = DTYPE_F32, scores.alpha = scale;
            scores.x = at_element(qs, type, at * ldq + head * dh), scores.ldx = ldq;
            scores.w = at_element(ks, type, kv_at), scores.ldw = ldk;
            scores.y = s, scores.ldy = ld;
            cuda_gemm(d, &scores);
            softmax<<<(unsigned)here, 256, 0, cuda_stream(d)>>>(s, p, (int)type, ld, at, n_keys, causal);
            cuda_note(d, "softmax");
            values.n = here, values.m = dh, values.k = n_keys, values.type = type, values.y_type = y->type, values.alpha = 1.0f;
            values.x = p, values.ldx = ld;
            values.w = at_element(vs, type, kv_at), values.ldw = ldv, values.w_is_km = true;
            values.y = (void *)at_element(y->data, y->type, at * cuda_pitch(y) + head * dh), values.ldy = cuda_pitch(y);
            cuda_gemm(d, &values);
        }
    }
}

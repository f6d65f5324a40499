/* mm.h - the CPU's own bf16 products (AVX-512 BF16, AMX) through oneDNN: y = x w^T or y += x w^T on small dense tiles.
 * Made once per shape and kept; running is thread-safe with a scratch of one's own. Only for CPUs with native_bf16. */
#ifndef KERNELS_CPU_MM_H
#define KERNELS_CPU_MM_H

#include <stddef.h>
#include <stdint.h>

struct cpu;
struct mm;

/* x [n,k] bf16  w [m,k] bf16  y [n,m] F32, all dense; adds: y += . NULL when oneDNN or memory refuses. Calling thread only. */
struct mm *mm_for(struct cpu *c, int64_t n, int64_t m, int64_t k, int adds);
size_t     mm_scratch_bytes(const struct mm *mm);
int        mm_run(const struct mm *mm, uint16_t *x, uint16_t *w, float *y, void *scratch); /* 0 or -1 */
void       mm_forget_all(struct cpu *c);

#endif

/* winograd.h - 3x3 convolutions with a quarter of the multiplications, in F32: F(4x4, 3x3) of Lavin and Gray, "Fast Algorithms for
 * Convolutional Neural Networks" (2015). Relative RMS error about 1e-5, where the direct sum has 3e-7: only for --precision auto. */
#ifndef KERNELS_CPU_WINOGRAD_H
#define KERNELS_CPU_WINOGRAD_H

#include <stdbool.h>
#include <stddef.h>

#include "kernels/ops.h"

struct cpu;

/* Whether y of this shape is worth it and this CPU has the code. */
bool winograd_takes(const struct cpu *c, const struct tensor *y, const struct tensor *w);
/* As op_conv2d. Weights are transformed once (four times their F32 size) and kept by their address. */
extern op_conv2d_f cpu_winograd;
/* Forget what was kept for bytes that go away; all when at is NULL. */
void winograd_forget(struct cpu *c, const void *at, size_t bytes);

#endif

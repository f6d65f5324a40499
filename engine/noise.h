/* noise.h - a seed becomes normals, equal to torch.randn's (within 4e-6: the rounding of logf, sinf, cosf).
 *
 *   op_noise(d, &z, 42, NOISE_THREADS_H100);           what torch draws on an H100 (kernels/ops.h)
 *   noise_torch_cpu(42, z, 16 * 128 * 128);            what torch draws on any CPU
 *
 * torch-cuda depends on the GPU once n is larger than its thread grid T = SMs * (threads per SM / 256) * 256: T is an argument.
 * Pure functions of their arguments; values are computed in double and rounded, so they do not depend on the libm's float functions. */
#ifndef ENGINE_NOISE_H
#define ENGINE_NOISE_H

#include <stddef.h>
#include <stdint.h>

#define NOISE_THREADS_H100 270336u /* 132 SMs x 2048 */
#define NOISE_N_MIN        16      /* smaller tensors are drawn in another way by torch */

/* Only the low 32 bits of seed count, as in torch. ERR_ARG when 0 < n < NOISE_N_MIN. */
int noise_torch_cpu(uint64_t seed, float *out, size_t n);

#endif

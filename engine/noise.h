/* noise.h - a seed becomes normals, equal to torch.randn's (within 4e-6: the rounding of logf, sinf, cosf).
 *
 *   noise_torch_cuda(42, 270336, z, 16 * 128 * 128);   what torch draws on an H100
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

/* n_threads: a positive multiple of 256. ERR_ARG when it is not, or n > 2^40. */
int noise_torch_cuda(uint64_t seed, uint32_t n_threads, float *out, size_t n);
/* Only the low 32 bits of seed count, as in torch. ERR_ARG when 0 < n < NOISE_N_MIN. */
int noise_torch_cpu(uint64_t seed, float *out, size_t n);

#endif

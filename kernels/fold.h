/* fold.h - weights changed on the host while they are loaded, in double, rounded once.
 *
 *   conv_up2x_fold(to, &w);       to [4,co,ci,2,2] of a 3x3 convolution w [co,ci,3,3] behind nearest-2x, for op_conv_up2x()
 *
 * Behind nearest-2x the nine taps of an output pixel fall on four input cells, which four depends on whether its row and column are even or odd:
 * even rows take w[0] from the cell above and w[1] + w[2] from their own, odd rows w[0] + w[1] and w[2] from the one below; columns alike.
 * Kernel 2 * (row odd) + (column odd) is for such pixels. Exact but for the rounding of the sums.
 * Not here: products (ops.h). */
#ifndef KERNELS_FOLD_H
#define KERNELS_FOLD_H

#include "kernels/tensor.h"

/* w: host tensor [co,ci,3,3] of any weight type, dense. to: 16 * co * ci values, the caller's. ERR_NOMEM: no room to widen w. */
int conv_up2x_fold(float *to, const struct tensor *w);

#endif

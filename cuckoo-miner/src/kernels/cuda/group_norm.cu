// Group normalisation with an activation (Wu and He, 2018), in two passes over pieces of the groups, so that a large
// picture's few groups keep a whole GPU busy.

// Numbers that a thread holds, and a block: a piece. Part of the arithmetic.
#define HELD 32
#define PIECE (HELD * THREADS)

// The sum over a block's threads, in each of them: a tree within the warps, then one warp after another.
__device__ double total(double x) {
    __shared__ double warps[THREADS / 32];
    for (int distance = 16; distance > 0; distance /= 2) {
        x += __shfl_xor_sync(WHOLE_WARP, x, distance);
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) {
        warps[threadIdx.x / 32] = x;
    }
    __syncthreads();
    x = 0.0;
    for (int warp = 0; warp < THREADS / 32; warp++) {
        x += warps[warp];
    }
    return x;
}

// How many numbers a piece of a group has.
__device__ __forceinline__ unsigned length(unsigned piece, unsigned size) {
    return min(PIECE, size - piece * PIECE);
}

// For each piece its mean, and the sum of squares of the distances to it. A block does one piece; `size` numbers are a group.
extern "C" __global__ void __launch_bounds__(THREADS)
moments(const float *x, double2 *out, unsigned size, unsigned pieces) {
    const unsigned group = blockIdx.x / pieces, piece = blockIdx.x % pieces;
    const unsigned count = length(piece, size);
    x += static_cast<size_t>(group) * size + piece * PIECE;
    float held[HELD];
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        const unsigned at = i * THREADS + threadIdx.x;
        held[i] = at < count ? x[at] : 0.0f;
        sum += held[i];
    }
    const double mean = total(sum) / count;
    const float centre = static_cast<float>(mean);
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        const float distance = held[i] - centre;
        squares = i * THREADS + threadIdx.x < count ? fmaf(distance, distance, squares) : squares;
    }
    const double all = total(squares);
    if (threadIdx.x == 0) {
        out[blockIdx.x] = make_double2(mean, all);
    }
}

// Brings each group to mean 0 and variance 1, scales and shifts its `channels` channels of `area` numbers, and applies SiLU
// when `silu` is not 0. A block does one piece, and joins the moments of its group's pieces first (Chan et al., 1979).
extern "C" __global__ void __launch_bounds__(THREADS)
normalise(const float *x, const double2 *moments, const float *weight, const float *bias, float *out, unsigned size,
          unsigned pieces, unsigned groups, unsigned channels, unsigned area, double eps, int silu) {
    const unsigned group = blockIdx.x / pieces, piece = blockIdx.x % pieces;
    moments += static_cast<size_t>(group) * pieces;
    double sum = 0.0;
    for (unsigned i = threadIdx.x; i < pieces; i += THREADS) {
        sum += moments[i].x * length(i, size);
    }
    const double mean = total(sum) / size;
    double squares = 0.0;
    for (unsigned i = threadIdx.x; i < pieces; i += THREADS) {
        const double distance = moments[i].x - mean;
        squares += moments[i].y + distance * distance * length(i, size);
    }
    const double variance = total(squares) / size;
    const float centre = static_cast<float>(mean);
    const float scale = static_cast<float>(1.0 / __dsqrt_rn(variance + eps));

    const unsigned count = length(piece, size), first = piece * PIECE + threadIdx.x;
    const size_t start = static_cast<size_t>(group) * size + piece * PIECE;
    // Where a thread is among channels, carried along without a division for each number.
    unsigned channel = first / area, place = first % area;
    weight += group % groups * channels;
    bias += group % groups * channels;
#pragma unroll 4
    for (int i = 0; i < HELD; i++) {
        const unsigned at = i * THREADS + threadIdx.x;
        if (at >= count) {
            break;
        }
        float y = fmaf(x[start + at] - centre, scale * weight[channel], bias[channel]);
        if (silu != 0) {
            y = y / (1.0f + exponential(-y));
        }
        out[start + at] = y;
        channel += THREADS / area;
        place += THREADS % area;
        if (place >= area) {
            place -= area;
            channel++;
        }
    }
}

// Scaled dot-product attention over blocks of keys joined by a running softmax (Milakov and Gimelshein, "Online normalizer
// calculation for softmax", 2018; Dao et al., "FlashAttention", 2022), so that scores never leave the block that made them.
//
// A block computes ROWS queries of one head: 16 x 16 threads, of which (tx, ty) has the rows ty, ty + 16, ... and the
// keys, later the columns, tx, tx + 16, ... Heads wider than 256 are cut into slices of columns, which compute their scores
// each. COLUMNS, of one thread, is defined when this is compiled.

#define ROWS 64
// Keys whose scores are held at once. Part of the arithmetic.
#define KEYS 64
// Numbers of each query and key, and rows of values, that are read at once.
#define DEPTH 32
#define VALUES 16
#define SLICE (COLUMNS * 16)
// Rows in shared memory are four numbers longer than they need be, so that the threads of a warp read from different banks.
#define DEPTH_STEP (DEPTH + 4)
#define KEYS_STEP (KEYS + 4)

// Writes `rows` rows of `depth` numbers, zeros beyond, as 64 rows of DEPTH.
__device__ __forceinline__ void stage(float *to, const float *from, unsigned rows, unsigned depth, unsigned width) {
    for (unsigned i = threadIdx.x; i < 64 * DEPTH; i += THREADS) {
        const unsigned row = i / DEPTH, d = i % DEPTH;
        to[row * DEPTH_STEP + d] = row < rows && d < depth ? from[static_cast<size_t>(row) * width + d] : 0.0f;
    }
}

__device__ __forceinline__ float4 four(const float *from) {
    return *reinterpret_cast<const float4 *>(from);
}

extern "C" __global__ void __launch_bounds__(THREADS)
attention(const float *q, const float *k, const float *v, float *out, unsigned n, unsigned m, unsigned heads,
          unsigned depth, unsigned slices, float scale, int causal) {
    // Queries and keys take turns with values.
    __shared__ __align__(16) float staged[2 * 64 * DEPTH_STEP];
    __shared__ __align__(16) float weights[ROWS * KEYS_STEP];
    static_assert(VALUES * SLICE <= 2 * 64 * DEPTH_STEP, "a slice of values fits where queries and keys were");

    const unsigned tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    const unsigned tiles = (n + ROWS - 1) / ROWS;
    const unsigned first = blockIdx.x % tiles * ROWS;
    const unsigned slice = blockIdx.x / tiles % slices * SLICE;
    const unsigned head = blockIdx.x / tiles / slices % heads;
    const size_t image = blockIdx.x / tiles / slices / heads;
    const unsigned width = heads * depth;
    q += (image * n + first) * width + head * depth;
    k += image * m * width + head * depth;
    v += image * m * width + head * depth + slice;
    out += (image * n + first) * width + head * depth + slice;
    float *const queries = staged, *const keys = staged + 64 * DEPTH_STEP;

    float sums[4][COLUMNS] = {};
    float largest[4], totals[4] = {};
    for (int i = 0; i < 4; i++) {
        largest[i] = LEAST;
    }
    const unsigned seen = causal != 0 ? min(m, first + ROWS) : m;
    for (unsigned from = 0; from < seen; from += KEYS) {
        float scores[4][4] = {};
        for (unsigned start = 0; start < depth; start += DEPTH) {
            __syncthreads();
            stage(queries, q + start, n - first, depth - start, width);
            stage(keys, k + static_cast<size_t>(from) * width + start, m - from, depth - start, width);
            __syncthreads();
#pragma unroll
            for (int d = 0; d < DEPTH; d += 4) {
                float4 a[4], b[4];
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    a[i] = four(queries + (ty + 16 * i) * DEPTH_STEP + d);
                    b[i] = four(keys + (tx + 16 * i) * DEPTH_STEP + d);
                }
#pragma unroll
                for (int i = 0; i < 4; i++) {
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        scores[i][j] = fmaf(a[i].x, b[j].x, scores[i][j]);
                        scores[i][j] = fmaf(a[i].y, b[j].y, scores[i][j]);
                        scores[i][j] = fmaf(a[i].z, b[j].z, scores[i][j]);
                        scores[i][j] = fmaf(a[i].w, b[j].w, scores[i][j]);
                    }
                }
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const unsigned row = ty + 16 * i;
            bool shown[4];
            float most = LEAST;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const unsigned key = from + tx + 16 * j;
                shown[j] = key < m && (causal == 0 || key <= first + row);
                scores[i][j] *= scale;
                most = shown[j] ? fmaxf(most, scores[i][j]) : most;
            }
            // The sixteen threads of a row are neighbours in a warp. Each of them ends with the same bits.
            for (int distance = 8; distance > 0; distance /= 2) {
                most = fmaxf(most, __shfl_xor_sync(WHOLE_WARP, most, distance));
            }
            most = fmaxf(most, largest[i]);
            float weight[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                weight[j] = shown[j] ? exponential(scores[i][j] - most) : 0.0f;
                weights[row * KEYS_STEP + tx + 16 * j] = weight[j];
            }
            float sum = (weight[0] + weight[1]) + (weight[2] + weight[3]);
            for (int distance = 8; distance > 0; distance /= 2) {
                sum += __shfl_xor_sync(WHOLE_WARP, sum, distance);
            }
            // Nothing is kept of nothing: the first keys' exponent is that of minus infinity.
            const float keep = largest[i] == LEAST ? 0.0f : exponential(largest[i] - most);
            largest[i] = most;
            totals[i] = fmaf(totals[i], keep, sum);
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) {
                sums[i][c] *= keep;
            }
        }
        for (unsigned at = 0; at < KEYS && from + at < seen; at += VALUES) {
            __syncthreads();
            for (unsigned i = threadIdx.x; i < VALUES * SLICE; i += THREADS) {
                const unsigned key = from + at + i / SLICE, column = i % SLICE;
                staged[i] = key < m && slice + column < depth ? v[static_cast<size_t>(key) * width + column] : 0.0f;
            }
            __syncthreads();
#pragma unroll
            for (int key = 0; key < VALUES; key += 4) {
                float4 weight[4];
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    weight[i] = four(weights + (ty + 16 * i) * KEYS_STEP + at + key);
                }
#pragma unroll
                for (int c = 0; c < COLUMNS; c++) {
                    const float *value = staged + key * SLICE + tx + 16 * c;
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        sums[i][c] = fmaf(weight[i].x, value[0], sums[i][c]);
                        sums[i][c] = fmaf(weight[i].y, value[SLICE], sums[i][c]);
                        sums[i][c] = fmaf(weight[i].z, value[2 * SLICE], sums[i][c]);
                        sums[i][c] = fmaf(weight[i].w, value[3 * SLICE], sums[i][c]);
                    }
                }
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const unsigned row = ty + 16 * i;
        const float share = 1.0f / totals[i];
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            const unsigned column = tx + 16 * c;
            if (first + row < n && slice + column < depth) {
                out[static_cast<size_t>(row) * width + column] = sums[i][c] * share;
            }
        }
    }
}

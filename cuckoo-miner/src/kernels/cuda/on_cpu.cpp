// Runs the kernels on the processor, for tests where there is no GPU: a block's threads take turns, in which each goes on to
// the next place where it would wait for the others. Numbers come as raw f32 on standard input, and go the same way.
//
//   on_cpu norm BLOCKS SIZE PIECES GROUPS CHANNELS AREA EPS SILU     x, weight, bias
//   on_cpu attention BLOCKS N M HEADS DEPTH SLICES SCALE CAUSAL      q, k, v
//
// Compiled with -ffp-contract=off and -DCOLUMNS=..., its results have the bits that a GPU's should have. All is done twice, with
// the threads' turns in one order and in the other: results that differ had a thread read what another had yet to write.

#include <ucontext.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

struct Index { unsigned x; };
struct double2 { double x, y; };
struct alignas(16) float4 { float x, y, z, w; };

constexpr unsigned BLOCK = 256;
constexpr size_t STACK = 256 * 1024;
static Index threadIdx, blockIdx;
static ucontext_t outside, turns[BLOCK];
static bool ended[BLOCK];
static double handed[BLOCK];
static bool backwards;
static void (*work)();

// Lets all others come as far as this.
static void wait() {
    const Index self = threadIdx;
    swapcontext(&turns[self.x], &outside);
    threadIdx = self;
}

template <typename T> static T exchange(T mine, unsigned distance) {
    handed[threadIdx.x] = mine;
    wait();
    const T theirs = static_cast<T>(handed[threadIdx.x ^ distance]);
    wait();
    return theirs;
}

static double2 make_double2(double x, double y) { return {x, y}; }
static unsigned min(unsigned a, unsigned b) { return std::min(a, b); }

#define __global__
#define __device__ static
#define __forceinline__
#define __launch_bounds__(threads)
#define __shared__ static
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __syncthreads wait
#define __shfl_xor_sync(mask, mine, distance) exchange(mine, distance)
#define __dsqrt_rn std::sqrt
#define __int_as_float std::bit_cast<float>

#include "exp.cuh"
#include "group_norm.cu"
#include "attention.cu"

static void turn() {
    const unsigned self = threadIdx.x;
    work();
    ended[self] = true;
    swapcontext(&turns[self], &outside);
}

static void launch(unsigned blocks, void (*kernel)()) {
    static std::vector<char> stacks(BLOCK * STACK);
    work = kernel;
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++) {
        for (unsigned i = 0; i < BLOCK; i++) {
            ended[i] = false;
            getcontext(&turns[i]);
            turns[i].uc_stack.ss_sp = stacks.data() + i * STACK;
            turns[i].uc_stack.ss_size = STACK;
            turns[i].uc_link = nullptr;
            makecontext(&turns[i], turn, 0);
        }
        while (!ended[0]) {
            for (unsigned i = 0; i < BLOCK; i++) {
                threadIdx.x = backwards ? BLOCK - 1 - i : i;
                swapcontext(&outside, &turns[threadIdx.x]);
            }
            // Threads that disagree about how often they wait would hang on a GPU.
            if (std::any_of(ended, ended + BLOCK, [](bool end) { return end != ended[0]; })) {
                std::fputs("a thread ended while others waited for it\n", stderr);
                std::exit(1);
            }
        }
    }
}

static std::vector<float> input(size_t count) {
    std::vector<float> numbers(count);
    if (std::fread(numbers.data(), sizeof(float), count, stdin) != count) {
        std::fputs("too few numbers\n", stderr);
        std::exit(1);
    }
    return numbers;
}

static unsigned size, pieces, groups, channels, area, n, m, heads, depth, slices;
static double eps;
static float scale;
static int flag;
static std::vector<float> a, b, c, result;
static std::vector<double2> parts;

int main(int count, char **texts) {
    if (count != 10) {
        std::fputs("usage: see the file's beginning\n", stderr);
        return 2;
    }
    const bool norm = texts[1] == std::string("norm");
    const auto whole = [&](int i) { return static_cast<unsigned>(std::stoul(texts[i])); };
    const unsigned blocks = whole(2);
    flag = std::stoi(texts[9]);
    void (*kernel)();
    if (norm) {
        size = whole(3), pieces = whole(4), groups = whole(5), channels = whole(6), area = whole(7);
        eps = std::stod(texts[8]);
        a = input(static_cast<size_t>(blocks / pieces) * size);
        b = input(groups * channels), c = input(groups * channels);
        kernel = [] {
            normalise(a.data(), parts.data(), b.data(), c.data(), result.data(), size, pieces, groups, channels, area, eps, flag);
        };
    } else {
        n = whole(3), m = whole(4), heads = whole(5), depth = whole(6), slices = whole(7);
        scale = std::stof(texts[8]);
        const size_t images = blocks / ((n + ROWS - 1) / ROWS) / slices / heads, width = heads * depth;
        a = input(images * n * width), b = input(images * m * width), c = input(images * m * width);
        kernel = [] {
            attention(a.data(), b.data(), c.data(), result.data(), n, m, heads, depth, slices, scale, flag);
        };
    }
    std::vector<float> first;
    for (const bool order : {false, true}) {
        backwards = order;
        first = result;
        result.assign(a.size(), NAN);
        parts.assign(blocks, {NAN, NAN});
        if (norm) {
            launch(blocks, [] { moments(a.data(), parts.data(), size, pieces); });
        }
        launch(blocks, kernel);
    }
    if (std::memcmp(first.data(), result.data(), result.size() * sizeof(float)) != 0) {
        std::fputs("the order of the threads' turns changes the result\n", stderr);
        return 1;
    }
    return std::fwrite(result.data(), sizeof(float), result.size(), stdout) == result.size() ? 0 : 1;
}

// What both kernels are made of. It stands before their sources when they are compiled.
//
// Every operation is one that IEEE 754 rounds the same everywhere, products and sums are fused only where it says fmaf
// (the sources are compiled with --fmad=false), and no function of CUDA's mathematics library takes part. So a result
// has the same bits on every GPU.

#define THREADS 256
#define WHOLE_WARP 0xffffffffu
// Minus infinity.
#define LEAST __int_as_float(0xff800000)

// e^x to about 2 units in the last place; held between e^-87 and e^88. As in kernels/cpu/math.rs, but for its fused steps.
__device__ __forceinline__ float exponential(float x) {
    // Comparisons, which leave what is not a number as it is; fminf and fmaxf would not.
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    const float n = rintf(x * 1.44269504f);
    // ln 2 in two parts, so that little is lost of r.
    float r = fmaf(n, -0.693359375f, x);
    r = fmaf(n, 2.12194440e-4f, r);
    float p = 1.0f / 5040.0f;
    p = fmaf(p, r, 1.0f / 720.0f);
    p = fmaf(p, r, 1.0f / 120.0f);
    p = fmaf(p, r, 1.0f / 24.0f);
    p = fmaf(p, r, 1.0f / 6.0f);
    p = fmaf(p, r, 0.5f);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    return p * __int_as_float((static_cast<int>(n) + 127) << 23);
}

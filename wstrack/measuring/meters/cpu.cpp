// One pass over weights on the CPU: reads each weight and its previous value once, leaves the weight as the new previous
// value, and adds up the raw sums of wstrack/metrics.py. cpu.py beside this file compiles and calls it.
//
// Sums are float32 inside a block (float64 for float64 weights) and float64 across blocks. The order of every addition
// is written out (lanes, blocks, chunks), so that neither the compiler nor the number of threads has a say in it, and
// NaN and inf survive. Nothing here needs -ffast-math, which would also switch denormals off in the whole process.

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <type_traits>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int64_t REGISTER = 64;  // bytes; wider vectors than the machine's are split up badly by GCC
#elif defined(__AVX__)
constexpr int64_t REGISTER = 32;
#else
constexpr int64_t REGISTER = 16;
#endif
constexpr int64_t BLOCK = 512;
// SUMS, and the column of each sum (ABS_CHANGE, ...), are defined where this is compiled: wstrack/metrics.py has them.
// So is GROUP, how many checkpoints are taken together.
// What few ask for and takes time. RATIOS has counts too: every mode is a kernel, and each takes its time to compile.
constexpr int64_t CHANGE = 1, START = 2, COUNTS = 4, RATIOS = 8, BITS = 16;

struct Chunk {
    const void* weight;
    void* previous;
    void* change;
    const void* start;
    int64_t rows;
    int64_t width;  // elements of a row, which lie side by side
    int64_t apart;  // from the begin of a row to that of the next, in elements
    int64_t dtype;
    int64_t place;   // where its first element stands in the whole layer, row by row
    int64_t pitch;   // how much further the begin of the next row stands
    int64_t stride;  // and the next element of a row
};

template <class T, int64_t COUNT>
struct VectorOf {
    typedef T type __attribute__((vector_size(COUNT * sizeof(T))));
};
template <class T, class Wide = T>
using Lanes = typename VectorOf<T, REGISTER / sizeof(Wide)>::type;  // as many as fit when widened
template <class Wide>
using Bits = std::conditional_t<sizeof(Wide) == 4, int32_t, int64_t>;

template <class To, class From>
inline To bitwise(const From& from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

inline Lanes<uint32_t> widened(const Lanes<uint16_t, uint32_t>& raw) {
#if defined(__AVX512F__)
    return bitwise<Lanes<uint32_t>>(_mm512_cvtepu16_epi32(bitwise<__m256i>(raw)));  // GCC takes five instructions
#else
    return __builtin_convertvector(raw, Lanes<uint32_t>);
#endif
}

template <class Float>
struct Plain {
    using Stored = Float;
    using Wide = Float;
    static Lanes<Float> widen(const Lanes<Float>& raw) { return raw; }
};
struct Bfloat16 {
    using Stored = uint16_t;
    using Wide = float;
    static Lanes<float> widen(const Lanes<uint16_t, float>& raw) { return bitwise<Lanes<float>>(widened(raw) << 16); }
};
struct Float16 {
    using Stored = uint16_t;
    using Wide = float;
    static Lanes<float> widen(const Lanes<uint16_t, float>& raw) {
        const Lanes<int32_t> all = bitwise<Lanes<int32_t>>(widened(raw));
        const Lanes<int32_t> size = all & 0x7fff;
        const Lanes<int32_t> denormal = size < 0x0400, special = size >= 0x7c00;  // special: inf and NaN
        const Lanes<int32_t> small = bitwise<Lanes<int32_t>>(__builtin_convertvector(size, Lanes<float>) * 0x1p-24f);
        const Lanes<int32_t> normal = (size << 13) + (112 << 23) + (special & (112 << 23));
        return bitwise<Lanes<float>>((small & denormal) | (normal & ~denormal) | ((all & 0x8000) << 16));
    }
};

template <class Wide>
inline Lanes<Wide> where(const Lanes<Bits<Wide>>& condition, const Lanes<Wide>& value) {
    return bitwise<Lanes<Wide>>(bitwise<Lanes<Bits<Wide>>>(value) & condition);
}

template <class Wide>
inline Lanes<Wide> size_of(const Lanes<Wide>& value) {
    constexpr auto all_but_sign = static_cast<Bits<Wide>>(~uint64_t{0} >> (65 - 8 * sizeof(Wide)));
    return where<Wide>(Lanes<Bits<Wide>>{} + all_but_sign, value);
}

template <class Wide>
inline Lanes<Bits<Wide>> differ(const Lanes<Wide>& w, const Lanes<Wide>& p) {  // NaN is NaN
    return (w != p) & ((w == w) | (p == p));
}

// What bfloat16 holds of it: the nearest, of two as near the even one; NaN stays, which rounding could carry over to 0.
template <class Wide>
inline Lanes<Wide> in_bfloat16(const Lanes<Wide>& value) {
    using Single = Lanes<float, Wide>;  // PyTorch rounds float64 by way of float32
    using Whole = Lanes<uint32_t, Wide>;
    const Single single = __builtin_convertvector(value, Single);
    const Whole bits = bitwise<Whole>(single), nan = bitwise<Whole>(single != single);
    const Whole nearest = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    return __builtin_convertvector(bitwise<Single>((nearest & ~nan) | (bits & nan)), Lanes<Wide>);
}

// The sums that a mode adds of a weight and the one before it.
template <class Type, int64_t MODE, class Wide = typename Type::Wide>
inline __attribute__((always_inline)) void add_rare(Lanes<Wide>* sums, const Lanes<Wide>& w, const Lanes<Wide>& p) {
    const Lanes<Wide> one = Lanes<Wide>{} + Wide{1};
    if constexpr (MODE & RATIOS) {
        const Lanes<Bits<Wide>> nonzero = p != Wide{0};
        sums[RATIO] += where<Wide>(nonzero, size_of<Wide>(w - p) / (size_of<Wide>(p) + where<Wide>(~nonzero, one)));
        sums[NONZERO] += where<Wide>(nonzero, one);
    }
    if constexpr (MODE & (COUNTS | RATIOS)) {
        const Lanes<Wide> changed = where<Wide>(differ<Wide>(w, p), one);
        sums[CHANGED] += changed;
        if constexpr (std::is_same_v<Type, Bfloat16>)
            sums[CHANGED_BF16] += changed;
        else
            sums[CHANGED_BF16] += where<Wide>(differ<Wide>(in_bfloat16<Wide>(w), in_bfloat16<Wide>(p)), one);
    }
}

template <class Type, int64_t MODE>
inline __attribute__((always_inline)) void add(
    Lanes<typename Type::Wide>* sums, const typename Type::Stored* weight, typename Type::Stored* previous,
    typename Type::Wide* change, const typename Type::Stored* start
) {
    using Wide = typename Type::Wide;
    Lanes<typename Type::Stored, Wide> raw_weight, raw_previous;
    std::memcpy(&raw_weight, weight, sizeof raw_weight);
    std::memcpy(&raw_previous, previous, sizeof raw_previous);
    const Lanes<Wide> w = Type::widen(raw_weight), p = Type::widen(raw_previous), d = w - p;
    const Lanes<Wide> size_d = size_of<Wide>(d), size_p = size_of<Wide>(p);
    sums[ABS_CHANGE] += size_d;
    sums[ABS_PREVIOUS] += size_p;
    sums[SQ_CHANGE] += d * d;
    sums[SQ_PREVIOUS] += p * p;
    sums[ABS_CURRENT] += size_of<Wide>(w);
    add_rare<Type, MODE>(sums, w, p);
    if constexpr (MODE & CHANGE) {
        Lanes<Wide> last;
        std::memcpy(&last, change, sizeof last);
        sums[DOT] += d * last;
        sums[SQ_LAST_CHANGE] += last * last;
        std::memcpy(change, &d, sizeof d);
    }
    if constexpr (MODE & START) {
        Lanes<typename Type::Stored, Wide> raw_start;
        std::memcpy(&raw_start, start, sizeof raw_start);
        const Lanes<Wide> s = Type::widen(raw_start);
        sums[ABS_FROM_START] += size_of<Wide>(w - s);
        sums[ABS_START] += size_of<Wide>(s);
    }
    std::memcpy(previous, &raw_weight, sizeof raw_weight);
}

// A block's sums, lane by lane, into totals of float64: as many registers as a register of `Wide` fills.
template <class Wide>
struct Totals {
    using Half = typename VectorOf<double, REGISTER / sizeof(double)>::type;
    static constexpr int64_t IN_HALF = REGISTER / sizeof(double);
    using Part = typename VectorOf<Wide, IN_HALF>::type;
    Half low = {}, high = {};
    inline __attribute__((always_inline)) void add(const Lanes<Wide> sums) {
        if constexpr (sizeof(Wide) == sizeof(double))
            low += sums;
        else {
            struct Parts {
                Part low, high;
            };
            const Parts parts = bitwise<Parts>(sums);
            low += __builtin_convertvector(parts.low, Half);
            high += __builtin_convertvector(parts.high, Half);
        }
    }
    double operator[](int64_t lane) const { return lane < IN_HALF ? low[lane] : high[lane - IN_HALF]; }
};

// What is less than a vector, filled up with zeros, which add nothing to any sum.
template <class Type, int64_t MODE>
__attribute__((noinline)) void add_rest(
    Lanes<typename Type::Wide>* sums, const typename Type::Stored* weight, typename Type::Stored* previous,
    typename Type::Wide* change, const typename Type::Stored* start, int64_t at, int64_t rest
) {
    using Stored = typename Type::Stored;
    using Wide = typename Type::Wide;
    constexpr int64_t LANES = REGISTER / sizeof(Wide);
    Stored w[LANES] = {}, p[LANES] = {}, s[LANES] = {};
    Wide last[LANES] = {};
    std::memcpy(w, weight + at, rest * sizeof(Stored));
    std::memcpy(p, previous + at, rest * sizeof(Stored));
    if (MODE & CHANGE) std::memcpy(last, change + at, rest * sizeof(Wide));
    if (MODE & START) std::memcpy(s, start + at, rest * sizeof(Stored));
    add<Type, MODE>(sums, w, p, last, s);
    std::memcpy(previous + at, p, rest * sizeof(Stored));
    if (MODE & CHANGE) std::memcpy(change + at, last, rest * sizeof(Wide));
}

template <class Type, int64_t MODE>
void chunk_sums(const Chunk& chunk, const Chunk& next, double* result) {
    using Stored = typename Type::Stored;
    using Wide = typename Type::Wide;
    const Stored* weight = static_cast<const Stored*>(chunk.weight);
    Stored* previous = static_cast<Stored*>(chunk.previous);
    Wide* change = static_cast<Wide*>(chunk.change);
    const Stored* start = static_cast<const Stored*>(chunk.start);
    constexpr int64_t LANES = REGISTER / sizeof(Wide);
    Totals<Wide> totals[SUMS];
    const int64_t whole = chunk.width / LANES * LANES, rest = chunk.width - whole;
    const int64_t together = std::max<int64_t>(BLOCK / chunk.width, 1);  // short rows share a block
    for (int64_t row = 0; row < chunk.rows; row += together) {
        const int64_t row_end = std::min(row + together, chunk.rows);
        for (int64_t first = 0; first < whole; first += BLOCK) {
            Lanes<Wide> sums[SUMS] = {};
            const int64_t end = std::min(first + BLOCK, whole);
            for (int64_t here = row; here < row_end; ++here) {
                const int64_t at = here * chunk.apart;
                // Fetch the block after this one: the hardware does not see across pages of 4 KiB, let alone tensors.
                const bool last = end == whole && here + 1 == chunk.rows;
                const int64_t ahead = at + (end < whole ? BLOCK : chunk.apart);
                const Stored* weight_ahead = last ? static_cast<const Stored*>(next.weight) - first : weight + ahead;
                const Stored* previous_ahead =
                    last ? static_cast<const Stored*>(next.previous) - first : previous + ahead;
                for (int64_t i = first; i < end; i += LANES) {
                    __builtin_prefetch(weight_ahead + i, 0);
                    __builtin_prefetch(previous_ahead + i, 1);
                    add<Type, MODE>(sums, weight + at + i, previous + at + i, change + at + i, start + at + i);
                }
            }
#pragma GCC unroll 32  // so that the sums of a block stay in registers
            for (int64_t sum = 0; sum < SUMS; ++sum) totals[sum].add(sums[sum]);
        }
        if (rest) {
            Lanes<Wide> sums[SUMS] = {};
            for (int64_t here = row; here < row_end; ++here)
                add_rest<Type, MODE>(sums, weight, previous, change, start, here * chunk.apart + whole, rest);
            for (int64_t sum = 0; sum < SUMS; ++sum) totals[sum].add(sums[sum]);
        }
    }
    for (int64_t sum = 0; sum < SUMS; ++sum) {
        result[sum] = 0.0;
        for (int64_t lane = 0; lane < LANES; ++lane) result[sum] += totals[sum][lane];
    }
}

// A stretch of a tensor through several checkpoints, block by block, so that what a block is compared with stays in the
// nearest cache. Each against the one before; `first`: nothing comes before. What is known of a checkpoint is not taken
// again as what the next one comes from: of ABS_PREVIOUS, SQ_LAST_CHANGE and ABS_START there is nothing in `result`, and
// SQ_PREVIOUS is of the checkpoint itself.
template <class Type, int64_t MODE>
void stretch_sums(
    const char* read, int64_t apart, int64_t checkpoints, int64_t count, bool first, char* before, int64_t apart_before,
    double* result
) {
    using Stored = typename Type::Stored;
    using Wide = typename Type::Wide;
    constexpr int64_t LANES = REGISTER / sizeof(Wide);
    constexpr auto takes = [](int64_t sum) {
        return sum == ABS_CHANGE || sum == SQ_CHANGE || sum == ABS_CURRENT || sum == SQ_PREVIOUS || sum == DOT ||
               sum == ABS_FROM_START || (MODE & RATIOS && (sum == RATIO || sum == NONZERO)) ||
               (MODE & (COUNTS | RATIOS) && (sum == CHANGED || sum == CHANGED_BF16));
    };
    Wide* previous = reinterpret_cast<Wide*>(before);
    Wide* change = reinterpret_cast<Wide*>(before + apart_before);
    Wide* start = reinterpret_cast<Wide*>(before + 2 * apart_before);
    Totals<Wide> totals[GROUP][SUMS];
    const int64_t whole = count / LANES * LANES;
    for (int64_t begin = 0; begin < count; begin = begin < whole ? std::min(begin + BLOCK, whole) : count) {
        const int64_t end = begin < whole ? std::min(begin + BLOCK, whole) : begin + LANES;  // the rest, and zeros
        for (int64_t checkpoint = 0; checkpoint < checkpoints; ++checkpoint) {
            const Stored* weight = reinterpret_cast<const Stored*>(read + checkpoint * apart);
            const bool alone = first && !checkpoint;
            Lanes<Wide> sums[SUMS] = {};
            for (int64_t i = begin; i < end; i += LANES) {
                Lanes<Stored, Wide> raw;
                std::memcpy(&raw, weight + i, sizeof raw);
                const Lanes<Wide> w = Type::widen(raw);
                sums[ABS_CURRENT] += size_of<Wide>(w);
                sums[SQ_PREVIOUS] += w * w;
                Lanes<Wide> d = {};
                if (alone)
                    std::memcpy(start + i, &w, sizeof w);
                else {
                    Lanes<Wide> p, last, s;
                    std::memcpy(&p, previous + i, sizeof p);
                    std::memcpy(&last, change + i, sizeof last);
                    std::memcpy(&s, start + i, sizeof s);
                    d = w - p;
                    sums[ABS_CHANGE] += size_of<Wide>(d);
                    sums[SQ_CHANGE] += d * d;
                    sums[DOT] += d * last;
                    sums[ABS_FROM_START] += size_of<Wide>(w - s);
                    add_rare<Type, MODE>(sums, w, p);
                }
                std::memcpy(change + i, &d, sizeof d);
                std::memcpy(previous + i, &w, sizeof w);
            }
#pragma GCC unroll 32  // so that the sums of a block stay in registers
            for (int64_t sum = 0; sum < SUMS; ++sum)
                if (takes(sum)) totals[checkpoint][sum].add(sums[sum]);
        }
    }
    for (int64_t checkpoint = 0; checkpoint < checkpoints; ++checkpoint)
        for (int64_t sum = 0; sum < SUMS; ++sum)
            for (int64_t lane = 0; lane < LANES; ++lane) result[checkpoint * SUMS + sum] += totals[checkpoint][sum][lane];
}

// The hashes of meters/bits.py, of one element or of as many as a vector holds. What is here is modulo 2^32 by itself.
template <class Word>
inline Word hash(Word value, int which) {
    const uint32_t factors[2][2] = {{HASH_0_2, HASH_0_4}, {HASH_1_2, HASH_1_4}};
    const int shifts[2][3] = {{HASH_0_1, HASH_0_3, HASH_0_5}, {HASH_1_1, HASH_1_3, HASH_1_5}};
    value = (value ^ (value >> shifts[which][0])) * factors[which][0];
    value = (value ^ (value >> shifts[which][1])) * factors[which][1];
    return value ^ (value >> shifts[which][2]);
}

constexpr uint32_t KEYS[2] = {HASH_0_0, HASH_1_0}, FOLDS[2][2] = {{FOLD_0_0, FOLD_0_1}, {FOLD_1_0, FOLD_1_1}};

// The sums of bits, of a chunk that has just been read and is in the cache.
template <class Raw>
void chunk_bits(const Chunk& chunk, double* sums) {
    constexpr int64_t LANES = REGISTER / sizeof(uint32_t);
    using Words = typename VectorOf<uint32_t, LANES>::type;
    using Raws = typename VectorOf<Raw, LANES>::type;
    Words totals[2] = {};
    uint32_t rests[2] = {};
    const auto folded = [](auto raw, auto zero, int which) {
        using Folded = decltype(zero);
        const auto narrow = [](auto some) {
            if constexpr (std::is_same_v<Folded, uint32_t>)
                return static_cast<uint32_t>(some);
            else
                return __builtin_convertvector(some, Folded);
        };
        if constexpr (sizeof(Raw) == 8)
            return narrow(raw & 0xffffffffu) * FOLDS[which][0] + narrow(raw >> 32) * FOLDS[which][1];
        else
            return narrow(raw);
    };
    const int64_t whole = chunk.width / LANES * LANES;
    const uint32_t stride = static_cast<uint32_t>(chunk.stride);
    Words lanes;
    for (int64_t lane = 0; lane < LANES; ++lane) lanes[lane] = static_cast<uint32_t>(lane) * stride;
    for (int64_t row = 0; row < chunk.rows; ++row) {
        const Raw* at = static_cast<const Raw*>(chunk.weight) + row * chunk.apart;
        const uint32_t place = static_cast<uint32_t>(chunk.place + row * chunk.pitch);
        Words keys[2] = {(lanes + place) * KEYS[0], (lanes + place) * KEYS[1]};
        const uint32_t further[2] = {stride * uint32_t(LANES) * KEYS[0], stride * uint32_t(LANES) * KEYS[1]};
        for (int64_t i = 0; i < whole; i += LANES) {
            Raws raw;
            std::memcpy(&raw, at + i, sizeof raw);
            for (int which = 0; which < 2; ++which) {
                totals[which] += hash<Words>(folded(raw, Words{}, which) + keys[which], which);
                keys[which] += further[which];
            }
        }
        for (int64_t i = whole; i < chunk.width; ++i) {
            const uint32_t here = place + static_cast<uint32_t>(i) * stride;
            for (int which = 0; which < 2; ++which)
                rests[which] += hash<uint32_t>(folded(at[i], uint32_t{}, which) + here * KEYS[which], which);
        }
    }
    for (int which = 0; which < 2; ++which)
        for (int64_t lane = 0; lane < LANES; ++lane) rests[which] += totals[which][lane];
    sums[BITS_LOW] = rests[0];
    sums[BITS_HIGH] = rests[1];
}

void bits_of(const Chunk& chunk, double* sums) {
    switch (chunk.dtype) {  // as above
        case 0: return chunk_bits<uint32_t>(chunk, sums);
        case 3: return chunk_bits<uint64_t>(chunk, sums);
        default: return chunk_bits<uint16_t>(chunk, sums);
    }
}

template <int64_t MODE>
void sums_of(const Chunk& chunk, const Chunk& next, double* result) {
    switch (chunk.dtype) {  // the order of DTYPES in cpu.py
        case 0: return chunk_sums<Plain<float>, MODE>(chunk, next, result);
        case 1: return chunk_sums<Bfloat16, MODE>(chunk, next, result);
        case 2: return chunk_sums<Float16, MODE>(chunk, next, result);
        default: return chunk_sums<Plain<double>, MODE>(chunk, next, result);
    }
}

constexpr void (*KERNELS[])(const Chunk&, const Chunk&, double*) = {  // by mode
    sums_of<0>, sums_of<CHANGE>, sums_of<START>, sums_of<CHANGE | START>,
    sums_of<COUNTS>, sums_of<CHANGE | COUNTS>, sums_of<START | COUNTS>, sums_of<CHANGE | START | COUNTS>,
    sums_of<RATIOS>, sums_of<CHANGE | RATIOS>, sums_of<START | RATIOS>, sums_of<CHANGE | START | RATIOS>
};

template <class Type>
void stretch_in_mode(
    const char* read, int64_t apart, int64_t checkpoints, int64_t count, int64_t mode, bool first, char* before,
    int64_t apart_before, double* result
) {
    const auto kernel = mode & RATIOS   ? stretch_sums<Type, RATIOS>
                        : mode & COUNTS ? stretch_sums<Type, COUNTS>
                                        : stretch_sums<Type, 0>;
    kernel(read, apart, checkpoints, count, first, before, apart_before, result);
}

void stretch_of(
    const char* read, int64_t apart, int64_t checkpoints, int64_t count, int64_t dtype, int64_t mode, bool first,
    char* before, int64_t apart_before, double* result
) {
    const auto kernel = dtype == 0   ? stretch_in_mode<Plain<float>>  // the order of DTYPES in cpu.py
                        : dtype == 1 ? stretch_in_mode<Bfloat16>
                        : dtype == 2 ? stretch_in_mode<Float16>
                                     : stretch_in_mode<Plain<double>>;
    kernel(read, apart, checkpoints, count, mode, first, before, apart_before, result);
}

// Whether all of `bytes` could be read.
bool read_all(int file, void* into, int64_t bytes, int64_t offset) {
    char* at = static_cast<char*>(into);
    while (bytes > 0) {
        const int64_t got = pread(file, at, bytes, offset);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        at += got, offset += got, bytes -= got;
    }
    return true;
}

}  // namespace

extern "C" {

// PyTorch's stable C interface to a tensor (torch/csrc/inductor/aoti_torch/c/shim.h).
struct Shims {
    int32_t (*data_ptr)(void*, void**);
    int32_t (*storage_size)(void*, int64_t*);
    int32_t (*device_type)(void*, int32_t*);
    int32_t (*dtype)(void*, int32_t*);
    int32_t (*dim)(void*, int64_t*);
    int32_t (*sizes)(void*, int64_t**);
    int32_t (*strides)(void*, int64_t**);
};

// Whether any tensor is not where and as it was. What is known of a tensor is its address, bytes of storage, device and
// dtype, dimensions, sizes, strides; `known` (room,) holds that of all of them and is brought up to date. `tensors` are
// addresses of their implementations, so that the address of an entry is what torch takes for a tensor. Returns how many
// numbers there are to know, negative if any was another; if they are more than `room`, the rest was not looked at.
int64_t wstrack_moved(void** tensors, int64_t count, const Shims* torch, int64_t* known, int64_t room) {
    int64_t used = 0, differences = 0;
    const auto note = [&](int64_t number) {
        if (used < room) {
            differences += known[used] != number;
            known[used] = number;
        }
        ++used;
    };
    for (int64_t index = 0; index < count; ++index) {
        if (index + 8 < count)  // training has pushed all of this out of the caches
            for (int64_t byte = 0; byte < 256; byte += 64)
                __builtin_prefetch(static_cast<const char*>(tensors[index + 8]) + byte);
        void* tensor = tensors + index;
        void* address = nullptr;
        int64_t storage = -1, dims = 0, *sizes = nullptr, *strides = nullptr;
        int32_t device = -1, dtype = -1;
        torch->data_ptr(tensor, &address);
        torch->storage_size(tensor, &storage);
        torch->device_type(tensor, &device);
        torch->dtype(tensor, &dtype);
        torch->dim(tensor, &dims);
        torch->sizes(tensor, &sizes);
        torch->strides(tensor, &strides);
        note(reinterpret_cast<intptr_t>(address));
        note(storage);
        note(int64_t{device} << 32 | dtype);
        note(dims);
        for (int64_t dim = 0; dim < dims; ++dim) note(sizes[dim]);
        for (int64_t dim = 0; dim < dims; ++dim) note(strides[dim]);
    }
    return differences ? -used : used;
}

// Sums of every layer, in one parallel region. Threads take whole tasks, runs of chunks of about equal size.
void wstrack_sums(
    const Chunk* chunks,    // (chunks,), in the order in which they are worked on
    const int64_t* places,  // (chunks,): the place of each in the order of the layers
    const int64_t* tasks,   // (tasks + 1,): the first chunk of each task
    int64_t task_count,
    const int64_t* layers,  // (layers + 1,): the place of the first chunk of each layer
    int64_t layer_count,
    int64_t mode,
    int32_t threads,
    double* partial,        // (chunks, SUMS), scratch
    const int64_t* columns, // (columns,): which sums are wanted
    int64_t column_count,
    double* sums            // (layers, columns), the result
) {
    const auto kernel = KERNELS[mode & (BITS - 1)];
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t task = 0; task < task_count; ++task)
        for (int64_t chunk = tasks[task]; chunk < tasks[task + 1]; ++chunk) {
            double* own = partial + places[chunk] * SUMS;
            kernel(chunks[chunk], chunks[std::min(chunk + 1, tasks[task + 1] - 1)], own);
            if (mode & BITS) bits_of(chunks[chunk], own);
        }
    std::fill(sums, sums + layer_count * column_count, 0.0);
    for (int64_t layer = 0; layer < layer_count; ++layer, sums += column_count)
        for (int64_t chunk = layers[layer]; chunk < layers[layer + 1]; ++chunk)
            for (int64_t column = 0; column < column_count; ++column)
                sums[column] += partial[chunk * SUMS + columns[column]];
}

// Sums of the change from each checkpoint of a tensor to the next, read from files a stretch at a time: of GROUP
// checkpoints together, which fit into the cache with what they are compared with. Of each checkpoint there is the file,
// and where in it the first element is. Returns 0, or the number from 1 of the checkpoint that could not be read; the
// error is 0 if its file ends too early.
int64_t wstrack_series(
    const int32_t* files,     // (checkpoints,)
    const int64_t* offsets,   // (checkpoints,), in bytes
    int64_t checkpoints,
    int64_t count,            // of elements
    int64_t stretch,          // of elements
    int64_t dtype,
    int64_t mode,
    char* room,               // (stretch + 64) elements of each of GROUP, and 3 x (stretch + 64) numbers of 8 bytes
    const int64_t* columns,   // (columns,): which sums are wanted
    int64_t column_count,
    double* own,              // (checkpoints, SUMS), zeros
    double* sums,             // (checkpoints - 1, columns), the result
    int32_t* error
) {
    constexpr int64_t WIDTHS[] = {4, 2, 2, 8};  // in the order of DTYPES in cpu.py
    const int64_t width = WIDTHS[dtype], apart = (stretch + REGISTER) * width, wide = (stretch + REGISTER) * 8;
    char* before = room + std::min<int64_t>(GROUP, checkpoints) * apart;
    for (int64_t first = 0; first < count; first += stretch) {
        const int64_t size = std::min(stretch, count - first);
        for (int64_t group = 0; group < checkpoints; group += GROUP) {
            const int64_t many = std::min<int64_t>(GROUP, checkpoints - group);
            for (int64_t one = 0; one < many; ++one) {
                const int64_t checkpoint = group + one;
                errno = 0;
                if (!read_all(files[checkpoint], room + one * apart, size * width, offsets[checkpoint] + first * width)) {
                    *error = errno;
                    return checkpoint + 1;
                }
                std::memset(room + one * apart + size * width, 0, REGISTER);  // zeros add nothing to any sum
            }
            stretch_of(room, apart, many, size, dtype, mode, !group, before, wide, own + group * SUMS);
        }
    }
    for (int64_t checkpoint = 1; checkpoint < checkpoints; ++checkpoint, own += SUMS)
        for (int64_t column = 0; column < column_count; ++column) {
            const double* of_this = own + SUMS;
            switch (columns[column]) {
                case ABS_PREVIOUS: *sums++ = own[ABS_CURRENT]; break;
                case SQ_PREVIOUS: *sums++ = own[SQ_PREVIOUS]; break;
                case SQ_LAST_CHANGE: *sums++ = own[SQ_CHANGE]; break;
                case ABS_START: *sums++ = own[(1 - checkpoint) * SUMS + ABS_CURRENT]; break;
                default: *sums++ = of_this[columns[column]];
            }
        }
    return 0;
}

}

// The least that an exact measurement can do: read the weights, read the snapshot, write the snapshot.
#include <cstdint>

extern "C" void floor_pass(const int64_t* weights, const int64_t* snapshots, const int64_t* counts, const int64_t* tasks,
                           int64_t task_count, int32_t threads) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t task = 0; task < task_count; ++task)
        for (int64_t chunk = tasks[task]; chunk < tasks[task + 1]; ++chunk) {
            const uint32_t* __restrict w = reinterpret_cast<const uint32_t*>(weights[chunk]);
            uint32_t* __restrict p = reinterpret_cast<uint32_t*>(snapshots[chunk]);
            for (int64_t first = 0; first < counts[chunk]; first += 16) {  // with the prefetching that was fastest
                __builtin_prefetch(w + first + 512, 0);
                __builtin_prefetch(p + first + 512, 1);
                const int64_t end = first + 16 < counts[chunk] ? first + 16 : counts[chunk];
                for (int64_t i = first; i < end; ++i) p[i] ^= w[i];
            }
        }
}
